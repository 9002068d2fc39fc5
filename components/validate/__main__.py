"""Command line of the validate step."""

import os
from pathlib import Path
from typing import Any

import click

from ..common.cli import BadInput, say, step
from ..common.options import Input, JsonObject, Output, executor_input, inputs, outputs, section

checks = section("Data validation")


@step("rules.check_rules", store=("baseline",))
@inputs("--dataset", required=True, type=Input("Dataset"), help="Data set folder, as download writes it.")
@checks(
    "--data-thresholds",
    "--thresholds",
    type=JsonObject(),
    default={},
    help='Bounds of any metrics of the data, as {"leaked_test_images": 0, "smallest_class": 100}: the maximum (minimum '
    'for images, classes, smallest_class and p values), or write ">= 0.9" or "<= 0.2"; {}: nothing is judged.',
)
@checks(
    "--stop-on-failure",
    type=click.BOOL,
    default=False,
    help="If a rule is not met: true fails with exit code 2, so that nothing is trained; false succeeds, and export "
    "refuses the model.",
)
@checks(
    "--near-duplicate-similarity",
    default=0.995,
    help="Correlation of the pixels of two images from which on they are near duplicates, 0.9 to 1; 1: only exact "
    "duplicates are looked for.",
)
@checks(
    "--baseline",
    default="",
    help="Published version to compare class shares, brightness and sizes with: s3://bucket/name/ for the newest, "
    "s3://bucket/name/version/, or a model folder.",
)
@outputs(
    "--validation",
    required=True,
    type=Output("Artifact", folder=True),
    help="Folder to write the validation to: metrics, verdict, report and findings.",
)
@outputs("--metrics", type=Output("Metrics"), help="File to write the metrics to, as JSON.")
@outputs("--report", type=Output("HTML"), help="File to write the report to.")
@outputs(
    "--findings",
    type=Output("Artifact"),
    help="File to write all findings to, as CSV: finding, image, the image it is a copy of, similarity.",
)
@outputs("--passed", type=Output("Boolean"), help="File to write the verdict to, true or false.")
@outputs("--summary", type=Output("String"), help="File to write metrics and verdict to, as JSON for export.")
@outputs(
    "--mlpipeline-metrics", type=Output("Artifact"), help="File to write the metrics to, as the KFP 1 UI reads them."
)
@outputs(
    "--mlpipeline-ui-metadata", type=Output("Artifact"), help="File to write the report to, as the KFP 1 UI reads it."
)
@executor_input
def main(
    dataset: Path,
    data_thresholds: dict[str, Any],
    stop_on_failure: bool,
    near_duplicate_similarity: float,
    baseline: str,
    validation: Path,
    metrics: Path | None,
    report: Path | None,
    findings: Path | None,
    passed: Path | None,
    summary: Path | None,
    mlpipeline_metrics: Path | None,
    mlpipeline_ui_metadata: Path | None,
    executor_input: str,
) -> None:
    """Check the images and labels of a data set before a model is trained on it.

    Finds test images that are copies of training images (leakage), duplicates, one image under two labels, damaged,
    blank, dark and tiny images, and classes without images; counts classes and sizes; compares the training images
    with those of a published version (drift). The metrics are defined in docs/artifacts.md.

    Findings do not fail the step. Rules can be set with --data-thresholds.

    \b
    Examples:
      trainyard validate --dataset my-data --validation my-validation
      trainyard validate --dataset my-data --validation my-validation --data-thresholds '{"leaked_test_images": 0}'
      trainyard validate --dataset new-data --validation my-validation --baseline s3://models/digits/
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the matrices are small: more threads take ten times as long
    import json

    from ..common.files import write_json, write_text
    from ..common.kfp_outputs import record_artifacts, write_parameter
    from ..common.progress import Progress
    from .outputs import v1_metrics, v1_views, write_findings, write_validation
    from .report.page import render
    from .run import validate

    result = validate(dataset, data_thresholds, baseline, near_duplicate_similarity, Progress("validate"))
    page = render(result)
    write_validation(validation, result, page)
    write_text(report, page)
    write_findings(findings, result.findings)
    write_json(metrics, result.metrics)
    write_json(mlpipeline_metrics, v1_metrics(result.metrics))
    write_json(mlpipeline_ui_metadata, v1_views(page))
    write_parameter(passed, result.verdict.passed)
    write_parameter(summary, json.dumps(result.as_artifact().as_json(), separators=(",", ":")))
    record_artifacts(executor_input, {"metrics": result.metrics})
    for line in result.summary():
        say("validate", line)
    if stop_on_failure and not result.verdict.passed:
        failed = ", ".join(rule.finding for rule in result.verdict.rules if not rule.passed)
        raise BadInput(f"--data-thresholds: the data set does not meet {failed}; see {validation}/report.html")


if __name__ == "__main__":
    main()
