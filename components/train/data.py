"""What a model learns from and is validated on: labelled images of a data set, in memory or on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..common.artifacts.model import TrainedOn
from ..common.cli import BadInput
from ..common.datasets import download_of, open_dataset
from ..common.progress import readable_size, some_of
from .hyperparameters import BALANCED, Hyperparameters
from .memory import bytes_in_memory
from .read_ahead import read_ahead

if TYPE_CHECKING:
    from ..common.datasets import ImageDataset, Split

PARTS = 2
"""In memory at once when images come from disk: training works on one while the next is read."""


@dataclass(frozen=True)
class LabelledImages:
    """Labelled images, in memory or on disk.

    Attributes:
        labels: int64, shape (images,).
        read: Gives images by their indices, uint8 (indices, height, width, channels).
        held: All of them, where they lie in memory.
        at_once: How many may be read at a time, where they lie on disk.
    """

    labels: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]
    held: np.ndarray | None = None
    at_once: int = 1

    @classmethod
    def in_memory(cls, split: Split) -> LabelledImages:
        """Those of a split that was read whole."""
        return cls(split.labels, split.images.__getitem__, split.images)

    @classmethod
    def on_disk(cls, dataset: ImageDataset, split: str, budget: int) -> LabelledImages:
        """Those of a split, each read and decoded whenever it is its turn; `budget`: bytes that they may take."""
        at_once = max(1, budget // bytes_in_memory(PARTS, dataset.image_shape))
        return cls(dataset.labels(split), lambda indices: dataset.images(split, indices), at_once=at_once)

    def subset(self, indices: np.ndarray) -> LabelledImages:
        """Those at some indices."""
        if self.held is None:
            return LabelledImages(self.labels[indices], lambda chosen: self.read(indices[chosen]), at_once=self.at_once)
        images = self.held[indices]
        return LabelledImages(self.labels[indices], images.__getitem__, images)

    def some(self, count: int) -> np.ndarray:
        """The first images, at most `count`."""
        return self.read(np.arange(min(count, len(self.labels))))

    def hold_out(self, share: float, seed: int) -> tuple[LabelledImages, LabelledImages]:
        """Part the images, at least two, into those to learn from and those to validate on.

        Args:
            share: Of the images to validate on, above 0 and below 1; at least one is left on each side.
            seed: Of the choice.
        """
        count = len(self.labels)
        held = min(max(1, round(count * share)), count - 1)
        order = np.random.default_rng(seed).permutation(count)
        return self.subset(np.sort(order[held:])), self.subset(np.sort(order[:held]))


@dataclass(frozen=True)
class TrainingData:
    """What a training works on.

    Attributes:
        trained_on: The data set, for the card.
        image_shape: Height, width, channels.
        classes: Names of the classes.
        learn: What each step learns from.
        validation: What to look at after each epoch; None: nothing.
        class_weights: What an image of each class counts in the loss: float, shape (classes,).
    """

    trained_on: TrainedOn
    image_shape: tuple[int, int, int]
    classes: list[str]
    learn: LabelledImages
    validation: LabelledImages | None
    class_weights: np.ndarray


class OpenedData:
    """A data set folder whose images are not read yet.

    Attributes:
        dataset: The data set.
    """

    def __init__(self, folder: Path, chosen: Hyperparameters) -> None:
        """Open the folder.

        Raises:
            BadInput: it is no data set, or a damaged one.
        """
        self.dataset = open_dataset(folder, chosen.size, chosen.on_corrupt)
        self._folder = folder
        self._chosen = chosen
        self._reading: Callable[[], tuple[ImageDataset, Split]] | None = None

    @property
    def _needed(self) -> int:
        """Bytes that the images to learn from take in memory."""
        return bytes_in_memory(self.dataset.counts.get("train", 0), self.dataset.image_shape)

    def read_ahead(self, budget: int) -> None:
        """Begin to read the images, if they fit into so many bytes, while this process goes on."""
        if self._needed <= budget:
            self._reading = read_ahead(self.dataset, "train")

    def load(self, budget: int, say: Callable[[str], None]) -> TrainingData:
        """Read the images, if they fit into so many bytes; else leave them on disk, which is said.

        Raises:
            BadInput: a damaged image, only one class, or nothing to validate on where it is needed.
        """
        if self._needed > budget:
            say(
                f"images would take {readable_size(self._needed)}: read from disk during training, using "
                f"{readable_size(budget)}"
            )
            dataset, images = self.dataset, LabelledImages.on_disk(self.dataset, "train", budget)
        else:
            dataset, split = self._reading() if self._reading else (self.dataset, self.dataset.read("train"))
            images = LabelledImages.in_memory(split)
        if len(dataset.class_names) < 2 or images.labels.min() == images.labels.max():
            raise BadInput(
                f"{self._folder}: expected at least two classes in the training split, received one; add examples"
            )
        learn, validation = _parted(dataset, images, self._chosen, budget)
        if dataset.skipped:
            say(dataset.told_skipped())
        trained_on = _described(self._folder, dataset, images.labels)
        counts = zip(dataset.class_names, trained_on.train_counts, strict=True)
        if unseen := [name for name, count in counts if not count]:
            say(f"classes without training images: {some_of(unseen)}")
        return TrainingData(
            trained_on=trained_on,
            image_shape=dataset.image_shape,
            classes=dataset.class_names,
            learn=learn,
            validation=validation,
            class_weights=class_weights(self._chosen, dataset.class_names, learn.labels),
        )


def _parted(
    dataset: ImageDataset, images: LabelledImages, chosen: Hyperparameters, budget: int
) -> tuple[LabelledImages, LabelledImages | None]:
    """What to learn from and what to validate on: a share of the training split, or the data set's own `validation`."""
    if chosen.validation_split:
        return images.hold_out(chosen.validation_split, chosen.seed)
    if dataset.counts.get("validation"):
        if images.held is None:
            return images, LabelledImages.on_disk(dataset, "validation", budget)
        return images, LabelledImages.in_memory(dataset.read("validation"))
    if chosen.early_stopping:
        raise BadInput(
            f"--early-stopping: expected a split 'validation' in {dataset.folder} or --validation-split above 0, "
            "received neither; try --validation-split 0.1"
        )
    return images, None


