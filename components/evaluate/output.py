"""Write results into files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from components.common.files import atomic_file, atomic_folder
from components.evaluate.baseline import Baseline
from components.evaluate.gate import Verdict
from components.evaluate.metrics import CLASS_METRICS
from components.evaluate.scoring import Scored

MARKER = "evaluation.json"
EXAMPLES = 5


def write_evaluation(folder: Path, scored: Scored, verdict: Verdict, baseline: Baseline | None, report: str) -> None:
    """Write metrics and verdict (evaluation.json), the report, and a few answered examples."""
    with atomic_folder(folder, marker=MARKER) as partial:
        write_json(partial / MARKER, summary(scored, verdict, baseline))
        write_text(partial / "report.html", report)
        write_json(partial / "examples.json", {"examples": answered_examples(scored)})


def summary(scored: Scored, verdict: Verdict, baseline: Baseline | None) -> dict[str, Any]:
    """What evaluation.json holds."""
    metrics = scored.metrics
    return {
        **metrics.overall(),
        "accuracy_interval": list(metrics.interval),
        "examples": metrics.examples,
        **verdict.as_json(),
        **({"baseline": compared(baseline)} if baseline else {}),
        "model_sha256": scored.model_sha256,
        "backend": scored.backend,
        "classes": [
            {
                "name": name,
                **{metric: getattr(of_class, metric) for metric in CLASS_METRICS},
                "support": of_class.support,
            }
            for name, of_class in zip(scored.classes, metrics.per_class, strict=True)
        ],
        "confusion_matrix": metrics.confusion.tolist(),
        "calibration": {
            "count": metrics.calibration.count.tolist(),
            "confidence": metrics.calibration.confidence.tolist(),
            "accuracy": metrics.calibration.accuracy.tolist(),
        },
    }


def compared(baseline: Baseline) -> dict[str, Any]:
    """What evaluation.json holds of the baseline."""
    if not baseline.scored or not baseline.test:
        return {"name": baseline.name, "found": False}
    test = baseline.test
    return {
        "name": baseline.name,
        "found": True,
        **baseline.scored.metrics.overall(),
        "gained": test.gained,
        "lost": test.lost,
        "p_value": test.p_value,
        "text": test.words,
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


def write_predictions(path: Path | None, scored: Scored) -> None:
    """Write the answer to each test image as a row of a CSV file, or nothing where no path is given."""
    if path is None:
        return
    probabilities = scored.probabilities.max(axis=1).tolist()
    answered = zip(scored.labels.tolist(), scored.answers.tolist(), probabilities, strict=True)
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("index", "label", "prediction", "probability", "correct"))
        for index, (label, answer, probability) in enumerate(answered):
            correct = "true" if label == answer else "false"
            rows.writerow((index, scored.classes[label], scored.classes[answer], f"{probability:.6f}", correct))


def write_json(path: Path | None, content: Any) -> None:
    """Write a JSON file whole, or nothing where no path is given."""
    write_text(path, json.dumps(content, allow_nan=False))


def write_text(path: Path | None, text: str) -> None:
    """Write a text file whole, or nothing where no path is given."""
    if path is not None:
        with atomic_file(path) as partial:
            partial.write_text(text, encoding="utf-8")
