"""Arrays of one .npz, or in files of their own, known by the names that people give them."""

import numpy as np
import pytest

from tests.test_datasets import pictures
from trainyard.components.common.cli import BadInput
from trainyard.components.common.datasets import open_dataset

TRAIN, TEST = pictures(12, channels=1), pictures(6, channels=1, seed=1)
ARRAYS = dict(zip(("x_train", "y_train", "x_test", "y_test"), (*TRAIN, *TEST), strict=True))


def assert_read(dataset):
    for split, (images, labels) in (("train", TRAIN), ("test", TEST)):
        np.testing.assert_array_equal(dataset.read(split).images, images)
        np.testing.assert_array_equal(dataset.labels(split), labels)


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "Y_train", "X_test", "Y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("kmnist-train-imgs", "kmnist-train-labels", "kmnist-test-imgs", "kmnist-test-labels"),
        ("trainX", "trainY", "testX", "testY"),
        ("xtrain", "ytrain", "xtest", "ytest"),
        ("training.data", "training.targets", "testing.data", "testing.targets"),
    ],
)
@pytest.mark.parametrize("ending", ["one npz", ".npy", ".npz"])
def test_arrays_are_known_by_the_names_that_people_give_them(tmp_path, names, ending):
    arrays = dict(zip(names, ARRAYS.values(), strict=True))
    if ending == "one npz":
        np.savez(tmp_path / "arrays.npz", **arrays)
    for name, array in arrays.items() if ending != "one npz" else ():
        save = np.save if ending == ".npy" else np.savez_compressed
        save(tmp_path / f"{name}{ending}", array)
    assert_read(open_dataset(tmp_path))


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels"), ("data", "target")])
def test_arrays_of_no_split_are_split_here_with_their_columns(tmp_path, names):
    values = np.arange(12) % 2
    np.savez(tmp_path / "arrays.npz", **{names[0]: TRAIN[0], names[1]: TRAIN[1], "light": values})
    dataset = open_dataset(tmp_path)
    assert dataset.counts == {"train": 9, "test": 3}
    whole = np.concatenate([dataset.read(split).images for split in ("train", "test")])
    assert sorted(map(bytes, whole)) == sorted(map(bytes, TRAIN[0]))
    assert dataset.column("test", "light") == [str(values[place]) for place in dataset.places("test")]


@pytest.mark.parametrize("ending", [".npz", ".npy"])
def test_arrays_may_lie_apart_by_split(tmp_path, ending):
    for split, (images, labels) in (("train", TRAIN), ("test", TEST)):
        if ending == ".npz":
            np.savez(tmp_path / f"{split}.npz", x=images, y=labels)
        else:
            (tmp_path / split).mkdir()
            np.save(tmp_path / split / "images.npy", images)
            np.save(tmp_path / split / "labels.npy", labels)
    assert_read(open_dataset(tmp_path))


def test_an_npz_without_a_test_split_is_split_here(tmp_path):
    np.savez(tmp_path / "arrays.npz", x_train=TRAIN[0], y_train=TRAIN[1])
    assert open_dataset(tmp_path).counts == {"train": 9, "test": 3}


@pytest.mark.parametrize("damage", ["cut", "zeros", "objects"])
def test_a_damaged_array_file_is_named(tmp_path, damage):
    for name, array in ARRAYS.items():
        np.save(tmp_path / f"{name}.npy", array.astype(object) if damage == "objects" else array)
    file = tmp_path / "x_train.npy"
    if damage != "objects":
        file.write_bytes(file.read_bytes()[:-1] if damage == "cut" else bytes(300))
    with pytest.raises(BadInput, match=r"x_train.npy: expected"):
        open_dataset(tmp_path)
