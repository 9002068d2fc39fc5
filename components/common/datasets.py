"""Read image-classification data sets of four layouts into arrays, without TensorFlow.

The layout is found by looking below the folder: a TFDS-prepared data set, an `.npz`, IDX files, or a folder of images
per label. Each has its own reader in `dataset_layouts`; all give the same `ImageDataset`.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.common.cli import BadInput

if TYPE_CHECKING:
    import numpy as np

LAYOUTS = """a TFDS-prepared folder (dataset_info.json), an .npz with x_train, y_train, x_test, y_test, IDX files \
(train-images-idx3-ubyte ...), or train/<label>/*.png and test/<label>/*.png"""
DEEPEST = 4
"""How many folders below the given one a data set may begin: `datasets/mnist/3.0.1/` in a TFDS archive needs three."""


@dataclass(frozen=True)
class Split:
    """One split in memory.

    Attributes:
        images: uint8, shape (examples, height, width, channels), 0 to 255.
        labels: int64, shape (examples,), each an index into the data set's class names.
    """

    images: np.ndarray
    labels: np.ndarray


class ImageDataset(ABC):
    """An image-classification data set on disk.

    Attributes:
        folder: Where it begins.
        name: Its name, for people.
        layout: `tfds`, `npz`, `idx` or `folders`.
        class_names: Name of each class, in the order of the labels.
        counts: Number of examples per split.
        image_shape: (height, width, channels) of every image.
    """

    layout: str

    def __init__(
        self, folder: Path, name: str, class_names: list[str], counts: dict[str, int], image_shape: tuple[int, int, int]
    ) -> None:
        self.folder = folder
        self.name = name
        self.class_names = class_names
        self.counts = counts
        self.image_shape = image_shape

    def read(self, split: str) -> Split:
        """Read one split whole.

        Raises:
            BadInput: there is no such split, a file is damaged, a label lies outside the classes, or images differ.
        """
        if not self.counts.get(split):
            present = ", ".join(f"{name} ({count})" for name, count in self.counts.items())
            raise BadInput(f"{self.folder}: expected a split {split!r} with examples, received {present}; add it")
        images, labels = self._read(split)
        classes = len(self.class_names)
        if len(images) != len(labels):
            raise BadInput(
                f"{self.folder}: expected a label for each image of {split}, received {len(images)} and "
                f"{len(labels)} labels; make them equal"
            )
        if labels.min() < 0 or labels.max() >= classes:
            raise BadInput(
                f"{self.folder}: expected labels 0 to {classes - 1} ({classes} classes), received "
                f"{labels.min()} to {labels.max()} in {split}; correct the labels"
            )
        return Split(images, labels)

    @abstractmethod
    def _read(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Images (n, h, w, c) uint8 and labels (n,) int64 of a split that is there."""


def open_dataset(folder: Path) -> ImageDataset:
    """Find the data set below a folder and read what describes it; images are read later.

    A TFDS-prepared data set wins over an `.npz` beside it, that over IDX files, those over folders of images.

    Raises:
        BadInput: there is no data set of a known layout below the folder, or several of one layout.
    """
    from components.common.dataset_layouts import READERS

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
            raise BadInput(f"{folder}: expected one data set, received {len(found)}: {listed}; pass the folder of one")
        if found:
            return reader.open(found[0])
    names = sorted(path.name for path in folder.iterdir() if path.name != "download.json")
    received = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "an empty folder"
    raise BadInput(f"{folder}: expected {LAYOUTS}, received {received}; arrange the data in one of these layouts")


def _folders_below(folder: Path) -> list[Path]:
    """The folder and those below it where a data set may begin, nearest first; image folders are not walked."""
    places = []
    for place, inner, _ in os.walk(folder):
        path = Path(place)
        places.append(path)
        depth = len(path.relative_to(folder).parts)
        if depth == DEEPEST or "train" in inner:
            inner.clear()
        inner[:] = sorted(name for name in inner if not name.startswith("."))
    return sorted(places, key=lambda path: (len(path.parts), path))
