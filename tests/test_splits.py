"""Evaluation on another split than test."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def without_test(tmp_path, digits):
    """Digits with the splits train and validation."""
    arrays = np.load(digits)
    folder = tmp_path / "data"
    folder.mkdir()
    renamed = {key.replace("_test", "_val"): arrays[key] for key in arrays.files}
    np.savez(folder / "digits.npz", **renamed)
    return folder


def test_a_model_is_evaluated_on_the_split_that_is_asked_for(step, without_test, dataset, model, tmp_path):
    done = step("evaluate", "--dataset", without_test, "--model", model, "--evaluation", tmp_path / "none")
    assert done.returncode == 2
    assert "add it, or evaluate with --split validation" in done.stderr
    options = ("--split", "validation", "--evaluation", tmp_path / "validated")
    done = step("evaluate", "--dataset", without_test, "--model", model, *options)
    assert done.returncode == 0, done.stderr
    assert step("evaluate", "--dataset", dataset, "--model", model, "--evaluation", tmp_path / "tested").returncode == 0
    found, expected = (
        json.loads((tmp_path / name / "evaluation.json").read_text()) for name in ("validated", "tested")
    )
    assert (found.pop("split"), expected.pop("split", "test")) == ("validation", "test")
    assert found == expected
    assert "on the validation split" in (tmp_path / "validated" / "report.html").read_text()
    done = step("evaluate", "--dataset", dataset, "--model", model, "--split", "nope", "--evaluation", tmp_path / "no")
    assert done.returncode == 2
    assert "expected a split 'nope' with examples, received train" in done.stderr


def test_validation_alone_is_never_taken_for_the_test(tmp_path):
    from trainyard.components.common.datasets import open_dataset

    for split, count in (("train", 5), ("validation", 2)):
        for label in "ab":
            (tmp_path / split / label).mkdir(parents=True)
            for index in range(count):
                Image.new("L", (4, 4), index * 20).save(tmp_path / split / label / f"{index}.png")
    assert open_dataset(tmp_path).counts == {"train": 10, "validation": 4}
