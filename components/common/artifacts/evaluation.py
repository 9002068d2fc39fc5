"""Read an evaluation folder."""

import json
from pathlib import Path
from typing import Any

from ..cli import BadInput
from ..files import sha256_of_folder

EVALUATION = "evaluation.json"


def read_evaluation(evaluation: Path, model: Path) -> dict[str, Any]:
    """What evaluate wrote of this very model.

    Raises:
        BadInput: it is no evaluation folder, or one of another model.
    """
    anew = "pass the folder that evaluate wrote for this model"
    try:
        told = json.loads((evaluation / EVALUATION).read_text())
        digest = told["model_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(
            f"{evaluation}: expected an evaluation folder with {EVALUATION}, received none; {anew}"
        ) from None
    received = sha256_of_folder(model)
    if digest != received:
        raise BadInput(
            f"{evaluation}: expected the evaluation of the model with sha256 {received}, "
            f"received that of {digest}; {anew}"
        )
    return told
