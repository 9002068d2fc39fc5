"""The quality gate: rules on metrics, and the verdict in words."""

from dataclasses import dataclass
from typing import Any

from components.common.cli import BadInput


@dataclass(frozen=True)
class Rule:
    """A metric's value against the least that passes."""

    metric: str
    at_least: float
    value: float

    @property
    def passed(self) -> bool:
        return self.value >= self.at_least

    @property
    def requirement(self) -> str:
        """What is asked: `accuracy >= 0.95`."""
        return f"{self.metric} >= {self.at_least:g}"

    @property
    def word(self) -> str:
        """What came of it."""
        return "passed" if self.passed else "failed"

    @property
    def text(self) -> str:
        """The rule and its verdict: `accuracy 0.9741 >= 0.95: passed`."""
        value = f"{self.value:.4f}"
        if (float(value) >= self.at_least) != self.passed:  # rounding must not contradict the verdict
            value = str(self.value)
        return f"{self.metric} {value} >= {self.at_least:g}: {self.word}"


@dataclass(frozen=True)
class Verdict:
    """Passed when every rule is."""

    rules: list[Rule]

    @property
    def passed(self) -> bool:
        return all(rule.passed for rule in self.rules)

    def as_json(self) -> dict[str, Any]:
        """The verdict as evaluation.json holds it."""
        rules = [{**vars(rule), "passed": rule.passed, "text": rule.text} for rule in self.rules]
        return {"passed": self.passed, "rules": rules}


def check_share(option: str, value: float) -> None:
    """Raise BadInput unless the value of an option lies between 0 and 1."""
    if not 0 <= value <= 1:
        raise BadInput(f"{option}: expected a number from 0 to 1, received {value:g}; 0.95 means 95 %")
