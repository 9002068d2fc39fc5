"""Settings of a step's pod on a cluster: the part `steps` of a settings file.

    steps:
      all:                              # every step, under what a step has itself
        labels: {team: vision}
        image_pull_secrets: [registry]
      train:
        cpu: 4
        memory: 8Gi
        memory_limit: 16Gi
        gpus: 1
        node_selector: {nvidia.com/gpu.present: "true"}
        tolerations: [{key: team, operator: Equal, value: vision, effect: NoSchedule}]
        timeout: 3600
      download: {retries: 3, retry_after: 30}

docs/kubeflow.md describes each key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from ..components.common.cli import BadInput
from .nearest import nearest

if TYPE_CHECKING:
    from kfp.dsl.pipeline_task import PipelineTask

ALL = "all"
GPU = "nvidia.com/gpu"
CPU = re.compile(r"\d+(\.\d+)?|\d+m")
MEMORY = re.compile(r"\d+(\.\d+)?([KMGTPE]i?|k)?")
POLICIES = ("Always", "IfNotPresent", "Never")
TOLERATION = {"key": str, "operator": str, "value": str, "effect": str, "toleration_seconds": int}


@dataclass(frozen=True)
class StepSettings:
    """How the pod of a step runs. None and empty: the cluster's own default.

    Attributes:
        cpu: Request, in cores ("500m", "2").
        cpu_limit: The most it may use.
        memory: Request, in bytes ("512Mi", "4Gi").
        memory_limit: A pod that exceeds it is killed.
        gpus: NVIDIA GPUs; the taint of that name is tolerated.
        node_selector: Labels that the node must have.
        tolerations: As in a pod, with `toleration_seconds`.
        retries: Times to run a failed step again. KFP does not tell exit codes apart.
        retry_after: Seconds before the first retry, doubled for each further one.
        timeout: Seconds after which Kubernetes ends the pod.
        image_pull_secrets: Names of secrets.
        image_pull_policy: One of POLICIES.
        labels: Of the pod.
        annotations: Of the pod.
        istio_sidecar: Whether Istio may add its proxy, which keeps a finished pod running.
        cache: Whether an earlier result for equal inputs may be taken; None: as the component says.
        secret: Whether it gets the secret of the object store; None: if its inputs may need it.
        secret_files: Further secrets by name, such as one with a key to sign with, and the folder that each appears in.
    """

    cpu: str = ""
    cpu_limit: str = ""
    memory: str = ""
    memory_limit: str = ""
    gpus: int = 0
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    retries: int = 0
    retry_after: int = 10
    timeout: int = 0
    image_pull_secrets: tuple[str, ...] = ()
    image_pull_policy: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    istio_sidecar: bool | None = None
    cache: bool | None = None
    secret: bool | None = None
    secret_files: Mapping[str, str] = field(default_factory=dict)


NAMES = tuple(one.name for one in fields(StepSettings))
REQUESTS = {
    "download": {"cpu": "500m", "memory": "512Mi"},
    "validate": {"cpu": "500m", "memory": "512Mi"},
    "train": {"cpu": "1", "memory": "2Gi"},
    "evaluate": {"cpu": "500m", "memory": "512Mi"},
    "notify": {"cpu": "100m", "memory": "128Mi"},
    "register": {"cpu": "100m", "memory": "256Mi"},
    "predict": {"cpu": "500m", "memory": "512Mi"},
    "select": {"cpu": "100m", "memory": "128Mi"},
    "export": {"cpu": "100m", "memory": "256Mi"},
    "serve": {"cpu": "100m", "memory": "256Mi"},
}
"""Requests by default, measured on MNIST; no limits."""


def settings_of(step: str, given: Mapping[str, Mapping[str, Any]]) -> StepSettings:
    """The settings of a step: the measured requests, under those of all steps, under its own."""
    layers = (REQUESTS.get(step, {}), given.get(ALL, {}), given.get(step, {}))
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            merged[name] = {**merged.get(name, {}), **value} if isinstance(value, dict) else value
    return replace(StepSettings(), **merged)


def read_steps(content: Any, steps: Iterable[str], where: str) -> dict[str, dict[str, Any]]:
    """The part `steps` of a settings file, checked.

    Args:
        content: As YAML has it.
        steps: Names of the components.
        where: The file, for messages.

    Raises:
        BadInput: a step or a key is unknown, or a value is of another kind.
    """
    known = [ALL, *steps]
    for step, given in _mapping(content, f"{where}: steps").items():
        if step not in known:
            raise BadInput(f"{where}: steps: unknown step {step!r}{nearest(step, known, f'; one of {_words(known)}')}")
        for name in _mapping(given, f"{where}: steps.{step}"):
            if name not in NAMES:
                raise BadInput(f"{where}: steps.{step}: unknown setting {name!r}{nearest(name, NAMES)}")
    return {
        step: {name: _value(name, value, f"{where}: steps.{step}.{name}") for name, value in given.items()}
        for step, given in content.items()
    }


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"{where}: expected a mapping, received {value!r}")
    return value


def _value(name: str, value: Any, where: str) -> Any:
    if name in ("cpu", "cpu_limit", "memory", "memory_limit"):
        return _quantity(name, value, where)
    if name in ("gpus", "retries", "retry_after", "timeout"):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise BadInput(f"{where}: expected a whole number, at least 0, received {value!r}")
        return value
    if name in ("node_selector", "labels", "annotations", "secret_files"):
        return {key: _text(one, f"{where}.{key}") for key, one in _mapping(value, where).items()}
    if name == "tolerations":
        return tuple(_toleration(one, where) for one in _list(value, where))
    if name == "image_pull_secrets":
        return tuple(_text(one, where) for one in _list(value, where))
    if name == "image_pull_policy":
        if value not in POLICIES:
            raise BadInput(f"{where}: expected one of {_words(POLICIES)}, received {value!r}")
        return value
    if not isinstance(value, bool):
        raise BadInput(f"{where}: expected true or false, received {value!r}")
    return value


def _quantity(name: str, value: Any, where: str) -> str:
    pattern, example = (CPU, "500m or 2") if name.startswith("cpu") else (MEMORY, "512Mi or 4Gi")
    text = str(value)
    if isinstance(value, bool) or not pattern.fullmatch(text):
        raise BadInput(f"{where}: expected a quantity such as {example}, received {value!r}")
    return text


def _toleration(value: Any, where: str) -> dict[str, Any]:
    for key, one in _mapping(value, where).items():
        if key not in TOLERATION:
            raise BadInput(f"{where}: unknown key {key!r}{nearest(key, TOLERATION)}")
        if not isinstance(one, TOLERATION[key]) or isinstance(one, bool):
            raise BadInput(f"{where}.{key}: expected {_kind(TOLERATION[key])}, received {one!r}")
    return dict(value)


def _kind(kind: type) -> str:
    return "a whole number" if kind is int else "text"


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):  # Kubernetes takes no `true` and no number there; YAML makes them of bare words
        raise BadInput(f"{where}: expected text, received {value!r}; put it in quotes")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadInput(f"{where}: expected a list, received {value!r}")
    return value


def _words(names: Iterable[str]) -> str:
    return ", ".join(names)


def apply(task: PipelineTask, settings: StepSettings) -> None:
    """Have a task run so. The secret of the store is the caller's."""
    from kfp import kubernetes

    quantities: tuple[tuple[str, Callable[[str], Any]], ...] = (
        (settings.cpu, task.set_cpu_request),
        (settings.cpu_limit, task.set_cpu_limit),
        (settings.memory, task.set_memory_request),
        (settings.memory_limit, task.set_memory_limit),
    )
    for quantity, put in quantities:
        if quantity:
            put(quantity)
    if settings.gpus:
        task.set_accelerator_type(GPU).set_accelerator_limit(settings.gpus)
        kubernetes.add_toleration(task, key=GPU, operator="Exists", effect="NoSchedule")
    for key, value in settings.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    for toleration in settings.tolerations:
        kubernetes.add_toleration(task, **toleration)
    if settings.retries:
        task.set_retry(settings.retries, backoff_duration=f"{settings.retry_after}s", backoff_factor=2)
    if settings.timeout:
        kubernetes.set_timeout(task, settings.timeout)
    if settings.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(settings.image_pull_secrets))
    if settings.image_pull_policy:
        kubernetes.set_image_pull_policy(task, settings.image_pull_policy)
    for key, value in _labels(settings).items():
        kubernetes.add_pod_label(task, key, value)
    for key, value in settings.annotations.items():
        kubernetes.add_pod_annotation(task, key, value)
    for secret, folder in settings.secret_files.items():
        kubernetes.use_secret_as_volume(task, secret, folder)
    if settings.cache is not None:
        task.set_caching_options(settings.cache)


def _labels(settings: StepSettings) -> dict[str, str]:
    if settings.istio_sidecar is None:
        return dict(settings.labels)
    return {**settings.labels, "sidecar.istio.io/inject": str(settings.istio_sidecar).lower()}
