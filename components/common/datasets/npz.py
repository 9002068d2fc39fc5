"""The layout `npz`: arrays x_train, y_train, x_test, y_test and, if wanted, validation, class_names and columns."""

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from ..cli import BadInput
from ..progress import some_of
from .arrays import ArrayDataset, StoredImages
from .dataset import Column, Options
from .naming import SPLITS, as_text, in_order
from .rows import Header, npy_header
from .values import numbered_classes

READ_AT_ONCE = 2**20
"""Bytes."""
LETTERS = {"x": "x", "images": "x", "y": "y", "labels": "y"}
"""Whether an array holds images (x) or labels (y), by the part of its name that says so."""


def find(place: Path) -> list[Path]:
    """See `opening.Layout`."""
    return sorted(path for path in place.glob("*.npz") if not path.name.startswith("."))


def open_found(path: Path, options: Options) -> ArrayDataset:
    """See `opening.Layout`."""
    with _archive(path) as archive:
        keys = _keys(archive)
        named = _named(keys)
        splits = _splits(path, keys, named)
        images = {split: _stored(archive, named[f"x_{split}"], path) for split in splits}
        labels = {split: _plain_labels(_array(archive, named[f"y_{split}"], path), path) for split in splits}
        names = list(map(as_text, _array(archive, "class_names", path).tolist())) if "class_names" in keys else []
        one_hot = _header(archive, named["y_train"]).shape[1:]
        columns = _columns(archive, path, sorted(set(keys) - set(named.values()), key=keys.index), labels)
    if any(of_split.dtype.kind == "U" for of_split in labels.values()):
        names = names or in_order(set(labels["train"].astype(str).tolist()))
        labels = {split: _numbered(of_split.astype(str), names, path) for split, of_split in labels.items()}
    notes = []
    if not names and one_hot and one_hot != (1,):
        names = list(map(str, range(max(2, *one_hot))))
    if not names:
        numbered = numbered_classes(labels)
        names, labels, notes = numbered.names, numbered.labels, [numbered.note] if numbered.note else []
    _check_shape(images["train"].header.shape, named["x_train"], path)
    return ArrayDataset(path, path.stem, "npz", names, images, labels, options, notes, columns)


def has_labels(path: Path) -> bool:
    """Whether an `.npz` holds labels to learn from, or to compare answers with."""
    with _archive(path) as archive:
        return any(role.startswith("y_") for role in _named(_keys(archive)))


def images_alone(path: Path) -> StoredImages:
    """The one array of images in an `.npz` without labels.

    Raises:
        BadInput: there is none, or there are several.
    """
    with _archive(path) as archive:
        shapes = {key: _header(archive, key).shape for key in _keys(archive)}
        found = [key for key, shape in shapes.items() if len(shape) in (3, 4)]
        if len(found) != 1:
            told = some_of([f"{key} {shape}" for key, shape in shapes.items()]) or "none"
            raise BadInput(
                f"{path}: expected one array of shape (n, height, width) or (n, height, width, channels), received "
                f"{told}; save the images alone"
            )
        stored = _stored(archive, found[0], path)
    _check_shape(stored.header.shape, found[0], path)
    return stored


def npy_images(path: Path) -> StoredImages:
    """The images in an `.npy` file.

    Raises:
        BadInput: it holds something else.
    """
    try:
        with path.open("rb") as file:
            header = npy_header(file)
    except ValueError:
        raise BadInput(f"{path}: expected an .npy file, received a damaged or other file; fetch it again") from None
    if header.dtype.hasobject or header.by_column or len(header.shape) not in (3, 4):
        raise BadInput(
            f"{path}: expected numbers of shape (n, height, width) or (n, height, width, channels) by row, received "
            f"{header.dtype} of {header.shape}; reshape them, and save np.ascontiguousarray(images)"
        )
    _check_shape(header.shape, path.stem, path)
    return StoredImages(path, header)


def _columns(
    archive: zipfile.ZipFile, path: Path, keys: list[str], labels: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Column]]:
    """By split and name, the arrays that hold a value for each of its examples; `keys`: those that may."""
    shapes = {key: _header(archive, key).shape for key in keys}
    return {
        split: {
            key.removesuffix(f"_{split}"): partial(_column, path, key)
            for key, shape in shapes.items()
            if key.endswith(f"_{split}") and shape == (len(of_split),)
        }
        for split, of_split in labels.items()
    }


def _column(path: Path, key: str) -> list[str]:
    with _archive(path) as archive:
        return list(map(as_text, _array(archive, key, path).tolist()))


def _named(keys: list[str]) -> dict[str, str]:
    """By x_train, y_train and so on, what the array is called: X_train, or train_images as MedMNIST has it."""
    named = {}
    for key in keys:
        first, _, last = key.lower().partition("_")
        for kind, split in ((first, last), (last, first)):
            if kind in LETTERS and split in SPLITS:
                role = f"{LETTERS[kind]}_{SPLITS[split]}"
                named[role] = role if role in keys else key
    return named


