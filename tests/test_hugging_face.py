"""Data sets of Hugging Face: Parquet files, and what save_to_disk writes."""

import json

import numpy as np
import pytest

from tests.test_datasets import pictures, png
from trainyard.components.common.cli import BadInput
from trainyard.components.common.datasets import open_dataset

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def table(images, labels, names=("ant", "bee", "cat")):
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    columns = {
        "image": [{"bytes": png(image), "path": None} for image in images],
        "label": labels.tolist(),
        "light": ["dark"] * len(labels),
    }
    return pyarrow.table(columns).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features if names else {}}})}
    )


def write_parquet(folder, splits):
    (folder / "data").mkdir(parents=True)
    for split, content in splits.items():
        for shard, part in enumerate((content[:4], content[4:])):
            parquet.write_table(part, folder / "data" / f"{split}-{shard:05d}-of-00002.parquet")


def save_to_disk(folder, splits):
    for split, content in splits.items():
        (folder / split).mkdir(parents=True)
        (folder / split / "dataset_info.json").write_text("{}")
        (folder / split / "state.json").write_text("{}")
        file = folder / split / "data-00000-of-00001.arrow"
        with pyarrow.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_stream(sink, content.schema) as writer:
            writer.write_table(content)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(splits)}))


@pytest.mark.parametrize("write", [write_parquet, save_to_disk])
@pytest.mark.parametrize("names", [("ant", "bee", "cat"), ()])
def test_a_data_set_of_hugging_face_is_read(tmp_path, write, names):
    train, test = pictures(12), pictures(6, seed=1)
    write(tmp_path, {"train": table(*train, names), "test": table(*test, names)})
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.class_names) == ("hugging face", list(names) or ["0", "1", "2"])
    np.testing.assert_array_equal(dataset.read("train").images, train[0])
    np.testing.assert_array_equal(dataset.images("test", np.array([5, 1])), test[0][[5, 1]])
    np.testing.assert_array_equal(dataset.labels("test"), test[1])
    assert dataset.column("test", "light") == ["dark"] * 6


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "train.parquet").write_bytes(bytes(200))
    with pytest.raises(BadInput, match=r"train.parquet: expected a Parquet file of Hugging Face"):
        open_dataset(tmp_path)
