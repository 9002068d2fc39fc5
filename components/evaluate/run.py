"""Evaluate a model: score it on a split, compare it with the baseline and judge it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..common.rules import Verdict, word
from .baseline import Baseline, compare
from .gate import Gate
from .scoring import EvaluationSet, Scored, open_data, score


@dataclass(frozen=True)
class Outcome:
    """The outcome of an evaluation: a scored model and the verdict on it.

    Attributes:
        scored: The model's answers and metrics.
        verdict: The outcome of the gate.
        baseline: The model that it was compared with; None: none was given.
    """

    scored: Scored
    verdict: Verdict
    baseline: Baseline | None = None

    def summary(self) -> list[str]:
        """The result in a few lines, for a log: the worst slice of each column, the baseline, whether the model
        is better than guessing, the metrics and rules."""
        lines, metrics = [], self.scored.metrics
        for column in self.scored.examples.columns:
            worst = next(one for one in self.scored.slices if one.column == column)
            images = f"{worst.examples:,} images" + (", too few to judge by" if worst.few else "")
            lines.append(f"least accurate by {column}: {worst.value or '(empty)'} {worst.accuracy:.4f} ({images})")
        if self.baseline and self.baseline.test:
            lines.append(f"after {self.baseline.name}: {self.baseline.test.words}")
        if metrics.guessing:
            lines.append(f"no better than guessing: {metrics.guessing}")
        low, high = metrics.interval
        rules = ", ".join(f"gate {rule.requirement}: {word(rule)}" for rule in self.verdict.rules)
        lines.append(
            f"accuracy {metrics.accuracy:.4f} (95 % interval {low:.4f} to {high:.4f}), loss {metrics.loss:.4f}, "
            f"{rules or 'no threshold set'}"
        )
        return lines


def evaluate(
    dataset: Path,
    model: Path,
    gate: Gate = Gate(),  # noqa: B008 (it never changes)
    baseline: str = "",
    slice_by: str = "",
    on_corrupt: str = "fail",
    say: Callable[[str], None] = lambda line: None,
    split: str = "test",
) -> Outcome:
    """Score a model on a split of a data set and judge it.

    Args:
        dataset: Data set folder.
        model: Model folder, or a SavedModel or `.keras` file.
        gate: The rules to judge by.
        baseline: Model to compare with, see `compare`; empty: none.
        slice_by: Columns of the data set to slice by, comma-separated; empty: none.
        on_corrupt: How to handle damaged images: `fail` or `skip`.
        say: Receives what happens, a line at a time.
        split: Name of the split.

    Raises:
        BadInput: the data set or a model is unusable, they do not fit, or a rule is on an unknown metric.
    """
    data = open_data(dataset, model, on_corrupt)
    for note in data.notes:
        say(note)
    scored = score(model, EvaluationSet(data, slice_by, split), say)
    if data.skipped:
        say(data.told_skipped())
    values = scored.metrics_by_name()
    gate.check_metrics(values)
    before = compare(baseline, model, scored, say) if baseline else None
    earlier = before.scored.metrics_by_name() if before and before.scored else None
    return Outcome(scored, gate.judge(values, earlier), before)
