"""WebDataset's tars, packed and unpacked, and data that is of no layout."""

import gzip
import io
import json
import tarfile

import numpy as np
import pytest

from tests.test_datasets import pictures, png
from trainyard.components.common.cli import BadInput
from trainyard.components.common.datasets import open_dataset
from trainyard.components.common.fetching.fetch import fetch

TRAIN, TEST = pictures(12), pictures(6, seed=1)
NAMES = ("ant", "bee", "cat")


def record(index, image, label, kind):
    label = {"cls": str(label), "names": NAMES[label], "json": json.dumps({"label": int(label), "caption": "x"})}[kind]
    return {f"{index:06d}.png": png(image), f"{index:06d}.{'json' if kind == 'json' else 'cls'}": label.encode()}


def write_shards(folder, kind="cls"):
    folder.mkdir(parents=True, exist_ok=True)
    for split, (images, labels) in (("train", TRAIN), ("val", TEST)):
        for shard in range(2):
            with tarfile.open(folder / f"shapes-{split}-{shard:06d}.tar", "w") as archive:
                for index in range(shard, len(labels), 2):
                    for name, content in record(index, images[index], labels[index], kind).items():
                        member = tarfile.TarInfo(name)
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
    return folder


def assert_read(dataset, names=("0", "1", "2")):
    assert (dataset.layout, dataset.class_names) == ("webdataset", list(names))
    assert dataset.counts == {"train": 12, "validation": 6}
    order = [*range(0, 12, 2), *range(1, 12, 2)]
    np.testing.assert_array_equal(dataset.read("train").images, TRAIN[0][order])
    np.testing.assert_array_equal(dataset.labels("train"), TRAIN[1][order])
    np.testing.assert_array_equal(dataset.images("train", np.array([7, 0])), TRAIN[0][order][[7, 0]])


@pytest.mark.parametrize("kind", ["cls", "names", "json"])
def test_shards_are_read_as_they_are(tmp_path, kind):
    assert_read(open_dataset(write_shards(tmp_path, kind)), NAMES if kind == "names" else ("0", "1", "2"))


@pytest.mark.parametrize("kind", ["cls", "json"])
def test_shards_are_downloaded_as_they_are(tmp_path, kind):
    shards = write_shards(tmp_path / "shards", kind)
    (tmp_path / "all").mkdir()
    fetch(str(shards), tmp_path / "all")
    assert_read(open_dataset(tmp_path / "all"))
    (tmp_path / "one").mkdir()
    fetch(str(shards / "shapes-train-000000.tar"), tmp_path / "one")
    assert (tmp_path / "one" / "shapes-train-000000.tar").is_file()
    packed = tmp_path / "shapes-train-000000.tar.gz"
    packed.write_bytes(gzip.compress((shards / "shapes-train-000000.tar").read_bytes()))
    (tmp_path / "unpacked").mkdir()
    fetch(str(packed), tmp_path / "unpacked")
    for folder in ("one", "unpacked"):
        dataset = open_dataset(tmp_path / folder)
        assert (dataset.layout, dataset.counts) == ("webdataset", {"train": 3, "test": 3})


@pytest.mark.parametrize(
    ("names", "shard"),
    [
        (["./0.jpg", "./0.cls"], True),
        (["a/0.cls", "a/0.input.png"], True),
        (["0.jpg", "0.seg.png", "0.cls"], True),
        (["cat.0.jpg", "cat.1.jpg", "dog.0.jpg"], False),
        (["readme.md", "readme.txt"], False),
        (["0.jpg", "1.jpg"], False),
    ],
)
def test_a_shard_is_known_by_its_first_record_however_large(tmp_path, names, shard):
    """As the only file that is fetched, and in a folder."""
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "x.tar", "w") as archive:
        folder = tarfile.TarInfo("./")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 300_000
            archive.addfile(member, io.BytesIO(bytes(300_000)))
    for source, folder in (("in", "a"), ("in/x.tar", "b")):
        (tmp_path / folder).mkdir()
        fetch(str(tmp_path / source), tmp_path / folder)
        assert (tmp_path / folder / "x.tar").is_file() == shard


@pytest.mark.parametrize(
    ("names", "counts"),
    [
        (["train/0.png", "train/0.cls", "train/1.png", "train/1.cls", "test/0.png", "test/0.cls"], (2, 1)),
        (
            ["train/a/0.json", "train/a/0.png", "train/b/0.json", "train/b/0.png", "test/a/0.png", "test/b/0.png"],
            (2, 2),
        ),
    ],
)
def test_splits_in_one_tar_are_known_by_their_folders(tmp_path, names, counts):
    """And files beside images that tell no class make no records of them."""
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        for name in names:
            content = png(TRAIN[0][0]) if name.endswith("png") else b"{}" if name.endswith("json") else b"x"
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (tmp_path / "data").mkdir()
    fetch(str(tmp_path / "all.tar"), tmp_path / "data")
    dataset = open_dataset(tmp_path / "data")
    assert (dataset.counts["train"], dataset.counts["test"]) == counts


def test_a_class_that_only_the_test_has_is_named(tmp_path):
    for split, label in (("train", "a"), ("test", "b")):
        (tmp_path / split).mkdir()
        (tmp_path / split / "0.png").write_bytes(png(TRAIN[0][0]))
        (tmp_path / split / "0.cls").write_text(label)
    with pytest.raises(BadInput, match="expected in test the classes of train, a, received b as well"):
        open_dataset(tmp_path)


def test_records_that_lack_something_are_told_and_damaged_shards_named(tmp_path):
    write_shards(tmp_path)
    with tarfile.open(tmp_path / "shapes-train-000000.tar", "a") as archive:
        member = tarfile.TarInfo("000100.png")
        archive.addfile(member, io.BytesIO(b""))
    assert open_dataset(tmp_path).notes == ["1 record without an image or a label left out"]
    shard = tmp_path / "shapes-train-000001.tar"
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(BadInput, match=r"train-000001.tar: expected a tar of records"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["weights.pt", "data.pth"], "received PyTorch or pickle files, which can run code"),
        (["clip.mp4"], "received videos"),
        (["iris.csv"], "received tables without image files"),
        (["reviews.txt", "reviews.json"], "received text"),
        (["digits.mat"], "received MATLAB files"),
        (["x.h5"], "received HDF5 files"),
        (["a.wav"], "received sound"),
        (["clip.dcm"], "received DICOM, as clip.dcm; save them as PNG or JPEG"),
        (["a.png", "b.png"], "received images without, as a.png; sort them into a folder for each class"),
    ],
)
def test_what_is_not_read_is_named_as_what_it_is(tmp_path, names, told):
    for name in names:
        content = {"png": png(TRAIN[0][0]), "dcm": bytes(128) + b"DICM"}.get(name[-3:], b"1,2\n3,4\n")
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=told):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\0\0\0\x18ftypheic", "HEIC, the format of iPhones"),
        (b"\0\0\0\x18ftypavif", "AVIF"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG, which has no pixels"),
        (b"%PDF-1.7", "a PDF"),
    ],
)
def test_images_of_other_formats_are_named(tmp_path, content, told):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.dat").write_bytes(content)
    with pytest.raises(BadInput, match=f"received {told}, as cat/1.dat; save them as PNG or JPEG"):
        open_dataset(tmp_path)
