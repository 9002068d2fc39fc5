"""Images whose labels a table tells."""

import json

import pytest

from tests.test_arrangements import write
from trainyard.components.common.cli import BadInput
from trainyard.components.common.datasets import open_dataset

LABELS = ["cat", "dög", "cat", "dög", "cat", "dög"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table_is_read_in_any_common_encoding(tmp_path, encoding, delimiter):
    write(tmp_path, {"images": 6})
    rows = [["id", "breed"], *([f"{index:02d}", label] for index, label in enumerate(LABELS))]
    (tmp_path / "labels.csv").write_text("\r\n".join(map(delimiter.join, rows)), encoding)
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.class_names, dataset.counts) == ("table", ["cat", "dög"], {"train": 4, "test": 2})
    assert dataset.column("test", "breed") == [dataset.class_names[label] for label in dataset.labels("test")]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_metadata_of_hugging_face_tells_labels_and_columns(tmp_path, kind):
    for split, count in (("train", 6), ("test", 3)):
        write(tmp_path, {split: count})
        rows = [{"file_name": f"{index:02d}.png", "label": LABELS[index], "light": "dark"} for index in range(count)]
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        if kind == "jsonl":
            lines = list(map(json.dumps, rows))
        (tmp_path / split / f"metadata.{kind}").write_text("\n".join(lines), encoding="utf-8")
    dataset = open_dataset(tmp_path)
    assert (dataset.class_names, dataset.counts, dataset.notes) == (["cat", "dög"], {"train": 6, "test": 3}, [])
    assert dataset.labels("test").tolist() == [0, 1, 0]
    assert dataset.column("test", "light") == ["dark"] * 3


def test_images_and_rows_without_each_other_are_told(tmp_path):
    write(tmp_path, {"train": 5, "test": 2})
    rows = [f"train/{index:02d}.png,{label}" for index, label in enumerate(LABELS)]
    (tmp_path / "train.csv").write_text("\n".join(["image,label", *rows]))
    dataset = open_dataset(tmp_path)
    assert sum(dataset.counts.values()) == 5
    assert dataset.notes[1:] == [
        "1 row of the table without an image or a label: train/05.png",
        "2 images that no table labels left out: test/00.png, test/01.png",
    ]


def test_a_table_of_other_files_is_refused(tmp_path):
    write(tmp_path, {"images": 2})
    (tmp_path / "labels.csv").write_text("file,label\nx.png,a\ny.png,b\n")
    with pytest.raises(BadInput, match=r"rows as x.png, y.png and images as images/00.png, images/01.png;"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("sep=;\r\nid;label\r\n{};a\r\n{};b\r\n{};a\r\n{};b", "utf-8"),
        ("id,label\n{},a\n{},b\n{},a\n{},b", "utf-16-le"),
        ("id,label\n{},a\n{},b\n{},a\n{},b", "utf-16-be"),
        ("{}.png,a\n{}.png,b\n{}.png,a\n{}.png,b", "utf-8"),
        ("file,label\nimages\\{}.png,a\nimages\\{}.png,b\nimages\\{}.png,a\nimages\\{}.png,b", "utf-8"),
        ("file,label\n/home/me/{}.png,a\nC:\\x\\{}.png,b\n/home/me/{}.png,a\nC:\\x\\{}.png,b", "utf-8"),
        ("id,label\r{},a\r{},b\r{},a\r{},b", "utf-8"),
        ("# mine\n# too\nid,label\n{},a\n{},b\n{},a\n{},b", "utf-8"),
        ("id_code,diagnosis,age\n{},a,9\n{},b,9\n{},a,9\n{},b,9", "utf-8"),
        ("Image Index,Finding Labels,age\n{},a,9\n{},b,9\n{},a,9\n{},b,9", "utf-8"),
        ("n,photo of,breed\n1,{}.png,a\n2,{}.png,b\n3,{}.png,a\n4,{}.png,b", "utf-8"),
        ("image,a,b\n{},1.0,0.0\n{},0.0,1.0\n{},1.0,0.0\n{},0.0,1.0", "utf-8"),
        ("id,label\n0,a\n1,b\n2,a\n3,b", "utf-8"),
        ("path,label\nx/images/{}.png,a\nx/images/{}.png,b\nx/images/{}.png,a\nx/images/{}.png,b", "utf-8"),
        ("url,label\nhttps://x/{}.png,a\nhttps://x/{}.png,b\nhttps://x/{}.png,a\nhttps://x/{}.png,b", "utf-8"),
    ],
)
def test_a_table_is_read_as_programs_write_it(tmp_path, content, encoding):
    write(tmp_path, {"images": 4})
    (tmp_path / "labels.csv").write_bytes(content.format("00", "01", "02", "03").encode(encoding))
    dataset = open_dataset(tmp_path)
    assert (dataset.class_names, sum(dataset.counts.values())) == (["a", "b"], 4)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"image,cat,dog\n00,1,0\n01,1,1\n", "expected one class for each image, received 01, 1, 1 in columns of 0"),
        (b"id,label\n00,1.5\n01,2.25\n", "expected several images of each class, received one of each of 1.5, 2.25"),
        (b"id,a,b\n00,x,y\n01,x,z\n", "expected a column file_name and a column label, received id, a, b"),
        (b"label\ncat\ndog\n", "expected a column file_name and a column label, received label;"),
        (b"id,label\n00,c\x81t\n", "save it as CSV in UTF-8"),
        (
            b"id,label\n00,cat\n01,cat\n00,dog\n",
            "expected one label for each image, received cat and dog for images/00",
        ),
    ],
)
def test_a_table_that_does_not_tell_labels_is_named(tmp_path, content, told):
    write(tmp_path, {"images": 2})
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(BadInput) as refused:
        open_dataset(tmp_path)
    assert told in str(refused.value)


