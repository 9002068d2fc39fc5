"""Read image-classification data sets of several layouts into arrays, without TensorFlow.

The layout is found by looking below the folder: a TFDS-prepared data set, an `.npz`, IDX files, or a folder of images
per label, with splits or without. Each has its own reader in `dataset_layouts`; all give the same `ImageDataset`.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit

from ..cli import BadInput
from ..files import without_suffix
from ..progress import counted

if TYPE_CHECKING:
    import numpy as np

LAYOUTS = """a TFDS-prepared folder (dataset_info.json), an .npz with x_train, y_train, x_test, y_test, IDX files \
(train-images-idx3-ubyte ...), train/<label>/*.png and test/<label>/*.png, or <label>/*.png of two classes and more \
(JPEG as well)"""
SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
}
"""The splits by what people call them, in lower case."""
CLUTTER = ("__MACOSX", "Thumbs.db", "desktop.ini")
"""What systems leave in folders, beside names that start with a dot."""
DEEPEST = 4
"""How many folders below the given one a data set may begin: `datasets/mnist/3.0.1/` in a TFDS archive needs three."""
DOWNLOAD = "download.json"
"""The file in which download says where a data set comes from."""
TOLD = 3
"""Names of files that a line tells."""

ON_CORRUPT = ("fail", "skip")
"""What becomes of a damaged image: the whole reading fails, or the image is left out."""


@dataclass(frozen=True)
class Split:
    """One split in memory, or a part of one.

    Attributes:
        images: uint8, shape (examples, height, width, channels), 0 to 255.
        labels: int64, shape (examples,), each an index into the data set's class names.
    """

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Options:
    """How a data set is to be read.

    Attributes:
        image_size: (height, width) that every image is brought to; None: all must have one size.
        on_corrupt: What becomes of damaged images; one of ON_CORRUPT.
    """

    image_size: tuple[int, int] | None = None
    on_corrupt: str = "fail"


class ImageDataset(ABC):
    """An image-classification data set on disk. Images are read when they are asked for, and can be pickled unread.

    Attributes:
        folder: Where it begins.
        name: Its name, for people.
        layout: `tfds`, `npz`, `idx`, `folders` or `folders without splits`.
        class_names: Name of each class, in the order of the labels.
        counts: Number of examples per split; damaged ones that are left out count until their split is first read.
        image_shape: (height, width, channels) of every image as it is given out.
        options: How it is read.
        skipped: Names of the damaged images that were left out of the splits read so far.
        notes: What a person should know of how the folder was understood, a line each.
    """

    layout: str

    def __init__(
        self,
        folder: Path,
        name: str,
        class_names: list[str],
        counts: dict[str, int],
        image_shape: tuple[int, int, int],
        options: Options,
    ) -> None:
        self.folder = folder
        self.name = name
        self.class_names = class_names
        self.counts = dict(counts)
        self.image_shape = (*options.image_size, image_shape[2]) if options.image_size else image_shape
        self.options = options
        self.skipped: list[str] = []
        self.notes: list[str] = []
        self._on_disk = dict(counts)
        self._kept: dict[str, np.ndarray] = {}
        self._known_labels: dict[str, np.ndarray] = {}

    def labels(self, split: str) -> np.ndarray:
        """The label of every example: int64, shape (examples,).

        Raises:
            BadInput: there is no such split, or a label lies outside the classes.
        """
        places = self.places(split)
        if split not in self._known_labels:
            self._known_labels[split] = self._checked(split, self._labels(split)[places])
        return self._known_labels[split]

    def images(self, split: str, indices: np.ndarray | None = None) -> np.ndarray:
        """Some of the images, in this order, or all: uint8, shape (indices, height, width, channels), 0 to 255.

        No other image is held in memory, so that a data set may be larger than that.

        Raises:
            BadInput: there is no such split, an image is damaged, or images differ in size.
            IndexError: there is no image at an index.
        """
        places = self.places(split)
        return self._read(split, places if indices is None else places[indices])[0]

    def read(self, split: str) -> Split:
        """Read one split whole.

        Raises:
            BadInput: there is no such split, a file is damaged, a label lies outside the classes, or images differ.
        """
        return next(self.parts(split, max(1, self.counts.get(split, 0))))

    def parts(self, split: str, size: int) -> Iterator[Split]:
        """One split, so many examples at a time; see `read`."""
        places = self.places(split)
        for at in range(0, len(places), size):
            images, labels = self._read(split, places[at : at + size])
            yield Split(images, self._checked(split, labels))

    def column(self, split: str, name: str) -> list[str]:
        """What the data set itself tells of each example under this name, as text; "" where it tells nothing.

        Raises:
            BadInput: there is no such column; the message lists those there are.
        """
        places = self.places(split)
        columns = self._columns(split)
        if name not in columns:
            there = f"the columns {', '.join(columns)}" if columns else "no columns"
            raise BadInput(f"{self.folder}: expected a column {name!r} of {split}, received {there}; choose another")
        values = self._column(split, name)
        return [values[place] for place in places.tolist()]

    def told_skipped(self) -> str:
        """How many damaged images were left out, and which, in a line; empty where none was."""
        if not self.skipped:
            return ""
        return f"{counted(len(self.skipped), 'damaged image')} left out: {some_of(self.skipped)}"

    def places(self, split: str) -> np.ndarray:
        """Where each example stands among all of the split, those that are left out counted: int64, shape (examples,).

        Raises:
            BadInput: there is no such split.
        """
        import numpy as np

        if split not in self._kept:
            if not self.counts.get(split):
                self._no_examples(split)
            places = np.arange(self.counts[split])
            if self.options.on_corrupt == "skip" and (damaged := self._damaged(split)):
                self.skipped += [self._name_of(split, place) for place in damaged]
                places = np.delete(places, damaged)
                self.counts[split] = len(places)
                if not len(places):
                    self._no_examples(split)
            self._kept[split] = places
        return self._kept[split]

    def _no_examples(self, split: str) -> NoReturn:
        present = ", ".join(f"{name} ({count})" for name, count in self.counts.items())
        damaged = f", {len(self.skipped)} damaged" if self.skipped else ""
        raise BadInput(f"{self.folder}: expected a split {split!r} with examples, received {present}{damaged}; add it")

    def _checked(self, split: str, labels: np.ndarray) -> np.ndarray:
        classes = len(self.class_names)
        if labels.min() < 0 or labels.max() >= classes:
            raise BadInput(
                f"{self.folder}: expected labels 0 to {classes - 1} ({classes} classes), received "
                f"{labels.min()} to {labels.max()} in {split}; correct the labels"
            )
        return labels

    @abstractmethod
    def _read(self, split: str, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images (places, h, w, c) uint8 and labels (places,) int64."""

    @abstractmethod
    def _labels(self, split: str) -> np.ndarray:
        """Labels (n,) int64 of all examples on disk."""

    def _damaged(self, split: str) -> list[int]:
        """Places of damaged images."""
        return []

    def _name_of(self, split: str, place: int) -> str:
        """What to call an image."""
        return f"{split}[{place}]"

    def _columns(self, split: str) -> list[str]:
        """Names of the columns there are."""
        return []

    def _column(self, split: str, name: str) -> list[str]:
        """A column that there is, with a value for each example on disk."""
        raise NotImplementedError


def open_dataset(folder: Path, image_size: tuple[int, int] | None = None, on_corrupt: str = "fail") -> ImageDataset:
    """Find the data set below a folder and read what describes it; images are read later.

    A TFDS-prepared data set wins over an `.npz` beside it, that over IDX files, those over folders of images, and of
    these such with splits over such without.

    Args:
        folder: At most DEEPEST folders above it.
        image_size: (height, width) to bring every image to: bilinear with antialiasing, without cropping, so that
            proportions may change. None: all must have one size.
        on_corrupt: With `skip`, damaged images are left out; `ImageDataset.skipped` names them. To find them, each
            split is decoded once when it is first asked for.

    Raises:
        BadInput: there is no data set of a known layout below the folder, or several of one layout; or `on_corrupt` is
            neither.
    """
    from .layouts import READERS

    if on_corrupt not in ON_CORRUPT:
        raise BadInput(f"--on-corrupt: expected {' or '.join(ON_CORRUPT)}, received {on_corrupt!r}; choose one of them")
    if not folder.is_dir():
        raise BadInput(
            f"{folder}: expected a data set folder, received {'a file' if folder.exists() else 'nothing'}; "
            "pass the folder that download wrote"
        )
    places = list(_folders_below(folder))
    for reader in READERS:
        found = [path for place in places for path in reader.find(place)]
        if len(found) > 1:
            listed = ", ".join(str(path.relative_to(folder)) for path in sorted(found)[:5])
            raise BadInput(
                f"{source_of(folder)}: expected one data set, received {len(found)}: {listed}; pass the folder of one"
            )
        if found:
            return reader.open(found[0], Options(image_size, on_corrupt))
    names = sorted(path.name for path in folder.iterdir() if path.name != DOWNLOAD and not is_clutter(path.name))
    raise BadInput(
        f"{source_of(folder)}: expected {LAYOUTS}, received {some_of(names) or 'an empty folder'}; arrange the data in "
        "one of these layouts"
    )


def download_of(folder: Path) -> dict[str, Any]:
    """What download wrote about the data set in a folder; nothing where it comes from elsewhere."""
    try:
        return json.loads((folder / DOWNLOAD).read_text())
    except FileNotFoundError:
        return {}


def source_of(folder: Path) -> str:
    """What to call a folder in messages: where download fetched it from, if it did."""
    return download_of(folder).get("source") or str(folder)


def name_of(folder: Path) -> str:
    """Name of a data set that has none of its own, for people: that of its source or its folder."""
    return name_from(download_of(folder).get("source", "")) or folder.resolve().name


def name_from(source: str) -> str:
    """The name that ends a path or URI, without what tells an archive; empty where there is none."""
    if "://" in source:
        address = urlsplit(source)
        source = unquote(address.path).strip("/") or address.netloc
    return without_suffix(PurePosixPath(source).name)


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is none of a data set's, and goes without saying."""
    return name.startswith(".") or name in CLUTTER


def some_of(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - TOLD:,} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more


def _folders_below(folder: Path) -> list[Path]:
    """The folder and those below it where a data set may begin, nearest first; image folders are not walked."""
    places = []
    for place, inner, _ in os.walk(folder):
        path = Path(place)
        places.append(path)
        depth = len(path.relative_to(folder).parts)
        if depth == DEEPEST or any(SPLITS.get(name.lower()) == "train" for name in inner):
            inner.clear()
        inner[:] = sorted(name for name in inner if not is_clutter(name) and name.lower() not in SPLITS)
    return sorted(places, key=lambda path: (len(path.parts), path))


def in_order(names: Iterable[str]) -> list[str]:
    """Class names as they are numbered: numbers by value, then the others by letter."""
    return sorted(names, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))


def as_text(value: Any) -> str:
    """A value of a column, or the name of a class, as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
