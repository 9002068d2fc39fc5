"""The pipeline for a cluster, as the command line describes it: its settings and parameters as options."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .. import pipeline
from ..components.common.cli import BadInput, say
from .contract import Parameter, parameters_of
from .contract import read as read_contract
from .settings import Settings
from .settings import read as read_settings
from .step_settings import ALL

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
            help="Setting to keep as a run parameter, e.g. namespace. May be given several times.",
        ),
        click.option("--gpu-node", metavar="KEY=VALUE", help="Label of the nodes with GPUs."),
        click.option("--gpus", type=click.IntRange(min=0), help="NVIDIA GPUs for train.  [default: 0]"),
        click.option(
            "--s3-secret",
            help="Kubernetes secret with the object store's AWS_* keys.  [default: s3-credentials]",
        ),
        images_option,
        click.option(
            "--no-cache",
            multiple=True,
            type=click.Choice([ALL, *pipeline.STEPS]),
            metavar="STEP",
            help="Step to run even if its inputs did not change; 'all': every step. May be given several times.",
        ),
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
    settings = settings.without_cache(given.pop("no_cache", ()))
    if images := given.pop("images", None):
        from .images import read_images

        given["images"] = read_images(images)
    return settings.bind(**given)


def check_images(settings: Settings, command: str, needed: bool) -> None:
    """Warn of images that a cluster cannot pull.

    Args:
        command: Who says so.
        needed: Whether the pipeline is about to run.

    Raises:
        BadInput: it is, and a step has no image.
    """
    from .images import unreachable

    missing, local = unreachable(pipeline.STEPS, settings.images)
    if missing and needed:
        raise BadInput(
            f"--images: expected an image of each step, received none of {', '.join(missing)}; "
            "make build push REGISTRY=... writes dist/images.json"
        )
    if missing:
        say(command, f"warning: no image given for {', '.join(missing)}: a cluster cannot pull it; pass --images")
    if local:
        say(
            command,
            f"warning: no registry in the image of {', '.join(local)}: only nodes that it was loaded into have it",
        )


@dataclass(frozen=True)
class ToSubmit:
    """A pipeline with its settings bound, the parameters of a run of it, and the service account of its pods."""

    pipeline: Any
    parameters: dict[str, Any]
    service_account: str


def to_submit(command: str, settings_file: Path | None, given: dict[str, Any]) -> ToSubmit:
    """What the command line of a command and a settings file say.

    The parameters are known: a step whose inputs name nothing in the store gets no secret, and one whose inputs mean
    the same for good may take an earlier result.

    Raises:
        BadInput: the steps would refuse some of them, or one has no image.
    """
    from .assembly import reusable, uses_store
    from .checks import check

    chosen = {name: value for name in RUN_PARAMETERS if (value := given.pop(name)) is not None}
    settings = settings_for(settings_file, given)
    values = {**settings.values, **chosen}
    check(pipeline.STEPS, values)
    check_images(settings, command, needed=True)
    without = [step for step in pipeline.STEPS if not uses_store(read_contract(step), values)]
    fixed = [step for step in pipeline.STEPS if reusable(read_contract(step), values)]
    built = pipeline.build(settings.without_secret(without).with_cache(fixed))
    return ToSubmit(built, chosen, settings.run_service_account)
