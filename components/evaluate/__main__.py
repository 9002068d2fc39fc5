"""Score a model on the test split, draw the report and decide whether it may be published."""

from pathlib import Path

import click

from components.common.cli import say, step

FOLDER = click.Path(path_type=Path)
FILE = click.Path(path_type=Path)


@step
@click.option("--dataset", required=True, type=FOLDER, metavar="FOLDER", help="Data set folder, as download writes it.")
@click.option("--model", required=True, type=FOLDER, metavar="FOLDER", help="Model folder, as train writes it.")
@click.option("--min-accuracy", default=0.0, help="Smallest test accuracy that passes, 0 to 1.")
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
    min_accuracy: float,
    evaluation: Path,
    metrics: Path | None,
    classification_metrics: Path | None,
    report: Path | None,
    accuracy: Path | None,
    passed: Path | None,
    mlpipeline_metrics: Path | None,
    mlpipeline_ui_metadata: Path | None,
    executor_input: str,
) -> None:
    """Score a model on the test split of a data set and judge it.

    The step succeeds whatever the verdict is; export refuses a model that did not pass.

    \b
    Example:
      python -m components.evaluate --dataset data --model model --min-accuracy 0.97 --evaluation evaluation
    """
    from components.evaluate.gate import Rule, Verdict, check_share

    check_share("--min-accuracy", min_accuracy)
    from components.common.kfp_outputs import record_artifacts, write_parameter
    from components.evaluate import kfp_views
    from components.evaluate.output import write_evaluation, write_json, write_text
    from components.evaluate.report import render
    from components.evaluate.scoring import score

    scored = score(model, dataset)
    result, classes = scored.metrics, scored.classes
    verdict = Verdict([Rule("accuracy", at_least=min_accuracy, value=result.accuracy)])
    page = render(scored, verdict)
    scalars = kfp_views.scalars(result)
    classification = kfp_views.classification(result, classes)

    write_evaluation(evaluation, scored, verdict, page)
    write_json(metrics, scalars)
    write_json(classification_metrics, classification)
    write_text(report, page)
    write_json(mlpipeline_metrics, kfp_views.v1_metrics(result))
    write_json(mlpipeline_ui_metadata, kfp_views.v1_views(result, classes, page))
    write_parameter(accuracy, result.accuracy)
    write_parameter(passed, verdict.passed)
    record_artifacts(executor_input, {"metrics": scalars, "classification_metrics": classification})

    low, high = result.interval
    say(
        "evaluate",
        f"accuracy {result.accuracy:.4f} (95 % interval {low:.4f} to {high:.4f}), loss {result.loss:.4f}, "
        + ", ".join(f"gate {rule.requirement}: {rule.word}" for rule in verdict.rules),
    )


if __name__ == "__main__":
    main()
