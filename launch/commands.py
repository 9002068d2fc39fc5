"""The command `trainyard`: run the pipeline here, compile it, or send it to a cluster; each step is a command too."""

import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from ..components.common.cli import SETTINGS, BadInput, StepGroup, say
from .kubeflow.access import Access, access_options
from .kubeflow.commands import experiment_option, follow_, retry, run_options, runs, schedule, started, terminate
from .options import CLUSTER_ONLY, COMPONENTS, parameter_options

images_option = click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Images of the steps, as make build and make push write them into dist/images.json.",
)
runner_option = click.option(
    "--runner",
    type=click.Choice(["process", "docker"]),
    default="process",
    help="What the steps are: processes, or containers of the images in --images.",
)
gpus_option = click.option("--gpus", type=click.IntRange(min=0), default=0, help="NVIDIA GPUs for train.")
gpu_node_option = click.option("--gpu-node", default="", metavar="KEY=VALUE", help="Label of the nodes that have them.")
s3_secret_option = click.option(
    "--s3-secret", default="s3-credentials", help="Kubernetes secret with the object store's AWS_* keys."
)


class _Commands(StepGroup):
    """The commands below, and those of the steps, which are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *sorted(path.parent.name for path in COMPONENTS.glob("*/component.yaml"))]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if (COMPONENTS / name / "component.yaml").is_file():
            return import_module(f"{__package__.rpartition('.')[0]}.components.{name}.__main__").main
        return super().get_command(ctx, name)


@click.group(cls=_Commands, invoke_without_command=True, context_settings=SETTINGS)
def main() -> None:
    """From a data set to a live prediction endpoint: the pipeline, and each of its steps.

    \b
    Examples:
      trainyard run
      trainyard run --data my-images.tar.gz --architecture cnn
      trainyard compile dist/pipeline.yaml
      trainyard submit --host http://localhost:8080 --source s3://datasets/mnist.tar.gz --wait
    """
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@main.command()
@click.option(
    "--data",
    default="",
    help="Data set, a path or a URI.  [default: MNIST through TFDS; without a network the digits in examples/data]",
)
@runner_option
@images_option
@click.option("--runs", type=click.Path(path_type=Path), default="runs", metavar="FOLDER", help="Folder for the runs.")
@parameter_options("source", "target", *CLUSTER_ONLY)
def run(data: str, runner: str, images: Path | None, runs: Path, **parameters: Any) -> None:
    """Run the pipeline on this machine, each step as a process or a container, and leave a live endpoint.

    The object store is the one in AWS_ENDPOINT_URL, or a small one that is started here. The summary is written to
    FOLDER/<run>/summary.json; FOLDER/latest is the newest run. `make stop` ends the endpoint and the store.
    """
    from .. import pipeline
    from .laptop import run_here

    chosen = _images(images or Path("dist/images.json")) if runner == "docker" else None
    run_here(pipeline.build(images=chosen), data, _given(parameters), runs, chosen)


@main.command(name="compile")
@click.argument("output", type=click.Path(path_type=Path), default="dist/pipeline.yaml")
@images_option
@gpus_option
@gpu_node_option
@s3_secret_option
def compile_(output: Path, images: Path | None, gpus: int, gpu_node: str, s3_secret: str) -> None:
    """Compile the pipeline for Kubeflow Pipelines into the file OUTPUT (dist/pipeline.yaml)."""
    from kfp.compiler import Compiler

    from .. import pipeline
    from ..components.common.files import atomic_file

    with tempfile.TemporaryDirectory() as scratch, atomic_file(output) as partial:
        compiled = Path(scratch) / "pipeline.yaml"  # the compiler insists on this ending
        Compiler().compile(pipeline.build(s3_secret, _images(images), gpus, gpu_node), str(compiled))
        partial.write_text(compiled.read_text())
    say("compile", str(output))


@main.command()
@experiment_option
@run_options
@images_option
@gpus_option
@gpu_node_option
@s3_secret_option
@parameter_options("target", "port", "server_image", "ui")
@access_options
def submit(
    experiment: str,
    wait: bool,
    wait_timeout: int,
    another: bool,
    images: Path | None,
    gpus: int,
    gpu_node: str,
    s3_secret: str,
    access: Access,
    **parameters: Any,
) -> None:
    """Start a run on a Kubeflow Pipelines cluster and print its ID.

    A run of the same pipeline with the same parameters that has not ended is taken up, not started twice.
    """
    from .kubeflow.api import Api
    from .kubeflow.submitting import submit

    built, given = _for_cluster(images, gpus, gpu_node, s3_secret, parameters)
    api = Api(access)
    started(api, submit(api, built, given, experiment, another), wait, wait_timeout)


@schedule.command()
@experiment_option
@click.option("--name", required=True, help="Name of the schedule.")
@click.option("--cron", default="", help="When to start runs, in the cluster's time zone: '0 6 * * 1-5'.")
@click.option("--every", default="", metavar="INTERVAL", help="How often to start one, in s, m, h or d: 6h.")
@images_option
@gpus_option
@gpu_node_option
@s3_secret_option
@parameter_options("target", "port", "server_image", "ui")
@access_options
def create(
    experiment: str,
    name: str,
    cron: str,
    every: str,
    images: Path | None,
    gpus: int,
    gpu_node: str,
    s3_secret: str,
    access: Access,
    **parameters: Any,
) -> None:
    """Create a schedule, by --cron or --every, and print its ID."""
    from .kubeflow.api import Api
    from .kubeflow.submitting import create_schedule, cron_trigger, interval_trigger

    if bool(cron) == bool(every):
        raise BadInput(f"--cron: expected it or --every, received {'both' if cron else 'neither'}; e.g. --every 24h")
    trigger = cron_trigger(cron) if cron else interval_trigger(every)
    built, given = _for_cluster(images, gpus, gpu_node, s3_secret, parameters)
    click.echo(create_schedule(Api(access), built, given, experiment, name, trigger))


for command in (follow_, runs, terminate, retry, schedule):
    main.add_command(command)


def _for_cluster(
    images: Path | None, gpus: int, gpu_node: str, s3_secret: str, parameters: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """The pipeline and its parameters, looked at."""
    from .. import pipeline
    from ..components.serve.kserve.specification import check_name
    from .seeding import model_name

    given = {"model_name": model_name(parameters["source"]), **_given(parameters)}
    check_name(given["model_name"])
    return pipeline.build(s3_secret, _images(images), gpus, gpu_node), given


def _images(path: Path | None) -> dict[str, str] | None:
    """The images of the steps in such a file."""
    if path is None:
        return None
    from .images import read_images

    return read_images(path)


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters that were given, looked at; the pipeline's own defaults hold for the others."""
    from .checks import check

    given = {name: value for name, value in parameters.items() if value is not None}
    check(given)
    return given


if __name__ == "__main__":
    main()
