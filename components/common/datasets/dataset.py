"""An image-classification data set, whatever its layout: its classes, its splits, and their images as arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ..cli import BadInput
from ..progress import counted, some_of
from .source import readable

if TYPE_CHECKING:
    import numpy as np

ON_CORRUPT = ("fail", "skip")
"""What becomes of a damaged image: the whole reading fails, or the image is left out."""
Column = Callable[[], list[str]]
"""Reads what a data set tells of its examples, as text: a value for each example of a split on disk."""


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

    def __init__(
        self,
        folder: Path,
        name: str,
        layout: str,
        class_names: list[str],
        counts: dict[str, int],
        image_shape: tuple[int, int, int],
        options: Options,
        notes: Sequence[str] = (),
    ) -> None:
        """See the attributes; `image_shape` is that of the images on disk."""
        self.folder = folder
        self.name = readable(name)
        self.layout = layout
        self.class_names = list(map(readable, class_names))
        if len(set(self.class_names)) < len(self.class_names):
            raise BadInput(
                f"{folder}: expected a name of its own for each class, received {some_of(self.class_names)}; rename one"
            )
        self.counts = dict(counts)
        self.image_shape = (*options.image_size, image_shape[2]) if options.image_size else image_shape
        self.options = options
        self.skipped: list[str] = []
        self.notes = list(notes)
        self._on_disk = dict(counts)
        self._stored_in = {split: split for split in counts}
        self._parts: dict[str, np.ndarray] = {}
        self._damaged_on_disk: dict[str, list[int]] = {}
        self._kept: dict[str, np.ndarray] = {}
        self._known_labels: dict[str, np.ndarray] = {}

    def labels(self, split: str) -> np.ndarray:
        """The label of every example: int64, shape (examples,).

        Raises:
            BadInput: there is no such split, or a label lies outside the classes.
        """
        places = self.places(split)
        if split not in self._known_labels:
            self._known_labels[split] = self._checked(split, self._labels(self._stored_in[split])[places])
        return self._known_labels[split]

    def images(self, split: str, indices: np.ndarray | None = None) -> np.ndarray:
        """Some of the images, in this order, or all: uint8, shape (indices, height, width, channels), 0 to 255.

        No other image is held in memory, so that a data set may be larger than that.

        Raises:
            BadInput: there is no such split, an image is damaged, or images differ in size.
            IndexError: there is no image at an index.
        """
        places = self.places(split)
        return self._read(self._stored_in[split], places if indices is None else places[indices])[0]

    def pictures(self, split: str, indices: np.ndarray, side: int) -> list[np.ndarray]:
        """Some of the images for people to look at: of at most `side` pixels a side, else as large as they are stored.

        Returns:
            uint8, shape (height, width, channels) each; images in files keep the proportions that they have there.

        Raises:
            BadInput: as `images`.
        """
        from .decoding import scaled_down

        return [scaled_down(image, side) for image in self.images(split, indices)]

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
            images, labels = self._read(self._stored_in[split], places[at : at + size])
            yield Split(images, self._checked(split, labels))

    def sift(self, split: str, places: np.ndarray, damaged: list[int] | None = None) -> Split:
        """The examples at these places of all that are on disk, each decoded once; see `places` for what `read` gives.

        Args:
            split: Its labels are not checked.
            places: int64, shape (places,), 0 to `counts[split]` - 1 of a split that was not read before.
            damaged: Where it is given, the indices of damaged images in `places` are added, and their pixels stay 0;
                without, a damaged image is an error.

        Raises:
            BadInput: an image is damaged, or has another size.
        """
        return Split(*self._read(self._stored_in[split], places, damaged))

    def all_labels(self, split: str) -> np.ndarray:
        """The labels of all that are on disk, as they are there: int64, shape (`counts[split]`,) before it is read."""
        return self._labels(self._stored_in[split])

    def column(self, split: str, name: str) -> list[str]:
        """What the data set itself tells of each example under this name, as text; "" where it tells nothing.

        Raises:
            BadInput: there is no such column; the message lists those there are.
        """
        places = self.places(split)
        columns = self._columns(self._stored_in[split])
        if name not in columns:
            there = f"the columns {', '.join(columns)}" if columns else "no columns"
            raise BadInput(f"{self.folder}: expected a column {name!r} of {split}, received {there}; choose another")
        values = columns[name]()
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
            places = self.stored_places(split)
            if self.options.on_corrupt == "skip":
                damaged = np.isin(places, self._damaged_in(self._stored_in[split]))
                self.skipped += [self._name_of(self._stored_in[split], place) for place in places[damaged].tolist()]
                places = places[~damaged]
                self.counts[split] = len(places)
                if not len(places):
                    self._no_examples(split)
            self._kept[split] = places
        return self._kept[split]

    def stored_places(self, split: str) -> np.ndarray:
        """Where each example stands among all of the split on disk, damaged ones too: int64, shape (examples,)."""
        import numpy as np

        return self._parts.get(split, np.arange(self._on_disk.get(split, 0)))

    def stored_labels(self, split: str) -> np.ndarray:
        """The label of every example at `stored_places`: int64, shape (examples,).

        Raises:
            BadInput: a label lies outside the classes.
        """
        return self._checked(split, self._labels(self._stored_in[split])[self.stored_places(split)])

    def name_of(self, split: str, place: int) -> str:
        """What to call the image at a place: its path below the folder, or split and number."""
        return self._name_of(self._stored_in[split], place)

    def of_one_size(self) -> bool:
        """Whether all images on disk have one size, from their headers; the sizes of damaged ones do not count."""
        return True

    def bring_to(self, size: tuple[int, int]) -> None:
        """From now on bring every image to (height, width); see `Options`."""
        self.options = replace(self.options, image_size=size)
        self.image_shape = (*size, self.image_shape[2])

    def hold_out_test(self) -> None:
        """Keep every fifth image of each class of train, from the second on, for a test split that there is not.

        Of a class with one image only nothing is kept.
        """
        import numpy as np

        labels = self._checked("train", self._labels("train"))
        order = np.argsort(labels, kind="stable")
        present, first, counts = np.unique(labels[order], return_index=True, return_counts=True)
        if not len(counts) or counts.max() < 2:
            return
        rank = np.empty(len(labels), np.int64)
        rank[order] = np.arange(len(labels)) - np.repeat(first, counts)
        tested = rank % 5 == 1
        self._parts = {"train": np.flatnonzero(~tested), "test": np.flatnonzero(tested)}
        self._stored_in |= {"train": "train", "test": "train"}
        self.counts = {split: len(places) for split, places in self._parts.items()}
        self.notes.insert(
            0,
            f"split here, for want of a test split: {self.counts['train']:,} images to learn from, "
            f"{self.counts['test']:,} for the test (every fifth of each class)",
        )
        if single := [self.class_names[label] for label in present[counts == 1].tolist()]:
            self.notes.insert(1, f"classes with one image only, of which the test has none: {some_of(single)}")

    def _damaged_in(self, stored: str) -> list[int]:
        if stored not in self._damaged_on_disk:
            self._damaged_on_disk[stored] = self._damaged(stored)
        return self._damaged_on_disk[stored]

    def _no_examples(self, split: str) -> NoReturn:
        present = ", ".join(f"{name} ({count})" for name, count in self.counts.items())
        damaged = f", {len(self.skipped)} damaged" if self.skipped else ""
        other = ", or evaluate with --split validation" if split == "test" and self.counts.get("validation") else ""
        raise BadInput(
            f"{self.folder}: expected a split {split!r} with examples, received {present}{damaged}; add it{other}"
        )

    def _checked(self, split: str, labels: np.ndarray) -> np.ndarray:
        classes = len(self.class_names)
        if labels.min() < 0 or labels.max() >= classes:
            raise BadInput(
                f"{self.folder}: expected labels 0 to {classes - 1} ({classes} classes), received "
                f"{labels.min()} to {labels.max()} in {split}; correct the labels"
            )
        return labels

    @abstractmethod
    def _read(self, split: str, places: np.ndarray, damaged: list[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Images (places, h, w, c) uint8 and labels (places,) int64; `damaged` as in `sift`."""

    @abstractmethod
    def _labels(self, split: str) -> np.ndarray:
        """Labels (n,) int64 of all examples on disk."""

    def _damaged(self, split: str) -> list[int]:
        """Places of damaged images."""
        return []

    def _name_of(self, split: str, place: int) -> str:
        """What to call an image."""
        return f"{split}[{place}]"

    def _columns(self, split: str) -> Mapping[str, Column]:
        """The columns that there are, by name."""
        return {}
