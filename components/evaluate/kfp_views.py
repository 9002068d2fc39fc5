"""The same results as Kubeflow Pipelines shows them: KFP 2 from artifact metadata, KFP 1 from two JSON files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Any

from .metrics import ClassifierMetrics

SCALARS = {
    "accuracy": "PERCENTAGE",
    "loss": "RAW",
    "balanced_accuracy": "PERCENTAGE",
    "macro_f1": "RAW",
    "roc_auc": "RAW",
    "calibration_error": "RAW",
}
"""Metrics in the UI's table of runs, and how KFP 1 shows them; few, since each is a column."""
MATRIX_CLASSES = 200
"""Most classes whose confusion matrix Kubeflow gets: its metadata store takes 4 MB at a time, and nobody reads more."""


def scalars(metrics: ClassifierMetrics) -> dict[str, float]:
    """Metadata of a `Metrics` artifact."""
    overall = metrics.overall()
    return {name: overall[name] for name in SCALARS if name in overall}


def classification(metrics: ClassifierMetrics, classes: list[str]) -> dict[str, Any]:
    """Metadata of a `ClassificationMetrics` artifact: confusion matrix and micro-average ROC curve (it holds one)."""
    matrix = {
        "confusionMatrix": {
            "annotationSpecs": [{"displayName": name} for name in classes],
            "rows": [{"row": row} for row in metrics.confusion.tolist()],
        }
    }
    roc = {
        "confidenceMetrics": [
            {"confidenceThreshold": threshold, "recall": recall, "falsePositiveRate": false_positives}
            for false_positives, recall, threshold in _roc_points(metrics)
        ],
    }
    return (matrix if len(classes) <= MATRIX_CLASSES else {}) | roc


def v1_metrics(metrics: ClassifierMetrics) -> dict[str, Any]:
    """Content of `mlpipeline_metrics`."""
    return {
        "metrics": [
            {"name": name, "numberValue": value, "format": SCALARS[name]} for name, value in scalars(metrics).items()
        ]
    }


def v1_views(metrics: ClassifierMetrics, classes: list[str], report: str) -> dict[str, Any]:
    """Content of `mlpipeline_ui_metadata`: confusion matrix, micro-average ROC curve, and the whole report."""
    classes = [name.strip() for name in classes]  # the UI strips the cells' names, but not the labels
    pairs = ((truth, answer) for truth in range(len(classes)) for answer in range(len(classes)))
    counts = ((classes[truth], classes[answer], metrics.confusion[truth, answer]) for truth, answer in pairs)
    confusion = {
        "type": "confusion_matrix",
        "schema": _schema(target="CATEGORY", predicted="CATEGORY", count="NUMBER"),
        "labels": classes,
        "source": _csv(counts),
    }
    roc = {
        "type": "roc",
        "schema": _schema(fpr="NUMBER", tpr="NUMBER", thresholds="NUMBER"),
        "source": _csv(_roc_points(metrics)),
    }
    inline_csv = {"format": "csv", "storage": "inline"}
    whole = {"type": "web-app", "storage": "inline", "source": report}
    matrix = [confusion | inline_csv] if len(classes) <= MATRIX_CLASSES else []
    return {"version": 1, "outputs": [*matrix, roc | inline_csv, whole]}


def _roc_points(metrics: ClassifierMetrics) -> list[tuple[float, float, float]]:
    """False positive rate, true positive rate and threshold of some points of the micro-average curve."""
    curve = metrics.micro_roc
    thresholds = curve.thresholds.clip(max=1.0)  # JSON and the UI know no infinity
    return list(
        zip(
            curve.false_positive_rate.tolist(),
            curve.true_positive_rate.tolist(),
            thresholds.tolist(),
            strict=True,
        )
    )


def _schema(**types: str) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in types.items()]


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
