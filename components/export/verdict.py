"""Whether a model may be published: what its evaluation says."""

from pathlib import Path

from ..common.artifacts.evaluation import Evaluation
from ..common.cli import BadInput


def check_evaluation(evaluation: Path, model: Path) -> Evaluation:
    """Make sure that this very model was evaluated, and passed; return what evaluate wrote.

    Raises:
        BadInput: it did not pass, or the evaluation is none or that of another model.
    """
    verdict = Evaluation.of(model, evaluation)
    if not verdict.passed:
        failed = ", ".join(rule.text for rule in verdict.rules if not rule.passed)
        raise BadInput(f"--evaluation: the model did not pass ({failed}); nothing was published")
    return verdict
