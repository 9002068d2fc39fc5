"""Answers as rows of CSV and JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .journal import CSV, JSON_LINES, SKIPPED


@dataclass(frozen=True)
class Rows:
    """Makes the rows of one model.

    Attributes:
        classes: Their names.
        top: How many of the most probable classes a row tells.
        version: Of the model; None: it is not published.
        sha256: Digest of the model.
        truth: Whether the rows tell the true label.
    """

    classes: list[str]
    top: int
    version: int | None
    sha256: str
    truth: bool

    @property
    def header(self) -> str:
        """First line of the CSV file."""
        ranked = [f"{name}_{rank}" for rank in range(2, self.top + 1) for name in ("label", "probability")]
        columns = ["name", "label", "probability", *ranked, *(["truth"] if self.truth else [])]
        return ",".join([*columns, "model_version", "model_sha256"]) + "\n"

    def of(
        self, names: Sequence[str], probabilities: np.ndarray, truths: Sequence[str], skipped: Sequence[str]
    ) -> dict[str, bytes]:
        """What a block adds to each file.

        Args:
            names: Of the images, in order.
            probabilities: float32, shape (images, classes).
            truths: True label of each image, empty where it is not known; or nothing at all.
            skipped: Names of the damaged images of the block.
        """
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.top]
        values = np.take_along_axis(probabilities, order, axis=1)
        version = "" if self.version is None else self.version
        table, lines = io.StringIO(newline=""), []
        writer = csv.writer(table, lineterminator="\n")
        for index, (name, places, shares) in enumerate(zip(names, order.tolist(), values.tolist(), strict=True)):
            best = [(self.classes[place], share) for place, share in zip(places, shares, strict=True)]
            truth = [truths[index]] if self.truth else []
            told = [cell for label, share in best for cell in (label, f"{share:.6f}")]
            writer.writerow([name, *told, *truth, version, self.sha256])
            row: dict[str, Any] = {"name": name, "label": best[0][0], "probability": round(best[0][1], 6)}
            row["top"] = [{"label": label, "probability": round(share, 6)} for label, share in best]
            if self.truth:
                row["truth"] = truths[index] or None
            lines.append(json.dumps(row | {"model_version": self.version, "model_sha256": self.sha256}))
        left_out = io.StringIO(newline="")
        csv.writer(left_out, lineterminator="\n").writerows([name] for name in skipped)
        return {
            CSV: table.getvalue().encode(errors="surrogateescape"),
            JSON_LINES: "".join(f"{line}\n" for line in lines).encode(),
            SKIPPED: left_out.getvalue().encode(errors="surrogateescape"),
        }


def read_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows in a folder, one at a time."""
    with (folder / JSON_LINES).open(encoding="utf-8") as file:
        yield from map(json.loads, file)
