"""The quality gate: rules on metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..common.artifacts.evaluation import LESS_IS_BETTER
from ..common.cli import BadInput
from ..common.rules import Rule, Threshold, Verdict, bound_of, is_number

HAIR = 1e-12
"""Differences of metrics below it are rounding."""


@dataclass(frozen=True)
class Change:
    """A metric's value against the baseline's: `allowed` is how much worse it may be, or, below 0, how much better it
    must be."""

    metric: str
    value: float
    baseline: float
    allowed: float

    @property
    def passed(self) -> bool:
        return self._holds(self.value, self.baseline)

    @property
    def requirement(self) -> str:
        return f"{self.metric} {self._allowance} the baseline"

    @property
    def finding(self) -> str:
        value, baseline = f"{self.value:.4f}", f"{self.baseline:.4f}"
        if self._holds(float(value), float(baseline)) != self.passed:  # rounding must not contradict the verdict
            value, baseline = str(self.value), str(self.baseline)
        return f"{self.metric} {value}, {self._allowance} the baseline's {baseline}"

    def as_json(self) -> dict[str, Any]:
        return {"value": self.value, "baseline": self.baseline, "at_most_worse": self.allowed}

    @property
    def _allowance(self) -> str:
        worse, better = ("above", "below") if less_is_better(self.metric) else ("below", "above")
        if self.allowed > 0:
            return f"at most {self.allowed:g} {worse}"
        return f"at least {-self.allowed:g} {better}" if self.allowed < 0 else f"not {worse}"

    def _holds(self, value: float, baseline: float) -> bool:
        worse = value - baseline if less_is_better(self.metric) else baseline - value
        return worse <= self.allowed + HAIR


@dataclass(frozen=True)
class Waived:
    """A change rule with nothing to compare with: the first version of a model passes it."""

    metric: str
    allowed: float

    @property
    def passed(self) -> bool:
        return True

    @property
    def requirement(self) -> str:
        return f"{self.metric} against the baseline"

    @property
    def finding(self) -> str:
        return f"{self.requirement}, waived since no version is published yet"

    def as_json(self) -> dict[str, Any]:
        return {"waived": True, "at_most_worse": self.allowed}


@dataclass(frozen=True)
class Gate:
    """The rules that a model must meet to be published.

    Attributes:
        min_accuracy: Minimum test accuracy, 0 to 1; 0: no rule.
        thresholds: By metric, a bound: the minimum (maximum if less is better) as a number, or text as `<= 0.2`.
        change_thresholds: By metric, the largest allowed drop against the baseline; negative: required gain.
    """

    min_accuracy: float = 0.0
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    change_thresholds: Mapping[str, Any] = field(default_factory=dict)

    def check_metrics(self, known: Iterable[str]) -> None:
        """Raise BadInput, which lists the `known` metrics, unless every rule is on one of these."""
        names = list(known)
        _check_names("--thresholds", self.thresholds, names)
        _check_names("--change-thresholds", self.change_thresholds, names)

    def judge(self, values: Mapping[str, float], baseline: Mapping[str, float] | None = None) -> Verdict:
        """Apply the rules.

        Args:
            values: Every metric of the model by name.
            baseline: The same of the baseline; None: no version is published yet, which waives the rules on changes.
        """
        rules: list[Rule] = []
        if self.min_accuracy:
            rules.append(Threshold("accuracy", values["accuracy"], self.min_accuracy))
        for name, wanted in self.thresholds.items():
            rules.append(Threshold(name, values[name], *_bound(name, wanted)))
        for name, allowed in self.change_thresholds.items():
            if baseline is None:
                rules.append(Waived(name, allowed))
            else:
                rules.append(Change(name, values[name], baseline[name], float(allowed)))
        return Verdict(rules)


def _check_names(option: str, names: Iterable[str], values: Sequence[str]) -> None:
    unknown = next((name for name in names if name not in values), None)
    if unknown is None:
        return
    overall = [name for name in values if "[" not in name]
    parts = [name[:-1].split("[", 1) for name in values if "[" in name]
    of_classes = [part for part in parts if part[0] not in overall]
    of_slices = [part for part in parts if part[0] in overall]
    known = f"{', '.join(overall)}, for a class in brackets {_in_brackets(of_classes)}"
    if of_slices:
        known += f", for a slice {_in_brackets(of_slices)}"
    elif "=" in unknown:
        known += " (and those of slices, with --slice-by)"
    raise BadInput(f"{option}: expected metrics among {known}; received {unknown!r}; name one of these")


def _in_brackets(parts: list[list[str]]) -> str:
    """Metrics and what can stand in their brackets: `recall[], f1[] (0, 1, 2 ... 9)`."""
    metrics, inside = (list(dict.fromkeys(part[at] for part in parts)) for at in (0, 1))
    shown = ", ".join(inside[:3]) + (f" ... {inside[-1]}" if len(inside) > 3 else "")
    return f"{', '.join(f'{name}[]' for name in metrics)} ({shown})"


def less_is_better(metric: str) -> bool:
    """Whether a smaller value is the better one; also of a class's or a slice's metric, as `loss[lighting=dark]`."""
    return metric.split("[")[0] in LESS_IS_BETTER


def check_gate(
    min_accuracy: float = 0.0,
    thresholds: Mapping[str, Any] | None = None,
    baseline: str = "",
    change_thresholds: Mapping[str, Any] | None = None,
) -> None:
    """Raise BadInput for what can be no rule, whatever the metrics are; the arguments are the step's options."""
    if not 0 <= min_accuracy <= 1:
        raise BadInput(f"--min-accuracy: expected a number from 0 to 1, received {min_accuracy:g}; 0.95 means 95 %")
    for name, wanted in (thresholds or {}).items():
        _bound(name, wanted)
    if change_thresholds and not baseline:
        raise BadInput(
            "--change-thresholds: expected --baseline with it, received none; name the model to compare with"
        )
    for name, wanted in (change_thresholds or {}).items():
        if not is_number(wanted):
            raise BadInput(
                f"--change-thresholds: expected a number for {name}, received {wanted!r}; 0.01 lets it be 0.01 worse "
                "than the baseline"
            )


def _bound(name: str, wanted: Any) -> tuple[float, str]:
    """The bound and its sign."""
    return bound_of("--thresholds", name, wanted, less_is_better(name))
