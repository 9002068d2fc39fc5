"""Only a model whose data passed its validation is published."""

from pathlib import Path

from ..common.artifacts.model import Card
from ..common.artifacts.validation import Validation
from ..common.cli import BadInput


def check_validation(given: str, card: Card) -> Validation:
    """Make sure that the data of this very model was validated, and passed; return what validate wrote.

    Args:
        given: What validate wrote as `summary`, or the path of its folder.
        card: Of the model.

    Raises:
        BadInput: the data did not pass, or the validation is none or that of other data.
    """
    if given.lstrip().startswith("{"):
        validation = Validation.parse(given, "--validation")
    else:
        validation = Validation.read(Path(given))
    trained_on = card.dataset.sha256 if card.dataset else None
    if trained_on and validation.dataset_sha256 and trained_on != validation.dataset_sha256:
        raise BadInput(
            f"--validation: expected that of the training data, sha256 {trained_on}, received that of "
            f"{validation.dataset_sha256}; validate the data that the model was trained on"
        )
    if not validation.passed:
        failed = ", ".join(rule.text for rule in validation.rules if not rule.passed)
        raise BadInput(f"--validation: the data did not pass ({failed}); nothing was published")
    return validation
