"""What numbers in arrays mean: pixels of any usual range, labels, and checksums."""

import gzip
import zipfile

import numpy as np
import pytest

from tests.test_datasets import pictures, write_idx, write_npz
from trainyard.components.common.cli import BadInput
from trainyard.components.common.datasets import open_dataset


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda images: images, ""),
        (lambda images: images.astype(np.float32), ""),
        (lambda images: images / 255, "0 to 1"),
        (lambda images: (images / 127.5 - 1).astype(np.float32), "-1 to 1"),
        (lambda images: (images / 255 - 0.5).astype(np.float32), "-0.5 to 0.5"),
        (lambda images: images.astype(np.uint16) * 257, "0 to 65535"),
    ],
)
def test_pixels_of_any_usual_range_are_understood(tmp_path, change, told):
    train, test = pictures(9), pictures(6, seed=1)
    dataset = open_dataset(write_npz(tmp_path, (change(train[0]), train[1]), (change(test[0]), test[1])))
    np.testing.assert_array_equal(dataset.read("train").images, train[0])
    np.testing.assert_array_equal(dataset.read("test").images, test[0])
    assert dataset.notes == ([f"pixels of {told} are read as 0 to 255"] if told else [])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32, np.int64])
def test_zeros_and_ones_are_black_and_white(tmp_path, dtype):
    train, test = pictures(9), pictures(6)
    binary = [((images > 99).astype(dtype), labels) for images, labels in (train, test)]
    dataset = open_dataset(write_npz(tmp_path, *binary))
    np.testing.assert_array_equal(dataset.read("test").images, np.uint8(test[0] > 99) * 255)
    assert dataset.notes == ["pixels of 0 to 1 are read as 0 to 255"]


@pytest.mark.parametrize("values", [[0, 4095], [-3, 3], [0, 1.2], [0, 1e6], [0, np.nan], [0, np.inf], ["0", "1"]])
def test_numbers_in_no_usual_range_are_refused(tmp_path, values):
    images, labels = np.resize(np.array(values), (6, 4, 4)), np.arange(6) % 2
    with pytest.raises(BadInput, match=r"expected (pixels 0 to 255, 0 to 65535, 0 to 1, -0.5 to 0.5 or -1|numbers as)"):
        open_dataset(write_npz(tmp_path, (images, labels), (images, labels)))


def test_pixels_that_are_dim_are_told_and_splits_of_different_scales_refused(tmp_path):
    train, test = pictures(9), pictures(6)
    dim = [(images // 16, labels) for images, labels in (train, test)]
    (told,) = open_dataset(write_npz(tmp_path, *dim)).notes
    assert told == f"the brightest pixel is {dim[0][0].max()} of 255; if that is white, scale the images"
    centred, positive = (train[0] / 127.5 - 1, train[1]), (test[0] / 255, test[1])
    with pytest.raises(
        BadInput, match=r"expected pixels -1 to 1 in test as in train, received 0 to .*scale them alike"
    ):
        open_dataset(write_npz(tmp_path, centred, positive))


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([b"caf\xe9", b"bar"], "expected the names of classes in UTF-8"),
        ([np.nan, 1], "expected labels as names or whole"),
    ],
)
def test_labels_that_cannot_be_read_are_refused(tmp_path, names, why):
    images, labels = pictures(6)[0], np.resize(np.array(names), 6)
    with pytest.raises(BadInput, match=why):
        open_dataset(write_npz(tmp_path, (images, labels), (images, labels)))


@pytest.mark.parametrize("numbers", [[1, 2, 3], [0, 5, 1_000_000], [7, 70, 700]])
def test_labels_may_begin_anywhere_and_leave_gaps(tmp_path, numbers):
    train, test = pictures(9), pictures(6)
    given = [(images, np.array(numbers)[labels]) for images, labels in (train, test)]
    dataset = open_dataset(write_npz(tmp_path, *given))
    assert dataset.class_names == list(map(str, numbers))
    np.testing.assert_array_equal(dataset.labels("test"), test[1])
    assert dataset.notes == [f"labels are not 0 to 2; the classes are those of train: {', '.join(map(str, numbers))}"]


