"""Metrics of a classifier, in NumPy: definitions and names are scikit-learn's and Keras's (the tests compare them)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..common.artifacts.evaluation import guessing
from ..common.statistics import wilson_interval

EPSILON = 1e-7
"""Keras clips probabilities to EPSILON..1-EPSILON before it takes the logarithm."""
CURVE_POINTS = 200
"""Points kept of a curve; all of them would be one per class and image."""
CLASS_METRICS = ("precision", "recall", "f1", "auc", "average_precision")
"""What `ClassMetrics` tells of a class, besides its support and curves."""
TOP = (3, 5)
"""The k of the top-k accuracies, where there are more classes than that."""
BINS = 15
"""Equal-width bins of the calibration error, as in Guo et al. (see `Calibration`)."""


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

    def thinned(self, points: int = CURVE_POINTS) -> Roc:
        """At most `points` of the curve's points, evenly spaced along it, both ends included."""
        way = self.false_positive_rate + self.true_positive_rate  # from 0 to 2, both rise
        kept = _distinct(np.searchsorted(way, np.linspace(0, way[-1], points)))
        return Roc(self.false_positive_rate[kept], self.true_positive_rate[kept], self.thresholds[kept], self.auc)


@dataclass(frozen=True)
class PrecisionRecall:
    """A precision-recall curve, from recall 0 (precision 1, by convention) to recall 1.

    Attributes:
        recall: Shape (points,), 0 to 1, rising.
        precision: Shape (points,), 0 to 1.
        average: Average precision: the mean of the precisions, each weighted by the rise in recall that led to it.
    """

    recall: np.ndarray
    precision: np.ndarray
    average: float

    def thinned(self, points: int = CURVE_POINTS) -> PrecisionRecall:
        """At most `points` of the curve's points, evenly spaced in recall, both ends included."""
        kept = np.searchsorted(self.recall, np.linspace(0, self.recall[-1], points))
        kept = _distinct(np.append(kept, len(self.recall) - 1))
        return PrecisionRecall(self.recall[kept], self.precision[kept], self.average)


@dataclass(frozen=True)
class Calibration:
    """How far the model's confidence, the probability of its answer, can be believed.

    The bins and the expected calibration error are those of Guo et al., On Calibration of Modern Neural Networks (ICML
    2017): bin m holds the answers with confidence in ((m - 1) / bins, m / bins].

    Attributes:
        count: int64, shape (bins,): answers in each bin.
        confidence: Shape (bins,): their mean confidence; 0 in an empty bin.
        accuracy: Shape (bins,): share of right ones among them; 0 in an empty bin.
        error: Mean distance between both, each bin weighted by its answers, 0 to 1.
    """

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    error: float


