"""An evaluation folder: the names of its files, the metrics and the verdict, and the examples with their answers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cli import BadInput
from ..files import write_json
from . import schema
from .model import sha256_of_model

EVALUATION = "evaluation.json"
EXAMPLES = "examples.json"
REPORT = "report.html"
LESS_IS_BETTER = frozenset({"loss", "calibration_error"})
"""Metrics of which a smaller value is the better one."""
ANEW = "pass the folder that evaluate wrote for this model"


def guessing(interval: tuple[float, float], largest_class: float) -> str:
    """Why an accuracy is no better than guessing, and what to try; empty if it is better.

    Args:
        interval: Of the accuracy.
        largest_class: Share of the largest class.
    """
    if interval[0] > largest_class:
        return ""
    return (
        f"answering the largest class every time is right for {largest_class:.1%}, the accuracy is "
        f"{interval[0]:.1%} to {interval[1]:.1%}; try --architecture auto, more images of each class, more --epochs or "
        "a --base-model"
    )


@dataclass(frozen=True, kw_only=True)
class RuleResult:
    """A rule of the gate, and what came of it.

    Attributes:
        metric: What it looks at.
        value: Of the model; None: the rule was waived.
        baseline: Value of the baseline.
        waived: Whether there was nothing to compare with.
        at_least: Bound of the value.
        at_most: Bound of the value.
        at_most_worse: How much worse than the baseline's the value may be; below 0: how much better it must be.
        passed: Whether the model keeps the rule.
        text: All of this in words.
    """

    metric: str
    value: float | None = None
    baseline: float | None = None
    waived: bool = False
    at_least: float | None = None
    at_most: float | None = None
    at_most_worse: float | None = None
    passed: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class ClassResult:
    """The metrics of one class, 0 to 1, None where they are not defined; `support`: its images in the split."""

    name: str
    precision: float
    recall: float
    f1: float
    auc: float | None
    average_precision: float | None
    support: int


@dataclass(frozen=True, kw_only=True)
class SliceResult:
    """The metrics of the images that have the same value in a column of the data set, as in `Evaluation`."""

    column: str
    value: str
    examples: int
    accuracy: float
    loss: float
    macro_f1: float
    accuracy_interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class CalibrationBins:
    """Per bin of confidence: number of answers, their mean confidence, their accuracy."""

    count: list[int]
    confidence: list[float]
    accuracy: list[float]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a model is worth on a split of a data set. JSON: `evaluation.json`; docs/artifacts.md defines the metrics.

    Attributes:
        accuracy_interval: Wilson's 95 % interval.
        split: Name of the split.
        largest_class: Share of the largest class in the test split: the accuracy of answering it every time.
        examples: Number of images.
        labels_sha256: Digest of their labels.
        skipped: Names of the damaged images that were left out; None: there were none.
        passed: Whether the model keeps every rule.
        baseline: How it compares with another model; None: it was compared with none.
        model_sha256: Digest of the model, see `sha256_of_model`.
        backend: What ran the model, `LiteRT`, `ONNX Runtime` or `TensorFlow`.
        confusion_matrix: Number of images by class (rows) and answer (columns).
    """

    accuracy: float
    loss: float
    balanced_accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    weighted_precision: float
    weighted_recall: float
    weighted_f1: float
    top_3_accuracy: float | None = None
    top_5_accuracy: float | None = None
    roc_auc: float | None = None
    calibration_error: float
    accuracy_interval: tuple[float, float]
    split: str = "test"
    largest_class: float = 0.0
    examples: int
    labels_sha256: str
    skipped: list[str] | None = None
    passed: bool
    rules: list[RuleResult]
    baseline: dict[str, Any] | None = None
    model_sha256: str
    backend: str
    classes: list[ClassResult]
    slices: list[SliceResult]
    confusion_matrix: list[list[int]]
    calibration: CalibrationBins

    @classmethod
    def read(cls, folder: Path) -> Evaluation:
        """The evaluation in a folder.

        Raises:
            BadInput: there is none, or it lacks something.
        """
        try:
            content = (folder / EVALUATION).read_bytes()
        except OSError:
            raise BadInput(
                f"{folder}: expected an evaluation folder with {EVALUATION}, received none; {ANEW}"
            ) from None

        def refused(wrong: str) -> BadInput:
            return BadInput(
                f"{folder}: expected {EVALUATION} as evaluate of this release writes it, received another ({wrong}); "
                "train and evaluate the model again"
            )

        evaluation = schema.parse(cls, content, folder / EVALUATION, refused)
        for name, value in vars(evaluation).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise refused(f"{name} is {value}")
        if evaluation.passed != all(rule.passed for rule in evaluation.rules):
            raise refused("its verdict is not that of its rules")
        return evaluation

    @property
    def guessing(self) -> str:
        """See `guessing`."""
        return guessing(self.accuracy_interval, self.largest_class)

    @classmethod
    def of(cls, model: Path, folder: Path) -> Evaluation:
        """The evaluation in a folder, which must be that of this very model.

        Raises:
            BadInput: there is none, or it is that of another model.
        """
        evaluation = cls.read(folder)
        if evaluation.model_sha256 != sha256_of_model(model):
            raise BadInput(f"{folder}: expected the evaluation of {model}, received that of another; evaluate again")
        return evaluation

    def write(self, folder: Path) -> None:
        """Write the evaluation into a folder."""
        write_json(folder / EVALUATION, schema.as_json(self))


@dataclass(frozen=True, kw_only=True)
class AnsweredExample:
    """A test image with the answer that the model gave.

    Attributes:
        index: Its place in the split.
        instance: Its pixels as a client sends them: nested lists, height x width x channels, 0 to 255.
        label: Name of its class.
        prediction: Name of the class that the model answered.
        probabilities: What the model answered; None: not known.
    """

    index: int
    instance: Any
    label: str
    prediction: str
    probabilities: list[float] | None = None


@dataclass(frozen=True)
class AnsweredExamples:
    """Test images with the answers that the model gave, for a serving step to compare. JSON: `examples.json`."""

    examples: list[AnsweredExample]

    @classmethod
    def read(cls, folder: Path) -> AnsweredExamples | None:
        """The examples in an evaluation folder; None: there are none.

        Raises:
            BadInput: it is another file.
        """
        path = folder / EXAMPLES
        if not path.is_file():
            return None
        return schema.parse(
            cls,
            path.read_bytes(),
            path,
            lambda wrong: BadInput(
                f"{path}: expected examples as evaluate writes them, received others ({wrong}); evaluate again"
            ),
        )

    def write(self, folder: Path) -> None:
        """Write the examples into an evaluation folder."""
        write_json(folder / EXAMPLES, schema.as_json(self))
