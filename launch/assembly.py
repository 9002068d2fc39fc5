"""Load components and join them to pipelines whose parameters are theirs.

A pipeline's own code says how artifacts flow. Everything else comes from the contracts of its steps: what changes from
run to run is a parameter of the pipeline, what belongs to a place is bound when it is built (`Settings`). Every input
is passed explicitly: backend 2.17.0 fails on a default that a task did not pass.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .contract import Contract, Parameter, file_of, parameters_of, read
from .contracts import command_of
from .settings import Settings
from .step_settings import apply, settings_of

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent
    from kfp.dsl.pipeline_task import PipelineTask

PYTHON_TYPES = {"String": str, "Integer": int, "Float": float, "Boolean": bool, "JsonObject": dict}
STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
"""Keys of the secret with the store's credentials, each the name of an environment variable."""

TYPES_OF_VALUES = tuple(PYTHON_TYPES.values())
Step = Callable[..., "PipelineTask"]


def load(
    step: str,
    images: Mapping[str, str] | str | Path | None = None,
    *,
    registry: str = "",
    version: str = "",
    s3_secret: str = "",
) -> Step:
    """A component for your own pipeline: a function that makes a task and passes on every default.

    Args:
        step: `download`, `validate`, `train`, `evaluate`, `select`, `export` or `serve`.
        images: By step, as `make push` writes them to dist/images.json, or that file; such names are pinned by digest.
        registry: Where the images are, host[:port][/path], if `images` does not name them.
        version: Their tag.
        s3_secret: Kubernetes secret with the store's credentials, which each task then gets: for steps that use the
            store, and for those that read an artifact which `dsl.importer` takes from there.

    Returns:
        A function of the component's inputs by name, see docs/components.

    Raises:
        BadInput: there is no such component, or `images` does not name its image.
    """
    from .images import IMAGES, image_of, read_images

    if isinstance(images, str | Path):
        images = read_images(Path(images))
    if images is not None:
        image = image_of(step, images)
    else:
        image = IMAGES[step].reference(registry, version) if version else ""
    return _loaded(step, image, s3_secret)


def _loaded(step: str, image: str = "", s3_secret: str = "") -> Step:
    """A component whose tasks pass every default on; with another image than component.yaml's and a secret if given."""
    from kfp.components import load_component_from_file

    component, contract = load_component_from_file(str(file_of(step))), read(step)
    defaults = {one.name: one.parse(one.default) for one in contract.parameters if one.default is not None}

    def task(**given: Any) -> PipelineTask:
        made = component(**{**defaults, **given})
        if not reusable(contract, given):
            made.set_caching_options(False)
        if s3_secret:
            use_secret(made, s3_secret)
        return made.set_container_image(image) if image else made

    task.__name__, task.__doc__ = step, component.description
    return task


def assemble(
    name: str,
    description: str,
    steps: tuple[str, ...],
    wire: Callable[..., None],
    settings: Settings,
    wired: tuple[str, ...] = (),
) -> GraphComponent:
    """A pipeline of components.

    Args:
        name: Of the pipeline.
        description: In the UI.
        steps: Names of the components.
        wire: Called with a function for each of the steps, which takes what the pipeline itself decides (artifacts
            above all) and makes the task.
        settings: What is bound.
        wired: Parameters that `wire` passes itself; they are none of the pipeline's.

    Raises:
        BadInput: the settings name what none of the steps has.
    """
    from kfp import dsl

    contract = [one for one in parameters_of(steps) if one.name not in wired]
    settings.check(contract)
    run_parameters = [one for one in contract if not one.setting or one.name in settings.run_parameters]
    bound = {one.name: _value(one, settings) for one in contract if one not in run_parameters}

    def pipeline(*values: Any) -> None:
        known = bound | dict(zip((one.name for one in run_parameters), values, strict=True))
        wire(*(_step(step, known, settings) for step in steps))

    pipeline.__name__ = name.replace("-", "_")
    pipeline.__signature__ = inspect.Signature([_argument(one, settings) for one in run_parameters])  # type: ignore[attr-defined]
    config = dsl.PipelineConfig(ttl_seconds_after_finished=settings.ttl) if settings.ttl else None
    return dsl.pipeline(name=name, description=description, pipeline_config=config)(pipeline)


def _value(parameter: Parameter, settings: Settings) -> Any:
    return settings.values.get(parameter.name, parameter.parse(parameter.default))


def _argument(parameter: Parameter, settings: Settings) -> inspect.Parameter:
    default = inspect.Parameter.empty if parameter.default is None else _value(parameter, settings)
    return inspect.Parameter(
        parameter.name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=settings.values.get(parameter.name, default),
        annotation=PYTHON_TYPES[parameter.type],
    )


def _step(name: str, known: Mapping[str, Any], settings: Settings) -> Step:
    """A function that makes the task of a step: with what the pipeline knows, on the cluster as the settings say."""
    contract = read(name)
    pod = settings_of(name, settings.of_steps())
    component = _loaded(name, settings.images.get(name, ""))
    own = {one.name: known[one.name] for one in contract.parameters if one.name in known}

    def task(**given: Any) -> PipelineTask:
        made = component(**{**own, **given})
        if uses_store(contract, {**own, **given}) if pod.secret is None else pod.secret:
            use_secret(made, settings.s3_secret)
        apply(made, pod)
        return made

    return task


def reusable(contract: Contract, values: Mapping[str, Any]) -> bool:
    """Whether a task's result may be taken from an earlier one with equal inputs.

    Args:
        values: Its inputs by name; one that a run decides is a channel, and counts as not given.
    """
    if isinstance(contract.cached, bool):
        return contract.cached
    known = {name: value for name, value in values.items() if isinstance(value, TYPES_OF_VALUES)}
    return command_of(contract.step).reusable(known)


def uses_store(contract: Contract, values: Mapping[str, Any]) -> bool:
    """Whether a task may read or write the object store.

    Args:
        values: Its inputs by name; one that a run decides is a channel, and may name the store.
    """
    if isinstance(contract.store, bool):
        return contract.store
    return any(values.get(name) for name in contract.store)


def use_secret(task: PipelineTask, secret: str) -> None:
    """Give a task the store's credentials: the keys of a Kubernetes secret as environment."""
    from kfp import kubernetes

    kubernetes.use_secret_as_env(task, secret, {key: key for key in STORE_KEYS})
