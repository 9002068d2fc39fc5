"""Compare evaluated models: which is better, and the table of all that were compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..common.artifacts import schema
from ..common.artifacts.evaluation import LESS_IS_BETTER, Evaluation
from ..common.artifacts.model import read_card
from ..common.cli import BadInput
from ..common.files import write_json

COMPARISON = "comparison.json"
METRICS = ("accuracy", "macro_f1", "loss")
"""Metrics to compare by."""


@dataclass(frozen=True)
class Candidate:
    """A model among those compared: its metrics, the labels of the test split, parameters, seconds of training."""

    name: str
    accuracy: float
    macro_f1: float
    loss: float
    examples: int
    labels_sha256: str
    passed: bool
    parameters: int
    seconds: float
    sha256: str

    @classmethod
    def read(cls, model: Path, evaluation: Path) -> Candidate:
        """A model with its evaluation.

        Raises:
            BadInput: one of the folders is not what it should be.
        """
        card, scored = read_card(model), Evaluation.of(model, evaluation)
        return cls(
            name=card.architecture,
            accuracy=scored.accuracy,
            macro_f1=scored.macro_f1,
            loss=scored.loss,
            examples=scored.examples,
            labels_sha256=scored.labels_sha256,
            passed=scored.passed,
            parameters=card.parameters,
            seconds=sum(epoch.seconds for epoch in card.history),
            sha256=scored.model_sha256,
        )

    def value(self, metric: str) -> float:
        """The value of one of METRICS."""
        value: float = getattr(self, metric)
        return value

    def rank(self, metric: str) -> tuple[bool, float]:
        """The higher, the better: a model that passed its gate beats one that did not; then the metric decides."""
        return self.passed, -self.value(metric) if metric in LESS_IS_BETTER else self.value(metric)


@dataclass(frozen=True)
class Comparison:
    """All models compared so far, the best first, and the metric that decided. JSON: `comparison.json`."""

    metric: str
    candidates: list[Candidate]

    @classmethod
    def of(cls, candidates: list[Candidate], metric: str) -> Comparison:
        """Compare models, of which the first ones win a tie; each counts once.

        Raises:
            BadInput: they were evaluated on different images.
        """
        first = candidates[0]
        for other in candidates[1:]:
            _check_same_images(first, other)
        once: dict[str, Candidate] = {}
        for one in candidates:
            once.setdefault(one.sha256, one)
        return cls(metric, sorted(once.values(), key=lambda one: one.rank(metric), reverse=True))

    @classmethod
    def read(cls, evaluation: Path) -> Comparison | None:
        """The comparison that an evaluation folder went through; None: none yet.

        Raises:
            BadInput: it is of another release.
        """
        path = evaluation / COMPARISON
        if not path.is_file():
            return None
        return schema.parse(
            cls,
            path.read_bytes(),
            path,
            lambda wrong: BadInput(
                f"{path}: expected a comparison as select of this release writes it, received another ({wrong}); train "
                "and evaluate the models again"
            ),
        )

    def write(self, evaluation: Path) -> None:
        """Write the comparison into an evaluation folder, for the next one."""
        write_json(evaluation / COMPARISON, schema.as_json(self), indent=2)

    @property
    def best(self) -> Candidate:
        """The winner."""
        return self.candidates[0]

    def as_line(self) -> str:
        """The models and their values, the winner first."""
        return " > ".join(f"{one.name} {one.value(self.metric):.4f}" for one in self.candidates) + f" by {self.metric}"

    def as_markdown(self) -> str:
        """A table for the UI, the winner in its first row."""
        names = [one.name.replace("|", "\\|") for one in self.candidates]
        names[0] = f"**{names[0]}**"
        rows = [
            f"| {name} | {one.accuracy:.4f} | {one.macro_f1:.4f} | {one.loss:.4f} | {'yes' if one.passed else 'no'} "
            f"| {one.parameters:,} | {one.seconds:.1f} |"
            for name, one in zip(names, self.candidates, strict=True)
        ]
        return "\n".join(
            [
                f"# {self.best.name} is the best of {len(self.candidates)} by {self.metric}",
                "",
                f"On {self.best.examples:,} test images:",
                "",
                "| model | accuracy | macro F1 | loss | passed | parameters | training, s |",
                "| --- | --- | --- | --- | --- | --- | --- |",
                *rows,
                "",
            ]
        )


def check_metric(metric: str) -> None:
    """Raise BadInput for a metric that models cannot be compared by."""
    if metric not in METRICS:
        raise BadInput(f"--metric: expected one of {', '.join(METRICS)}, received {metric!r}; choose one of these")


def _check_same_images(first: Candidate, second: Candidate) -> None:
    if first.labels_sha256 != second.labels_sha256:
        others = "others" if first.examples == second.examples else f"{second.examples:,}"
        raise BadInput(
            f"expected evaluations on the same test split, received {first.examples:,} examples for {first.name} and "
            f"{others} for {second.name}; evaluate both on one data set"
        )
