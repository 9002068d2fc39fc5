"""Data sets whose images are the rows of one array per split."""

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from ..cli import BadInput
from .dataset import Column, ImageDataset, Options
from .decoding import resized
from .rows import Header, bytes_of, read_rows
from .values import Scale, scale_of

CHANGED_AT_ONCE = 16 * 2**20
"""Bytes of an array that are held at once while its images are resized, or made bytes."""

UNPACKED_AT_ONCE = 2**20
"""Bytes of an array that are held at once while it is unpacked."""


Unpack = Callable[[], AbstractContextManager[IO[bytes]]]
"""Opens the numbers of an array as a file that is unpacked while it is read. To be pickled."""


@dataclass(frozen=True)
class StoredImages:
    """The images of a split, as an array in a file.

    Attributes:
        path: The file.
        header: What the array holds; its offset is that in the file, or 0 where it must be unpacked.
        unpack: None where the numbers lie in the file as they are.
        check: Raises BadInput where the file does not have its checksum; None where reading tells it.
    """

    path: Path
    header: Header
    unpack: Unpack | None = None
    check: Callable[[], None] | None = None

    def parts(self) -> Iterator[np.ndarray]:
        """The numbers, some at a time, in the order in which they lie in the file."""
        size = self.header.dtype.itemsize
        left = math.prod(self.header.shape) * size
        with self.unpack() if self.unpack else self.path.open("rb") as file:
            if not self.unpack:
                file.seek(self.header.offset)
            while left and (content := file.read(min(UNPACKED_AT_ONCE, left))):
                left -= len(content)
                yield np.frombuffer(content, self.header.dtype, len(content) // size)


class ArrayDataset(ImageDataset):
    """A data set whose images are the rows of one array per split."""

    def __init__(
        self,
        folder: Path,
        name: str,
        layout: str,
        class_names: list[str],
        images: Mapping[str, StoredImages],
        labels: Mapping[str, np.ndarray],
        options: Options,
        notes: Sequence[str] = (),
        columns: Mapping[str, Mapping[str, Column]] = {},
    ) -> None:
        """See `ImageDataset`.

        Args:
            folder: Where the data set begins.
            name: Its name.
            layout: What to call its layout.
            class_names: Name of each class.
            images: By split.
            labels: By split, int64, shape (examples,).
            options: How it is read.
            notes: What a person should know.
            columns: By split and name.
        """
        for stored in images.values():
            _check_shape(stored)
        counts = {split: len(of_split) for split, of_split in labels.items()}
        first = images["train"] if "train" in images else next(iter(images.values()))
        self._row = image_of(first.header.shape)
        self._scale = scale_of(first.parts(), first.header.dtype, first.path)
        for split, stored in images.items():
            if stored is not first:
                self._scale.check(stored.parts(), stored.header.dtype, stored.path, split)
        notes = [*notes, *filter(None, [self._scale.told])]
        super().__init__(folder, name, layout, class_names, counts, self._row, options, notes)
        self._images = dict(images)
        self._all_labels = dict(labels)
        self._all_columns = columns
        self._unpacked: dict[str, BinaryIO] = {}
        self._checked_files: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_unpacked": {}}

    def _labels(self, split: str) -> np.ndarray:
        stored, labels = self._images[split], self._all_labels[split]
        if stored.header.shape[0] != len(labels):
            raise BadInput(
                f"{stored.path}: expected a label for each image of {split}, received {stored.header.shape[0]} and "
                f"{len(labels)} labels; make them equal"
            )
        if (row := image_of(stored.header.shape)) != self._row:
            raise BadInput(
                f"{stored.path}: expected images of {self._row} as in train, received {row} in {split}; make them equal"
            )
        return labels

    def _columns(self, split: str) -> Mapping[str, Column]:
        return self._all_columns.get(split, {})

    def _read(self, split: str, places: np.ndarray, damaged: list[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        labels = self._labels(split)[places]
        stored = self._images[split]
        if self._row == self.image_shape and stored.header.dtype == np.uint8 and self._scale == Scale():
            return self._rows(split, places).reshape(-1, *self._row), labels
        images = np.empty((len(places), *self.image_shape), np.uint8)
        some = max(1, CHANGED_AT_ONCE // (stored.header.dtype.itemsize * math.prod(self._row)))
        for at in range(0, len(places), some):
            rows = self._rows(split, places[at : at + some]).reshape(-1, *self._row)
            images[at : at + some] = resized(self._scale.pixels(rows, stored.path), self.image_shape[:2])
        return images, labels

    def _rows(self, split: str, places: np.ndarray) -> np.ndarray:
        stored = self._images[split]
        if stored.check and split not in self._checked_files:
            stored.check()
            self._checked_files.add(split)
        if stored.unpack is None:
            with stored.path.open("rb") as file:
                return read_rows(file, stored.header, places, stored.path)
        if split not in self._unpacked:
            if np.array_equal(places, np.arange(stored.header.shape[0])):
                return _whole(stored, stored.unpack)
            self._unpacked[split] = _unpacked(stored, stored.unpack)
        return read_rows(self._unpacked[split], replace(stored.header, offset=0), places, stored.path)


def _check_shape(stored: StoredImages) -> None:
    shape = stored.header.shape
    if len(shape) not in (3, 4) or 0 in shape[1:]:
        raise BadInput(
            f"{stored.path}: expected images of shape (n, height, width) or (n, height, width, channels), "
            f"received {shape}; reshape them"
        )


def image_of(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(height, width, channels) of the images in an array (images, height, width), with channels last or without."""
    _, height, width, *channels = shape
    return height, width, channels[0] if channels else 1


def _whole(stored: StoredImages, unpack: Unpack) -> np.ndarray:
    """The array of a split, unpacked into memory."""
    header = stored.header
    array = np.empty(header.shape[::-1] if header.by_column else header.shape, header.dtype)
    target, done = bytes_of(array), 0
    with unpack() as numbers:
        while done < len(target) and (content := numbers.read(min(UNPACKED_AT_ONCE, len(target) - done))):
            target[done : done + len(content)] = content
            done += len(content)
        longer = numbers.read(1)  # and so to the end, where the checksum is
    if done < len(target) or longer:
        raise _other_length(stored)
    return array.T if header.by_column else array


def _unpacked(stored: StoredImages, unpack: Unpack) -> BinaryIO:
    """The array of a split, unpacked into a file that has no name and goes when it is closed."""
    file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115
    if stored.header.by_column:
        np.ascontiguousarray(_whole(stored, unpack)).tofile(file)
    else:
        with unpack() as numbers:
            shutil.copyfileobj(numbers, file, UNPACKED_AT_ONCE)
        if file.tell() != math.prod(stored.header.shape) * stored.header.dtype.itemsize:
            raise _other_length(stored)
    file.flush()
    return file


def _other_length(stored: StoredImages) -> BadInput:
    return BadInput(
        f"{stored.path}: expected {stored.header.shape[0]} images as it says, received fewer or more; fetch it again"
    )
