"""Metrics of a classifier, in NumPy: definitions and names are scikit-learn's and Keras's (the tests compare them)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

EPSILON = 1e-7
"""Keras clips probabilities to EPSILON..1-EPSILON before it takes the logarithm."""
Z95 = 1.959963984540054
"""Standard normal quantile of a two-sided 95 % interval."""
ROC_POINTS = 200
"""Points kept of a ROC curve; all of them would be one per class and image."""


@dataclass(frozen=True)
class Roc:
    """A receiver operating characteristic, from (0, 0) to (1, 1).

    Attributes:
        false_positive_rate: Shape (points,), 0 to 1, rising.
        true_positive_rate: Shape (points,), 0 to 1, rising.
        thresholds: Shape (points,), falling; scores at or above one count as positive. The first is infinite.
        auc: Area under the whole curve, 0 to 1, of which these points may be a few.
    """

    false_positive_rate: np.ndarray
    true_positive_rate: np.ndarray
    thresholds: np.ndarray
    auc: float

    def thinned(self, points: int = ROC_POINTS) -> Roc:
        """At most `points` of the curve's points, evenly spaced along it, both ends included."""
        way = self.false_positive_rate + self.true_positive_rate  # from 0 to 2, both rise
        kept = np.unique(np.searchsorted(way, np.linspace(0, way[-1], points)))
        return Roc(self.false_positive_rate[kept], self.true_positive_rate[kept], self.thresholds[kept], self.auc)


@dataclass(frozen=True)
class ClassMetrics:
    """One class against the rest.

    Attributes:
        precision: Share of right ones among the answers that name the class; 0 where none does.
        recall: Share of the class's images that are answered right; 0 where there is none.
        f1: Harmonic mean of both; 0 where both are 0.
        support: Images of the class.
        roc: None where the split holds no image of the class, or nothing else.
    """

    precision: float
    recall: float
    f1: float
    support: int
    roc: Roc | None

    @property
    def auc(self) -> float | None:
        """Area under the ROC curve, where there is one."""
        return self.roc.auc if self.roc else None


@dataclass(frozen=True)
class Metrics:
    """What a classifier is worth on one split.

    Attributes:
        examples: Number of images.
        accuracy: Share of right answers, 0 to 1.
        interval: Its 95 % interval.
        loss: Mean sparse categorical cross-entropy, in nats.
        confusion: int64, shape (classes, classes): rows are the truth, columns the answer.
        per_class: In the order of the labels.
        micro_roc: Every (image, class) pair as one yes-or-no question.
    """

    examples: int
    accuracy: float
    interval: tuple[float, float]
    loss: float
    confusion: np.ndarray
    per_class: list[ClassMetrics]
    micro_roc: Roc


def measure(labels: np.ndarray, probabilities: np.ndarray) -> Metrics:
    """All metrics of one split.

    Args:
        labels: int64, shape (images,), at least one, each 0 to classes - 1.
        probabilities: float32, shape (images, classes), at least two classes.
    """
    examples, classes = probabilities.shape
    confusion = confusion_matrix(labels, probabilities.argmax(axis=1), classes)
    right, support, answered = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    by_class = np.ascontiguousarray(probabilities.T)
    is_class = labels == np.arange(classes)[:, np.newaxis]
    micro_roc = roc_curve(by_class.ravel(), is_class.ravel())
    assert micro_roc is not None  # with two classes or more there are pairs of both kinds
    return Metrics(
        examples=examples,
        accuracy=float(right.sum() / examples),
        interval=wilson_interval(int(right.sum()), examples),
        loss=cross_entropy(labels, probabilities),
        confusion=confusion,
        per_class=[
            ClassMetrics(
                precision=_share(right[index], answered[index]),
                recall=_share(right[index], support[index]),
                f1=_share(2 * right[index], support[index] + answered[index]),
                support=int(support[index]),
                roc=roc and roc.thinned(),
            )
            for index, roc in enumerate(map(roc_curve, by_class, is_class))
        ],
        micro_roc=micro_roc.thinned(),
    )


def cross_entropy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean sparse categorical cross-entropy as Keras computes it from probabilities: clipped, then normalised."""
    clipped = probabilities.clip(EPSILON, 1 - EPSILON).astype(np.float64)
    truth = clipped[np.arange(len(labels)), labels]
    return float(np.mean(np.log(clipped.sum(axis=1)) - np.log(truth)))


def confusion_matrix(labels: np.ndarray, answers: np.ndarray, classes: int) -> np.ndarray:
    """Counts of (truth, answer), int64, shape (classes, classes)."""
    return np.bincount(labels * classes + answers, minlength=classes * classes).reshape(classes, classes)


def roc_curve(scores: np.ndarray, positive: np.ndarray) -> Roc | None:
    """The ROC curve of a yes-or-no question, with a point for each distinct score.

    Args:
        scores: Shape (examples,).
        positive: bool, shape (examples,).

    Returns:
        None where all examples are positive, or none is: the curve is not defined.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return None
    order = np.argsort(-scores)
    scores = scores[order]
    last_of_equals = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    true_positives = np.cumsum(positive[order])[last_of_equals]
    false_positive_rate = np.append(0, (last_of_equals + 1 - true_positives) / negatives)
    true_positive_rate = np.append(0, true_positives / positives)
    return Roc(
        false_positive_rate,
        true_positive_rate,
        thresholds=np.append(np.inf, scores[last_of_equals]),
        auc=float(np.trapezoid(true_positive_rate, false_positive_rate)),
    )


def wilson_interval(right: int, examples: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; unlike the normal one it stays inside 0 to 1 and holds for few examples."""
    share, z2 = right / examples, Z95**2
    centre = (share + z2 / (2 * examples)) / (1 + z2 / examples)
    half = Z95 * math.sqrt(share * (1 - share) / examples + z2 / (4 * examples**2)) / (1 + z2 / examples)
    return max(0.0, centre - half), min(1.0, centre + half)


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0
