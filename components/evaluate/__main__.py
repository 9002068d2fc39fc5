"""Command line of the evaluate step."""

from functools import partial
from pathlib import Path
from typing import Any

from ..common.cli import say, step
from ..common.options import Input, JsonObject, Output, executor_input, inputs, on_corrupt, outputs, section

data = section("Data")
gate = section("Quality gate")


@step("gate.check_gate", store=("baseline",))
@inputs("--dataset", required=True, type=Input("Dataset"), help="Data set folder, as download writes it.")
@inputs(
    "--model",
    required=True,
    type=Input("Model"),
    help="Model folder, as train writes it; a SavedModel or a .keras file needs TensorFlow.",
)
@data(
    "--split",
    default="test",
    help="Split to evaluate on: test, or validation where a data set has no labelled test images.",
)
@on_corrupt
@data(
    "--slice-by",
    default="",
    help="Columns of the data set, comma-separated: images with the same value in one are also evaluated "
    "separately; in rules as accuracy[lighting=dark].",
)
@gate("--min-accuracy", default=0.0, help="Minimum accuracy to pass, 0 to 1.")
@gate(
    "--thresholds",
    type=JsonObject(),
    default={},
    help='Bounds of any metrics, as {"macro_f1": 0.9, "recall[7]": 0.8, "loss": 0.2}: the minimum (maximum for loss '
    'and calibration_error), or write ">= 0.9" or "<= 0.2".',
)
@gate(
    "--baseline",
    default="",
    help="Model to compare with: s3://bucket/name/ for its newest published version, s3://bucket/name/version/, or a "
    "model folder.",
)
@gate(
    "--change-thresholds",
    type=JsonObject(),
    default={},
    help='Largest allowed drop against the baseline, as {"accuracy": 0.01, "loss": 0.02}; 0: none; negative: required '
    "gain. Passed if no version is published yet.",
)
@outputs(
    "--evaluation",
    required=True,
    type=Output("Artifact", folder=True),
    help="Folder to write the evaluation to: metrics, verdict, report and a few examples with their answers.",
)
@outputs("--metrics", type=Output("Metrics"), help="File to write the scalars to, as JSON.")
@outputs(
    "--classification-metrics",
    type=Output("ClassificationMetrics"),
    help="File to write the confusion matrix and the ROC curves to, as JSON.",
)
@outputs("--report", type=Output("HTML"), help="File to write the report to.")
@outputs(
    "--predictions",
    type=Output("Artifact"),
    help="File to write all predictions to, as CSV: index, label, prediction, probability, correct, and "
    "label_issue, whether the label may be wrong.",
)
@outputs("--accuracy", type=Output("Float"), help="File to write the accuracy to, 0 to 1.")
@outputs("--passed", type=Output("Boolean"), help="File to write the verdict to, true or false.")
@outputs(
    "--mlpipeline-metrics", type=Output("Artifact"), help="File to write the scalars to, as the KFP 1 UI reads them."
)
@outputs(
    "--mlpipeline-ui-metadata", type=Output("Artifact"), help="File to write the plots to, as the KFP 1 UI reads them."
)
@executor_input
def main(
    dataset: Path,
    model: Path,
    split: str,
    on_corrupt: str,
    min_accuracy: float,
    thresholds: dict[str, Any],
    slice_by: str,
    baseline: str,
    change_thresholds: dict[str, Any],
    evaluation: Path,
    metrics: Path | None,
    classification_metrics: Path | None,
    report: Path | None,
    predictions: Path | None,
    accuracy: Path | None,
    passed: Path | None,
    mlpipeline_metrics: Path | None,
    mlpipeline_ui_metadata: Path | None,
    executor_input: str,
) -> None:
    """Score a model on a split of a data set and judge it.

    The step succeeds whatever the verdict is; export refuses a model that did not pass.

    \b
    Examples:
      trainyard evaluate --dataset data --model model --min-accuracy 0.97 --evaluation evaluation
      trainyard evaluate --dataset data --model model --evaluation evaluation \\
        --baseline s3://models/mnist/ --change-thresholds '{"accuracy": 0.005}'
    """
    from ..common.files import write_json, write_text
    from ..common.kfp_outputs import record_artifacts, write_parameter
    from . import kfp_views
    from .gate import Gate
    from .outputs import write_evaluation, write_predictions
    from .report.page import render
    from .run import evaluate

    rules = Gate(min_accuracy, thresholds, change_thresholds)
    result = evaluate(dataset, model, rules, baseline, slice_by, on_corrupt, partial(say, "evaluate"), split)
    page = render(result)
    write_evaluation(evaluation, result, page)
    write_text(report, page)
    write_predictions(predictions, result.scored)

    found, classes = result.scored.metrics, result.scored.classes
    shown = {
        "metrics": kfp_views.scalars(found),
        "classification_metrics": kfp_views.classification(found, classes),
    }
    write_json(metrics, shown["metrics"])
    write_json(classification_metrics, shown["classification_metrics"])
    write_json(mlpipeline_metrics, kfp_views.v1_metrics(found))
    write_json(mlpipeline_ui_metadata, kfp_views.v1_views(found, classes, page))
    write_parameter(accuracy, found.accuracy)
    write_parameter(passed, result.verdict.passed)
    record_artifacts(executor_input, shown)
    for line in result.summary():
        say("evaluate", line)


if __name__ == "__main__":
    main()
