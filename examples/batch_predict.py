"""Predict many images with a published model, in shares side by side.

    python -m examples.batch_predict run --model s3://models/mnist/ --source s3://inbox/today/ --shards 8
    python -m examples.batch_predict compile --shards 8 batch-predict.yaml

Each share is a pod of its own on a cluster: it lists the images, and reads those of its share alone. On this machine
the shares run one after another. The rows of the shares, one after another, are those of all images.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainyard.components.common.cli import command_group
from trainyard.launch.assembly import Step, assemble
from trainyard.launch.cluster import images_option, settings_for, settings_options
from trainyard.launch.commands import images_for, runner_option, runs_option, write_compiled
from trainyard.launch.contract import parameters_of
from trainyard.launch.parameters import parameter_options
from trainyard.launch.settings import Settings

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent

STEPS = ("predict",)
WIRED = ("shard",)
PARAMETERS = [one for one in parameters_of(STEPS) if one.name not in WIRED]


def build(shards: int, settings: Settings | None = None) -> "GraphComponent":
    """The pipeline.

    Args:
        shards: How many shares.
        settings: What is bound.
    """
    from kfp import dsl

    def wire(predict: Step) -> None:
        with dsl.ParallelFor([f"{number}/{shards}" for number in range(1, shards + 1)]) as shard:
            predict(shard=shard)

    return assemble("batch-predict", "Images predicted in shares.", STEPS, wire, settings or Settings(), WIRED)


@command_group
def main() -> None:
    """Predict images in shares, with a published model.

    \b
    Examples:
      python -m examples.batch_predict run --model s3://models/mnist/ --source photos.zip --shards 2
      python -m examples.batch_predict compile --shards 8 --images dist/images.json batch-predict.yaml
    """
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


shards_option = click.option("--shards", type=click.IntRange(1, 1000), default=4, help="Number of shares.")


@main.command("compile")
@shards_option
@settings_options
@click.argument("output", type=click.Path(path_type=Path))
def compile_(shards: int, settings_file: Path | None, output: Path, **given: Any) -> None:
    """Compile for Kubeflow Pipelines into the file OUTPUT."""
    write_compiled(build(shards, settings_for(settings_file, given, PARAMETERS)), output)


@main.command()
@shards_option
@runner_option
@images_option
@runs_option
@parameter_options(PARAMETERS)
def run(shards: int, runner: str, images: Path | None, runs: Path, **parameters: Any) -> None:
    """Run on this machine, each share as a process or a container."""
    from trainyard.components.common.state import state_folder
    from trainyard.launch import store
    from trainyard.launch.checks import check
    from trainyard.launch.containers import steps_as_containers
    from trainyard.launch.laptop import run_steps
    from trainyard.launch.processes import steps_as_processes

    home = state_folder()
    os.environ.update(store.environment(home))
    settings = Settings(images_for(runner, images, STEPS))
    given = {name: value for name, value in parameters.items() if value is not None}
    check(STEPS, given)
    steps = steps_as_containers(runs, settings.images, home.resolve()) if settings.images else steps_as_processes(runs)
    done = run_steps(build(shards, settings), given, steps, runs)
    summaries = {path.parent: json.loads(path.read_text()) for path in done.folder.rglob("predictions/summary.json")}
    for folder, told in sorted(summaries.items(), key=lambda one: int(one[1]["shard"].partition("/")[0])):
        click.echo(f"share {told['shard']}  {told['images']:,} images  {folder / 'predictions.csv'}")


if __name__ == "__main__":
    main()
