"""Only a model that passed its evaluation is published."""

from pathlib import Path

from ..common.artifacts.evaluation import Evaluation
from ..common.cli import BadInput


def check_evaluation(evaluation: Path, model: Path) -> Evaluation:
    """Make sure that this very model was evaluated, and passed; return what evaluate wrote.

    Raises:
        BadInput: it did not pass, or the evaluation is none or that of another model.
    """
    evaluated = Evaluation.of(model, evaluation)
    if not evaluated.passed:
        failed = ", ".join(rule.text for rule in evaluated.rules if not rule.passed)
        raise BadInput(f"--evaluation: the model did not pass ({failed}); nothing was published")
    return evaluated
