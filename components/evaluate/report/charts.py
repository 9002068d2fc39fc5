"""Geometry of the report's charts, in the units of their SVG view boxes; charts.jinja draws them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..metrics import Calibration, PrecisionRecall, Roc

THUMBNAIL_POINTS = 80
"""Maximum number of points of a curve in a thumbnail."""
SHADES = 8
"""Shades of a heat map."""
HEAT_MAP_NAMES = 20
"""Maximum number of class names along a side of a heat map."""
CHART_TOP, CHART_BOTTOM = 8, 172
"""Where the values of a chart of 360 x 208 units begin and end."""


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Curve:
    """A line with dots on some of its points.

    Attributes:
        kind: CSS class: `training`, `validation` or empty.
        path: SVG path data.
        dots: (x, y) of each dot.
    """

    kind: str
    path: str
    dots: list[tuple[float, float]]


@dataclass(frozen=True)
class Chart:
    """A chart of 360 x 208 units with horizontal grid lines.

    Attributes:
        label: Text for screen readers.
        title: Name of the horizontal axis.
        left: Where the horizontal axis begins.
        right: Where it ends.
        values: Ticks of the vertical axis.
        steps: Ticks of the horizontal axis.
        reference: Path data of the dashed line.
        curves: In the order in which they are drawn.
        bars: Path data of filled bars behind the curves; may be empty.
    """

    label: str
    title: str
    left: float
    right: float
    values: list[Tick]
    steps: list[Tick]
    reference: str
    curves: list[Curve]
    bars: str = ""


@dataclass(frozen=True)
class Thumbnail:
    """A small curve in a square of 100 x 100 units, with a caption.

    Attributes:
        name: What the curve is of.
        value: Its area or mean, in words.
        label: Text for screen readers.
        line: Path data of the curve.
        area: Path data of the area under it.
        guess: Whether the diagonal of a random guess is drawn.
    """

    name: str
    value: str
    label: str
    line: str
    area: str
    guess: bool = False


@dataclass(frozen=True)
class HeatMap:
    """A confusion matrix of many classes in a square of 360 x 360 units.

    Attributes:
        label: Text for screen readers.
        corner: Where the squares begin, in both directions.
        square: Side of a square.
        size: Number of classes.
        shades: (`right` or `wrong`, opacity 0 to 1, path data in squares) of each shade that occurs.
        names: Class names along both sides.
    """

    label: str
    corner: float
    square: float
    size: int
    shades: list[tuple[str, float, str]]
    names: list[Tick]


def epoch_chart(
    name: str, training: Sequence[float], validation: Sequence[float], test: float, text: Callable[[float], str]
) -> Chart:
    """A metric by epoch of training, with the evaluated split's value as reference.

    Args:
        name: Name of the metric.
        training: A value per epoch, at least one.
        validation: The same on the validation data; empty without any.
        test: The value on the evaluated split.
        text: Formats a value.
    """
    values, epochs = (*training, *validation, test), len(training)
    marks = ticks(min(values), max(values))
    low, high = marks[0], marks[-1]
    left, right = max(44, 12 + 6.4 * max(len(text(mark)) for mark in marks)), 347

    def x(epoch: float) -> float:
        return (left + right) / 2 if epochs == 1 else left + (epoch - 1) / (epochs - 1) * (right - left)

    def y(value: float) -> float:
        return CHART_BOTTOM - (value - low) / (high - low) * (CHART_BOTTOM - CHART_TOP)

    def curve(kind: str, course: Sequence[float]) -> Curve:
        points = [(x(epoch), y(value)) for epoch, value in enumerate(course, start=1)]
        return Curve(kind, _polyline(points), points if len(points) <= 20 else points[-1:])

    held_back = f"{text(validation[-1])} on the validation images; " if validation else ""
    return Chart(
        label=f"{name} by epoch: {text(training[0])} after the first, {text(training[-1])} after epoch {epochs}; "
        f"{held_back}{text(test)} at evaluation",
        title="epoch",
        left=left,
        right=right,
        values=[Tick(y(mark), text(mark)) for mark in marks],
        steps=[Tick(x(mark), f"{mark:g}") for mark in ticks(1, max(2, epochs), whole=True) if 1 <= mark <= epochs],
        reference=f"M{left} {y(test):.1f}H{right}",
        curves=[*([curve("validation", validation)] if validation else []), curve("training", training)],
    )


def calibration_chart(calibration: Calibration) -> Chart:
    """Accuracy by confidence, with perfect calibration as reference and the share of answers in each bin as bars."""
    left, right, bins = 44, 340, len(calibration.count)

    def x(share: float) -> float:
        return left + share * (right - left)

    def y(share: float) -> float:
        return CHART_BOTTOM - share * (CHART_BOTTOM - CHART_TOP)

    shares = (calibration.count / calibration.count.sum()).tolist()
    filled = [index for index in range(bins) if calibration.count[index]]
    confidence, accuracy = calibration.confidence[filled].tolist(), calibration.accuracy[filled].tolist()
    found = ", ".join(
        f"{100 * sure:.0f} % sure and {100 * right:.0f} % right"
        for sure, right in zip(confidence, accuracy, strict=True)
    )
    points = [(x(sure), y(right)) for sure, right in zip(confidence, accuracy, strict=True)]
    marks = (0, 0.25, 0.5, 0.75, 1)
    return Chart(
        label=f"Calibration: {found}",
        title="confidence",
        left=left,
        right=right,
        values=[Tick(y(mark), f"{100 * mark:g} %") for mark in marks],
        steps=[Tick(x(mark), f"{100 * mark:g} %") for mark in marks],
        reference=f"M{left} {CHART_BOTTOM}L{right} {CHART_TOP}",
        curves=[Curve("", _polyline(points), points)],
        bars="".join(
            f"M{x(index / bins) + 1:.1f} {CHART_BOTTOM}V{y(shares[index]):.1f}"
            f"H{x((index + 1) / bins) - 1:.1f}V{CHART_BOTTOM}z"
            for index in filled
        ),
    )


def roc_thumbnail(name: str, roc: Roc) -> Thumbnail:
    """The ROC curve of a class."""
    curve = roc.thinned(THUMBNAIL_POINTS)
    line = _unit_polyline(curve.false_positive_rate, curve.true_positive_rate)
    area = f"area {roc.auc:.4f}"
    return Thumbnail(name, area, f"ROC curve of {name}: {area}", line, f"{line}L98 98z", guess=True)


def precision_recall_thumbnail(name: str, curve: PrecisionRecall) -> Thumbnail:
    """The precision-recall curve of a class."""
    thinned = curve.thinned(THUMBNAIL_POINTS)
    line = _unit_polyline(thinned.recall, thinned.precision)
    average = f"{curve.average:.4f}"
    label = f"Precision-recall curve of {name}: average precision {average}"
    return Thumbnail(name, f"AP {average}", label, line, f"{line}V98H2z")


def heat_map(confusion: np.ndarray, shade: np.ndarray, classes: Sequence[str], label: str) -> HeatMap:
    """A confusion matrix of many classes: a shaded square per pair that occurred, without numbers.

    Args:
        confusion: Counts, shape (classes, classes).
        shade: Strength of the colour of each, 0 to 1, same shape.
        classes: Their names; every n-th is shown, as many as fit.
        label: Text for screen readers.
    """
    size = len(confusion)
    diagonal = np.eye(size, dtype=bool)
    steps = np.ceil(shade * SHADES).clip(1, SHADES)
    shades = []
    for kind, where in (("right", diagonal), ("wrong", ~diagonal)):
        for step in range(1, SHADES + 1):
            cells = np.argwhere(where & (steps == step) & (confusion > 0)).tolist()
            if cells:  # one path per shade keeps ten thousand squares small
                shades.append((kind, step / SHADES, "".join(f"M{column} {row}h1v1h-1z" for row, column in cells)))
    shown = {index: _shortened(classes[index]) for index in range(0, size, math.ceil(size / HEAT_MAP_NAMES))}
    corner = max(64, 12 + 7 * max(map(len, shown.values())))
    square = (356 - corner) / size
    names = [Tick(corner + square * (index + 0.5), name) for index, name in shown.items()]
    return HeatMap(label, corner, square, size, shades, names)


def ticks(low: float, high: float, whole: bool = False, about: int = 4) -> list[float]:
    """Round numbers, evenly spaced, that span low to high; roughly `about` of them."""
    low = min(low, high - 1e-3 * max(abs(high), 1e-3))  # a flat line needs a scale, too
    span = high - low
    magnitude = 10.0 ** math.floor(math.log10(span / about))
    step = next(step for step in (magnitude * factor for factor in (1, 2, 5, 10)) if span / step <= about + 1)
    step = max(1, round(step)) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]


def _shortened(name: str) -> str:
    """A name, without its middle if it is long: names that begin alike often differ at the end."""
    return name if len(name) <= 12 else f"{name[:5].rstrip()}…{name[-6:].lstrip()}"


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _unit_polyline(across: np.ndarray, up: np.ndarray) -> str:
    """A curve from 0 to 1 in a thumbnail, with its line width as margin."""
    return _polyline(list(zip((2 + 96 * across).tolist(), (98 - 96 * up).tolist(), strict=True)))
