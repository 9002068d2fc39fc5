"""Metrics of parts of a split: of the images that have the same value in a column of the data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..common.cli import BadInput
from ..common.datasets import ImageDataset
from ..common.statistics import wilson_interval
from .metrics import confusion_matrix, cross_entropy

SLICE_METRICS = ("accuracy", "loss", "macro_f1")
"""What can be named in rules: `accuracy[lighting=dark]`."""
FEW = 30
"""Images below which the numbers of a slice tell little."""
MOST = 100
"""Values of a column that can still be compared; more are names or measurements."""


@dataclass(frozen=True)
class Slice:
    """The images of a split with one value in one column, and what the model's answers to them are worth.

    Attributes:
        column: Name of the column.
        value: What these images have in it.
        examples: Number of images, at least one.
        accuracy: Share of right answers, 0 to 1.
        interval: Its 95 % interval, Wilson's.
        loss: Mean sparse categorical cross-entropy, in nats.
        macro_f1: Mean over the classes that the slice holds or the model answers in it.
    """

    column: str
    value: str
    examples: int
    accuracy: float
    interval: tuple[float, float]
    loss: float
    macro_f1: float

    @property
    def few(self) -> bool:
        """Whether these are too few images to judge by."""
        return self.examples < FEW


def read_columns(data: ImageDataset, split: str, names: str) -> dict[str, list[str]]:
    """The columns of `--slice-by`, comma-separated names: for each, a value per image of the split.

    Raises:
        BadInput: there is no such column, or its values are too many to compare.
    """
    columns = {name: data.column(split, name) for name in filter(None, map(str.strip, names.split(",")))}
    for name, values in columns.items():
        if len(set(values)) > MOST:
            raise BadInput(
                f"--slice-by: expected a column of at most {MOST} values, received {len(set(values)):,} in {name!r}; "
                "name one that puts the images into groups"
            )
    return columns


def measure_slices(columns: Mapping[str, Sequence[str]], labels: np.ndarray, probabilities: np.ndarray) -> list[Slice]:
    """The slices of each column in turn, the least accurate first.

    Args:
        columns: By name, a value per image.
        labels: int64, shape (images,).
        probabilities: float32, shape (images, classes).
    """
    slices = []
    for column, given in columns.items():
        values, which = np.unique(given, return_inverse=True)
        of_column = [
            _measured(column, value, labels[which == index], probabilities[which == index])
            for index, value in enumerate(values.tolist())
        ]
        slices += sorted(of_column, key=lambda one: one.accuracy)
    return slices


def metrics_of_slices(slices: Iterable[Slice]) -> dict[str, float]:
    """Every metric of every slice by name, as `accuracy[lighting=dark]`."""
    return {f"{metric}[{one.column}={one.value}]": getattr(one, metric) for one in slices for metric in SLICE_METRICS}


def _measured(column: str, value: str, labels: np.ndarray, probabilities: np.ndarray) -> Slice:
    confusion = confusion_matrix(labels, probabilities.argmax(axis=1), probabilities.shape[1])
    right, examples = confusion.diagonal(), len(labels)
    named = confusion.sum(axis=0) + confusion.sum(axis=1)  # times a class is the truth, plus times it is the answer
    return Slice(
        column,
        value,
        examples,
        accuracy=float(right.sum() / examples),
        interval=wilson_interval(int(right.sum()), examples),
        loss=cross_entropy(labels, probabilities),
        macro_f1=float(np.mean(2 * right[named > 0] / named[named > 0])),
    )
