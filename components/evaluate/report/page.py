"""Render the report: `Page` prepares what it shows, report.html.jinja lays it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ...common.progress import counted
from ...common.report.formats import difference, duration, metric_name, number, percent, short, thousands
from ...common.report.pictures import SMALL, picture
from ...common.rules import sentence
from ..label_errors import label_issues, label_quality
from ..metrics import ClassMetrics, PrecisionRecall, Roc
from ..run import Outcome
from ..slices import FEW, Slice
from .charts import (
    Chart,
    HeatMap,
    Thumbnail,
    calibration_chart,
    epoch_chart,
    heat_map,
    precision_recall_thumbnail,
    roc_thumbnail,
)

FOLDER = Path(__file__).parent
PAGE = "report.html.jinja"
MATRIX_CLASSES = 24
"""Maximum number of classes whose confusion matrix is a table with numbers; a larger one is a heat map."""
MANY_CLASSES = 30
"""Number of classes from which on they are sorted by F1."""
PHOTO = 240
"""Maximum side of a picture of a mistake in pixels."""
COMPARED = ("accuracy", "loss", "balanced_accuracy", "macro_f1", "roc_auc", "calibration_error")
CURVES = 23
"""Maximum number of classes whose curves are drawn."""
RULES_ABOVE = 3
"""Maximum number of rules in the head of the page; more are only counted there."""
MISTAKES = 24
CONFUSIONS = 10
DOUBTED = 24

Rows = list[tuple[str, ...]]
AnyCurve = TypeVar("AnyCurve", Roc, PrecisionRecall)


def render(result: Outcome) -> str:
    """The whole page, HTML."""
    from ...common.report.templates import environment

    return environment(FOLDER).get_template(PAGE).render(page=Page(result))


@dataclass(frozen=True)
class LearningCurve:
    """A metric by epoch of training.

    Attributes:
        name: Name of the metric.
        test: Its value on the evaluated split.
        validation: Whether it was measured on validation data.
        chart: The chart.
    """

    name: str
    test: str
    validation: bool
    chart: Chart


@dataclass(frozen=True)
class Cell:
    """A count in the confusion matrix.

    Attributes:
        kind: `right` or `wrong`.
        count: How often this class was answered so.
        shade: Strength of the colour, 0 to 1.
        title: The same in words.
    """

    kind: str
    count: int
    shade: float
    title: str


@dataclass(frozen=True)
class Mistake:
    """A wrong answer.

    Attributes:
        place: Position of the image in the split.
        truth: Its class.
        answer: The model's answer.
        confidence: Its probability, 0 to 1.
        picture: The image as a data URI.
    """

    place: int
    truth: str
    answer: str
    confidence: float
    picture: str


@dataclass(frozen=True)
class Curves:
    """Curves of the classes, or of the worst of many.

    Attributes:
        drawn: The curves.
        shown: Number of classes among them.
        known: Number of classes that have a curve.
    """

    drawn: list[Thumbnail]
    shown: int
    known: int


@dataclass(frozen=True)
class Bar:
    """A count, and its share of the largest one, 0 to 1."""

    count: int
    share: float


class Page:
    """What the report shows, in the order of the page; each property is computed once."""

    def __init__(self, result: Outcome) -> None:
        self.verdict = result.verdict
        self.baseline = result.baseline
        self.scored = result.scored
        self.metrics = result.scored.metrics
        self.classes = result.scored.classes
        self._card = result.scored.card
        self._history = self._card.history

    @property
    def split(self) -> str:
        """Name of the split that the model was evaluated on."""
        return self.scored.examples.split

    @property
    def title(self) -> str:
        """Network and data set."""
        return f"{self._card.architecture} on {self.scored.dataset.name}"

    @cached_property
    def rules_above(self) -> list[str]:
        """The rules, or their number, for the head of the page."""
        rules = self.verdict.rules
        if len(rules) <= RULES_ABOVE:
            return list(map(sentence, rules))
        return [f"{sum(rule.passed for rule in rules)} of {len(rules)} rules passed"]

    @property
    def numbers(self) -> Rows:
        """Name, value and note of the most important numbers."""
        metrics = self.metrics
        low, high = metrics.interval
        wrong = metrics.examples - int(metrics.confusion.trace())
        numbers: Rows = [
            ("Accuracy", percent(metrics.accuracy), f"95 % interval {100 * low:.2f} to {100 * high:.2f} %"),
            ("Loss", number(metrics.loss, 4), "cross-entropy, lower is better"),
            ("Macro F1", number(metrics.macro.f1, 4), f"balanced accuracy {percent(metrics.balanced_accuracy)}"),
            (f"{self.split.capitalize()} examples", thousands(metrics.examples), f"{wrong:,} wrong predictions"),
            ("Parameters", short(self._card.parameters), self._card.architecture),
        ]
        if self._history:
            seconds = sum(epoch.seconds for epoch in self._history)
            numbers.append(("Training", duration(seconds), counted(len(self._history), "epoch")))
        return numbers

    @cached_property
    def gate_section(self) -> bool:
        """Whether the head of the page does not say all about the gate."""
        return len(self.verdict.rules) > RULES_ABOVE or self.baseline is not None

    @cached_property
    def compared(self) -> Rows:
        """Metric, this model's value, the baseline's and the difference; empty without a baseline."""
        if not self.baseline or not self.baseline.scored:
            return []
        ours, theirs = self.metrics.overall(), self.baseline.scored.metrics.overall()
        return [
            (metric_name(name), number(ours[name], 4), number(theirs[name], 4), difference(ours[name] - theirs[name]))
            for name in COMPARED
            if name in ours
        ]

    @cached_property
    def learning_curves(self) -> list[LearningCurve]:
        """Loss and accuracy by epoch, if the card tells them."""
        drawn: tuple[tuple[str, str, float, Callable[[float], str]], ...] = (
            ("Loss", "loss", self.metrics.loss, lambda value: f"{value:.3g}"),
            ("Accuracy", "accuracy", self.metrics.accuracy, lambda value: f"{100 * value:.4g} %"),
        )
        curves = []
        for name, key, test, text in drawn:
            training, validation = self._by_epoch(key), self._by_epoch(f"validation_{key}")
            if training:
                chart = epoch_chart(name, training, validation, test, text)
                curves.append(LearningCurve(name, text(test), bool(validation), chart))
        return curves

    def _by_epoch(self, key: str) -> list[float]:
        """A value per epoch; empty unless each epoch has a finite one."""
        values = [getattr(epoch, key) for epoch in self._history]
        finite = [value for value in values if isinstance(value, int | float) and np.isfinite(value)]
        return finite if len(finite) == len(values) else []

    @cached_property
    def heat_map(self) -> HeatMap | None:
        """The confusion matrix of many classes; None with few, for which `matrix` is."""
        if len(self.classes) <= MATRIX_CLASSES:
            return None
        right, examples = self.metrics.confusion.trace(), self.metrics.examples
        label = (
            f"Confusion matrix of {len(self.classes)} classes: {right:,} of {examples:,} {self.split} examples lie on "
            "the diagonal"
        )
        return heat_map(self.metrics.confusion, self._shades, self.classes, label)

    @property
    def matrix(self) -> list[list[Cell | None]]:
        """The confusion matrix of a few classes by row; None for a count of 0."""
        return [[self._cell(truth, answer) for answer in range(len(row))] for truth, row in enumerate(self._shades)]

    @property
    def _mistake(self) -> np.ndarray:
        """bool, shape (classes, classes): off the diagonal."""
        return np.asarray(np.eye(len(self.classes)) == 0)

    @cached_property
    def _shades(self) -> np.ndarray:
        """Shape (classes, classes), 0 to 1: the share of its row; of mistakes, relative to the largest share."""
        confusion, mistake = self.metrics.confusion, self._mistake
        share = confusion / confusion.sum(axis=1, keepdims=True).clip(1)
        return np.asarray(np.where(mistake, share / max(share[mistake].max(), 1e-9), share))

    def _cell(self, truth: int, answer: int) -> Cell | None:
        count = int(self.metrics.confusion[truth, answer])
        if not count:
            return None
        images = self.metrics.per_class[truth].support
        title = f"{self.classes[truth]} predicted as {self.classes[answer]}: {count:,} of {images:,}"
        return Cell("right" if truth == answer else "wrong", count, float(self._shades[truth, answer]), title)

    @property
    def letters(self) -> int:
        """Length of the longest class name."""
        return max(map(len, self.classes))

    @cached_property
    def confusions(self) -> Rows:
        """Truth, answer, count and share of the class of the most frequent mistakes."""
        wrong = np.where(self._mistake, self.metrics.confusion, 0)
        most = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSIONS].tolist()
        pairs = [divmod(index, len(wrong)) for index in most if wrong.flat[index]]
        return [
            (
                self.classes[truth],
                self.classes[answer],
                thousands(wrong[truth, answer]),
                percent(wrong[truth, answer] / self.metrics.per_class[truth].support),
            )
            for truth, answer in pairs
        ]

    @property
    def confused_letters(self) -> int:
        """Length of the longest class name among `confusions`."""
        return max(len(name) for row in self.confusions for name in row[:2])

    @property
    def many_classes(self) -> bool:
        """Whether `by_class` is sorted by F1."""
        return len(self.classes) >= MANY_CLASSES

    @property
    def by_class(self) -> Rows:
        """Name, precision, recall, F1, AUC and number of images of each class."""
        answered = self.metrics.confusion.sum(axis=0).tolist()
        listed = list(zip(self.classes, self.metrics.per_class, answered, strict=True))
        if self.many_classes:
            listed.sort(key=lambda row: (not row[1].support, row[1].f1))
        return [
            (
                name,
                number(one.precision if answers else None),
                number(one.recall if one.support else None),
                number(one.f1 if one.support else None),
                number(one.auc, 4),
                thousands(one.support),
            )
            for name, one, answers in listed
        ]

    @property
    def class_means(self) -> tuple[str, ...]:
        """The last row of the same table."""
        macro = self.metrics.macro
        means = map(number, (macro.precision, macro.recall, macro.f1))
        return "Macro average", *means, number(self.metrics.roc_auc, 4), thousands(self.metrics.examples)

    @cached_property
    def slices(self) -> dict[str, list[Slice]]:
        """The slices of each column."""
        return {column: list(some) for column, some in groupby(self.scored.slices, lambda one: one.column)}

    @property
    def few(self) -> int:
        """Number of images below which a slice is marked; 0 if none is."""
        return FEW if any(one.few for one in self.scored.slices) else 0

    @cached_property
    def roc_curves(self) -> Curves:
        """The micro-average curve, then those of the classes."""
        curves = [(name, one.roc) for name, one in self._per_class if one.roc]
        least = _least(curves, lambda curve: curve.auc)
        drawn = [roc_thumbnail(name, curve) for name, curve in [("all classes", self.metrics.micro_roc), *least]]
        return Curves(drawn, len(least), len(curves))

    @cached_property
    def precision_recall_curves(self) -> Curves:
        """The curves of the classes."""
        curves = [(name, one.precision_recall) for name, one in self._per_class if one.precision_recall]
        least = _least(curves, lambda curve: curve.average)
        return Curves([precision_recall_thumbnail(name, curve) for name, curve in least], len(least), len(curves))

    @property
    def _per_class(self) -> list[tuple[str, ClassMetrics]]:
        return list(zip(self.classes, self.metrics.per_class, strict=True))

    @property
    def calibration(self) -> Chart:
        """Accuracy by confidence."""
        return calibration_chart(self.metrics.calibration)

    @property
    def overall(self) -> Rows:
        """Name and value of each metric of the whole split."""
        return [(metric_name(name), number(value, 4)) for name, value in self.metrics.overall().items()]

    @cached_property
    def wrong(self) -> np.ndarray:
        """int64: indices of the images that are answered wrongly, the most confident answer first."""
        wrong = np.flatnonzero(self.scored.answers != self.scored.labels)
        return wrong[np.argsort(-self._confidence[wrong], kind="stable")]

    @cached_property
    def _confidence(self) -> np.ndarray:
        return np.asarray(self.scored.probabilities.max(axis=1))

    @cached_property
    def mistakes(self) -> list[Mistake]:
        """The most confident wrong answers."""
        scored, shown = self.scored, self.wrong[:MISTAKES]
        return [
            Mistake(
                place=int(scored.places[index]),
                truth=self.classes[scored.labels[index]],
                answer=self.classes[scored.answers[index]],
                confidence=float(self._confidence[index]),
                picture=picture(image, PHOTO),
            )
            for index, image in zip(shown.tolist(), scored.examples.pictures(shown, PHOTO), strict=True)
        ]

    @cached_property
    def _issues(self) -> np.ndarray:
        """int64: indices of the images whose label may be wrong, the most doubted first."""
        labels, probabilities = self.scored.labels, self.scored.probabilities
        found = np.flatnonzero(label_issues(labels, probabilities))
        return found[np.argsort(label_quality(labels, probabilities)[found], kind="stable")]

    @property
    def label_issues(self) -> int:
        """Number of test images whose label may be wrong."""
        return len(self._issues)

    @property
    def doubted(self) -> Rows:
        """Image, its label, the model's answer, and the probability of the label, where it is doubted most."""
        scored, shown = self.scored, self._issues[:DOUBTED]
        quality = label_quality(scored.labels[shown], scored.probabilities[shown])
        return [
            (
                scored.dataset.name_of(scored.examples.split, int(scored.places[index])),
                self.classes[scored.labels[index]],
                self.classes[scored.answers[index]],
                percent(float(doubt)),
            )
            for index, doubt in zip(shown.tolist(), quality, strict=True)
        ]

    @property
    def pixels(self) -> bool:
        """Whether the images are so small that their pixels show."""
        return max(self.scored.dataset.image_shape[:2]) <= SMALL

    @cached_property
    def balance(self) -> dict[str, list[Bar]]:
        """Training images, if known, and those of the split, of each class."""
        training = self._card.dataset.train_counts if self._card.dataset else []
        test = {f"{self.split.capitalize()} images": _bars([one.support for one in self.metrics.per_class])}
        return {"Training images": _bars(training)} | test if len(training) == len(self.classes) else test

    @property
    def facts(self) -> list[list[tuple[str, dict[str, str]]]]:
        """Two columns of tables, each a caption and facts by name."""
        card, data = self._card, self.scored.dataset
        height, width, channels = data.image_shape
        model = {
            "architecture": card.architecture,
            "parameters": card.parameters,
            "input": f"{height} × {width} pixels, {counted(channels, 'channel')}",
            "classes": len(self.classes),
            **{name.replace("_", " "): value for name, value in card.hyperparameters.items()},
            "SHA-256": self.scored.model_sha256,
        }
        known = card.dataset
        trained_on = (
            {
                "name": known.name,
                "layout": known.layout,
                "source": known.source,
                "training examples": known.train_examples,
                "test examples": known.test_examples,
                "SHA-256": known.sha256,
            }
            if known
            else {}
        )
        tested_on = {
            "name": data.name,
            "layout": data.layout,
            f"{self.split} examples": self.metrics.examples,
            "damaged, skipped": len(data.skipped) or None,
        }
        return [
            [("Model", _known(model)), ("Training libraries", _known(card.libraries))],
            [
                ("Training data", _known(trained_on or {})),
                ("Evaluation data", _known(tested_on)),
            ],
        ]


def _least(curves: list[tuple[str, AnyCurve]], area: Callable[[AnyCurve], float]) -> list[tuple[str, AnyCurve]]:
    """Those of the classes that are drawn: of many, the worst."""
    return curves if len(curves) <= CURVES else sorted(curves, key=lambda named: area(named[1]))[:CURVES]


def _bars(counts: Sequence[int]) -> list[Bar]:
    largest = max(*counts, 1)
    return [Bar(count, count / largest) for count in counts]


def _known(facts: Mapping[str, Any]) -> dict[str, str]:
    """Those facts that are given, as text."""
    given = {name: value for name, value in facts.items() if value not in (None, "")}
    return {name: thousands(value) if type(value) is int else str(value) for name, value in given.items()}
