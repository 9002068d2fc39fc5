"""Train several networks side by side, evaluate each, publish and serve the best, and tell how the run ended.

    python -m examples.compare_models run --data my-images.tar.gz --architectures dense,cnn,resnet18
    python -m examples.compare_models compile compare.yaml

The networks are known when the pipeline is compiled, so each has a branch of its own: a cluster trains them at the same
time, and every runner can run it. `select` compares two models at a time and remembers those before.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components.common.cli import BadInput, say, step_group

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent

COMPONENTS = Path(__file__).parent.parent / "components"

HOW_IT_ENDED = """
import json, sys
status = json.loads(sys.argv[1])
error = (status.get("error") or {}).get("message", "")
print("run ended:", status.get("state"), error, file=sys.stderr)
"""


def build(architectures: list[str]) -> "GraphComponent":
    """The pipeline.

    Args:
        architectures: Networks to compare, at least two; what train's `--architecture` takes.
    """
    from kfp import dsl
    from kfp.components import load_component_from_file

    def load(name: str) -> Callable[..., Any]:
        """A component that passes its defaults too: backend 2.17.0 fails on one that the task did not pass."""
        component = load_component_from_file(str(COMPONENTS / name / "component.yaml"))
        inputs = component.component_spec.inputs or {}
        defaults = {name: spec.default for name, spec in inputs.items() if spec.default is not None}
        return lambda **given: component(**{**defaults, **given})

    download, train, evaluate, select, export, serve = (
        load(name) for name in ("download", "train", "evaluate", "select", "export", "serve")
    )

    @dsl.container_component
    def announce(status: dsl.PipelineTaskFinalStatus) -> dsl.ContainerSpec:
        """Tell how the run ended, whether well or not."""
        return dsl.ContainerSpec("python:3.11-slim", ["python3", "-c", HOW_IT_ENDED], [status])

    @dsl.pipeline(name="compare-models", description="Several networks compared, the best one served.")
    def compare_models(
        source: str,
        epochs: int = 5,
        batch_size: int = 128,
        learning_rate: float = 0.001,
        min_accuracy: float = 0.0,
        metric: str = "accuracy",
        bucket: str = "models",
        model_name: str = "best",
        target: str = "kserve",
    ) -> None:
        with dsl.ExitHandler(announce()):
            fetched = download(source=source)
            best = None
            for architecture in architectures:
                trained = train(
                    dataset=fetched.outputs["dataset"],
                    architecture=architecture,
                    epochs=epochs,
                    batch_size=batch_size,
                    learning_rate=learning_rate,
                ).set_display_name(f"train {architecture}")
                evaluated = evaluate(
                    dataset=fetched.outputs["dataset"],
                    model=trained.outputs["model"],
                    min_accuracy=min_accuracy,
                ).set_display_name(f"evaluate {architecture}")
                candidate = {"model": trained.outputs["model"], "evaluation": evaluated.outputs["evaluation"]}
                if best:
                    selected = select(
                        model_a=best["model"],
                        evaluation_a=best["evaluation"],
                        model_b=candidate["model"],
                        evaluation_b=candidate["evaluation"],
                        metric=metric,
                    )
                    candidate = {"model": selected.outputs["model"], "evaluation": selected.outputs["evaluation"]}
                best = candidate
            published = export(bucket=bucket, model_name=model_name, **best).set_caching_options(False)
            serve(model_uri=published.outputs["model_uri"], model_name=model_name, target=target).set_caching_options(
                False
            )

    return compare_models


@step_group
def main() -> None:
    """Compare networks on a data set and serve the best one."""


def architectures_option(command: Any) -> Any:
    """The networks to compare."""
    return click.option("--architectures", default="dense,cnn", help="Networks to compare, comma-separated.")(command)


@main.command("compile")
@architectures_option
@click.argument("output", type=click.Path(path_type=Path))
def compile_(architectures: str, output: Path) -> None:
    """Compile for Kubeflow Pipelines into the file OUTPUT."""
    from kfp.compiler import Compiler

    Compiler().compile(build(_networks(architectures)), str(output))


@main.command()
@architectures_option
@click.option("--data", required=True, help="Data set, a path or a URI.")
@click.option("--epochs", default=5, help="Passes over the training split.")
@click.option("--runs", type=click.Path(path_type=Path), default="runs", metavar="FOLDER", help="Folder for the runs.")
def run(architectures: str, data: str, epochs: int, runs: Path) -> None:
    """Run on this machine, each step as a process, and leave the best model served."""
    from launch.laptop import run_pipeline

    folder = run_pipeline(build(_networks(architectures)), data, {"epochs": epochs}, runs).folder
    table = sorted(folder.glob("select*/comparison"))[-1]
    click.echo(table.read_text())
    say("run", f"the best one answers at {(folder / 'serve' / 'endpoint').read_text()}")


def _networks(architectures: str) -> list[str]:
    networks = [name.strip() for name in architectures.split(",") if name.strip()]
    if len(networks) < 2:
        raise BadInput(f"--architectures: expected at least two networks, received {architectures!r}; try dense,cnn")
    return networks


if __name__ == "__main__":
    main()