def test_a_table_may_lie_beside_the_folder_of_the_images(tmp_path):
    write(tmp_path, {"images": 4})
    (tmp_path / "annotations").mkdir()
    rows = [f"../images/{index:02d}.png,{LABELS[index]}" for index in range(4)]
    (tmp_path / "annotations" / "labels.csv").write_text("\n".join(["path,label", *rows]), "utf-8")
    assert open_dataset(tmp_path).class_names == ["cat", "dög"]


def test_the_files_of_a_competition_are_read_as_they_are_meant(tmp_path):
    """Images of both splits have the same names, the test has no labels, and the sample of answers made-up ones."""
    write(tmp_path, {"train_images": 6, "test_images": 3})
    rows = [f"{index:02d},{LABELS[index]}" for index in range(6)]
    (tmp_path / "train.csv").write_text("\n".join(["id_code,diagnosis", *rows]), "utf-8")
    (tmp_path / "test.csv").write_text("id_code\n00\n01\n02\n")
    (tmp_path / "sample_submission.csv").write_text("id_code,diagnosis\n00,cat\n01,cat\n02,cat\n")
    dataset = open_dataset(tmp_path)
    assert (dataset.class_names, dataset.counts) == (["cat", "dög"], {"train": 4, "test": 2})
    assert dataset.notes[-1].startswith("3 images that no table labels left out: test_images/00.png")
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).unlink()
    with pytest.raises(BadInput, match="a folder for each class in test_images, train_images, received images without"):
        open_dataset(tmp_path)


def test_a_table_beside_folders_of_classes_is_told_not_to_be_used(tmp_path):
    write(tmp_path, {"train/monday": 4, "train/tuesday": 4})
    (tmp_path / "labels.csv").write_text("file_name,label\ntrain/monday/00.png,cat\ntrain/tuesday/00.png,dog\n")
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ["monday", "tuesday"]
    assert "the folders tell the classes; the labels in the table beside them are not used" in dataset.notes


def test_a_class_that_only_the_test_has_is_named(tmp_path):
    write(tmp_path, {"images": 4})
    (tmp_path / "labels.csv").write_text("id,label,split\n00,a,train\n01,b,train\n02,a,test\n03,c,test\n")
    with pytest.raises(BadInput, match="expected in test the classes of train, a, b, received c as well"):
        open_dataset(tmp_path)


def test_a_label_that_is_missing_is_no_class(tmp_path):
    write(tmp_path, {"images": 6})
    (tmp_path / "labels.csv").write_text("id,label\n00,a\n01,b\n02,a\n03,b\n04,\n05,NaN\n")
    dataset = open_dataset(tmp_path)
    assert (dataset.class_names, sum(dataset.counts.values())) == (["a", "b"], 4)
    assert "2 rows of the table without an image or a label: 04, 05" in dataset.notes


@pytest.mark.parametrize(
    ("column", "values", "counts"),
    [
        ("split", "train Train TRAIN test test val", {"train": 3, "test": 2, "validation": 1}),
        (
            "Usage",
            "Training Training Training PublicTest PrivateTest PrivateTest",
            {"train": 3, "test": 2, "validation": 1},
        ),
        ("is_train", "1 1 1 1 0 0", {"train": 4, "test": 2}),
        ("train", "True True True False False False", {"train": 3, "test": 3}),
        ("is_training_image", "1 1 1 0 0 0", {"train": 3, "test": 3}),
        ("test", "0 0 0 0 yes yes", {"train": 4, "test": 2}),
    ],
)
def test_a_column_tells_the_splits(tmp_path, column, values, counts):
    write(tmp_path, {"images": 6})
    rows = [f"{index:02d},{'ab'[index % 2]},{value}" for index, value in enumerate(values.split())]
    (tmp_path / "labels.csv").write_text("\n".join([f"id,breed,{column}", *rows]))
    assert open_dataset(tmp_path).counts == counts


def test_a_column_that_tells_no_split_is_named(tmp_path):
    write(tmp_path, {"images": 6})
    rows = [f"{index:02d},{'ab'[index % 2]},{index // 2}" for index in range(6)]
    (tmp_path / "labels.csv").write_text("\n".join(["id,label,fold", *rows]))
    dataset = open_dataset(tmp_path)
    assert sum(dataset.counts.values()) == 6
    told = "labels.csv: the values 0, 1, 2 of the column fold name no split and are ignored"
    assert f"{told}; write train, validation or test" in dataset.notes