def _described(folder: Path, dataset: ImageDataset, labels: np.ndarray) -> TrainedOn:
    """The data set for the card; source and digest are what download wrote beside it, if it did."""
    fetched = download_of(folder)
    return TrainedOn(
        name=dataset.name,
        layout=dataset.layout,
        source=fetched.get("source"),
        sha256=fetched.get("sha256"),
        train_examples=dataset.counts.get("train", 0),
        test_examples=dataset.counts.get("test", 0),
        skipped=len(dataset.skipped),
        train_counts=np.bincount(labels, minlength=len(dataset.class_names)).tolist(),
    )


def class_weights(chosen: Hyperparameters, classes: list[str], labels: np.ndarray) -> np.ndarray:
    """What an image of each class counts in the loss: float, shape (classes,).

    Balanced is as in scikit-learn: images / (classes * images of the class).

    Raises:
        BadInput: a weight is for a class that is not there.
    """
    if chosen.class_weights == BALANCED:
        return len(labels) / np.maximum(len(classes) * np.bincount(labels, minlength=len(classes)), 1)
    if unknown := sorted(set(chosen.weights_by_class) - set(classes)):
        raise BadInput(
            f"--class-weights: expected classes of the data set ({', '.join(classes[:10])}"
            f"{', ...' if len(classes) > 10 else ''}), received {', '.join(unknown)}; correct the names"
        )
    return np.array([chosen.weights_by_class.get(name, 1) for name in classes], float)
