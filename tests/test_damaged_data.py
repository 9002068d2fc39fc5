"""Whatever happens to the bytes of a data set, it is read or refused in a sentence. `make chaos` tries more of it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.small_data_sets import LAYOUTS, write_damaged
from trainyard.components.common.cli import BadInput
from trainyard.components.common.datasets import open_dataset

DAMAGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12)


@pytest.mark.parametrize("on_corrupt", ["fail", "skip"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_damaged_data_set_is_read_or_refused(tmp_path, layout, on_corrupt):
    @settings(max_examples=25, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(which=st.floats(0, 1, exclude_max=True), damages=DAMAGES, kept=st.one_of(st.just(1.0), st.floats(0, 1)))
    def read(which, damages, kept):
        write_damaged(tmp_path / "data", layout, which, damages, kept)
        try:
            dataset = open_dataset(tmp_path / "data", on_corrupt=on_corrupt)
            for split in dataset.counts:
                dataset.read(split)
        except BadInput:
            pass

    read()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_of_the_small_data_sets_is_read_when_it_is_whole(tmp_path, layout):
    write_damaged(tmp_path / "data", layout, 0, [], 1.0)
    dataset = open_dataset(tmp_path / "data")
    assert dataset.class_names[0] in ("0", "a", "ant")
    assert dataset.read("train").images.shape[1:3] == dataset.image_shape[:2]