@pytest.mark.parametrize("prefix", ["emnist-letters-", "emnist-letters.", ""])
def test_idx_files_of_emnist_are_known_by_their_names(tmp_path, prefix):
    train, test = pictures(9, channels=1), pictures(6, channels=1)
    write_idx(tmp_path, (train[0], train[1] + 1), (test[0], test[1] + 1), ".gz")
    for file in list(tmp_path.iterdir()):
        file.rename(tmp_path / (prefix + file.name.replace("t10k", "test")))
    dataset = open_dataset(tmp_path)
    assert (dataset.class_names, dataset.counts) == (["1", "2", "3"], {"train": 9, "test": 6})
    assert not prefix or dataset.name == "emnist-letters"
    if prefix:
        for file in list(tmp_path.iterdir()):
            (tmp_path / file.name.replace("letters", "digits")).hardlink_to(file)
        with pytest.raises(BadInput, match="received those of emnist-digits, emnist-letters"):
            open_dataset(tmp_path)


def test_files_in_folders_of_their_own_name_are_found_once(tmp_path):
    train, test = pictures(9, channels=1), pictures(6, channels=1)
    write_idx(tmp_path, train, test)
    for file in list(tmp_path.iterdir()):
        inside = tmp_path / file.name / file.name
        file.rename(tmp_path / file.name.replace("-idx", ".idx"))
        inside.parent.mkdir()
        inside.write_bytes((tmp_path / file.name.replace("-idx", ".idx")).read_bytes())
    assert open_dataset(tmp_path).counts == {"train": 9, "test": 6}


@pytest.mark.parametrize("kind", ["idx.gz", "stored npz", "packed npz"])
def test_a_flipped_bit_never_changes_the_data_in_silence(tmp_path, kind):
    train, test = pictures(60, channels=1), pictures(6, channels=1)
    if kind == "idx.gz":
        write_idx(tmp_path, train, test, ".gz")
        path = tmp_path / "train-images-idx3-ubyte.gz"
    else:
        write = np.savez if kind == "stored npz" else np.savez_compressed
        write(tmp_path / "d.npz", x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1])
        path = tmp_path / "d.npz"
    whole, random = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for place in random.integers(0, len(whole), 60).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            dataset = open_dataset(tmp_path)
            same = dataset.read("train"), dataset.read("test")
            np.testing.assert_array_equal(same[0].images, train[0])
            np.testing.assert_array_equal(same[1].images, test[0])
            np.testing.assert_array_equal(dataset.labels("train"), train[1])
        except BadInput:
            refused += 1
    assert refused > 30


def test_an_array_that_is_cut_off_is_refused(tmp_path):
    train, test = pictures(60, channels=1), pictures(6, channels=1)
    write_idx(tmp_path / "idx", train, test, ".gz")
    path = tmp_path / "idx" / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-500]))
    for read in (lambda dataset: dataset.read("train"), lambda dataset: dataset.images("train", np.array([1]))):
        with pytest.raises(BadInput, match="received fewer or more; fetch it again"):
            read(open_dataset(tmp_path / "idx"))
    whole = write_npz(tmp_path / "npz", train, test) / "data.npz"
    with zipfile.ZipFile(whole) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for member in ("x_train.npy", "y_train.npy"):
        with zipfile.ZipFile(whole, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content[:-8] if name == member else content)
        with pytest.raises(BadInput):
            open_dataset(tmp_path / "npz")


@pytest.mark.parametrize(
    "change",
    [
        (lambda images: images, lambda images: images / 255),
        (lambda images: images, lambda images: (images > 99).astype(np.uint8)),
        (lambda images: images.astype(np.uint16) * 257, lambda images: images),
        (lambda images: images / 255, lambda images: images),
        (lambda images: images.astype(float), lambda images: np.where(images == images.max(), np.inf, images)),
    ],
)
def test_splits_of_different_scales_are_refused(tmp_path, change):
    train, test = pictures(9), pictures(6)
    with pytest.raises(BadInput, match=r"data\.npz: expected pixels .* as in train, .*; scale them alike"):
        open_dataset(write_npz(tmp_path, (change[0](train[0]), train[1]), (change[1](test[0]), test[1]))).read("test")


@pytest.mark.parametrize("packed", [True, False])
def test_idx_files_are_known_as_packed_by_their_bytes(tmp_path, packed):
    """Browsers unpack some downloads and keep their names."""
    train, test = pictures(9, channels=1), pictures(6, channels=1)
    write_idx(tmp_path, train, test, ".gz" if packed else "")
    for file in list(tmp_path.iterdir()):
        file.rename(file.with_suffix("") if packed else f"{file}.gz")
    np.testing.assert_array_equal(open_dataset(tmp_path).read("train").images, train[0])
