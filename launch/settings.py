"""What belongs to a place rather than to a run: bound when a pipeline is compiled or submitted.

A settings file is YAML, one for each environment (`--settings prod.yaml`). Its keys are the settings of the steps (see
docs/components), run parameters whose default it changes, and those of the pipeline itself:

    images: dist/images.json        # or a mapping from step to image
    s3_secret: s3-credentials
    gpus: 1
    gpu_node: nvidia.com/gpu.present=true
    run_parameters: [namespace]     # settings that stay parameters of each run
    namespace: vision
    service_account: models
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import click

from ..components.common.cli import BadInput
from .contract import Parameter


@dataclass(frozen=True)
class Settings:
    """What is bound.

    Attributes:
        images: By step, instead of those in component.yaml.
        s3_secret: Kubernetes secret whose keys the steps that use the object store get as environment.
        gpus: NVIDIA GPUs for train.
        gpu_node: Label of the nodes that have them, `key=value`; empty: any node with that many free.
        run_parameters: Settings that stay parameters of the pipeline.
        values: Of the steps' settings; of run parameters, another default.
    """

    images: Mapping[str, str] = field(default_factory=dict)
    s3_secret: str = "s3-credentials"
    gpus: int = 0
    gpu_node: str = ""
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
                    f"settings: expected a parameter of the steps, received {name!r}{_nearest(name, [*known, *own])}"
                )

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
            raise BadInput(f"{path}: unknown setting {name!r}{_nearest(name, [*by_name, *own])}")
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
    kinds: dict[str, tuple[type, str]] = {
        "images": (dict, "a mapping from step to image, or the file that make push writes"),
        "gpus": (int, "a whole number"),
        "run_parameters": (list, "a list of names"),
    }
    kind, words = kinds.get(name, (str, "text"))
    if not isinstance(value, kind):
        raise BadInput(f"{path}: {name}: expected {words}, received {value!r}")
    return tuple(one.replace("-", "_") for one in value) if isinstance(value, list) else value


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]}?" if near else "; see docs/components"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
