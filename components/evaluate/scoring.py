"""Score a model on a split of a data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..common.artifacts.answers import check_answers, differing_classes, numbered
from ..common.artifacts.classifier import load_classifier
from ..common.artifacts.model import CARD, Card, read_card, sha256_of_model
from ..common.cli import BadInput
from ..common.datasets import ImageDataset, Split, open_dataset
from ..common.progress import readable_shape
from .metrics import ClassifierMetrics, measure
from .models import card_of
from .slices import Slice, measure_slices, metrics_of_slices, read_columns

PART = 64 * 2**20
"""Bytes of images that are held in memory at a time."""
BATCH = 256
"""Images that a classifier works through at a time; parts are multiples of it, so that it meets the same batches in
parts as in one go, and answers the same to the last digit."""


@dataclass(frozen=True)
class Scored:
    """A model's answers on a split, and what they are worth.

    Attributes:
        card: The model's card.
        model_sha256: Digest of the model, which ties these numbers to it.
        backend: What ran the model, `LiteRT` or `TensorFlow`.
        examples: The split.
        labels: int64, shape (images,), indices into `classes`.
        probabilities: float32, shape (images, classes).
        metrics: Computed from labels and probabilities.
        slices: The same of parts of the split, by column of the data set.
    """

    card: Card
    model_sha256: str
    backend: str
    examples: EvaluationSet
    labels: np.ndarray
    probabilities: np.ndarray
    metrics: ClassifierMetrics
    slices: list[Slice]

    @property
    def dataset(self) -> ImageDataset:
        """The data set."""
        return self.examples.dataset

    @property
    def classes(self) -> list[str]:
        """Name of each class: the data set's, where it names them and the model's card only numbers them."""
        names = self.card.classes
        return self.dataset.class_names if names == numbered(len(names)) else names

    @property
    def places(self) -> np.ndarray:
        """int64, shape (images,): where each image stands in the split, damaged ones that are left out counted."""
        return self.dataset.places(self.examples.split)

    @cached_property
    def answers(self) -> np.ndarray:
        """int64, shape (images,): the most probable class of each image."""
        return np.asarray(self.probabilities.argmax(axis=1))

    def metrics_by_name(self) -> dict[str, float]:
        """Every metric by name: of the whole split, of each class as `recall[7]`, of each slice as
        `accuracy[lighting=dark]`."""
        return self.metrics.by_name(self.classes) | metrics_of_slices(self.slices)


class EvaluationSet:
    """A split of a data set: kept in memory if it is small, else read in parts.

    Attributes:
        dataset: The data set.
        split: Name of the split.
        columns: By name of a column to slice by, its value for each image.
    """

    def __init__(self, dataset: ImageDataset, slice_by: str = "", split: str = "test") -> None:
        """Read the columns `slice_by`, comma-separated names, and the images if they are few.

        Raises:
            BadInput: the data set has no such split or column, or damaged images.
        """
        self.dataset = dataset
        self.split = split
        self.columns = read_columns(dataset, split, slice_by)
        self._image = math.prod(dataset.image_shape)
        small = dataset.counts.get(split, 0) * self._image <= PART
        self._whole = dataset.read(split) if small else None

    def parts(self) -> Iterator[Split]:
        """The examples in order, some at a time."""
        if self._whole:
            return iter([self._whole])
        return self.dataset.parts(self.split, max(1, PART // (BATCH * self._image)) * BATCH)

    def images(self, indices: np.ndarray) -> np.ndarray:
        """Some of the images: uint8, shape (indices, height, width, channels), 0 to 255."""
        return self._whole.images[indices] if self._whole else self.dataset.images(self.split, indices)

    def pictures(self, indices: np.ndarray, side: int) -> list[np.ndarray]:
        """See `ImageDataset.pictures`."""
        return self.dataset.pictures(self.split, indices, side)


def open_data(folder: Path, model: Path, on_corrupt: str) -> ImageDataset:
    """Open a data set, and bring its images to the model's size where it was trained on images brought to it."""
    takes = read_card(model).input if (model / CARD).is_file() else None
    return open_dataset(folder, takes.shape[:2] if takes and takes.resized else None, on_corrupt)


def score(model: Path, examples: EvaluationSet, say: Callable[[str], None]) -> Scored:
    """Let a model answer the whole split.

    Args:
        model: Model folder, or a SavedModel or `.keras` file.
        examples: The split.
        say: Receives a line about a model without a card.

    Raises:
        BadInput: this is no model, or it does not fit the data.
    """
    data = examples.dataset
    card, foreign = card_of(model, data, say)
    check_fit(model, card, data)
    classifier = foreign or load_classifier(model)
    labels, probabilities = map(
        np.concatenate,
        zip(*((part.labels, classifier.predict(part.images)) for part in examples.parts()), strict=True),
    )
    check_answers(model, card, probabilities)
    return Scored(
        card=card,
        model_sha256=sha256_of_model(model),
        backend=classifier.backend,
        examples=examples,
        labels=labels,
        probabilities=probabilities,
        metrics=measure(labels, probabilities),
        slices=measure_slices(examples.columns, labels, probabilities),
    )


def check_fit(model: Path, card: Card, data: ImageDataset) -> None:
    """Raise BadInput where the model's inputs or classes are not those of the data."""

    def misfit(knows: str, received: str) -> BadInput:
        return BadInput(
            f"{data.folder}: expected {knows}, as the model in {model} knows them, received {received}; "
            "pass the data set that the model was trained on, or train a model on this one"
        )

    takes, shape = card.input.shape, data.image_shape
    if takes != shape:
        raise misfit(f"images of {readable_shape(takes)}", readable_shape(shape))
    if differ := differing_classes(card.classes, data.class_names):
        raise misfit(*differ)
    if len(card.classes) < 2:
        raise BadInput(f"{model}: expected a model of two classes or more, received one; train it on more classes")
