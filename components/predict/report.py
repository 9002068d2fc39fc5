"""Render the report on a prediction: `Page` prepares what it shows, report.html.jinja lays it out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..common.report.formats import number, percent, thousands
from ..common.report.pictures import PICTURE, picture
from .models import PredictingModel
from .summary import BINS, SOME, Summary, Uncertain, test_counts

FOLDER = Path(__file__).parent
PAGE = "report.html.jinja"

Rows = list[tuple[str, ...]]


def render(summary: Summary, least: list[Uncertain], images: np.ndarray, model: PredictingModel) -> str:
    """The whole page, HTML.

    Args:
        summary: All answers together.
        least: The answers of least certainty.
        images: Their images: uint8, shape (answers, height, width, channels).
        model: What answered.
    """
    from ..common.report.templates import environment

    page = Page(summary, least, images, model)
    return environment(FOLDER).get_template(PAGE).render(page=page)


@dataclass(frozen=True)
class Bar:
    """A count, its share of all, and the length of its bar, 0 to 1."""

    count: int
    share: float
    length: float


class Page:
    """What the report shows, in the order of the page.

    Attributes:
        least: The answers of least certainty, each with its image as a data URI.
        pixels: Whether the images are so small that their pixels show.
    """

    def __init__(self, summary: Summary, least: list[Uncertain], images: np.ndarray, model: PredictingModel) -> None:
        self.summary = summary
        self.least = [(one, picture(image)) for one, image in zip(least, images, strict=True)]
        self.pixels = max(images.shape[1:3]) <= PICTURE // 2
        self._model = model

    @property
    def title(self) -> str:
        """Network and images."""
        return f"{self._model.card.architecture} on {self.summary.source}"

    @property
    def drifted(self) -> bool:
        """Whether the answers are others than those on the test split, by more than chance."""
        drift = self.summary.drift
        return drift is not None and drift.stability_index >= SOME and not drift.by_chance

    @property
    def numbers(self) -> Rows:
        """Name, value and note of the most important numbers."""
        it = self.summary
        told = f"{it.skipped:,} damaged, skipped" if it.skipped else f"share {it.shard}" if it.shard else "all answered"
        numbers: Rows = [("Images", thousands(it.images), told)]
        test = f"on the test split {percent(it.drift.test_mean_confidence)}" if it.drift else "of the answers"
        numbers.append(("Mean confidence", percent(it.mean_confidence), test))
        if it.drift:
            numbers.append(("Drift", number(it.drift.stability_index), "population stability index"))
        if it.scores:
            low, high = it.scores.accuracy_interval
            interval = f"95 % interval {100 * low:.2f} to {100 * high:.2f} %"
            numbers.append(("Accuracy", percent(it.scores.accuracy), interval))
            macro = f"of {it.scores.images:,} images with a label"
            numbers.append(("Macro F1", number(it.scores.macro_f1, 4), macro))
        version = "not published" if it.model_version is None else f"sha256 {it.model_sha256[:12]}"
        numbers.append(("Model version", "–" if it.model_version is None else str(it.model_version), version))
        return numbers

    @cached_property
    def by_class(self) -> dict[str, list[Bar]]:
        """Answers here, and on the test split if they are known, by class."""
        bars = {"Answers": _bars([self.summary.counts[name] for name in self.classes])}
        evaluation = self._model.evaluation
        if evaluation and self.summary.drift:
            bars["On the test split"] = _bars(test_counts(evaluation))
        return bars

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self._model.card.classes

    @cached_property
    def by_confidence(self) -> list[tuple[str, Bar]]:
        """Answers by probability, where there are any below."""
        bars = _bars(self.summary.confidence)
        named = [(f"{100 * at // BINS} to {100 * (at + 1) // BINS} %", bar) for at, bar in enumerate(bars)]
        first = next((at for at, bar in enumerate(bars) if bar.count), 0)
        return named[first:]

    @property
    def facts(self) -> dict[str, dict[str, str]]:
        """Facts by name, by caption."""
        it = self.summary
        version = "not published" if it.model_version is None else str(it.model_version)
        model = {"model": it.model, "version": version, "SHA-256": it.model_sha256}
        images = {"source": it.source, "share": it.shard or "all", "images": thousands(it.images)}
        return {"Model": model, "Images": images | {"damaged, skipped": thousands(it.skipped)}}


def _bars(counts: list[int]) -> list[Bar]:
    total, largest = max(1, sum(counts)), max(*counts, 1)
    return [Bar(count, count / total, count / largest) for count in counts]
