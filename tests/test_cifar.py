"""The batches of CIFAR, whose pickles are read without running what they name."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from tests.test_datasets import pictures
from trainyard.components.common.cli import BadInput
from trainyard.components.common.datasets import open_dataset

TRAIN, TEST = pictures(10, 32, 32, classes=3), pictures(4, 32, 32, classes=3, seed=1)
NAMES = ["ant", "bee", "cat"]


def stored(images):
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def write(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def write_ten(folder, protocol=2):
    for index in range(5):
        images, labels = (part[2 * index : 2 * index + 2] for part in TRAIN)
        content = {
            b"data": stored(images),
            b"labels": labels.tolist(),
            b"batch_label": b"one",
            b"filenames": [b"a.png"],
        }
        write(folder / f"data_batch_{index + 1}", content, protocol)
    write(folder / "test_batch", {b"data": stored(TEST[0]), b"labels": TEST[1].tolist()}, protocol)
    write(folder / "batches.meta", {b"label_names": [name.encode() for name in NAMES], b"num_vis": 3072}, protocol)


def write_hundred(folder):
    for name, (images, labels) in (("train", TRAIN), ("test", TEST)):
        write(
            folder / name,
            {b"data": stored(images), b"fine_labels": labels.tolist(), b"coarse_labels": [0] * len(labels)},
        )
    write(folder / "meta", {b"fine_label_names": NAMES, b"coarse_label_names": ["thing"]})


def write_binary(folder):
    for names, (images, labels) in (([f"data_batch_{n}.bin" for n in range(1, 6)], TRAIN), (["test_batch.bin"], TEST)):
        rows = np.concatenate([labels[:, None].astype(np.uint8), stored(images)], axis=1)
        for name, part in zip(names, np.array_split(rows, len(names)), strict=True):
            (folder / name).write_bytes(part.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n")


@pytest.mark.parametrize("write_batches", [write_ten, lambda folder: write_ten(folder, 4), write_hundred, write_binary])
def test_the_batches_of_cifar_are_read(tmp_path, write_batches):
    write_batches(tmp_path)
    dataset = open_dataset(tmp_path)
    assert (dataset.layout, dataset.class_names) == ("cifar", NAMES)
    for split, (images, labels) in (("train", TRAIN), ("test", TEST)):
        np.testing.assert_array_equal(dataset.read(split).images, images)
        np.testing.assert_array_equal(dataset.labels(split), labels)
    np.testing.assert_array_equal(dataset.images("train", np.array([7, 2])), TRAIN[0][[7, 2]])


def test_a_pickle_of_python_2_is_read(tmp_path):
    """As the published files are: text and numbers of protocol 0, written by another NumPy."""
    write_ten(tmp_path, 0)
    assert open_dataset(tmp_path).counts == {"train": 10, "test": 4}


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_pickle_never_runs_what_it_names(tmp_path):
    mark = tmp_path / "ran"
    write_ten(tmp_path)
    content = {b"data": Hostile(mark), b"labels": [0]}
    write(tmp_path / "data_batch_1", content)
    with pytest.raises(BadInput, match="data_batch_1: expected a batch of CIFAR, received a damaged or other file"):
        open_dataset(tmp_path)
    assert not mark.exists()
    subprocess.run(
        [sys.executable, "-c", f"import pickle; pickle.load(open({str(tmp_path / 'data_batch_1')!r}, 'rb'))"]
    )
    assert mark.exists()


@pytest.mark.parametrize("damage", ["cut", "fewer labels", "floats", "text"])
def test_a_damaged_batch_is_named(tmp_path, damage):
    write_ten(tmp_path)
    file = tmp_path / "data_batch_2"
    images, labels = stored(TRAIN[0][:2]), [0, 1]
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-2000])
    elif damage == "text":
        write(file, {b"data": "pixels", b"labels": labels})
    else:
        write(
            file,
            {b"data": images / 255 if damage == "floats" else images, b"labels": labels[: 1 + (damage == "floats")]},
        )
    with pytest.raises(BadInput, match="data_batch_2: expected a batch of CIFAR"):
        open_dataset(tmp_path)
