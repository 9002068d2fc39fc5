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


@pytest.mark.parametrize("place", ["default/{}/0000.parquet", "{}/data.feather", "{}.parquet"])
def test_its_files_are_known_however_they_lie_and_whatever_type_the_columns_have(tmp_path, place):
    for split, count in (("train", 12), ("test", 6)):
        images, labels = pictures(count)
        columns = {
            "id": list(range(count)),
            "image": pyarrow.array(list(map(png, images)), pyarrow.large_binary()),
            "sick": [label == 1 for label in labels],
        }
        file = tmp_path / place.format(split)
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".parquet":
            parquet.write_table(pyarrow.table(columns), file)
        else:
            with pyarrow.ipc.new_file(str(file), pyarrow.table(columns).schema) as writer:
                writer.write_table(pyarrow.table(columns))
    dataset = open_dataset(tmp_path)
    assert (dataset.class_names, dataset.counts) == (["False", "True"], {"train": 12, "test": 6})
    np.testing.assert_array_equal(dataset.read("test").images, pictures(6)[0])


def test_shards_need_not_have_their_columns_in_one_order(tmp_path):
    content = table(*pictures(8))
    write_parquet(tmp_path, {"train": content})
    path = tmp_path / "data" / "train-00001-of-00002.parquet"
    parquet.write_table(content[4:].select(["light", "label", "image"]), path)
    np.testing.assert_array_equal(
        np.sort(np.concatenate([open_dataset(tmp_path).labels(split) for split in ("train", "test")])),
        np.sort(pictures(8)[1]),
    )


@pytest.mark.parametrize("without", ["-1", "no column"])
def test_a_test_without_labels_is_left_out(tmp_path, without):
    test = table(pictures(6)[0], np.full(6, -1))
    write_parquet(
        tmp_path, {"train": table(*pictures(12)), "test": test if without == "-1" else test.drop_columns("label")}
    )
    dataset = open_dataset(tmp_path)
    assert dataset.counts == {"train": 9, "test": 3}
    assert "the split test has no labels and is left out" in dataset.notes


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"image": [[1, 2]], "label": [1]}, r"a column of images, received image \(list<element: int64>\), label"),
        ({"image": [b"x"], "a": [1], "b": [2]}, "a column of labels, received image"),
        ({"image": [b"x", b"x"], "label": [1, None]}, "a label for each image of train, received 1 image without"),
    ],
)
def test_columns_that_are_not_understood_are_named(tmp_path, columns, told):
    parquet.write_table(pyarrow.table(columns), tmp_path / "train.parquet")
    with pytest.raises(BadInput, match=told):
        open_dataset(tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "train.parquet").write_bytes(bytes(200))
    with pytest.raises(BadInput, match=r"train.parquet: expected a Parquet file of Hugging Face"):
        open_dataset(tmp_path)
