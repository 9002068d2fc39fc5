"""Write the result of an evaluation into files."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from ..common.files import atomic_file, atomic_folder, write_text
from .baseline import Baseline
from .metrics import CLASS_METRICS
from .run import Outcome
from .scoring import Scored
from .slices import SLICE_METRICS

MARKER = "evaluation.json"
EXAMPLES = 5


def write_evaluation(folder: Path, result: Outcome, report: str) -> None:
    """Write metrics and verdict (evaluation.json), the report, and a few answered examples."""
    with atomic_folder(folder, marker=MARKER) as partial:
        write_json(partial / MARKER, as_json(result))
        write_text(partial / "report.html", report)
        write_json(partial / "examples.json", {"examples": answered_examples(result.scored)})


def as_json(result: Outcome) -> dict[str, Any]:
    """Content of evaluation.json."""
    scored, metrics = result.scored, result.scored.metrics
    return {
        **metrics.overall(),
        "accuracy_interval": list(metrics.interval),
        "examples": metrics.examples,
        "labels_sha256": hashlib.sha256(scored.labels.astype("<i8").tobytes()).hexdigest(),
        **({"skipped": scored.dataset.skipped} if scored.dataset.skipped else {}),
        **result.verdict.as_json(),
        **({"baseline": baseline_as_json(result.baseline)} if result.baseline else {}),
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
        "slices": [
            {
                "column": one.column,
                "value": one.value,
                "examples": one.examples,
                **{metric: getattr(one, metric) for metric in SLICE_METRICS},
                "accuracy_interval": list(one.interval),
            }
            for one in scored.slices
        ],
        "confusion_matrix": metrics.confusion.tolist(),
        "calibration": {
            "count": metrics.calibration.count.tolist(),
            "confidence": metrics.calibration.confidence.tolist(),
            "accuracy": metrics.calibration.accuracy.tolist(),
        },
    }


def baseline_as_json(baseline: Baseline) -> dict[str, Any]:
    """What evaluation.json contains about the baseline."""
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
    chosen = np.sort(firsts)[:EXAMPLES]
    return [
        {
            "index": int(scored.places[index]),
            "instance": image.tolist(),
            "label": scored.classes[scored.labels[index]],
            "prediction": scored.classes[scored.answers[index]],
            "probabilities": scored.probabilities[index].tolist(),
        }
        for index, image in zip(chosen.tolist(), scored.examples.images(chosen), strict=True)
    ]


def write_predictions(path: Path | None, scored: Scored) -> None:
    """Write the answer to each test image as a row of a CSV file, or nothing where no path is given."""
    if path is None:
        return
    columns = scored.places, scored.labels, scored.answers, scored.probabilities.max(axis=1)
    answered = zip(*(column.tolist() for column in columns), strict=True)
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("index", "label", "prediction", "probability", "correct"))
        for index, label, answer, probability in answered:
            correct = "true" if label == answer else "false"
            rows.writerow((index, scored.classes[label], scored.classes[answer], f"{probability:.6f}", correct))


def write_json(path: Path | None, content: Any) -> None:
    """Write a JSON file whole, or nothing where no path is given."""
    write_text(path, json.dumps(content, allow_nan=False))