def _splits(path: Path, keys: list[str], named: dict[str, str]) -> list[str]:
    """The splits that are there, each with images and labels."""
    splits = ["train", "test", *(["validation"] if any(role.endswith("_validation") for role in named) else [])]
    expected = [f"{letter}_{split}" for split in splits for letter in "xy"]
    if missing := [role for role in expected if role not in named]:
        add, rename = f"add {', '.join(missing)}", "rename them, and keep some images apart for the test"
        raise BadInput(
            f"{path}: expected {', '.join(expected)}, received {', '.join(keys) or 'no arrays'}; "
            f"{add if named else rename}"
        )
    return splits


def _check_shape(shape: tuple[int, ...], key: str, path: Path) -> None:
    if len(shape) not in (3, 4):
        raise BadInput(
            f"{path}: expected {key} of shape (n, height, width) or (n, height, width, channels), "
            f"received {shape}; reshape it"
        )
    if len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3, 4):
        raise BadInput(
            f"{path}: expected images of shape (n, height, width, channels), received {shape}, channels first; "
            f"transpose them: {key}.transpose(0, 2, 3, 1), the others likewise"
        )


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """An .npz, open."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (
        ValueError,
        zipfile.BadZipFile,
        EOFError,
        zlib.error,
        LookupError,
        NotImplementedError,
        struct.error,
        OSError,
    ):
        raise BadInput(f"{path}: expected an .npz archive, received a damaged or other file; fetch it again") from None


def _keys(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _header(archive: zipfile.ZipFile, key: str) -> Header:
    with archive.open(f"{key}.npy") as member:
        return npy_header(member)


def _stored(archive: zipfile.ZipFile, key: str, path: Path) -> StoredImages:
    """Images in an .npz: as they lie in the archive, or to be unpacked."""
    header, entry = _header(archive, key), archive.getinfo(f"{key}.npy")
    if header.dtype.hasobject:
        raise BadInput(f"{path}: expected numbers in {key}, received Python objects; make all images of one size")
    if entry.file_size != header.offset + math.prod(header.shape) * header.dtype.itemsize:
        raise BadInput(f"{path}: expected {header.shape} numbers in {key}, received fewer or more; save it again")
    if entry.compress_type != zipfile.ZIP_STORED or header.by_column:
        return StoredImages(path, header, partial(_numbers, path, key))
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)  # the lengths of name and extra field end the 30 bytes of a local header
        name, extra = struct.unpack("<HH", file.read(4))
    offset = entry.header_offset + 30 + name + extra + header.offset
    return StoredImages(path, replace(header, offset=offset), check=partial(_check_sum, path, key))


def _check_sum(path: Path, key: str) -> None:
    with _archive(path) as archive, archive.open(f"{key}.npy") as member:
        while member.read(READ_AT_ONCE):  # zipfile compares it at the end
            pass


@contextmanager
def _numbers(path: Path, key: str) -> Iterator[IO[bytes]]:
    """The numbers of an array in an .npz, unpacked while they are read."""
    with _archive(path) as archive, archive.open(f"{key}.npy") as member:
        npy_header(member)
        yield member


def _array(archive: zipfile.ZipFile, key: str, path: Path) -> np.ndarray:
    """A small array in an .npz, whole."""
    if _header(archive, key).dtype.hasobject:
        raise BadInput(f"{path}: expected numbers or text in {key}, received Python objects; save {key}.astype(str)")
    with archive.open(f"{key}.npy") as member:
        array: np.ndarray = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):  # and so to the end, where the checksum is
            raise BadInput(f"{path}: expected {array.shape} values in {key}, received more; save it again")
    return array


def _plain_labels(array: np.ndarray, path: Path) -> np.ndarray:
    """Labels of shape (n,), int64 or text."""
    if array.ndim == 2 and array.shape[1] == 1:  # as CIFAR's .npz has them
        array = array[:, 0]
    kind = array.dtype.kind
    if array.ndim == 1 and kind in "US":
        return array if kind == "U" else np.char.decode(array, "utf-8")
    if array.ndim == 2 and kind in "biuf" and np.isin(array, (0, 1)).all() and (array.sum(axis=1) == 1).all():
        array = array.argmax(axis=1)  # one-hot, as Keras's to_categorical makes them
    if array.ndim != 1 or kind not in "biuf" or not (array == np.trunc(array)).all():
        raise BadInput(
            f"{path}: expected labels as names or whole numbers of shape (n,), or one-hot, received {array.dtype} "
            f"{array.shape}; number the classes from 0"
        )
    return array.astype(np.int64)


def _numbered(labels: np.ndarray, names: list[str], path: Path) -> np.ndarray:
    """Names of classes as their numbers."""
    numbers = {name: number for number, name in enumerate(names)}
    if unknown := sorted(set(labels.tolist()) - set(names)):
        raise BadInput(
            f"{path}: expected labels among {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}, received "
            f"{unknown[0]!r}; correct the labels, or name all classes in class_names"
        )
    return np.array([numbers[label] for label in labels.tolist()], np.int64)
