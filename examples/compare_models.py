"""Train several networks side by side, evaluate each, publish and serve the best, and tell how the run ended.

    python -m examples.compare_models run --data my-images.tar.gz --architectures dense,cnn,resnet18
    python -m examples.compare_models run --data my-images.tar.gz --runner docker
    python -m examples.compare_models compile compare.yaml

The networks are known when the pipeline is compiled, so each has a branch of its own: a cluster trains them at the same
time, and every runner can run it. `select` compares two models at a time and remembers those before.
"""

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainyard.components.common.cli import BadInput, step_group
from trainyard.launch.options import COMPONENTS, STEPS
from trainyard.pipeline import STORE_KEYS, images_option, runner_option, s3_secret_option

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent


def build(
    architectures: list[str], s3_secret: str = "s3-credentials", images: dict[str, str] | None = None
) -> "GraphComponent":
    """The pipeline.

    Args:
        architectures: Networks to compare, at least two; what train's `--architecture` takes.
        s3_secret: Kubernetes secret with the object store's AWS_* keys; see `pipeline.build`.
        images: By step, in place of those in component.yaml; that of select runs the exit handler as well.
    """
    from kfp import dsl, kubernetes
    from kfp.components import load_component_from_file

    from examples.demo import announce

    def load(name: str) -> Callable[..., Any]:
        """A component that passes its defaults too: backend 2.17.0 fails on one that the task did not pass."""
        component = load_component_from_file(str(COMPONENTS / name / "component.yaml"))
        inputs = component.component_spec.inputs or {}
        defaults = {name: spec.default for name, spec in inputs.items() if spec.default is not None}

        def step(**given: Any) -> Any:
            task = component(**{**defaults, **given})
            if name not in ("train", "select"):  # those that reach the store
                kubernetes.use_secret_as_env(task, s3_secret, {key: key for key in STORE_KEYS})
            return task.set_container_image(images[name]) if images else task

        return step

    download, train, evaluate, select, export, serve = (
        load(name) for name in ("download", "train", "evaluate", "select", "export", "serve")
    )

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
        image: str = "",
    ) -> None:
        told = announce()
        if images:
            told.set_container_image(images["select"])
        with dsl.ExitHandler(told):
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
            serve(
                model_uri=published.outputs["model_uri"], model_name=model_name, target=target, image=image
            ).set_caching_options(False)

    return compare_models


@step_group
def main() -> None:
    """Compare networks on a data set and serve the best one.

    \b
    Examples:
      python -m examples.compare_models run --data my-images.tar.gz --architectures dense,cnn,resnet18
      python -m examples.compare_models compile --images dist/images.json compare.yaml
    """
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


architectures_option = click.option(
    "--architectures", default="dense,cnn", help="Networks to compare, comma-separated."
)


@main.command("compile")
@architectures_option
@images_option
@s3_secret_option
@click.argument("output", type=click.Path(path_type=Path))
def compile_(architectures: str, images: Path | None, s3_secret: str, output: Path) -> None:
    """Compile for Kubeflow Pipelines into the file OUTPUT."""
    from kfp.compiler import Compiler

    Compiler().compile(build(_networks(architectures), s3_secret, _images(images)), str(output))


@main.command()
@architectures_option
@click.option("--data", required=True, help="Data set, a path or a URI.")
@click.option("--epochs", default=5, help="Passes over the training split.")
@click.option(
    "--metric",
    type=click.Choice(["accuracy", "macro_f1", "loss"]),
    default="accuracy",
    help="What decides which one is best.",
)
@runner_option
@images_option
@click.option("--runs", type=click.Path(path_type=Path), default="runs", metavar="FOLDER", help="Folder for the runs.")
def run(architectures: str, data: str, epochs: int, metric: str, runner: str, images: Path | None, runs: Path) -> None:
    """Run on this machine, each step as a process or a container, and leave the best model served."""
    from trainyard.launch.checks import check
    from trainyard.launch.laptop import run_pipeline

    networks = _networks(architectures)
    for network in networks:
        check({"architecture": network, "epochs": epochs})
    chosen = _images(images or Path("dist/images.json")) if runner == "docker" else None
    parameters = {"epochs": epochs, "metric": metric}
    folder = run_pipeline(build(networks, images=chosen), data, parameters, runs, chosen).folder
    last = "select" if len(networks) == 2 else f"select-{len(networks) - 1}"
    click.echo(_tell(folder, json.loads((folder / last / "evaluation" / "comparison.json").read_text())))


def _tell(folder: Path, comparison: dict[str, Any]) -> str:
    """What was compared, the best first, and where it is served."""
    from trainyard.components.serve.orders import columns
    from trainyard.launch.laptop import table

    compared = comparison["candidates"]
    rows = [
        (
            one["name"],
            f"{one['accuracy']:.4f}",
            f"{one['macro_f1']:.4f}",
            f"{one['loss']:.4f}",
            f"{one['parameters']:,}",
        )
        for one in compared
    ]
    listed = columns([("NETWORK", "ACCURACY", "MACRO F1", "LOSS", "PARAMETERS"), *rows])
    ending = {
        "best": f"{click.style(compared[0]['name'], bold=True)} is the best of {len(compared)} by "
        f"{comparison['metric']}, on {compared[0]['examples']:,} test images",
        "model": (folder / "export" / "model_uri").read_text(),
        "endpoint": (folder / "serve" / "endpoint").read_text(),
        "end it": "make stop",
    }
    return f"\n{textwrap.indent(listed, '  ')}\n\n{table(ending)}\n"


def _networks(architectures: str) -> list[str]:
    networks = list(dict.fromkeys(name.strip() for name in architectures.split(",") if name.strip()))
    if len(networks) < 2:
        raise BadInput(f"--architectures: expected at least two networks, received {architectures!r}; try dense,cnn")
    return networks


def _images(path: Path | None) -> dict[str, str] | None:
    """The images of the steps in such a file."""
    if path is None:
        return None
    from trainyard.launch.images import read_images

    images = read_images(path)
    missing = [name for name in (*STEPS, "select") if name not in images]
    if missing:
        raise BadInput(f"--images: expected an image of {missing[0]} as well, received none; make build")
    return images


if __name__ == "__main__":
    main()
