"""Compare evaluated models and tell which one is best."""

from dataclasses import asdict, dataclass
from pathlib import Path

from ..common.artifacts import schema
from ..common.artifacts.evaluation import Evaluation
from ..common.artifacts.model import read_card
from ..common.cli import BadInput
from ..common.files import write_json

COMPARISON = "comparison.json"
BETTER = {"accuracy": max, "macro_f1": max, "loss": min}
"""Metrics that can decide, and which of two values is the better one."""


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


@dataclass(frozen=True)
class Comparison:
    """All models compared so far, the best one first, and the metric that decided. JSON: `comparison.json`."""

    metric: str
    candidates: list[Candidate]

    def write(self, evaluation: Path) -> None:
        """Write the comparison into an evaluation folder, for the next one."""
        write_json(evaluation / COMPARISON, asdict(self), indent=2)


def check_metric(metric: str) -> None:
    """Raise BadInput for a metric that models cannot be compared by."""
    if metric not in BETTER:
        raise BadInput(f"--metric: expected one of {', '.join(BETTER)}, received {metric!r}; choose one of these")


def candidates(model: Path, evaluation: Path) -> list[Candidate]:
    """The model first, then those that lost to it in comparisons before.

    Raises:
        BadInput: one of the folders is not what it should be.
    """
    card, scored = read_card(model), Evaluation.of(model, evaluation)
    itself = Candidate(
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
    others = _compared_before(evaluation)
    return [itself, *(one for one in others if one.sha256 != itself.sha256)]


def _compared_before(evaluation: Path) -> list[Candidate]:
    path = evaluation / COMPARISON
    if not path.is_file():
        return []
    return schema.parse(
        Comparison,
        path.read_bytes(),
        path,
        lambda wrong: BadInput(
            f"{path}: expected a comparison as select of this release writes it, received another ({wrong}); train and "
            "evaluate the models again"
        ),
    ).candidates


def first_is_better(first: Candidate, second: Candidate, metric: str) -> bool:
    """Whether the first one wins; it wins a tie as well. One that passed its gate always beats one that did not.

    Raises:
        BadInput: the two were evaluated on different examples.
    """
    if first.labels_sha256 != second.labels_sha256:
        others = "others" if first.examples == second.examples else f"{second.examples:,}"
        raise BadInput(
            f"expected evaluations on the same test split, received {first.examples:,} examples for {first.name} and "
            f"{others} for {second.name}; evaluate both on one data set"
        )
    if first.passed != second.passed:
        return first.passed
    mine, other = getattr(first, metric), getattr(second, metric)
    return BETTER[metric](mine, other) == mine


def ranked(compared: list[Candidate], metric: str) -> list[Candidate]:
    """Best first, by the rules of `first_is_better`."""
    better_is_more = BETTER[metric] is max
    return sorted(
        compared, key=lambda one: (one.passed, getattr(one, metric) * (1 if better_is_more else -1)), reverse=True
    )


def as_markdown(compared: list[Candidate], metric: str) -> str:
    """A table for the UI, the winner in its first row."""
    names = [one.name.replace("|", "\\|") for one in compared]
    names[0] = f"**{names[0]}**"
    rows = [
        f"| {name} | {one.accuracy:.4f} | {one.macro_f1:.4f} | {one.loss:.4f} | {'yes' if one.passed else 'no'} "
        f"| {one.parameters:,} | {one.seconds:.1f} |"
        for name, one in zip(names, compared, strict=True)
    ]
    return "\n".join(
        [
            f"# {compared[0].name} is the best of {len(compared)} by {metric}",
            "",
            f"On {compared[0].examples:,} test images:",
            "",
            "| model | accuracy | macro F1 | loss | passed | parameters | training, s |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )
