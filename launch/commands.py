"""The command `trainyard`: run the pipeline here, compile it, or send it to a cluster; each step is a command too."""

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import click

from .. import pipeline
from ..components.common.cli import SETTINGS, BadInput, StepGroup, leave_at_once, say
from . import contract
from .cluster import ON_A_CLUSTER, PARAMETERS, check_images, images_option, settings_for, settings_options
from .contracts import command_of
from .importing import main as import_model
from .kubeflow import commands as kubeflow
from .parameters import parameter_options
from .settings import Settings
from .store import main as store

HERE = [one for one in PARAMETERS if one.setting != "cluster" and one.name != "source"]


class Commands(StepGroup):
    """The commands below, and those of the steps, which are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *contract.steps()]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        return command_of(name) if name in contract.steps() else super().get_command(ctx, name)


@click.group(cls=Commands, invoke_without_command=True, context_settings=SETTINGS)
@click.version_option(package_name="trainyard", message="%(version)s")
def main() -> None:
    """From a data set to a live prediction endpoint: the pipeline, and each of its steps.

    \b
    Examples:
      trainyard run
      trainyard run --data my-images.tar.gz --architecture cnn
      trainyard compile dist/pipeline.yaml
      trainyard submit --host http://localhost:8080 --source s3://datasets/mnist.tar.gz --wait
      trainyard train --help
    """
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


main.add_command(store, "store")
main.add_command(import_model, "import-model")
for command in kubeflow.COMMANDS:
    main.add_command(command)


def trainyard() -> NoReturn:
    """The installed command."""
    leave_at_once(main)


runner_option = click.option(
    "--runner",
    type=click.Choice(["process", "docker"]),
    default="process",
    help="How to run the steps: as processes, or as containers of the images in --images.",
)
runs_option = click.option(
    "--runs", type=click.Path(path_type=Path), default="runs", metavar="FOLDER", help="Folder for the runs."
)


@main.command()
@click.option(
    "--data",
    default="",
    envvar="TRAINYARD_SOURCE",
    help="Data set, a path or a URI.  [default: MNIST through TFDS; without a network the digits in examples/data]",
)
@runner_option
@images_option
@runs_option
@click.option(
    "--cache",
    is_flag=True,
    help="Reuse the outputs of an earlier run for steps whose code, options and inputs did not change; export and "
    "serve always run.",
)
@parameter_options(HERE)
def run(data: str, runner: str, images: Path | None, runs: Path, cache: bool, **parameters: Any) -> None:
    """Run the pipeline on this machine, each step as a process or a container, up to a live endpoint.

    The object store is the one in AWS_ENDPOINT_URL, or a small one that is started here. The summary is written to
    FOLDER/<run>/summary.json; FOLDER/latest is the newest run. `make stop` ends the endpoint and the store.
    """
    from .checks import check
    from .laptop import run_here

    if parameters["server_image"] and runner == "process":
        raise BadInput("--server-image: expected --runner docker with it, received process; leave it out")
    chosen = images_for(runner, images, pipeline.STEPS)
    settings = Settings(chosen).bind(**parameters)
    check(pipeline.STEPS, {**settings.values, "target": "docker" if chosen else "process"})
    run_here(pipeline.build, data, settings, runs, cache)


@main.command(name="compile")
@click.argument("output", type=click.Path(path_type=Path), default="dist/pipeline.yaml")
@settings_options
@parameter_options([one for one in ON_A_CLUSTER if one.setting])
def compile_(output: Path, settings_file: Path | None, **given: Any) -> None:
    """Compile the pipeline for Kubeflow Pipelines into the file OUTPUT (dist/pipeline.yaml).

    The form in the UI has the parameters that change from run to run. Settings of the environment are fixed here.
    """
    from .checks import check

    settings = settings_for(settings_file, given)
    check(pipeline.STEPS, settings.values)
    built = pipeline.build(settings)
    check_images(settings, "compile", needed=False)
    write_compiled(built, output)


def images_for(runner: str, images: Path | None, steps: Iterable[str]) -> dict[str, str]:
    """The images that these steps and the model server run in here; none for processes.

    Raises:
        BadInput: one of them is missing.
    """
    if runner == "process":
        return {}
    from .images import image_of, read_images

    known = read_images(images or Path("dist/images.json"))
    for name in (*steps, "predictor"):
        image_of(name, known)
    return known


def write_compiled(component: Any, output: Path) -> None:
    """Compile a pipeline into a file."""
    from kfp.compiler import Compiler

    from ..components.common.files import atomic_file

    with tempfile.TemporaryDirectory() as scratch, atomic_file(output) as partial:
        compiled = Path(scratch) / "pipeline.yaml"  # the compiler insists on this ending
        Compiler().compile(component, str(compiled))
        partial.write_text(compiled.read_text())
    say("compile", str(output))
