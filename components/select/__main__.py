"""Command line of the select step."""

import shutil
from pathlib import Path

import click

from ..common.cli import executor_input, say, step

FOLDER = click.Path(path_type=Path)


@step
@click.option(
    "--model-a", required=True, type=FOLDER, metavar="FOLDER", help="Model folder, as train writes it; it wins a tie."
)
@click.option(
    "--evaluation-a",
    required=True,
    type=FOLDER,
    metavar="FOLDER",
    help="Evaluation folder of the first model, as evaluate writes it.",
)
@click.option("--model-b", required=True, type=FOLDER, metavar="FOLDER", help="Model folder to compare with it.")
@click.option(
    "--evaluation-b", required=True, type=FOLDER, metavar="FOLDER", help="Evaluation folder of the second model."
)
@click.option(
    "--metric",
    default="accuracy",
    help="What decides: accuracy, macro_f1 (more is better) or loss (less is better).",
)
@click.option("--model", required=True, type=FOLDER, metavar="FOLDER", help="Folder to copy the better model into.")
@click.option(
    "--evaluation",
    required=True,
    type=FOLDER,
    metavar="FOLDER",
    help="Folder to copy its evaluation into, with comparison.json on all models compared so far.",
)
@click.option(
    "--comparison",
    type=FOLDER,
    metavar="FILE",
    help="File to write the table of all models compared so far into.",
)
@click.option(
    "--winner",
    type=FOLDER,
    metavar="FILE",
    help="File to write the name of the better model's architecture into.",
)
@executor_input
def main(
    model_a: Path,
    evaluation_a: Path,
    model_b: Path,
    evaluation_b: Path,
    metric: str,
    model: Path,
    evaluation: Path,
    comparison: Path | None,
    winner: Path | None,
    executor_input: str,
) -> None:
    """Of two evaluated models, hand on the better one.

    A model that passed its gate beats one that did not; then the metric decides. The evaluation that is handed on
    remembers all models compared so far, so that steps one after another find the best of many, with one table.

    \b
    Example:
      trainyard select --model-a dense --evaluation-a dense-eval --model-b cnn --evaluation-b cnn-eval \\
          --model best --evaluation best-eval
    """
    from ..common.artifacts.evaluation import EVALUATION
    from ..common.artifacts.model import CARD
    from ..common.files import atomic_folder, write_text
    from ..common.kfp_outputs import record_artifacts, write_parameter
    from . import choosing

    compared_a = choosing.candidates(model_a, evaluation_a)
    compared_b = choosing.candidates(model_b, evaluation_b)
    a_wins = choosing.first_is_better(compared_a[0], compared_b[0], metric)
    best, best_evaluation = (model_a, evaluation_a) if a_wins else (model_b, evaluation_b)
    compared = choosing.ranked([*compared_a, *(one for one in compared_b if one not in compared_a)], metric)
    with atomic_folder(model, CARD) as to_model, atomic_folder(evaluation, EVALUATION) as to_evaluation:
        shutil.copytree(best, to_model, dirs_exist_ok=True)
        shutil.copytree(best_evaluation, to_evaluation, dirs_exist_ok=True)
        choosing.Comparison(metric, compared).write(to_evaluation)
    write_text(comparison, choosing.as_markdown(compared, metric))
    write_parameter(winner, compared[0].name)
    best_one = compared[0]
    record_artifacts(executor_input, {"model": {"architecture": best_one.name, "accuracy": best_one.accuracy}})
    say("select", " > ".join(f"{one.name} {getattr(one, metric):.4f}" for one in compared) + f" by {metric}")


if __name__ == "__main__":
    main()
