"""The pipeline for a cluster, as the command line describes it: its settings and parameters as options."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from .. import pipeline
from .contract import Parameter, parameters_of
from .settings import Settings
from .settings import read as read_settings

Command = Callable[..., None]
PARAMETERS = [one for one in parameters_of(pipeline.STEPS) if one.name not in (*pipeline.WIRED, "target")]
RUN_PARAMETERS = [one.name for one in PARAMETERS if not one.setting]
ON_A_CLUSTER = [one for one in PARAMETERS if one.setting != "machine"]

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


def settings_for(file: Path | None, given: dict[str, Any], parameters: Iterable[Parameter] = PARAMETERS) -> Settings:
    """The settings of a file, under what the command line gives."""
    settings = read_settings(file, parameters) if file else Settings()
    if images := given.pop("images", None):
        from .images import read_images

        given["images"] = read_images(images)
    return settings.bind(**given)


def pipeline_for(settings_file: Path | None, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The pipeline with its settings bound, and the parameters of a run of it.

    Raises:
        BadInput: the steps would refuse some of them.
    """
    from .checks import check

    chosen = {name: value for name in RUN_PARAMETERS if (value := given.pop(name)) is not None}
    settings = settings_for(settings_file, given)
    check(pipeline.STEPS, {**settings.values, **chosen})
    return pipeline.build(settings), chosen
