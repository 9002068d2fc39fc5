"""Folders of images as people arrange them."""

import os
import unicodedata

import pytest
from PIL import Image

from tests.test_datasets import pictures, png
from trainyard.components.common.cli import BadInput
from trainyard.components.common.datasets import open_dataset


def write(folder, counts, ending=".png"):
    """So many images in each folder."""
    for index, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(pictures(count, seed=index)[0]):
            (folder / name / f"{number:02d}{ending}").write_bytes(png(image))
    return folder


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("training_set", "test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("Train", "Test"),
        ("imagesTr", "imagesTs"),
        ("train", "hold-out"),
        ("a/b/c/d/e/f/train", "a/b/c/d/e/f/test"),
        ("train2017", "val2017"),
        ("train-images", "dev"),
        ("data/train", "data/test"),
        ("pets/pets/train/images", "pets/pets/test/images"),
    ],
)
def test_folders_of_splits_are_known_by_any_common_name(tmp_path, train, test):
    write(tmp_path, {f"{train}/cat": 5, f"{train}/dog": 4, f"{test}/cat": 2, f"{test}/dog": 3})
    dataset = open_dataset(tmp_path)
    assert (dataset.class_names, dataset.notes) == (["cat", "dog"], [])
    other = "validation" if test[:3] in ("val", "dev") else "test"
    assert dataset.counts == {"train": 9, other: 5}
    assert dataset.labels(other).tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PPM", "TIFF", "WEBP"])
def test_an_image_without_an_ending_is_known_by_its_first_bytes(tmp_path, kind):
    for index, name in enumerate(("train/cat", "train/dog", "test/cat", "test/dog")):
        (tmp_path / name).mkdir(parents=True)
        Image.fromarray(pictures(1, seed=index, channels=1)[0][0, ..., 0]).save(tmp_path / name / "0", kind)
    assert open_dataset(tmp_path).read("test").images.shape[0] == 2


@pytest.mark.parametrize("ending", [".png", ".JFIF", ".webp", "", ".dat"])
def test_an_image_is_known_by_its_ending_or_its_first_bytes(tmp_path, ending):
    write(tmp_path, {"train/cat": 3, "train/dog": 3, "test/cat": 2, "test/dog": 2}, ending)
    assert open_dataset(tmp_path).counts == {"train": 6, "test": 4}
    assert len(open_dataset(tmp_path).read("test").images) == 4


def test_classes_may_be_called_as_splits_are(tmp_path):
    inner = write(tmp_path / "inner", {"train/train": 3, "train/valid": 3, "test/train": 2, "test/valid": 2})
    assert open_dataset(inner).class_names == ["train", "valid"]
    flat = write(tmp_path / "flat", {"train": 6, "plane": 6})
    assert (open_dataset(flat).class_names, open_dataset(flat).counts) == (["plane", "train"], {"train": 10, "test": 2})
    checked = write(tmp_path / "checked", {"valid": 6, "invalid": 6})
    assert open_dataset(checked).class_names == ["invalid", "valid"]
    with pytest.raises(BadInput, match="expected a folder for each class in test, train, received images without one"):
        open_dataset(write(tmp_path / "loose", {"train": 6, "test": 6}))


@pytest.mark.parametrize("names", ["cat/images", "cat/00.jpg"])
def test_images_may_lie_in_folders_of_their_own(tmp_path, names):
    dog = names.replace("cat", "dog")
    write(tmp_path, {names: 6, dog: 6, names.replace("0.", "1."): 6, dog.replace("0.", "1."): 6})
    dataset = open_dataset(tmp_path)
    assert dataset.class_names == ["cat", "dog"]
    assert sum(dataset.counts.values()) == (12 if "images" in names else 24)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("0.heic", b"\0\0\0\x18ftypheic", "HEIC, the format of iPhones"),
        ("0.nef", b"MM\0*\0\0\0\x08", "a camera's raw file"),
        ("0.mp4", b"\0\0\0\x18ftypisom", "a video"),
        ("0", bytes(128) + b"DICM", "DICOM"),
        ("0.jxl", b"\xff\x0a", "JPEG XL"),
        ("0.tga", b"\0\0\x02", "other files"),
    ],
)
def test_what_lies_in_place_of_the_images_of_a_class_is_named(tmp_path, name, content, told):
    write(tmp_path, {"train/cat": 3, "test/cat": 3, "train/dog": 1, "test/dog": 1})
    for split in ("train", "test"):
        (tmp_path / split / "dog" / "00.png").unlink()
        (tmp_path / split / "dog" / name).write_bytes(content)
    with pytest.raises(BadInput, match=f"received none of dog but {told}, as test/dog/{name}; add or convert them"):
        open_dataset(tmp_path)


