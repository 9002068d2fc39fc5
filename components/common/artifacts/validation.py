"""A validation folder: the names of its files, and what was found about a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cli import BadInput
from ..files import write_json
from . import schema
from .evaluation import RuleResult

VALIDATION = "validation.json"
FINDINGS = "findings.csv"


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What was found about a data set. JSON: `validation.json`; docs/artifacts.md defines the metrics.

    Attributes:
        dataset: Its name.
        dataset_sha256: Of what download fetched; None: not known.
        passed: Whether every rule is met.
        rules: The rules, as in an evaluation.
        metrics: By name.
        brightness: Number of training images by mean brightness, 0 to 255.
        sides: Number of training images by size: at index round(16 log2(sqrt(height * width))).
        baseline: URI of the version that it was compared with; empty: none.
    """

    dataset: str
    dataset_sha256: str | None
    passed: bool
    rules: list[RuleResult]
    metrics: dict[str, Any]
    brightness: list[int]
    sides: list[int]
    baseline: str = ""

    @classmethod
    def read(cls, folder: Path) -> Validation:
        """The validation in a folder.

        Raises:
            BadInput: there is none, or it lacks something.
        """
        try:
            content = (folder / VALIDATION).read_bytes()
        except OSError:
            raise BadInput(
                f"{folder}: expected a validation folder with {VALIDATION}, received none; pass the folder that "
                "validate wrote"
            ) from None
        return cls.parse(content, folder / VALIDATION)

    @classmethod
    def parse(cls, content: str | bytes, where: object) -> Validation:
        """The validation in a JSON text; `where` it is from, for messages.

        Raises:
            BadInput: it is none.
        """
        return schema.parse(
            cls,
            content,
            where,
            lambda wrong: BadInput(
                f"{where}: expected {VALIDATION} as validate of this release writes it, received another ({wrong}); "
                "validate the data set again"
            ),
        )

    def write(self, folder: Path) -> None:
        """Write the validation into a folder."""
        write_json(folder / VALIDATION, self.as_json())

    def as_json(self) -> dict[str, Any]:
        """The content of `validation.json`."""
        return {"format": schema.FORMAT, **schema.as_json(self)}
