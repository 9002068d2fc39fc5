"""Command line of the select step."""

from pathlib import Path

from ..common.cli import say, step
from ..common.options import Input, Output, executor_input, inputs, outputs, section


@step("comparison.check_metric", store=False)
@inputs("--model-a", required=True, type=Input("Model"), help="Model folder, as train writes it; it wins a tie.")
@inputs(
    "--evaluation-a",
    required=True,
    type=Input("Artifact", folder=True),
    help="Evaluation folder of the first model, as evaluate writes it.",
)
@inputs("--model-b", required=True, type=Input("Model"), help="Model folder to compare with it.")
@inputs(
    "--evaluation-b",
    required=True,
    type=Input("Artifact", folder=True),
    help="Evaluation folder of the second model.",
)
@section("Comparison")(
    "--metric",
    default="accuracy",
    help="Metric to compare by: accuracy or macro_f1 (higher is better), or loss (lower is better).",
)
@outputs("--model", required=True, type=Output("Model"), help="Folder to copy the better model to.")
@outputs(
    "--evaluation",
    required=True,
    type=Output("Artifact", folder=True),
    help="Folder to copy its evaluation to, with comparison.json on all models compared so far.",
)
@outputs("--comparison", type=Output("Markdown"), help="File to write the table of all models compared so far to.")
@outputs("--winner", type=Output("String"), help="File to write the name of the better model's architecture to.")
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
    """Select the better one of two evaluated models.

    A model that passed its gate beats one that did not; then the metric decides. The selected evaluation lists all
    models compared so far, so that chained steps find the best of many, with one table.

    \b
    Example:
      trainyard select --model-a dense --evaluation-a dense-eval --model-b cnn --evaluation-b cnn-eval \\
          --model best --evaluation best-eval
    """
    from ..common.files import write_text
    from ..common.kfp_outputs import record_artifacts, write_parameter
    from .run import Evaluated, select

    compared = select(
        Evaluated(model_a, evaluation_a), Evaluated(model_b, evaluation_b), metric, Evaluated(model, evaluation)
    )
    best = compared.best
    write_text(comparison, compared.as_markdown())
    write_parameter(winner, best.name)
    record_artifacts(executor_input, {"model": {"architecture": best.name, "accuracy": best.accuracy}})
    say("select", compared.as_line())


if __name__ == "__main__":
    main()
