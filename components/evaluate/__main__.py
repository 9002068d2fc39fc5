"""Command line of the evaluate step."""

from pathlib import Path
from typing import Any

from ..common.cli import say, step
from ..common.options import Input, JsonObject, Output, executor_input, inputs, on_corrupt, outputs, section

data = section("Data")
gate = section("Quality gate")


@step("gate.check_gate")
@inputs("--dataset", required=True, type=Input("Dataset"), help="Data set folder, as download writes it.")
@inputs(
    "--model",
    required=True,
    type=Input("Model"),
    help="Model folder, as train writes it; a SavedModel or a .keras file needs TensorFlow.",
)
@on_corrupt
@data(
    "--slice-by",
    default="",
    help="Columns of the data set, comma-separated: test images with the same value in one are also evaluated "
    "separately; in rules as accuracy[lighting=dark].",
)
@gate("--min-accuracy", default=0.0, help="Minimum test accuracy to pass, 0 to 1.")
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
    help="Folder to write the evaluation to: metrics, verdict, report and a few test examples with their answers.",
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
    help="File to write all predictions to, as CSV: index, label, prediction, probability, correct.",
)
@outputs("--accuracy", type=Output("Float"), help="File to write the test accuracy to, 0 to 1.")
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
    """Score a model on the test split of a data set and judge it.

    The step succeeds whatever the verdict is; export refuses a model that did not pass.

    \b
    Examples:
      trainyard evaluate --dataset data --model model --min-accuracy 0.97 --evaluation evaluation
      trainyard evaluate --dataset data --model model --evaluation evaluation \\
        --baseline s3://models/mnist/ --change-thresholds '{"accuracy": 0.005}'
    """
    from ..common.kfp_outputs import record_artifacts, write_parameter
    from . import kfp_views
    from .baseline import compare
    from .gate import (
        Threshold,
        Verdict,
        change_rules,
        check_names,
        threshold_rules,
        word,
    )
    from .output import write_evaluation, write_json, write_predictions, write_text
    from .report import render
    from .scoring import SPLIT, Examples, open_data, score
    from .slices import by_name, measure_slices, read_columns

    data = open_data(dataset, model, on_corrupt)
    for note in data.notes:
        say("evaluate", note)
    columns = read_columns(data, SPLIT, slice_by)
    scored = score(model, Examples(data))
    if data.skipped:
        say("evaluate", data.told_skipped())
    result, classes = scored.metrics, scored.classes
    slices = measure_slices(columns, scored.labels, scored.probabilities)
    values = result.by_name(classes) | by_name(slices)
    rules = [Threshold("accuracy", result.accuracy, min_accuracy)] if min_accuracy else []
    rules += threshold_rules(thresholds, values)
    check_names("--change-thresholds", change_thresholds, values)
    before = compare(baseline, model, scored) if baseline else None
    if before:
        earlier = None
        if then := before.scored:
            earlier_slices = measure_slices(columns, then.labels, then.probabilities)
            earlier = then.metrics.by_name(classes) | by_name(earlier_slices)
        rules += change_rules(change_thresholds, values, earlier)
    verdict = Verdict(rules)
    page = render(scored, verdict, before, slices)
    scalars = kfp_views.scalars(result)
    classification = kfp_views.classification(result, classes)

    write_evaluation(evaluation, scored, verdict, before, slices, page)
    write_json(metrics, scalars)
    write_json(classification_metrics, classification)
    write_text(report, page)
    write_predictions(predictions, scored)
    write_json(mlpipeline_metrics, kfp_views.v1_metrics(result))
    write_json(mlpipeline_ui_metadata, kfp_views.v1_views(result, classes, page))
    write_parameter(accuracy, result.accuracy)
    write_parameter(passed, verdict.passed)
    record_artifacts(executor_input, {"metrics": scalars, "classification_metrics": classification})

    for column in columns:
        worst = next(one for one in slices if one.column == column)
        images = f"{worst.examples:,} images" + (", too few to judge by" if worst.few else "")
        say("evaluate", f"least accurate by {column}: {worst.value or '(empty)'} {worst.accuracy:.4f} ({images})")
    if before and before.test:
        say("evaluate", f"after {before.name}: {before.test.words}")
    low, high = result.interval
    say(
        "evaluate",
        f"accuracy {result.accuracy:.4f} (95 % interval {low:.4f} to {high:.4f}), loss {result.loss:.4f}, "
        + (", ".join(f"gate {rule.requirement}: {word(rule)}" for rule in rules) or "no threshold set"),
    )


if __name__ == "__main__":
    main()