def test_images_in_deeper_folders_belong_to_the_class(tmp_path):
    write(tmp_path, {"train/cat/indoor": 3, "train/cat/out/door": 2, "train/dog": 4, "test/cat": 1, "test/dog": 1})
    dataset = open_dataset(tmp_path)
    assert (dataset.class_names, dataset.counts) == (["cat", "dog"], {"train": 9, "test": 2})
    assert dataset.notes == ["5 images in deeper folders, taken for the class whose folder holds them"]


def test_a_test_split_that_is_missing_is_made_here(tmp_path):
    write(tmp_path, {"train/cat": 6, "train/dog": 5})
    dataset = open_dataset(tmp_path)
    assert dataset.counts == {"train": 9, "test": 2}
    assert dataset.notes[0].startswith("split here, for want of a test split")


def test_two_unicode_forms_of_a_name_and_spaces_behind_it_are_one_class(tmp_path):
    one, other = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    other += " "
    write(tmp_path, {f"train/{one}": 3, "train/bar": 3, f"test/{other}": 2, "test/bar": 2})
    dataset = open_dataset(tmp_path)
    assert (dataset.class_names, dataset.labels("test").tolist()) == (["bar", "café"], [0, 0, 1, 1])


@pytest.mark.parametrize("place", ["", "train", "train/cat"])
def test_what_systems_put_into_folders_is_no_class(tmp_path, place):
    write(tmp_path, {"train/cat": 3, "train/dog": 3, "test/cat": 2, "test/dog": 2})
    for name in ("lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "__pycache__", ".trash"):
        write(tmp_path / place, {f"{name}/00.png": 1, f"{name}/more": 1})
    dataset = open_dataset(tmp_path)
    assert (dataset.class_names, dataset.counts, dataset.notes) == (["cat", "dog"], {"train": 6, "test": 4}, [])


def test_links_are_followed_but_not_in_circles(tmp_path):
    write(tmp_path / "elsewhere", {"cat": 3, "dog": 3})
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        (tmp_path / "data" / split).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "cat" / "again").symlink_to(tmp_path / "elsewhere")
    assert open_dataset(tmp_path / "data").counts == {"train": 6, "test": 6}


def test_a_name_that_is_no_utf_8_is_refused_before_training(tmp_path):
    write(tmp_path, {"train/cat": 2, "train/caf\udce9": 2})
    with pytest.raises(BadInput, match="expected names in UTF-8, received 'café' in another encoding; rename it"):
        open_dataset(tmp_path)


def test_names_around_the_classes_that_are_no_utf_8_can_be_written(tmp_path):
    """Else the card of a model could not be, after the whole training."""
    folder = tmp_path / os.fsdecode(b"L\xf6we")
    write(folder, {"a": 6, "b": 6})
    first = next((folder / "a").iterdir())
    first.rename(first.with_name(os.fsdecode(b"\xf6.png")))
    dataset = open_dataset(folder)
    assert dataset.name == "L?we"
    (folder / "a" / os.fsdecode(b"\xf6.png")).write_bytes(b"damaged")
    dataset = open_dataset(folder, on_corrupt="skip")
    for split in dataset.counts:
        dataset.read(split)
    assert dataset.skipped == ["a/?.png"]


