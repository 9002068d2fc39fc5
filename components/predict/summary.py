"""All answers together: how many of each class, how certain, how far from the test split, how often right."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Any

from ..common.artifacts.evaluation import Evaluation
from ..common.progress import counted
from ..common.statistics import chi_square_tail, wilson_interval

SUMMARY = "summary.json"
BINS = 10
LEAST_CERTAIN = 24
SOME, STRONG = 0.1, 0.25
"""Population stability index from which on one speaks of some drift, and of strong drift."""
CHANCE = 0.01
"""p-value from which on a difference is put down to chance."""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """How far the answers are from those on the test split.

    Attributes:
        stability_index: Population stability index of the predicted classes: sum of (p - q) ln(p / q), where p and q
            are the shares of a class here and on the test split, half an image added to each count.
        p_value: How likely as large a one is between samples of the same images: times n m / (n + m) for n and m
            images, it has the chi-square distribution with a degree of freedom less than there are classes.
        test_mean_confidence: Mean probability of the answers on the test split.
        text: The same in words.
    """

    stability_index: float
    p_value: float
    test_mean_confidence: float
    text: str

    @property
    def by_chance(self) -> bool:
        """Whether chance alone may well explain it."""
        return self.p_value > CHANCE


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How often the answers are right, for the images whose label is known and among the model's classes."""

    images: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    balanced_accuracy: float
    macro_f1: float


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All answers together. JSON: `summary.json`.

    Attributes:
        model: Where it is.
        model_version: None: it is not published.
        model_sha256: Digest of the model folder.
        source: Where the images are from.
        shard: Which share of them; empty: all.
        images: How many were answered.
        skipped: How many were damaged, and left out.
        counts: Answers by class.
        confidence: Answers by probability, in bins of equal width from 0 to 1.
        mean_confidence: Mean probability of the answers.
        drift: Against the test split; None: its answers are not known, or there are no images.
        scores: None: no label is known.
    """

    model: str
    model_version: int | None = None
    model_sha256: str
    source: str
    shard: str = ""
    images: int
    skipped: int
    counts: dict[str, Any]
    confidence: list[int]
    mean_confidence: float
    drift: Drift | None = None
    scores: Scores | None = None

    def scalars(self) -> dict[str, float]:
        """What is shown of a run among others."""
        shown: dict[str, float] = {"images": self.images, "skipped": self.skipped}
        shown["mean_confidence"] = self.mean_confidence
        if self.drift:
            shown["drift"] = self.drift.stability_index
        if self.scores:
            shown |= {name: getattr(self.scores, name) for name in ("accuracy", "balanced_accuracy", "macro_f1")}
        return shown

    def lines(self) -> list[str]:
        """The result in a few lines, for a log."""
        version = "" if self.model_version is None else f", version {self.model_version}"
        skipped = f", {counted(self.skipped, 'damaged image')} skipped" if self.skipped else ""
        lines = [self.drift.text] if self.drift else []
        if self.scores:
            low, high = self.scores.accuracy_interval
            interval = f"(95 % interval {low:.4f} to {high:.4f})"
            lines.append(f"accuracy {self.scores.accuracy:.4f} {interval}, macro F1 {self.scores.macro_f1:.4f}")
        confidence = f"mean confidence {self.mean_confidence:.4f}"
        return [*lines, f"{counted(self.images, 'image')} predicted{skipped}, {confidence}{version}"]


@dataclass(frozen=True)
class Uncertain:
    """An answer of little certainty.

    Attributes:
        row: Its place among all rows.
    """

    row: int
    name: str
    label: str
    probability: float
    truth: str | None


@dataclass
class Tally:
    """What is counted while the rows are read.

    Attributes:
        counts: Answers by class.
        confidence: Answers by probability.
        total_confidence: Sum of their probabilities.
        confusion: Images by true label and answer.
        least: The answers of least certainty, the least certain first.
    """

    counts: Counter[str]
    confidence: list[int]
    total_confidence: float
    confusion: Counter[tuple[str, str]]
    least: list[Uncertain]

    @classmethod
    def of(cls, rows: Iterable[dict[str, Any]], classes: Sequence[str]) -> Tally:
        """Read all rows, one at a time."""
        tally = cls(Counter(dict.fromkeys(classes, 0)), [0] * BINS, 0.0, Counter(), [])

        def answers() -> Iterable[tuple[float, int, dict[str, Any]]]:
            for number, row in enumerate(rows):
                label, probability = row["label"], row["probability"]
                tally.counts[label] += 1
                tally.confidence[min(BINS - 1, int(probability * BINS))] += 1
                tally.total_confidence += probability
                if row.get("truth") is not None:
                    tally.confusion[row["truth"], label] += 1
                yield probability, number, row

        least = nsmallest(LEAST_CERTAIN, answers(), key=lambda one: one[:2])
        tally.least = [Uncertain(at, row["name"], row["label"], share, row.get("truth")) for share, at, row in least]
        return tally

    @property
    def images(self) -> int:
        """How many there are."""
        return self.counts.total()

    @property
    def mean_confidence(self) -> float:
        """Mean probability of the answers."""
        return self.total_confidence / self.images if self.images else 0.0

    def scores(self, classes: Sequence[str]) -> Scores | None:
        """How often they are right; None: no label is known."""
        images = self.confusion.total()
        if not images:
            return None
        right = {name: self.confusion[name, name] for name in classes}
        support: Counter[str] = Counter()
        answered: Counter[str] = Counter()
        for (truth, label), count in self.confusion.items():
            support[truth] += count
            answered[label] += count
        present = [name for name in classes if support[name]]
        known = [name for name in classes if support[name] or answered[name]]
        return Scores(
            images=images,
            accuracy=sum(right.values()) / images,
            accuracy_interval=wilson_interval(sum(right.values()), images),
            balanced_accuracy=sum(right[name] / support[name] for name in present) / len(present),
            macro_f1=sum(2 * right[name] / (support[name] + answered[name]) for name in known) / len(known),
        )

    def drift(self, evaluation: Evaluation | None, classes: Sequence[str]) -> Drift | None:
        """Compare with the answers on the test split."""
        if evaluation is None or not self.images or len(evaluation.confusion_matrix) != len(classes):
            return None
        test = test_counts(evaluation)
        here = [self.counts[name] for name in classes]
        bins = evaluation.calibration
        sure = sum(count * mean for count, mean in zip(bins.count, bins.confidence, strict=True))
        index = stability_index(here, test)
        n, m = sum(here), sum(test)
        p_value = chi_square_tail(index * n * m / (n + m), len(classes) - 1)
        size = "answers as on" if index < SOME else "some drift from" if index < STRONG else "strong drift from"
        luck = ", which chance alone may explain" if index >= SOME and p_value > CHANCE else ""
        return Drift(
            stability_index=index,
            p_value=p_value,
            test_mean_confidence=sure / max(1, sum(bins.count)),
            text=f"{size} the test split (population stability index {index:.3f}){luck}",
        )


def test_counts(evaluation: Evaluation) -> list[int]:
    """Answers on the test split by class."""
    return [sum(column) for column in zip(*evaluation.confusion_matrix, strict=True)]


def stability_index(here: Sequence[int], test: Sequence[int]) -> float:
    """Population stability index of two counts of the same classes; see `Drift`."""
    n, m = sum(here) + len(here) / 2, sum(test) + len(test) / 2
    shares = [((a + 0.5) / n, (b + 0.5) / m) for a, b in zip(here, test, strict=True)]
    return sum((p - q) * math.log(p / q) for p, q in shares)
