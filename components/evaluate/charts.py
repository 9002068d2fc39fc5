"""Charts as inline SVG: plain strings, styled by report.css, drawn for a phone's width and scaled up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from .metrics import Calibration, PrecisionRecall, Roc

STAMP_POINTS = 80
"""Points of a curve drawn the size of a stamp."""
SHADES = 8
"""Shades of a heat map too large for numbers."""
NAMED = 20
"""Most of its classes whose names stand beside it."""


def epoch_chart(
    name: str, values: Sequence[float], validation: Sequence[float], test: float, text: Callable[[float], str]
) -> str:
    """A metric's course over the epochs of training, and the test split's value as a dashed line.

    Args:
        name: What is drawn.
        values: One per epoch, at least one.
        validation: The same metric on what training held back, as many; empty where it held nothing back.
        test: The same metric on the test split.
        text: Writes a value.
    """
    marks = ticks(min(*values, *validation, test), max(*values, *validation, test))
    low, high = marks[0], marks[-1]
    widest = max(len(text(mark)) for mark in marks)
    left, right, top, bottom = max(44, 12 + 6.4 * widest), 347, 8, 172

    def x(epoch: float) -> float:
        return (left + right) / 2 if len(values) == 1 else left + (epoch - 1) / (len(values) - 1) * (right - left)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    grid = "".join(
        f'<path class="grid" d="M{left} {y(mark):.1f}H{right}"/>'
        f'<text x="{left - 8}" y="{y(mark) + 3.5:.1f}" text-anchor="end">{text(mark)}</text>'
        for mark in marks
    )
    epochs = [epoch for epoch in ticks(1, max(2, len(values)), whole=True) if 1 <= epoch <= len(values)]
    below = "".join(
        f'<text x="{x(epoch):.1f}" y="{bottom + 17}" text-anchor="middle">{epoch:g}</text>' for epoch in epochs
    )

    def curve(course: Sequence[float], kind: str) -> str:
        points = [(x(epoch), y(value)) for epoch, value in enumerate(course, start=1)]
        dots = points if len(points) <= 20 else points[-1:]
        return f'<path class="line {kind}" d="{_polyline(points)}"/>' + "".join(
            f'<circle class="dot {kind}" cx="{px:.1f}" cy="{py:.1f}" r="3"/>' for px, py in dots
        )

    label = f"{name} by epoch: {text(values[0])} after the first, {text(values[-1])} after epoch {len(values)}; "
    if validation:
        label += f"{text(validation[-1])} on what training held back; "
    label += f"{text(test)} on the test split"
    return (
        f'<svg class="chart" viewBox="0 0 360 208" role="img" aria-label="{escape(label)}">{grid}{below}'
        f'<text x="{(left + right) / 2}" y="205" text-anchor="middle">epoch</text>'
        f'<path class="test" d="M{left} {y(test):.1f}H{right}"/>'
        f"{curve(validation, 'validation') if validation else ''}{curve(values, 'training')}</svg>"
    )


def roc_chart(name: str, roc: Roc) -> str:
    """A small ROC curve over the diagonal that guessing gives."""
    curve = roc.thinned(STAMP_POINTS)
    points = [
        (2 + 96 * false, 98 - 96 * true)
        for false, true in zip(curve.false_positive_rate.tolist(), curve.true_positive_rate.tolist(), strict=True)
    ]
    line = _polyline(points)
    return (
        f'<svg class="chart roc" viewBox="0 0 100 100" role="img" '
        f'aria-label="{escape(f"ROC curve of {name}: area {roc.auc:.4f}")}">'
        f'<path class="frame" d="M2 2H98V98H2z"/><path class="guess" d="M2 98L98 2"/>'
        f'<path class="area" d="{line}L98 98z"/><path class="line" d="{line}"/></svg>'
    )


def precision_recall_chart(name: str, curve: PrecisionRecall) -> str:
    """A small precision-recall curve; precision falls in steps, from one point to the next."""
    drawn = curve.thinned(STAMP_POINTS)
    points = [
        (2 + 96 * recall, 98 - 96 * precision)
        for recall, precision in zip(drawn.recall.tolist(), drawn.precision.tolist(), strict=True)
    ]
    line = _polyline(points)
    return (
        f'<svg class="chart" viewBox="0 0 100 100" role="img" '
        f'aria-label="{escape(f"Precision-recall curve of {name}: average precision {curve.average:.4f}")}">'
        f'<path class="frame" d="M2 2H98V98H2z"/>'
        f'<path class="area" d="{line}V98H2z"/><path class="line" d="{line}"/></svg>'
    )


def calibration_chart(calibration: Calibration) -> str:
    """Accuracy by confidence over the diagonal of a model that can be believed; the share of answers in grey below."""
    left, right, top, bottom = 44, 340, 8, 172
    bins = len(calibration.count)

    def x(share: float) -> float:
        return left + share * (right - left)

    def y(share: float) -> float:
        return bottom - share * (bottom - top)

    marks = [0.0, 0.25, 0.5, 0.75, 1.0]
    grid = "".join(
        f'<path class="grid" d="M{left} {y(mark):.1f}H{right}"/>'
        f'<text x="{left - 8}" y="{y(mark) + 3.5:.1f}" text-anchor="end">{100 * mark:g} %</text>'
        f'<text x="{x(mark):.1f}" y="{bottom + 17}" text-anchor="middle">{100 * mark:g} %</text>'
        for mark in marks
    )
    filled = [index for index in range(bins) if calibration.count[index]]
    shares = calibration.count / calibration.count.sum()
    bars = "".join(
        f"M{x(index / bins) + 1:.1f} {bottom}V{y(float(shares[index])):.1f}H{x((index + 1) / bins) - 1:.1f}V{bottom}z"
        for index in filled
    )
    points = [(x(float(calibration.confidence[index])), y(float(calibration.accuracy[index]))) for index in filled]
    told = ", ".join(
        f"{100 * calibration.confidence[index]:.0f} % sure and {100 * calibration.accuracy[index]:.0f} % right"
        for index in filled
    )
    label = f"Calibration: {told}"
    return (
        f'<svg class="chart" viewBox="0 0 360 208" role="img" aria-label="{escape(label)}">{grid}'
        f'<text x="{(left + right) / 2}" y="205" text-anchor="middle">confidence</text>'
        f'<path class="share" d="{bars}"/><path class="test" d="M{left} {bottom}L{right} {top}"/>'
        f'<path class="line" d="{_polyline(points)}"/>'
        + "".join(f'<circle class="dot" cx="{px:.1f}" cy="{py:.1f}" r="3"/>' for px, py in points)
        + "</svg>"
    )


def heat_map(confusion: np.ndarray, shade: np.ndarray, classes: Sequence[str], label: str) -> str:
    """A confusion matrix of many classes: a shaded square per pair that occurred, without numbers.

    Args:
        confusion: Counts, shape (classes, classes).
        shade: How strong the colour of each is, 0 to 1, of the same shape.
        classes: Their names; as many stand at the rows and columns as there is room for.
        label: What a screen reader says.
    """
    size = len(confusion)
    diagonal = np.eye(size, dtype=bool)
    steps = np.ceil(shade * SHADES).clip(1, SHADES)
    squares = []
    for kind, where in (("right", diagonal), ("wrong", ~diagonal)):
        for step in range(1, SHADES + 1):
            cells = np.argwhere(where & (steps == step) & (confusion > 0)).tolist()
            if cells:  # one path per shade: ten thousand squares stay small
                path = "".join(f"M{column} {row}h1v1h-1z" for row, column in cells)
                squares.append(f'<path class="{kind}" fill-opacity="{step / SHADES:.3g}" d="{path}"/>')
    named = {index: _shortened(classes[index]) for index in range(0, size, math.ceil(size / NAMED))}
    corner = max(64, 12 + 7 * max(map(len, named.values())))
    square = (356 - corner) / size
    names = "".join(
        f'<text x="{corner - 5:g}" y="{(middle := corner + square * (index + 0.5)) + 3.5:.1f}" text-anchor="end">'
        f'{escape(name)}</text><text transform="translate({middle + 3.5:.1f} {corner - 5:g}) rotate(-90)">'
        f"{escape(name)}</text>"
        for index, name in named.items()
    )
    return (
        f'<svg class="chart heat" viewBox="0 0 360 360" role="img" aria-label="{escape(label)}">'
        f'<text x="{corner - 5:g}" y="{corner - 24:g}" text-anchor="end">answer →</text>'
        f'<text x="{corner - 5:g}" y="{corner - 9:g}" text-anchor="end">truth ↓</text>{names}'
        f'<g transform="translate({corner:g} {corner:g}) scale({square:.4f})">'
        f'<path class="frame" d="M0 0H{size}V{size}H0z"/>{"".join(squares)}</g></svg>'
    )


def _shortened(name: str) -> str:
    """A name with its middle left out if it is long: names that begin alike often differ in the end."""
    return name if len(name) <= 12 else f"{name[:5].rstrip()}…{name[-6:].lstrip()}"


def ticks(low: float, high: float, whole: bool = False, about: int = 4) -> list[float]:
    """Round numbers, evenly spaced, that span low to high; some `about` of them."""
    low = min(low, high - 1e-3 * max(abs(high), 1e-3))  # a flat line needs a scale, too
    span = high - low
    magnitude = 10.0 ** math.floor(math.log10(span / about))
    step = next(step for step in (magnitude * factor for factor in (1, 2, 5, 10)) if span / step <= about + 1)
    step = max(1, round(step)) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
