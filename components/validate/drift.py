"""How far the training images of a data set are from those of a published version, and whether chance explains it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..common.artifacts import published
from ..common.artifacts.model import CARD, Card
from ..common.artifacts.validation import VALIDATION, Validation
from ..common.cli import BadInput

SIGNIFICANT = 0.05
SIDES = 512
"""Length of the histogram of sizes: sides of up to 2 ** 32 pixels."""


@dataclass(frozen=True)
class Profile:
    """What is compared of two data sets, all of their training images.

    Attributes:
        classes: Number of images by class name.
        brightness: int64, shape (256,): number of images by mean brightness; None: not known.
        sides: int64, shape (SIDES,): number of images by size, see `side_index`; None: not known.
    """

    classes: Mapping[str, int]
    brightness: np.ndarray | None = None
    sides: np.ndarray | None = None


@dataclass(frozen=True)
class Drift:
    """The outcome of one comparison.

    Attributes:
        metric: `class_drift`, `brightness_drift` or `size_drift`.
        subject: What was compared, in words.
        distance: 0 (equal) to 1: total variation distance of class shares; else the Kolmogorov-Smirnov statistic.
        p_value: How likely a distance of this size or a larger one is between samples of one distribution, 0 to 1.
        test: Name of the test.
    """

    metric: str
    subject: str
    distance: float
    p_value: float
    test: str

    @property
    def words(self) -> str:
        """The outcome for people."""
        p = "p < 0.0001" if self.p_value < 0.0001 else f"p = {self.p_value:.4f}"
        told = "statistically significant" if self.p_value < SIGNIFICANT else "not statistically significant"
        return f"{self.subject} differ by {self.distance:.4f}, {told} ({self.test}, {p})"


@dataclass(frozen=True)
class Baseline:
    """The published version that data is compared with; `profile` None: none is published yet."""

    name: str
    profile: Profile | None = None


def read_baseline(uri: str) -> Baseline:
    """What a published version tells of its data: class counts from the model card, the rest from its validation.

    Args:
        uri: `s3://bucket/name/` for the newest version, `s3://bucket/name/version/`, or a model folder.

    Raises:
        BadInput: there is no version at that place, or its card names no data set.
    """
    version = published.choose(uri, "--baseline")
    if version is None:
        return Baseline(uri)
    there = {file.path for file in version.files}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in (CARD, VALIDATION):
            if name in there:
                version.source.fetch(name, folder / name)
        card = Card.read(folder)
        if card.dataset is None or len(card.dataset.train_counts) != len(card.classes):
            raise BadInput(
                f"--baseline: expected a model whose card counts its training images, received {version.uri} without; "
                "choose a version that train wrote"
            )
        classes = dict(zip(card.classes, card.dataset.train_counts, strict=True))
        if VALIDATION not in there:
            return Baseline(version.uri, Profile(classes))
        validation = Validation.read(folder)
    return Baseline(
        version.uri,
        Profile(classes, _padded(validation.brightness, 256), _padded(validation.sides, SIDES)),
    )


def compare(new: Profile, old: Profile) -> list[Drift]:
    """Compare the training images of two data sets in everything that is known of both."""
    names = [*old.classes, *(name for name in new.classes if name not in old.classes)]
    counts = [np.array([profile.classes.get(name, 0) for name in names]) for profile in (new, old)]
    found = [
        Drift("class_drift", "class shares", total_variation(*counts), chi_square_p_value(*counts), "chi-square test")
    ]
    for metric, subject, ours, theirs in (
        ("brightness_drift", "brightness values", new.brightness, old.brightness),
        ("size_drift", "image sizes", new.sides, old.sides),
    ):
        if ours is not None and theirs is not None and ours.sum() and theirs.sum():
            distance = kolmogorov_smirnov(ours, theirs)
            p_value = kolmogorov_p_value(distance, int(ours.sum()), int(theirs.sum()))
            found.append(Drift(metric, subject, distance, p_value, "two-sample Kolmogorov-Smirnov test"))
    return found


def side_index(sizes: np.ndarray) -> np.ndarray:
    """Where sizes, shape (images, 2), stand in a histogram of SIDES: 16 steps per doubling of their geometric mean."""
    return np.rint(8 * np.log2(sizes.astype(np.float64).prod(axis=1))).astype(np.int64).clip(0, SIDES - 1)


def total_variation(first: np.ndarray, second: np.ndarray) -> float:
    """Total variation distance of two distributions, given as counts of the same categories: 0 to 1."""
    return float(np.abs(first / max(first.sum(), 1) - second / max(second.sum(), 1)).sum() / 2)


def chi_square_p_value(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's chi-square test of homogeneity of two samples, given as counts of the same categories.

    The p value is exact for whole degrees of freedom: Abramowitz and Stegun, Handbook of Mathematical Functions (1964),
    26.4.4 and 26.4.5.
    """
    table = np.stack([first, second]).astype(np.float64)
    table = table[:, table.sum(axis=0) > 0]
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    if table.shape[1] < 2 or not expected.all():
        return 1.0
    statistic, freedom = float(((table - expected) ** 2 / expected).sum()), table.shape[1] - 1
    half, offset = statistic / 2, 0.5 * (freedom % 2)
    if half == 0:
        return 1.0
    terms = (
        math.exp((index + offset) * math.log(half) - half - math.lgamma(index + offset + 1))
        for index in range(freedom // 2)
    )
    return min(1.0, (math.erfc(math.sqrt(half)) if offset else 0.0) + sum(terms))


def kolmogorov_smirnov(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sample Kolmogorov-Smirnov statistic of two histograms over the same bins: the largest difference of their
    cumulative shares, 0 to 1."""
    return float(np.abs(first.cumsum() / first.sum() - second.cumsum() / second.sum()).max())


def kolmogorov_p_value(distance: float, first: int, second: int) -> float:
    """How likely a Kolmogorov-Smirnov statistic this large is between samples of one distribution.

    The asymptotic distribution (Smirnov, Table for Estimating the Goodness of Fit of Empirical Distributions, 1948),
    with the correction for small samples of Stephens (Use of the Kolmogorov-Smirnov, Cramer-von Mises and Related
    Statistics Without Extensive Tables, 1970). Of binned values it is an upper bound.

    Args:
        distance: The statistic.
        first: Number of values of the first sample.
        second: Number of values of the second sample.
    """
    root = math.sqrt(first * second / (first + second))
    scaled = (root + 0.12 + 0.11 / root) * distance
    if scaled < 0.2:  # where the series converges slowly, and is 1 to 10 digits
        return 1.0
    terms = ((-1) ** (index - 1) * math.exp(-2 * (index * scaled) ** 2) for index in range(1, 101))
    return min(1.0, max(0.0, 2 * sum(terms)))


def _padded(counts: list[int], length: int) -> np.ndarray:
    padded = np.zeros(length, np.int64)
    padded[: len(counts)] = counts[:length]
    return padded
