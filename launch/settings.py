"""What belongs to a place rather than to a run: bound when a pipeline is compiled or submitted.

A settings file is YAML, one for each environment (`--settings prod.yaml`). Its keys are the settings of the steps (see
docs/components), run parameters whose default it changes, and those of the pipeline itself:

    images: dist/images.json        # or a mapping from step to image
    s3_secret: s3-credentials
    run_service_account: default-editor
    ttl: 604800
    steps:                          # pods, see launch/step_settings.py
      train: {cpu: 4, memory: 8Gi, gpus: 1}
    run_parameters: [namespace]     # settings that stay parameters of each run
    namespace: vision
    service_account: models
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import click

from ..components.common.cli import BadInput
from .contract import Parameter, steps
from .nearest import nearest
from .step_settings import ALL, read_steps

SEE = "; see docs/components"


@dataclass(frozen=True)
class Settings:
    """What is bound.

    Attributes:
        images: By step, instead of those in component.yaml.
        s3_secret: Kubernetes secret whose keys the steps that use the object store get as environment.
        run_service_account: Kubernetes service account of the runs' pods; empty: the installation's default.
        ttl: Seconds after a run's end until Kubeflow removes its workflow and pods; 0: never.
        gpus: NVIDIA GPUs for train, in place of those in `steps`.
        gpu_node: Label of the nodes that have them, `key=value`; empty: any node with that many free.
        steps: Settings of the pods by step, `all` for all of them; see `step_settings.StepSettings`.
        run_parameters: Settings that stay parameters of the pipeline.
        values: Of the steps' settings; of run parameters, another default.
    """

    images: Mapping[str, str] = field(default_factory=dict)
    s3_secret: str = "s3-credentials"
    run_service_account: str = ""
    ttl: int = 0
    gpus: int | None = None
    gpu_node: str = ""
    steps: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    run_parameters: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.gpu_node and "=" not in self.gpu_node:
            raise BadInput(
                f"--gpu-node: expected KEY=VALUE, received {self.gpu_node!r}; e.g. nvidia.com/gpu.present=true"
            )

    def check(self, contract: Iterable[Parameter]) -> None:
        """Raise BadInput for a name that is none of the steps', with the nearest one."""
        known = [one.name for one in contract]
        for name in (*self.values, *self.run_parameters):
            if name not in known:
                own = [one.name for one in fields(self) if one.name != "values"]
                raise BadInput(
                    f"settings: expected a parameter of the steps, received {name!r}"
                    f"{nearest(name, [*known, *own], SEE)}"
                )

    def of_steps(self) -> dict[str, Mapping[str, Any]]:
        """`steps`, with `gpus` and `gpu_node`, the short forms for train."""
        train = dict(self.steps.get("train", {}))
        if self.gpus is not None:
            train["gpus"] = self.gpus
        if self.gpu_node and train.get("gpus", self.steps.get(ALL, {}).get("gpus")):
            key, _, value = self.gpu_node.partition("=")
            train["node_selector"] = {**train.get("node_selector", {}), key: value}
        return {**self.steps, "train": train}

    def without_secret(self, names: Iterable[str]) -> Settings:
        """With no secret of the store for these steps, where nothing else is said."""
        return self._with("secret", False, names)

    def with_cache(self, names: Iterable[str]) -> Settings:
        """With the cache for these steps, where nothing else is said."""
        return self._with("cache", True, names)

    def without_cache(self, names: Iterable[str]) -> Settings:
        """With no cache for these steps, whatever is said; `all` for all of them."""
        off = {name: {**self.steps.get(name, {}), "cache": False} for name in names}
        if ALL in off:
            off |= {name: {**given, "cache": False} for name, given in self.steps.items() if name not in off}
        return replace(self, steps={**self.steps, **off})

    def _with(self, key: str, value: Any, names: Iterable[str]) -> Settings:
        said = {name: given for name, given in self.steps.get(ALL, {}).items() if name == key}
        added = {name: {key: value, **said, **self.steps.get(name, {})} for name in names}
        return replace(self, steps={**self.steps, **added})

    def bind(self, **given: Any) -> Settings:
        """With what was given on the command line (None: nothing) over what the file has."""
        own = {one.name for one in fields(self)} - {"values"}
        named = {name: value for name, value in given.items() if value not in (None, ())}
        values = {name: value for name, value in named.items() if name not in own}
        return replace(
            self,
            **{name: value for name, value in named.items() if name in own},
            values={**self.values, **values},
        )


def read(path: Path, contract: Iterable[Parameter]) -> Settings:
    """A settings file.

    Raises:
        BadInput: there is none, it is no YAML mapping, or it has an unknown key or a value of another type.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise BadInput(f"--settings: {path} cannot be read ({error.strerror}); check the path") from None
    except yaml.YAMLError as error:
        raise BadInput(f"--settings: expected YAML in {path}, received something else ({_first_line(error)})") from None
    if not isinstance(content, dict):
        raise BadInput(f"--settings: expected a mapping of names to values in {path}, received something else")
    named = {str(name).replace("-", "_"): value for name, value in content.items()}
    by_name = {one.name: one for one in contract}
    own = {one.name for one in fields(Settings)} - {"values"}
    for name in named:
        if name not in by_name and name not in own:
            raise BadInput(f"{path}: unknown setting {name!r}{nearest(name, [*by_name, *own], SEE)}")
    return Settings().bind(**{name: _typed(name, value, by_name, path) for name, value in named.items()})


def _typed(name: str, value: Any, by_name: Mapping[str, Parameter], path: Path) -> Any:
    if name in by_name:
        try:
            return by_name[name].parse(value)
        except click.BadParameter as error:
            raise BadInput(f"{path}: {name}: {error.message}") from None
    if name == "images" and isinstance(value, str):
        from .images import read_images

        return read_images(path.parent / value)
    if name == "steps":
        return read_steps(value, steps(), str(path))
    kinds: dict[str, tuple[type, str]] = {
        "images": (dict, "a mapping from step to image, or the file that make push writes"),
        "gpus": (int, "a whole number"),
        "ttl": (int, "seconds"),
        "run_parameters": (list, "a list of names"),
    }
    kind, words = kinds.get(name, (str, "text"))
    if not isinstance(value, kind):
        raise BadInput(f"{path}: {name}: expected {words}, received {value!r}")
    return tuple(one.replace("-", "_") for one in value) if isinstance(value, list) else value


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