@pytest.mark.parametrize(
    ("train", "other", "split"),
    [
        ("01_train", "02_test", "test"),
        ("1. Training", "2. Testing", "test"),
        ("train_v2", "test_v2", "test"),
        ("train1", "test1", "test"),
        ("train", "eval", "test"),
        ("train", "validate", "validation"),
    ],
)
def test_splits_may_be_numbered(tmp_path, train, other, split):
    write(tmp_path, {f"{train}/cat": 5, f"{train}/dog": 5, f"{other}/cat": 2, f"{other}/dog": 2})
    assert open_dataset(tmp_path).counts == {"train": 10, split: 4}


def test_a_number_makes_no_class_a_split(tmp_path):
    write(tmp_path, {"train1": 5, "train2": 5, "train3": 5})
    assert open_dataset(tmp_path).class_names == ["train1", "train2", "train3"]


@pytest.mark.parametrize("inside", ["", "train/"])
def test_a_copy_of_all_classes_beside_them_is_no_class(tmp_path, inside):
    names = [f"{inside}{copy}{name}" for copy in ("", "cells/") for name in ("healthy", "ill")]
    dataset = open_dataset(write(tmp_path, dict.fromkeys(names, 5)))
    assert (dataset.class_names, sum(dataset.counts.values())) == (["healthy", "ill"], 10)
    assert dataset.notes[1].startswith("10 files left out")


@pytest.mark.parametrize(
    ("folders", "told"),
    [
        (
            ["test/cat", "test/dog"],
            "expected a folder train beside test, received none; add it, or rename one to train",
        ),
        (["cat"], "expected a folder for each of two classes or more, received cat alone; add others"),
        (["cat/train", "cat/test", "dog/train", "dog/test"], "put the classes into the splits, <split>/<class>/"),
        (["first train/cat", "first train/dog", "my test/cat", "my test/dog"], "rename them to train and test"),
        (["a/train/x", "a/train/y", "b/train/x", "b/train/y"], "received 2: a, b; pass the folder of one"),
        (["images"], "received images without, as images/00.png; sort them into a folder for each class, or"),
        (
            ["train/train", "test/test"],
            "received images without, as test/test/00.png; sort them into a folder for each",
        ),
        (["train"], "received images without, as train/00.png; sort them into a folder for each class, or"),
        (["training_set", "test1"], "a folder for each class in test1, training_set, received images without"),
        (["fold1/a", "fold1/b", "fold2/a", "fold2/b"], "if they are parts of one, move them into train and test;"),
        (["pets/cat", "pets/dog", "birds/owl", "birds/tit"], "if they are one, move the folders of all classes"),
        (["apprendre/a", "apprendre/b", "test/a", "test/b"], "expected a folder train beside test, received apprendre"),
        (["train_1/a", "train_2/a", "test_1/a"], "one folder of the split train, received train_1 and train_2"),
    ],
)
def test_a_refusal_says_what_to_rename(tmp_path, folders, told):
    with pytest.raises(BadInput) as refused:
        open_dataset(write(tmp_path, dict.fromkeys(folders, 3)))
    assert told in str(refused.value)


def test_names_that_tell_classes_are_named(tmp_path):
    write(tmp_path / "train", {"": 3}, ".png")
    for number, path in enumerate(sorted((tmp_path / "train").iterdir())):
        for name in ("cat", "big dog"):
            (tmp_path / "train" / f"{name}.{number}.png").write_bytes(path.read_bytes())
        path.unlink()
    with pytest.raises(BadInput, match=r"as their names tell \(big dog, cat\), or add a table labels.csv"):
        open_dataset(tmp_path)


def test_a_class_with_one_image_does_not_keep_others_from_the_test(tmp_path):
    write(tmp_path, {"train/cat": 6, "train/dog": 1})
    dataset = open_dataset(tmp_path)
    assert dataset.counts == {"train": 6, "test": 1}
    assert dataset.notes[1] == "classes with one image only, of which the test has none: dog"
