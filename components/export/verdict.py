"""Whether a model may be published: what its evaluation says."""

from pathlib import Path
from typing import Any

from ..common.artifacts.evaluation import read_evaluation
from ..common.cli import BadInput


def check_evaluation(evaluation: Path, model: Path) -> dict[str, Any]:
    """Make sure that this very model was evaluated, and passed; what evaluate wrote.

    Raises:
        BadInput: it did not pass, or the evaluation is none or that of another model.
    """
    verdict = read_evaluation(evaluation, model)
    if verdict["passed"] is not True:
        failed = ", ".join(rule["text"] for rule in verdict["rules"] if not rule["passed"])
        raise BadInput(f"--evaluation: the model did not pass ({failed}); nothing was published")
    return verdict
