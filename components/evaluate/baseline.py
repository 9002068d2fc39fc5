"""The model to compare with, on the same split, and whether the difference is more than luck."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..common.artifacts.answers import differing_classes
from ..common.artifacts.model import read_card
from ..common.cli import BadInput
from ..common.progress import readable_shape
from .scoring import Scored, score

FEW = 25
"""Discordant pairs below which McNemar's test is the exact binomial one."""
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two models on the same images: does one of them answer more of them rightly?

    It looks only at the discordant pairs, the images that just one model answers rightly. With few of them it is the
    exact two-sided binomial test, else the chi-square test with continuity correction.

    Attributes:
        gained: Images that the new model answers rightly and the baseline wrongly.
        lost: Images that the baseline answers rightly and the new model wrongly.
    """

    gained: int
    lost: int

    @property
    def discordant(self) -> int:
        """Images that just one model answers rightly."""
        return self.gained + self.lost

    @property
    def exact(self) -> bool:
        """Whether the test is the exact one."""
        return self.discordant < FEW

    @property
    def p_value(self) -> float:
        """How likely a difference of this size or a larger one is between models that are equally good, 0 to 1."""
        if self.exact:
            tail = sum(math.comb(self.discordant, count) for count in range(min(self.gained, self.lost) + 1))
            return min(1.0, 2.0 * tail / 2.0**self.discordant)
        corrected = max(0, abs(self.gained - self.lost) - 1)
        return math.erfc(math.sqrt(corrected**2 / self.discordant / 2))

    @property
    def words(self) -> str:
        """The outcome for people."""
        if not self.discordant:
            return "both models are right or wrong on the same images"
        test = "exact binomial" if self.exact else "chi-square with continuity correction"
        told = "statistically significant" if self.p_value < SIGNIFICANT else "not statistically significant"
        return (
            f"{self.gained:,} images gained and {self.lost:,} lost, {told} "
            f"(McNemar's test, {test}, p {_probability(self.p_value)})"
        )


@dataclass(frozen=True)
class Baseline:
    """The model to compare with.

    Attributes:
        name: Where it is.
        scored: Its answers on the same split; None: there is no version yet.
        test: Its answers against the new model's; None where `scored` is.
    """

    name: str
    scored: Scored | None = None
    test: McNemar | None = None


def compare(uri: str, model: Path, new: Scored, say: Callable[[str], None]) -> Baseline:
    """Let the baseline answer the same images.

    Args:
        uri: `s3://bucket/name/version/`, `s3://bucket/name/` for the newest version, or a model folder.
        model: Where the new model is.
        new: The new model, scored.
        say: Receives a line about what is found.

    Raises:
        BadInput: there is no model there, or it knows other classes or takes other images.
    """
    if not uri.startswith("s3://"):
        return _compared(uri, Path(uri), model, new, say)
    from ..common.artifacts import published

    version = published.choose(uri, "--baseline")
    if version is None:
        say(f"{uri}: no version published yet, no comparison")
        return Baseline(uri)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "baseline"
        published.fetch(version, folder)
        try:
            return _compared(version.uri, folder, model, new, say)
        except BadInput as error:  # told of the place that the caller knows
            raise BadInput(str(error).replace(str(folder), version.uri.rstrip("/"))) from None


def _compared(name: str, folder: Path, model: Path, new: Scored, say: Callable[[str], None]) -> Baseline:
    card, ours = read_card(folder), new.card
    differ = differing_classes(ours.classes, card.classes)
    if not differ and ours.input.shape != card.input.shape:
        differ = f"images of {readable_shape(ours.input.shape)}", readable_shape(card.input.shape)
    if differ:
        raise BadInput(
            f"--baseline: expected {differ[0]}, as the model in {model} knows them, received {differ[1]} in {name}; "
            "compare with a model of the same task"
        )
    scored = score(folder, new.examples, say)
    right, before = new.answers == new.labels, scored.answers == new.labels
    return Baseline(name, scored, McNemar(int(np.sum(right & ~before)), int(np.sum(~right & before))))


def _probability(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"= {value:.4f}"
