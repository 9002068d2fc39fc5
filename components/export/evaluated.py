"""Whether a model may be published: what its evaluation says."""

import json
from pathlib import Path

from components.common.cli import BadInput
from components.common.files import sha256_of_folder

_ANEW = "pass the folder that evaluate wrote for this model"


def check_evaluation(evaluation: Path, model: Path) -> None:
    """Make sure that this very model was evaluated, and passed.

    Raises:
        BadInput: it did not pass, or the evaluation is none or that of another model.
    """
    try:
        verdict = json.loads((evaluation / "evaluation.json").read_text())
        passed, rules, digest = verdict["passed"], verdict["rules"], verdict["model_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(
            f"--evaluation: expected a folder with evaluation.json, received {evaluation}; {_ANEW}"
        ) from None
    received = sha256_of_folder(model)
    if digest != received:
        raise BadInput(
            f"--evaluation: expected the evaluation of the model with sha256 {received}, "
            f"received that of {digest}; {_ANEW}"
        )
    if passed is not True:
        failed = ", ".join(rule["text"] for rule in rules if not rule["passed"])
        raise BadInput(f"--evaluation: the model did not pass ({failed}); nothing was published")
