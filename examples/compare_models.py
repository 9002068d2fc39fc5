"""Train several networks side by side, evaluate each, publish and serve the best, and tell how the run ended.

    python -m examples.compare_models run --data my-images.tar.gz --architectures dense,cnn,resnet18
    python -m examples.compare_models run --data my-images.tar.gz --runner docker
    python -m examples.compare_models compile compare.yaml

The networks are known when the pipeline is compiled, so each has a branch of its own: a cluster trains them at the same
time, and every runner can run it. `select` compares two models at a time and remembers those before.
"""

import json
import os
import textwrap
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainyard import pipeline
from trainyard.components.common.cli import BadInput, command_group
from trainyard.launch.assembly import Step, assemble, load
from trainyard.launch.cluster import images_option, settings_for, settings_options
from trainyard.launch.commands import images_for, runner_option, runs_option, write_compiled
from trainyard.launch.contract import parameters_of
from trainyard.launch.images import image_of
from trainyard.launch.parameters import parameter_options
from trainyard.launch.settings import Settings

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent
    from kfp.dsl.pipeline_task import PipelineTask

STEPS = ("download", "train", "evaluate", "select", "export", "serve")
WIRED = ("architecture", *pipeline.WIRED)
PARAMETERS = [one for one in parameters_of(STEPS) if one.name not in (*WIRED, "target")]


def build(
    architectures: list[str], settings: Settings | None = None, notify_secret: str | None = None
) -> "GraphComponent":
    """The pipeline.

    Args:
        architectures: Networks to compare, at least two; what train's `--architecture` takes.
        settings: What is bound; the image of select runs the exit handler as well.
        notify_secret: Kubernetes secret with the `url` of a webhook that is told how the run ended; empty: the URL is
            in NOTIFY_WEBHOOK_URL. None: the log alone is told.
    """
    from kfp import dsl

    bound = settings or Settings()

    def wire(download: Step, train: Step, evaluate: Step, select: Step, export: Step, serve: Step) -> None:
        with dsl.ExitHandler(_teller(bound, notify_secret)):
            dataset = download().outputs["dataset"]
            best: dict[str, Any] = {}
            for architecture in architectures:
                trained = train(dataset=dataset, architecture=architecture).set_display_name(f"train {architecture}")
                model = trained.outputs["model"]
                evaluated = evaluate(dataset=dataset, model=model).set_display_name(f"evaluate {architecture}")
                candidate = {"model": model, "evaluation": evaluated.outputs["evaluation"]}
                if best:
                    both = {
                        f"{name}_{side}": one[name] for side, one in (("a", best), ("b", candidate)) for name in one
                    }
                    selected = select(**both)
                    candidate = {name: selected.outputs[name] for name in best}
                best = candidate
            serve(model_uri=export(**best).outputs["model_uri"])

    return assemble("compare-models", "Several networks compared, the best one served.", STEPS, wire, bound, WIRED)


def _teller(settings: Settings, notify_secret: str | None) -> "PipelineTask":
    """The exit handler."""
    from examples.demo import announce

    if notify_secret is None:
        told = announce()
        return told.set_container_image(image_of("select", settings.images)) if settings.images else told
    told = load("notify", settings.images or None)()
    if notify_secret:
        from kfp import kubernetes

        kubernetes.use_secret_as_env(told, notify_secret, {"url": "NOTIFY_WEBHOOK_URL"})
    return told


@command_group
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
@click.option("--notify-secret", help="Kubernetes secret with the url of a webhook to tell how the run ended.")
@settings_options
@parameter_options([one for one in PARAMETERS if one.setting in ("any", "cluster")])
@click.argument("output", type=click.Path(path_type=Path))
def compile_(
    architectures: str, notify_secret: str | None, settings_file: Path | None, output: Path, **given: Any
) -> None:
    """Compile for Kubeflow Pipelines into the file OUTPUT."""
    settings = settings_for(settings_file, given, PARAMETERS)
    write_compiled(build(_networks(architectures), settings, notify_secret), output)


@main.command()
@architectures_option
@click.option("--data", required=True, help="Data set, a path or a URI.")
@runner_option
@images_option
@runs_option
@parameter_options([one for one in PARAMETERS if one.setting != "cluster" and one.name != "source"])
def run(architectures: str, data: str, runner: str, images: Path | None, runs: Path, **parameters: Any) -> None:
    """Run on this machine, each step as a process or a container, and leave the best model served.

    With processes, a webhook whose URL is in NOTIFY_WEBHOOK_URL is told how the run ended.
    """
    from trainyard.launch.checks import check
    from trainyard.launch.laptop import run_pipeline

    networks = _networks(architectures)
    settings = Settings(images_for(runner, images, STEPS)).bind(**parameters)
    for network in networks:
        check(STEPS, {**settings.values, "architecture": network})
    notify = "" if runner == "process" and os.environ.get("NOTIFY_WEBHOOK_URL") else None
    folder = run_pipeline(partial(build, networks, notify_secret=notify), data, settings, runs).folder
    last = "select" if len(networks) == 2 else f"select-{len(networks) - 1}"
    click.echo(_tell(folder, json.loads((folder / last / "evaluation" / "comparison.json").read_text())))


def _tell(folder: Path, comparison: dict[str, Any]) -> str:
    """What was compared, the best first, and where it is served."""
    from trainyard.components.common.progress import columns
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
        "stop": "make stop",
    }
    return f"\n{textwrap.indent(listed, '  ')}\n\n{table(ending)}\n"


def _networks(architectures: str) -> list[str]:
    networks = list(dict.fromkeys(name.strip() for name in architectures.split(",") if name.strip()))
    if len(networks) < 2:
        raise BadInput(f"--architectures: expected at least two networks, received {architectures!r}; try dense,cnn")
    return networks


if __name__ == "__main__":
    main()
