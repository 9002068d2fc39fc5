"""What is wrong with a data set, image by image and class by class, and the metrics that count it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..common.datasets import ImageDataset
from .drift import SIDES, Drift, Profile, side_index
from .duplicates import Duplicates, Matches
from .metrics import KINDS
from .scan import Images

TINY = 8
"""Shorter side in pixels below which an image is tiny; so is one below an eighth of the median."""


@dataclass(frozen=True)
class Place:
    """An image: its split, its place there, what to call it, and its class."""

    split: str
    index: int
    name: str
    label: str


@dataclass(frozen=True)
class Finding:
    """Something wrong with an image or a class.

    Attributes:
        kind: A key of KINDS.
        image: The image; of a class, its name alone.
        original: The image that it is a copy of.
        similarity: Correlation with that one; 1: they are equal.
        detail: What else there is to say.
    """

    kind: str
    image: Place
    original: Place | None = None
    similarity: float | None = None
    detail: str = ""

    @property
    def words(self) -> str:
        """The image, or class, and what it is a copy of."""
        name = self.image.name or self.image.label
        return f"{name} = {self.original.name}" if self.original else name


class Findings:
    """Everything that was found.

    Attributes:
        dataset: The data set.
        images: What was measured.
        counts: By split, number of images by class: int64, shape (classes,), damaged ones too.
    """

    def __init__(self, dataset: ImageDataset, images: Images, duplicates: Duplicates) -> None:
        """Look through what was measured."""
        self.dataset = dataset
        self.images = images
        classes = len(dataset.class_names)
        self.counts = {split: np.bincount(dataset.stored_labels(split), minlength=classes) for split in images.splits}
        self._duplicates = duplicates
        self.all = list(self._find())

    def of(self, kind: str) -> list[Finding]:
        """Those of one kind."""
        return [one for one in self.all if one.kind == kind]

    @property
    def profile(self) -> Profile:
        """The training images, for a comparison with those of another data set."""
        train = self.images.of_split("train")
        counts = self.counts.get("train", np.zeros(len(self.dataset.class_names), np.int64))
        return Profile(
            classes=dict(zip(self.dataset.class_names, counts.tolist(), strict=True)),
            brightness=np.bincount(np.rint(self.images.brightness[train]).astype(int), minlength=256),
            sides=np.bincount(side_index(self.images.size[train]), minlength=SIDES),
        )

    def metrics(self, drift: list[Drift]) -> dict[str, int | float]:
        """Every metric by name."""
        train = self.counts.get("train", np.zeros(1, np.int64))
        present = train[train > 0]
        counted: dict[str, int | float] = dict.fromkeys(KINDS, 0)
        for one in self.all:
            counted[one.kind] += 1
        return {
            **counted,
            "images": len(self.images) + len(self.images.damaged),
            "classes": len(self.dataset.class_names),
            "smallest_class": int(train.min()),
            "class_imbalance": float(present.max() / present.min()) if len(present) else 1.0,
            "image_sizes": len(np.unique(self.images.size, axis=0)),
            **{one.metric: one.distance for one in drift},
            **{f"{one.metric}_p_value": one.p_value for one in drift},
        }

    def _find(self) -> Iterator[Finding]:
        within, across, conflicting = self._duplicates.all
        test = self.images.of_split("test")
        yield from self._copies("leaked_test_images", across, test)
        yield from self._copies("leaked_validation_images", across, ~test)
        yield from self._copies("conflicting_labels", conflicting, np.ones_like(test))
        for one in self.images.damaged:
            at = int(np.searchsorted(self.dataset.stored_places(one.split), one.place))
            label = int(self.dataset.stored_labels(one.split)[at])
            yield Finding("damaged_images", self._at(one.split, one.place, label), detail=one.reason)
        yield from self._copies("exact_duplicates", within, within.exact)
        yield from self._copies("near_duplicates", within, ~within.exact)
        blank, dark = self.images.blank, self.images.dark
        for kind, which in (("blank_images", blank), ("dark_images", dark & ~blank)):
            for index in np.flatnonzero(which).tolist():
                brightness = f"mean brightness {self.images.brightness[index]:.0f} of 255"
                yield Finding(kind, self._place(index), detail=brightness)
        shorter = self.images.size.min(axis=1)
        for index in np.flatnonzero(shorter < max(TINY, float(np.median(shorter)) / 8)).tolist():
            height, width = self.images.size[index].tolist()
            yield Finding("tiny_images", self._place(index), detail=f"{height} x {width} pixels")
        for kind, split in (("empty_classes", "train"), ("untested_classes", "test")):
            if split in self.counts:
                for index in np.flatnonzero(self.counts[split] == 0).tolist():
                    yield Finding(kind, Place(split, -1, "", self.dataset.class_names[index]))

    def _copies(self, kind: str, matches: Matches, which: np.ndarray) -> Iterator[Finding]:
        """Copies among some images, the most similar first."""
        found = matches.found[which[matches.found]]
        for index in found[np.argsort(-matches.similarity[found], kind="stable")].tolist():
            similarity = float(matches.similarity[index])
            yield Finding(kind, self._place(index), self._place(int(matches.other[index])), similarity)

    def _place(self, index: int) -> Place:
        split = self.images.splits[self.images.split[index]]
        return self._at(split, int(self.images.place[index]), int(self.images.label[index]))

    def _at(self, split: str, place: int, label: int) -> Place:
        return Place(split, place, self.dataset.name_of(split, place), self.dataset.class_names[label])
