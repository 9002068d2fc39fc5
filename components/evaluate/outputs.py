"""Write the result of an evaluation into files."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from ..common.artifacts.evaluation import (
    EVALUATION,
    REPORT,
    AnsweredExample,
    AnsweredExamples,
    CalibrationBins,
    ClassResult,
    Evaluation,
    SliceResult,
)
from ..common.files import atomic_file, atomic_folder, write_text
from .baseline import Baseline
from .label_errors import label_issues, label_quality
from .metrics import CLASS_METRICS
from .run import Outcome
from .scoring import Scored
from .slices import SLICE_METRICS

EXAMPLES = 5


def write_evaluation(folder: Path, result: Outcome, report: str) -> None:
    """Write metrics and verdict, the report, and a few answered examples."""
    with atomic_folder(folder, marker=EVALUATION) as partial:
        summary(result).write(partial)
        write_text(partial / REPORT, report)
        answered_examples(result.scored).write(partial)


def summary(result: Outcome) -> Evaluation:
    """What later steps read."""
    scored, metrics = result.scored, result.scored.metrics
    return Evaluation(
        **metrics.overall(),
        accuracy_interval=metrics.interval,
        split=scored.examples.split,
        largest_class=metrics.largest_class,
        examples=metrics.examples,
        labels_sha256=hashlib.sha256(scored.labels.astype("<i8").tobytes()).hexdigest(),
        skipped=scored.dataset.skipped or None,
        passed=result.verdict.passed,
        rules=result.verdict.results(),
        baseline=baseline_as_json(result.baseline) if result.baseline else None,
        model_sha256=scored.model_sha256,
        backend=scored.backend,
        classes=[
            ClassResult(
                name=name,
                **{metric: getattr(of_class, metric) for metric in CLASS_METRICS},
                support=of_class.support,
            )
            for name, of_class in zip(scored.classes, metrics.per_class, strict=True)
        ],
        slices=[
            SliceResult(
                column=one.column,
                value=one.value,
                examples=one.examples,
                **{metric: getattr(one, metric) for metric in SLICE_METRICS},
                accuracy_interval=one.interval,
            )
            for one in scored.slices
        ],
        confusion_matrix=metrics.confusion.tolist(),
        calibration=CalibrationBins(
            count=metrics.calibration.count.tolist(),
            confidence=metrics.calibration.confidence.tolist(),
            accuracy=metrics.calibration.accuracy.tolist(),
        ),
    )


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


def answered_examples(scored: Scored) -> AnsweredExamples:
    """The first image of each of the first few classes, with the model's answer, as a client would send it."""
    _, firsts = np.unique(scored.labels, return_index=True)
    chosen = np.sort(firsts)[:EXAMPLES]
    return AnsweredExamples(
        [
            AnsweredExample(
                index=int(scored.places[index]),
                instance=image.tolist(),
                label=scored.classes[scored.labels[index]],
                prediction=scored.classes[scored.answers[index]],
                probabilities=scored.probabilities[index].tolist(),
            )
            for index, image in zip(chosen.tolist(), scored.examples.images(chosen), strict=True)
        ]
    )


def write_predictions(path: Path | None, scored: Scored) -> None:
    """Write the answer to each image as a row of a CSV file, or nothing where no path is given."""
    if path is None:
        return
    columns = (
        *(scored.places, scored.labels, scored.answers, scored.probabilities.max(axis=1)),
        label_quality(scored.labels, scored.probabilities),
        label_issues(scored.labels, scored.probabilities),
    )
    answered = zip(*(column.tolist() for column in columns), strict=True)
    with atomic_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(
            ("index", "label", "prediction", "probability", "correct", "label_quality", "label_issue", "image")
        )
        for index, label, answer, probability, quality, issue in answered:
            truth = (scored.classes[label], scored.classes[answer], f"{probability:.6f}", str(label == answer).lower())
            doubt = (f"{quality:.6f}", str(issue).lower(), scored.dataset.name_of(scored.examples.split, index))
            rows.writerow((index, *truth, *doubt))
