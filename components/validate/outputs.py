"""Write the result of a validation into files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from ..common.artifacts.evaluation import REPORT
from ..common.artifacts.validation import FINDINGS, VALIDATION
from ..common.files import atomic_file, atomic_folder, write_text
from .findings import Findings
from .run import Outcome

COLUMNS = (
    *("finding", "split", "index", "image", "label"),
    *("original_split", "original_index", "original_image", "original_label", "similarity", "detail"),
)


def write_validation(folder: Path, result: Outcome, report: str) -> None:
    """Write metrics and verdict, the report, and the findings."""
    with atomic_folder(folder, marker=VALIDATION) as partial:
        result.as_artifact().write(partial)
        write_text(partial / REPORT, report)
        write_findings(partial / FINDINGS, result.findings)


def write_findings(path: Path | None, findings: Findings) -> None:
    """Write each finding as a row of a CSV file, or nothing where no path is given."""
    if path is None:
        return
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for one in findings.all:
            at, of = one.image, one.original
            similarity = "" if one.similarity is None else f"{one.similarity:.4f}"
            original: tuple[Any, ...] = (of.split, of.index, of.name, of.label) if of else ("", "", "", "")
            index = "" if at.index < 0 else at.index
            rows.writerow((one.kind, at.split, index, at.name, at.label, *original, similarity, one.detail))


def v1_metrics(metrics: dict[str, int | float]) -> dict[str, Any]:
    """Content of `mlpipeline_metrics`, which the KFP 1 UI reads."""
    return {
        "metrics": [
            {"name": name.replace("_", "-"), "numberValue": value, "format": "RAW"} for name, value in metrics.items()
        ]
    }


def v1_views(report: str) -> dict[str, Any]:
    """Content of `mlpipeline_ui_metadata`: the report."""
    return {"version": 1, "outputs": [{"type": "web-app", "storage": "inline", "source": report}]}
