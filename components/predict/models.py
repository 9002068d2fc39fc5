"""The model that predicts: fetched, and known to have passed its evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..common.artifacts import published
from ..common.artifacts.evaluation import Evaluation
from ..common.artifacts.model import Card, read_card, sha256_of_model
from ..common.cli import BadInput


@dataclass(frozen=True)
class PredictingModel:
    """A model on this machine.

    Attributes:
        uri: Where it is published, or its folder.
        folder: Where it is now.
        version: As published; None: it is not.
        sha256: Digest of the model folder, the one in its evaluation.
        card: Its card.
        evaluation: What it was worth on the test split; None: not known.
    """

    uri: str
    folder: Path
    version: int | None
    sha256: str
    card: Card
    evaluation: Evaluation | None

    @property
    def name(self) -> str:
        """Version and digest, short, for people."""
        return f"{self.uri} (sha256 {self.sha256[:12]})"


def open_model(
    uri: str,
    evaluation: Path | None,
    require_passed: bool,
    verify_key: str,
    scratch: Path,
    say: Callable[[str], None],
) -> PredictingModel:
    """Fetch a model, and look whether it passed its evaluation.

    Args:
        uri: `s3://bucket/name/` for the newest version, `s3://bucket/name/version/`, or a folder.
        evaluation: Evaluation folder of a model that is not published with one; None: none.
        require_passed: Whether a model is refused that did not pass, or was not evaluated.
        verify_key: Public keys of which one must have signed it, see `signing.VerifyKeys`; empty: not verified.
        scratch: An existing folder, for a model from the store.
        say: Receives a line about a model that is taken all the same.

    Raises:
        BadInput: there is no such model, it may not be used, or the evaluation is that of another one.
        RuntimeError: the published version is damaged.
    """
    if uri.startswith("s3://"):
        version = published.choose(uri, "--model", verify_key)
        if version is None:
            raise BadInput(f"--model: expected a published version below {uri}, received none; publish one with export")
        folder, place, number = scratch / "model", version.uri, version.number
        published.fetch(version, folder)
    else:
        folder, place, number = Path(uri), uri, None
        if (folder / published.MANIFEST).is_file():
            number = published.Manifest.read(folder).version
        if verify_key:
            published.verify_folder(folder, verify_key)
    card = read_card(folder)
    sha256 = sha256_of_model(folder, published.BESIDE)
    known = _evaluation(folder, evaluation, sha256)
    _check(known, place, require_passed, say)
    return PredictingModel(place, folder, number, sha256, card, known)


def _evaluation(folder: Path, given: Path | None, sha256: str) -> Evaluation | None:
    inside = folder / published.EVALUATION_FOLDER
    place = given or (inside if inside.is_dir() else None)
    if place is None:
        return None
    found = Evaluation.read(place)
    if found.model_sha256 != sha256:
        raise BadInput(
            f"{place}: expected the evaluation of this model, received that of another; pass the folder that evaluate "
            "wrote for this model, or evaluate again"
        )
    return found


def _check(evaluation: Evaluation | None, place: str, require_passed: bool, say: Callable[[str], None]) -> None:
    if evaluation and evaluation.passed:
        return
    if evaluation:
        failed = ", ".join(rule.text for rule in evaluation.rules if not rule.passed)
        told = f"one that did not pass ({failed})"
    else:
        told = "one without an evaluation"
    if require_passed:
        advice = "choose another" if evaluation else "pass --evaluation"
        raise BadInput(
            f"--model: expected one that passed its evaluation, received {told}; {advice}, or --require-passed false"
        )
    say(f"{place}: {told}, used because of --require-passed false")
