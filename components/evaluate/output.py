"""Write results into files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from components.common.files import atomic_file, atomic_folder
from components.evaluate.gate import Verdict
from components.evaluate.scoring import Scored

MARKER = "evaluation.json"
EXAMPLES = 5


def write_evaluation(folder: Path, scored: Scored, verdict: Verdict, report: str) -> None:
    """Write metrics and verdict (evaluation.json), the report, and a few answered examples."""
    with atomic_folder(folder, marker=MARKER) as partial:
        write_json(partial / MARKER, summary(scored, verdict))
        write_text(partial / "report.html", report)
        write_json(partial / "examples.json", {"examples": answered_examples(scored)})


def summary(scored: Scored, verdict: Verdict) -> dict[str, Any]:
    """What evaluation.json holds."""
    metrics = scored.metrics
    return {
        "accuracy": metrics.accuracy,
        "accuracy_interval": list(metrics.interval),
        "loss": metrics.loss,
        "examples": metrics.examples,
        **verdict.as_json(),
        "model_sha256": scored.model_sha256,
        "backend": scored.backend,
        "classes": [
            {
                "name": name,
                "precision": of_class.precision,
                "recall": of_class.recall,
                "f1": of_class.f1,
                "support": of_class.support,
                "auc": of_class.auc,
            }
            for name, of_class in zip(scored.classes, metrics.per_class, strict=True)
        ],
        "confusion_matrix": metrics.confusion.tolist(),
    }


def answered_examples(scored: Scored) -> list[dict[str, Any]]:
    """The first test image of each of the first few classes, with the model's answer, as a client would send it."""
    _, firsts = np.unique(scored.labels, return_index=True)
    return [
        {
            "index": index,
            "instance": scored.images[index].tolist(),
            "label": scored.classes[scored.labels[index]],
            "prediction": scored.classes[scored.answers[index]],
            "probabilities": scored.probabilities[index].tolist(),
        }
        for index in np.sort(firsts)[:EXAMPLES].tolist()
    ]


def write_json(path: Path | None, content: Any) -> None:
    """Write a JSON file whole, or nothing where no path is given."""
    write_text(path, json.dumps(content, allow_nan=False))


def write_text(path: Path | None, text: str) -> None:
    """Write a text file whole, or nothing where no path is given."""
    if path is not None:
        with atomic_file(path) as partial:
            partial.write_text(text, encoding="utf-8")
