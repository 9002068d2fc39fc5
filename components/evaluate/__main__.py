"""Score a model on the test split, draw the report and decide whether it may be published."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from ..common.cli import JsonObject, say, step

FOLDER = click.Path(path_type=Path)
FILE = click.Path(path_type=Path)


@step
@click.option("--dataset", required=True, type=FOLDER, metavar="FOLDER", help="Data set folder, as download writes it.")
@click.option(
    "--model",
    required=True,
    type=FOLDER,
    metavar="FOLDER",
    help="Model folder, as train writes it; a SavedModel or a .keras file needs TensorFlow.",
)
@click.option(
    "--on-corrupt",
    default="fail",
    help="What damaged images do: fail, which names the first, or skip, which leaves them out and counts them.",
)
@click.option("--min-accuracy", default=0.0, help="Smallest test accuracy that passes, 0 to 1.")
@click.option(
    "--thresholds",
    type=JsonObject(),
    default={},
    help='Bounds of any metrics, as {"macro_f1": 0.9, "recall[7]": 0.8, "loss": 0.2}: a number is the least that '
    'passes, for loss and calibration_error the most; ">= 0.9" and "<= 0.2" say it outright.',
)
@click.option(
    "--slice-by",
    default="",
    help="Columns of the data set, comma-separated: the test images that share a value in one are judged for "
    "themselves as well; in rules as accuracy[lighting=dark].",
)
@click.option(
    "--baseline",
    default="",
    help="Model to compare with: s3://bucket/name/ for its newest published version, s3://bucket/name/version/, or a "
    "model folder.",
)
@click.option(
    "--change-thresholds",
    type=JsonObject(),
    default={},
    help='How much worse than the baseline metrics may be, as {"accuracy": 0.01, "loss": 0.02}; 0: not worse, below 0: '
    "better by that much. Where no version is published yet, they pass.",
)
@click.option(
    "--evaluation",
    required=True,
    type=FOLDER,
    metavar="FOLDER",
    help="Folder to write the evaluation into: metrics, verdict, report and a few answered examples.",
)
@click.option("--metrics", type=FILE, metavar="FILE", help="File to write the scalars into, as JSON.")
@click.option(
    "--classification-metrics",
    type=FILE,
    metavar="FILE",
    help="File to write the confusion matrix and the ROC curves into, as JSON.",
)
@click.option("--report", type=FILE, metavar="FILE", help="File to write the report into.")
@click.option(
    "--predictions",
    type=FILE,
    metavar="FILE",
    help="File to write every answer into, as CSV: index, label, prediction, probability, correct.",
)
@click.option("--accuracy", type=FILE, metavar="FILE", help="File to write the test accuracy into, 0 to 1.")
@click.option("--passed", type=FILE, metavar="FILE", help="File to write the verdict into, true or false.")
@click.option(
    "--mlpipeline-metrics",
    type=FILE,
    metavar="FILE",
    help="File to write the scalars into, as the KFP 1 UI reads them.",
)
@click.option(
    "--mlpipeline-ui-metadata",
    type=FILE,
    metavar="FILE",
    help="File to write the plots into, as the KFP 1 UI reads them.",
)
@click.option("--executor-input", default="", help="KFP's description of the outputs; filled in by KFP.")
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
    from .gate import Gate, check_gate

    check_gate(min_accuracy, thresholds, baseline, change_thresholds)
    from ..common.files import write_text
    from ..common.kfp_outputs import record_artifacts, write_parameter
    from . import kfp_views
    from .outputs import write_evaluation, write_json, write_predictions
    from .report.page import render
    from .run import evaluate

    tell = partial(say, "evaluate")
    gate = Gate(min_accuracy, thresholds, change_thresholds)
    result = evaluate(dataset, model, gate, baseline, slice_by, on_corrupt, tell)
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
        tell(line)


if __name__ == "__main__":
    main()
