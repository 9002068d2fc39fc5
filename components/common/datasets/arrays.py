"""Data sets whose images are the rows of arrays: `.npz` and IDX files."""

import gzip
import math
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from ..cli import BadInput
from .dataset import SPLITS, ImageDataset, Options, as_text, in_order, name_of
from .decoding import resized
from .rows import Header, npy_header, read_rows

CHANGED_AT_ONCE = 16 * 2**20
"""Bytes of an array that are held at once while its images are resized, or made bytes."""

UNPACKED_AT_ONCE = 2**20
"""Bytes of an array that are held at once while it is unpacked."""


class ArrayDataset(ImageDataset):
    """A data set whose images are the rows of one array per split."""

    def __init__(
        self,
        folder: Path,
        name: str,
        class_names: list[str],
        arrays: dict[str, tuple[Path, Header, bool]],
        labels: dict[str, np.ndarray],
        options: Options,
    ) -> None:
        """See `ImageDataset`.

        Args:
            folder: Where the data set begins.
            name: Its name.
            class_names: Name of each class.
            arrays: By split, the file of its images, what it holds, and whether it must be unpacked first.
            labels: By split, int64, shape (examples,).
            options: How it is read.
        """
        counts = {split: len(of_split) for split, of_split in labels.items()}
        self._row = _as_image(arrays["train"][1].shape[1:])
        super().__init__(folder, name, class_names, counts, self._row, options)
        self._arrays = arrays
        self._all_labels = labels
        self._unpacked: dict[str, BinaryIO] = {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_unpacked": {}}

    def _labels(self, split: str) -> np.ndarray:
        path, header, _ = self._arrays[split]
        labels = self._all_labels[split]
        if header.shape[0] != len(labels):
            raise BadInput(
                f"{path}: expected a label for each image of {split}, received {header.shape[0]} and "
                f"{len(labels)} labels; make them equal"
            )
        if _as_image(header.shape[1:]) != self._row:
            raise BadInput(
                f"{path}: expected images of {self._row} as in train, received {_as_image(header.shape[1:])} in "
                f"{split}; make them equal"
            )
        return labels

    def _read(self, split: str, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = self._labels(split)[places]
        path, header, _ = self._arrays[split]
        if self._row == self.image_shape and header.dtype == np.uint8:
            return self._rows(split, places).reshape(-1, *self._row), labels
        images = np.empty((len(places), *self.image_shape), np.uint8)
        some = max(1, CHANGED_AT_ONCE // (header.dtype.itemsize * math.prod(self._row)))
        for at in range(0, len(places), some):
            rows = self._rows(split, places[at : at + some]).reshape(-1, *self._row)
            images[at : at + some] = resized(_pixels(rows, path), self.image_shape[:2])
        return images, labels

    def _rows(self, split: str, places: np.ndarray) -> np.ndarray:
        path, header, packed = self._arrays[split]
        if not packed:
            with path.open("rb") as file:
                return read_rows(file, header, places, path)
        if split not in self._unpacked:
            if np.array_equal(places, np.arange(header.shape[0])):
                return self._whole(split)
            file = tempfile.TemporaryFile()  # noqa: SIM115 (it has no name and goes with this object)
            if header.by_column:
                np.ascontiguousarray(self._whole(split)).tofile(file)
            else:
                with self._numbers(split) as numbers:
                    shutil.copyfileobj(numbers, file, UNPACKED_AT_ONCE)
            file.flush()
            self._unpacked[split] = file
        return read_rows(self._unpacked[split], replace(header, offset=0), places, path)

    def _whole(self, split: str) -> np.ndarray:
        """The array of a split, unpacked into memory."""
        path, header, _ = self._arrays[split]
        stored = np.empty(header.shape[::-1] if header.by_column else header.shape, header.dtype)
        target, done = memoryview(stored.reshape(-1).view(np.uint8)), 0
        with self._numbers(split) as numbers:
            while done < len(target) and (content := numbers.read(min(UNPACKED_AT_ONCE, len(target) - done))):
                target[done : done + len(content)] = content
                done += len(content)
        if done < len(target):
            raise BadInput(f"{path}: expected {header.shape[0]} images, received fewer; fetch it again")
        return stored.T if header.by_column else stored

    def _numbers(self, split: str) -> AbstractContextManager[BinaryIO]:
        """The array of a split as a file that is unpacked while it is read, without its header."""
        raise NotImplementedError


class NpzDataset(ArrayDataset):
    """An `.npz` with x_train, y_train, x_test, y_test and, if wanted, a validation split, class_names and columns."""

    layout = "npz"
    LETTERS: ClassVar[dict[str, str]] = {"x": "x", "images": "x", "y": "y", "labels": "y"}
    _named: dict[str, str]

    @staticmethod
    def find(place: Path) -> list[Path]:
        return sorted(path for path in place.glob("*.npz") if not path.name.startswith("."))

    @classmethod
    def open(cls, path: Path, options: Options) -> "NpzDataset":
        with _archive(path) as archive:
            keys = _keys(archive)
            named = cls._names_of(keys)
            splits = ["train", "test", *(["validation"] if any(role.endswith("_validation") for role in named) else [])]
            expected = [f"{letter}_{split}" for split in splits for letter in "xy"]
            if missing := [role for role in expected if role not in named]:
                add, rename = f"add {', '.join(missing)}", "rename them, and keep some images apart for the test"
                raise BadInput(
                    f"{path}: expected {', '.join(expected)}, received {', '.join(keys) or 'no arrays'}; "
                    f"{add if named else rename}"
                )
            arrays = {split: (path, *_stored(archive, named[f"x_{split}"], path)) for split in splits}
            labels = {split: _plain_labels(_array(archive, named[f"y_{split}"], path), path) for split in splits}
            names = list(map(as_text, _array(archive, "class_names", path).tolist())) if "class_names" in keys else []
            one_hot = _header(archive, named["y_train"]).shape[1:]
        if any(of_split.dtype.kind == "U" for of_split in labels.values()):
            names = names or in_order(set(labels["train"].astype(str).tolist()))
            labels = {split: _numbered(of_split.astype(str), names, path) for split, of_split in labels.items()}
        names = names or list(map(str, range(max(2, *one_hot, int(labels["train"].max(initial=0)) + 1))))
        shape = arrays["train"][1].shape
        if len(shape) not in (3, 4):
            raise BadInput(
                f"{path}: expected x_train of shape (n, height, width) or (n, height, width, channels), "
                f"received {shape}; reshape it"
            )
        if len(shape) == 4 and shape[1] in (1, 3) and shape[3] not in (1, 3, 4):
            raise BadInput(
                f"{path}: expected images of shape (n, height, width, channels), received {shape}, channels first; "
                f"transpose them: {named['x_train']}.transpose(0, 2, 3, 1), the others likewise"
            )
        dataset = cls(path, path.stem, names, arrays, labels, options)
        dataset._named = named
        return dataset

    @classmethod
    def _names_of(cls, keys: list[str]) -> dict[str, str]:
        """By x_train, y_train and so on, what the array is called: X_train, or train_images as MedMNIST has it."""
        named = {}
        for key in keys:
            first, _, last = key.lower().partition("_")
            for kind, split in ((first, last), (last, first)):
                if kind in cls.LETTERS and split in SPLITS:
                    role = f"{cls.LETTERS[kind]}_{SPLITS[split]}"
                    named[role] = role if role in keys else key
        return named

    @contextmanager
    def _numbers(self, split: str) -> Iterator[BinaryIO]:
        with _archive(self.folder) as archive, archive.open(f"{self._named[f'x_{split}']}.npy") as member:
            npy_header(member)
            yield member

    def _columns(self, split: str) -> list[str]:
        ending = f"_{split}"
        with _archive(self.folder) as archive:
            keys = [key for key in _keys(archive) if key.endswith(ending) and key not in self._named.values()]
            shapes = {key: _header(archive, key).shape for key in keys}
        return [key.removesuffix(ending) for key, shape in shapes.items() if shape == (self._on_disk[split],)]

    def _column(self, split: str, name: str) -> list[str]:
        with _archive(self.folder) as archive:
            return list(map(as_text, _array(archive, f"{name}_{split}", self.folder).tolist()))


class IdxDataset(ArrayDataset):
    """The four files MNIST was first published in (http://yann.lecun.com/exdb/mnist/), gzipped or not."""

    layout = "idx"
    PREFIXES: ClassVar[dict[str, str]] = {"train": "train", "test": "t10k"}

    @staticmethod
    def find(place: Path) -> list[Path]:
        return [place] if IdxDataset._file(place, "train", "images") else []

    @staticmethod
    def _file(place: Path, split: str, kind: str) -> Path | None:
        rank = 3 if kind == "images" else 1
        pattern = f"{IdxDataset.PREFIXES[split]}-{kind}[-.]idx{rank}-ubyte"
        return next(iter(sorted([*place.glob(pattern), *place.glob(f"{pattern}.gz")])), None)

    @classmethod
    def open(cls, path: Path, options: Options) -> "IdxDataset":
        arrays, all_labels = {}, {}
        for split in cls.PREFIXES:
            images, labels = cls._file(path, split, "images"), cls._file(path, split, "labels")
            if images is None or labels is None:
                if split == "train":
                    raise BadInput(f"{path}: expected train-labels-idx1-ubyte beside the images, received none; add it")
                continue
            header = _idx_header(images)
            arrays[split] = images, replace(header, shape=(*header.shape, 1)), images.suffix == ".gz"
            with _idx(labels) as file:
                all_labels[split] = np.frombuffer(file.read(), np.uint8)[_idx_header(labels).offset :].astype(np.int64)
        classes = int(all_labels["train"].max(initial=0)) + 1
        return cls(path, name_of(path), list(map(str, range(max(classes, 2)))), arrays, all_labels, options)

    @contextmanager
    def _numbers(self, split: str) -> Iterator[BinaryIO]:
        path, header, _ = self._arrays[split]
        with _idx(path) as file:
            file.read(header.offset)
            yield file


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """An .npz, open."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (ValueError, zipfile.BadZipFile, EOFError, zlib.error):
        raise BadInput(f"{path}: expected an .npz archive, received a damaged or other file; fetch it again") from None


def _keys(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _header(archive: zipfile.ZipFile, key: str) -> Header:
    with archive.open(f"{key}.npy") as member:
        return npy_header(member)


def _stored(archive: zipfile.ZipFile, key: str, path: Path) -> tuple[Header, bool]:
    """The header of an array in an .npz, and whether it must be unpacked; if not, its offset is that in the archive."""
    header, entry = _header(archive, key), archive.getinfo(f"{key}.npy")
    if header.dtype.hasobject:
        raise BadInput(f"{path}: expected numbers in {key}, received Python objects; make all images of one size")
    if entry.compress_type != zipfile.ZIP_STORED or header.by_column:
        return header, True
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)  # the lengths of name and extra field end the 30 bytes of a local header
        name, extra = struct.unpack("<HH", file.read(4))
    return replace(header, offset=entry.header_offset + 30 + name + extra + header.offset), False


def _array(archive: zipfile.ZipFile, key: str, path: Path) -> np.ndarray:
    """A small array in an .npz, whole."""
    if _header(archive, key).dtype.hasobject:
        raise BadInput(f"{path}: expected numbers or text in {key}, received Python objects; save {key}.astype(str)")
    with archive.open(f"{key}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _as_image(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(height, width, channels) of images that may stand without channels."""
    return shape if len(shape) == 3 else (*shape, 1)


def _pixels(array: np.ndarray, path: Path) -> np.ndarray:
    """Images as uint8; other number types are taken when they hold whole numbers 0 to 255."""
    if array.dtype != np.uint8:
        if not (np.issubdtype(array.dtype, np.number) and array.min() >= 0 and array.max() <= 255):
            raise BadInput(f"{path}: expected pixels 0 to 255, received {array.dtype} outside of it; scale them")
        if (array != array.astype(np.uint8)).any():
            raise BadInput(f"{path}: expected whole numbers 0 to 255 as pixels, received fractions; multiply by 255")
        array = array.astype(np.uint8)
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


@contextmanager
def _idx(path: Path) -> Iterator[BinaryIO]:
    """An IDX file, open; a gzipped one is unpacked while it is read."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file
    except (gzip.BadGzipFile, EOFError, zlib.error, struct.error) as error:
        raise BadInput(f"{path}: expected an IDX file, received a damaged or other file; fetch it again") from error


def _idx_header(path: Path) -> Header:
    with _idx(path) as file:
        zeros, kind, rank = struct.unpack(">HBB", file.read(4))
        header = Header(4 + 4 * rank, struct.unpack(f">{rank}I", file.read(4 * rank)), np.dtype(np.uint8))
    length = math.prod(header.shape)
    stored = length if path.suffix == ".gz" else path.stat().st_size - header.offset
    if zeros != 0 or kind != 8 or stored != length:
        raise BadInput(
            f"{path}: expected an IDX file of bytes with {header.shape} values, received {stored}; fetch it again"
        )
    return header
