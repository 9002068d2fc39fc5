"""Command line of the predict step."""

from pathlib import Path

import click

from ..common.cli import say, step
from ..common.options import Output, executor_input, inputs, on_corrupt, outputs, section

data = section("Data")
answers = section("Answers")


@step("checks.check_options", cached=False)
@inputs(
    "--model",
    required=True,
    help="Model: s3://bucket/name/ for its newest published version, s3://bucket/name/version/, or a model folder.",
)
@inputs(
    "--source",
    required=True,
    help="Images to predict: s3://bucket/prefix/, s3://bucket/key, http(s)://..., or a path; a folder, an archive, an "
    "array (.npz, .npy, IDX) or a data set.",
)
@inputs(
    "--evaluation",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="FOLDER",
    by_hand=True,
    help="Evaluation folder of a model that is not published with one, as evaluate writes it.",
)
@inputs(
    "--require-passed",
    type=click.BOOL,
    default=True,
    help="Refuse a model that did not pass its evaluation, or has none.",
)
@inputs(
    "--verify-key",
    default="",
    help="PEM files of public keys, comma-separated, of which one must have signed the model (export --signing-key); "
    "empty: not verified.",
)
@data(
    "--split", default="", help="Split of data that has splits: train, validation, test, or all; empty: test, if any."
)
@data("--shard", default="", help="Share of the images, as 2/8 for the second of eight; empty: all of them.")
@on_corrupt
@data("--max-errors", default=-1, help="Maximum number of damaged images to skip; -1: no limit.")
@answers("--top-k", default=3, help="Number of most probable classes per image.")
@outputs(
    "--predictions",
    required=True,
    type=Output("Artifact", folder=True),
    help="Folder to write to: predictions.csv, predictions.jsonl, skipped.csv, summary.json, report.html.",
)
@outputs("--metrics", type=Output("Metrics"), help="File to write the scalars to, as JSON.")
@outputs("--report", type=Output("HTML"), help="File to write the report to.")
@outputs("--count", type=Output("Integer"), help="File to write the number of predicted images to.")
@executor_input
def main(
    model: str,
    source: str,
    evaluation: Path | None,
    require_passed: bool,
    verify_key: str,
    split: str,
    shard: str,
    on_corrupt: str,
    max_errors: int,
    top_k: int,
    predictions: Path,
    metrics: Path | None,
    report: Path | None,
    count: Path | None,
    executor_input: str,
) -> None:
    """Predict images in bulk, with a published model.

    Each image becomes a row of CSV and a line of JSON: name, label, probability, the most probable classes, model
    version and digest. Where the images have labels that the model knows (a data set, or folders named as its classes),
    the answers are also scored. Images are read in blocks, so memory stays flat. A run that was killed leaves
    .NAME.unfinished next to the --predictions folder NAME, and the same command resumes from there.

    Store and credentials come from the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...), proxies too.

    \b
    Examples:
      trainyard predict --model s3://models/mnist/ --source photos.zip --predictions answers
      trainyard predict --model s3://models/mnist/3/ --source s3://inbox/today/ --shard 2/8 --predictions answers-2
    """
    from functools import partial

    from ..common.artifacts.evaluation import REPORT
    from ..common.files import write_json, write_text
    from ..common.kfp_outputs import record_artifacts, write_parameter
    from .run import Job, predict

    job = Job(model, source, evaluation, require_passed, verify_key, split, shard, top_k, on_corrupt, max_errors)
    summary = predict(job, predictions, partial(say, "predict"))
    shown = summary.scalars()
    write_json(metrics, shown)
    write_text(report, (predictions / REPORT).read_text(encoding="utf-8"))
    write_parameter(count, summary.images)
    record_artifacts(executor_input, {"metrics": shown})
    for line in summary.lines():
        say("predict", line)


if __name__ == "__main__":
    main()