@dataclass(frozen=True)
class Average:
    """Precision, recall and F1 averaged over the classes."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ClassMetrics:
    """One class against the rest.

    Attributes:
        precision: Share of right ones among the answers that name the class; 0 where none does.
        recall: Share of the class's images that are answered right; 0 where there is none.
        f1: Harmonic mean of both; 0 where both are 0.
        support: Images of the class.
        roc: None where the split holds no image of the class, or nothing else.
        precision_recall: None where `roc` is.
    """

    precision: float
    recall: float
    f1: float
    support: int
    roc: Roc | None
    precision_recall: PrecisionRecall | None

    @property
    def auc(self) -> float | None:
        """Area under the ROC curve, where there is one."""
        return self.roc.auc if self.roc else None

    @property
    def average_precision(self) -> float | None:
        """Average precision, where there is a curve."""
        return self.precision_recall.average if self.precision_recall else None


@dataclass(frozen=True)
class ClassifierMetrics:
    """What a classifier is worth on one split.

    Attributes:
        examples: Number of images.
        accuracy: Share of right answers, 0 to 1.
        interval: Its 95 % interval.
        loss: Mean sparse categorical cross-entropy, in nats.
        top: By k, the share of images whose class is among the k most probable ones.
        balanced_accuracy: Mean recall of the classes that the split holds.
        macro: Mean over the classes that the split holds or the model answers.
        weighted: The same, each class weighted by its images.
        roc_auc: Mean of the classes' areas, one against the rest; None where no class has one.
        calibration: See there.
        confusion: int64, shape (classes, classes): rows are the truth, columns the answer.
        per_class: In the order of the labels.
        micro_roc: Every (image, class) pair as one yes-or-no question.
    """

    examples: int
    accuracy: float
    interval: tuple[float, float]
    loss: float
    top: dict[int, float]
    balanced_accuracy: float
    macro: Average
    weighted: Average
    roc_auc: float | None
    calibration: Calibration
    confusion: np.ndarray
    per_class: list[ClassMetrics]
    micro_roc: Roc

    @property
    def guessing(self) -> str:
        """Why the accuracy is no better than guessing; empty if it is better."""
        return guessing(self.interval, self.largest_class)

    @property
    def largest_class(self) -> float:
        """Share of the images of the largest class, 0 to 1."""
        return max(one.support for one in self.per_class) / self.examples

    def overall(self) -> dict[str, float]:
        """The metrics of the whole split by name, without those that are not defined on it."""
        averages = {
            f"{kind}_{name}": value
            for kind, average in (("macro", self.macro), ("weighted", self.weighted))
            for name, value in vars(average).items()
        }
        return {
            "accuracy": self.accuracy,
            "loss": self.loss,
            "balanced_accuracy": self.balanced_accuracy,
            **averages,
            **{f"top_{k}_accuracy": share for k, share in self.top.items()},
            **({} if self.roc_auc is None else {"roc_auc": self.roc_auc}),
            "calibration_error": self.calibration.error,
        }

    def by_name(self, classes: list[str]) -> dict[str, float]:
        """Every metric by name: those of the whole split, then those of each class, as `recall[7]`."""
        of_classes = {
            f"{name}[{label}]": getattr(one, name)
            for label, one in zip(classes, self.per_class, strict=True)
            for name in CLASS_METRICS
        }
        return self.overall() | {name: value for name, value in of_classes.items() if value is not None}


def measure(labels: np.ndarray, probabilities: np.ndarray) -> ClassifierMetrics:
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
    per_class = []
    for index, roc in enumerate(map(roc_curve, by_class, is_class)):
        per_class.append(
            ClassMetrics(
                precision=_share(right[index], answered[index]),
                recall=_share(right[index], support[index]),
                f1=_share(2 * right[index], support[index] + answered[index]),
                support=int(support[index]),
                roc=roc.thinned() if roc else None,
                precision_recall=precision_recall(roc, int(support[index]), examples).thinned() if roc else None,
            )
        )
    areas = [one.auc for one in per_class if one.auc is not None]
    return ClassifierMetrics(
        examples=examples,
        accuracy=float(right.sum() / examples),
        interval=wilson_interval(int(right.sum()), examples),
        loss=cross_entropy(labels, probabilities),
        top={k: top_accuracy(labels, probabilities, k) for k in TOP if k < classes},
        balanced_accuracy=float(np.mean([one.recall for one in per_class if one.support])),
        macro=_average(per_class, (support + answered > 0).astype(float)),
        weighted=_average(per_class, support),
        roc_auc=float(np.mean(areas)) if areas else None,
        calibration=calibration(labels, probabilities),
        confusion=confusion,
        per_class=per_class,
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


def top_accuracy(labels: np.ndarray, probabilities: np.ndarray, k: int) -> float:
    """Share of images whose class is among the k most probable; of equally probable ones the later counts as more."""
    truth = probabilities[np.arange(len(labels)), labels][:, np.newaxis]
    later = np.arange(probabilities.shape[1]) > labels[:, np.newaxis]
    ahead = (probabilities > truth) | ((probabilities == truth) & later)
    return float(np.mean(ahead.sum(axis=1) < k))


def calibration(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> Calibration:
    """Confidence against accuracy; see `Calibration`."""
    answers = probabilities.argmax(axis=1)
    confidence = probabilities[np.arange(len(labels)), answers].astype(np.float64)
    place = (np.ceil(confidence * bins).astype(int) - 1).clip(0, bins - 1)
    count = np.bincount(place, minlength=bins)
    sure = np.bincount(place, weights=confidence, minlength=bins)
    right = np.bincount(place, weights=answers == labels, minlength=bins)
    filled = count.clip(1)
    return Calibration(count, sure / filled, right / filled, error=float(np.abs(right - sure).sum() / len(labels)))


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


def precision_recall(roc: Roc, positives: int, examples: int) -> PrecisionRecall:
    """The precision-recall curve of the same answers as a whole ROC curve, point by point."""
    true_positives = roc.true_positive_rate * positives
    answered = true_positives + roc.false_positive_rate * (examples - positives)
    precision = np.divide(true_positives, answered, out=np.ones_like(answered), where=answered > 0)
    average = float(np.sum(np.diff(roc.true_positive_rate) * precision[1:]))
    return PrecisionRecall(roc.true_positive_rate, precision, average)


def _distinct(rising: np.ndarray) -> np.ndarray:
    """Rising numbers, each once: np.unique without its import of numpy.ma, which takes 8 ms."""
    return np.compress(np.append(True, rising[1:] != rising[:-1]), rising)


def _average(per_class: list[ClassMetrics], weights: np.ndarray) -> Average:
    def averaged(name: str) -> float:
        return float(np.average([getattr(one, name) for one in per_class], weights=weights))

    return Average(averaged("precision"), averaged("recall"), averaged("f1"))


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0
