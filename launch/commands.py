"""The command `trainyard`: run the pipeline here, compile it, or send it to a cluster; each step is a command too."""

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import click

from .. import pipeline
from ..components.common.cli import SETTINGS, StepGroup, leave_at_once, say
from . import contract
from .contracts import command_of
from .parameters import parameter_options
from .settings import Settings
from .settings import read as read_settings
from .store import main as store

Command = Callable[..., None]
PARAMETERS = [one for one in contract.parameters_of(pipeline.STEPS) if one.name not in (*pipeline.WIRED, "target")]
RUN_PARAMETERS = [one.name for one in PARAMETERS if not one.setting]
HERE = [one for one in PARAMETERS if one.setting != "cluster" and one.name != "source"]
ON_A_CLUSTER = [one for one in PARAMETERS if one.setting != "machine"]


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
images_option = click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Images of the steps, as make build and make push write them to dist/images.json.",
)


def settings_options(command: Command) -> Command:
    """The options of a pipeline for a cluster, beside the parameters of its steps."""
    for option in (
        click.option(
            "--run-parameter",
            "run_parameters",
            multiple=True,
            metavar="NAME",
            help="Setting to keep as a parameter of each run, e.g. namespace. May be given several times.",
        ),
        click.option("--gpu-node", metavar="KEY=VALUE", help="Label of the nodes with GPUs."),
        click.option("--gpus", type=click.IntRange(min=0), help="NVIDIA GPUs for train.  [default: 0]"),
        click.option(
            "--s3-secret",
            help="Kubernetes secret with the object store's AWS_* keys.  [default: s3-credentials]",
        ),
        images_option,
        click.option(
            "--settings",
            "settings_file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="YAML file with the settings of an environment; options override it.",
        ),
    ):
        command = option(command)
    return command


@main.command()
@click.option(
    "--data",
    default="",
    help="Data set, a path or a URI.  [default: MNIST through TFDS; without a network the digits in examples/data]",
)
@runner_option
@images_option
@runs_option
@parameter_options(HERE)
def run(data: str, runner: str, images: Path | None, runs: Path, **parameters: Any) -> None:
    """Run the pipeline on this machine, each step as a process or a container, and leave a live endpoint.

    The object store is the one in AWS_ENDPOINT_URL, or a small one that is started here. The summary is written to
    FOLDER/<run>/summary.json; FOLDER/latest is the newest run. `make stop` ends the endpoint and the store.
    """
    from .checks import check
    from .laptop import run_here

    chosen = images_for(runner, images)
    settings = Settings(chosen).bind(**parameters)
    check(pipeline.STEPS, {**settings.values, "target": "docker" if chosen else "process"})
    run_here(pipeline.build, data, settings, runs)


@main.command(name="compile")
@click.argument("output", type=click.Path(path_type=Path), default="dist/pipeline.yaml")
@settings_options
@parameter_options([one for one in ON_A_CLUSTER if one.setting])
def compile_(output: Path, settings_file: Path | None, **given: Any) -> None:
    """Compile the pipeline for Kubeflow Pipelines into the file OUTPUT (dist/pipeline.yaml).

    The form in the UI asks for what changes from run to run. Settings of a place are bound here.
    """
    from .checks import check

    settings = settings_for(settings_file, given)
    check(pipeline.STEPS, settings.values)
    write_compiled(pipeline.build(settings), output)


@main.command()
@click.option("--host", required=True, help="URL of the Kubeflow Pipelines API.")
@click.option("--experiment", default="trainyard", help="Experiment that the run belongs to.")
@click.option("--wait", is_flag=True, help="Wait until the run ends; its failure is this command's failure.")
@settings_options
@parameter_options(ON_A_CLUSTER)
def submit(host: str, experiment: str, wait: bool, settings_file: Path | None, **given: Any) -> None:
    """Start a run on a Kubeflow Pipelines cluster and print its URL.

    A login that the cluster asks for is kfp's own: see KF_PIPELINES_* in its documentation.
    """
    from .checks import check
    from .cluster import submit_run

    chosen = {name: value for name in RUN_PARAMETERS if (value := given.pop(name)) is not None}
    settings = settings_for(settings_file, given)
    check(pipeline.STEPS, {**settings.values, **chosen})
    submit_run(pipeline.build(settings), chosen, host, experiment, wait)


def images_for(runner: str, images: Path | None) -> dict[str, str]:
    """The images that the steps run in here; none for processes."""
    if runner == "process":
        return {}
    from .images import read_images

    return read_images(images or Path("dist/images.json"))


def settings_for(
    file: Path | None, given: dict[str, Any], parameters: Iterable[contract.Parameter] = PARAMETERS
) -> Settings:
    """The settings of a file, under what the command line gives."""
    settings = read_settings(file, parameters) if file else Settings()
    if images := given.pop("images", None):
        from .images import read_images

        given["images"] = read_images(images)
    return settings.bind(**given)


def write_compiled(component: Any, output: Path) -> None:
    """Compile a pipeline into a file."""
    from kfp.compiler import Compiler

    from ..components.common.files import atomic_file

    with tempfile.TemporaryDirectory() as scratch, atomic_file(output) as partial:
        compiled = Path(scratch) / "pipeline.yaml"  # the compiler insists on this ending
        Compiler().compile(component, str(compiled))
        partial.write_text(compiled.read_text())
    say("compile", str(output))
