"""Rules that an evaluation or a data set must meet, and the verdict in words."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .artifacts.evaluation import RuleResult
from .cli import BadInput


class Rule(Protocol):
    """One condition of the gate."""

    @property
    def metric(self) -> str:
        """Name of the metric it bounds."""

    @property
    def passed(self) -> bool:
        """Whether the model meets it."""

    @property
    def requirement(self) -> str:
        """The condition: `accuracy >= 0.95`."""

    @property
    def finding(self) -> str:
        """The condition with the values found: `accuracy 0.9741 >= 0.95`."""

    def as_json(self) -> dict[str, Any]:
        """The rule's own fields in evaluation.json."""


@dataclass(frozen=True)
class Threshold:
    """A metric's value against the bound that it must not miss: `sign` is `>=` or `<=`."""

    metric: str
    value: float
    bound: float
    sign: str = ">="

    @property
    def passed(self) -> bool:
        return self._holds(self.value)

    @property
    def requirement(self) -> str:
        return f"{self.metric} {self.sign} {self.bound:g}"

    @property
    def finding(self) -> str:
        value = str(self.value) if isinstance(self.value, int) else f"{self.value:.4f}"
        if self._holds(float(value)) != self.passed:  # rounding must not contradict the verdict
            value = str(self.value)
        return f"{self.metric} {value} {self.sign} {self.bound:g}"

    def as_json(self) -> dict[str, Any]:
        return {"value": self.value, "at_least" if self.sign == ">=" else "at_most": self.bound}

    def _holds(self, value: float) -> bool:
        return value >= self.bound if self.sign == ">=" else value <= self.bound


def word(rule: Rule) -> str:
    """What came of a rule."""
    return "passed" if rule.passed else "failed"


def sentence(rule: Rule) -> str:
    """A rule and its verdict: `accuracy 0.9741 >= 0.95: passed`."""
    return f"{rule.finding}: {word(rule)}"


@dataclass(frozen=True)
class Verdict:
    """The outcome of the gate: passed when every rule is, and so without any rule."""

    rules: Sequence[Rule]

    @property
    def passed(self) -> bool:
        return all(rule.passed for rule in self.rules)

    def results(self) -> list[RuleResult]:
        """The rules as evaluation.json holds them."""
        return [
            RuleResult(metric=rule.metric, **rule.as_json(), passed=rule.passed, text=sentence(rule))
            for rule in self.rules
        ]


def bound_of(option: str, metric: str, wanted: Any, less_is_better: bool) -> tuple[float, str]:
    """The bound that was given for a metric, and its sign, `>=` or `<=`.

    Args:
        option: Which option it was given with, for messages.
        metric: Name of the metric.
        wanted: A number, or text such as `<= 0.2`.
        less_is_better: Whether a plain number is the maximum.

    Raises:
        BadInput: it is neither.
    """
    if is_number(wanted):
        return float(wanted), "<=" if less_is_better else ">="
    signed = re.fullmatch(r"\s*([<>]=)\s*([-+.\deE]+)\s*", wanted) if isinstance(wanted, str) else None
    try:
        if signed:
            return float(signed[2]), signed[1]
    except ValueError:
        pass
    raise BadInput(
        f"{option}: expected a number, or '>=' or '<=' with a number, for {metric}, received {wanted!r}; "
        'write 0.9 or "<= 0.2"'
    )


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
