"""The contracts of the components, as their component.yaml files state them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click

from ..components.common.options import JsonObject

ROOT = Path(__file__).parent.parent
COMPONENTS = ROOT / "components"
TYPES: dict[str, click.ParamType[Any]] = {
    "String": click.STRING,
    "Integer": click.INT,
    "Float": click.FLOAT,
    "Boolean": click.BOOL,
    "JsonObject": JsonObject(),
}
"""How a command line reads the types of parameters."""
SECTIONS, SETTINGS, TRAITS = (f"trainyard/{name}" for name in ("sections", "settings", "traits"))
"""Annotations in component.yaml, each a JSON object: inputs by section, settings by place, and the step's traits."""


@dataclass(frozen=True)
class Parameter:
    """An input parameter.

    Attributes:
        type: A key of TYPES.
        default: As text; None: it is required.
        section: Heading under which commands list it.
        setting: Empty for what changes from run to run; see `common.options.Option`.
    """

    name: str
    type: str
    description: str
    default: str | None
    section: str
    setting: str

    @property
    def option(self) -> str:
        """Its name on a command line."""
        return f"--{self.name.replace('_', '-')}"

    def parse(self, value: Any) -> Any:
        """A value in the parameter's type.

        Raises:
            click.BadParameter: it has another type.
        """
        return TYPES[self.type].convert(value, None, None)


@dataclass(frozen=True)
class Contract:
    """What a component takes and gives, beside its artifacts.

    Attributes:
        step: Its folder.
        parameters: Its input parameters, in order.
        cached: Whether a result may be reused for equal inputs, or what tells it; see `common.cli.Traits`.
        store: Whether it uses the object store; or the inputs of which one has to be given for that.
    """

    step: str
    parameters: tuple[Parameter, ...]
    cached: bool | str
    store: bool | list[str]


def steps() -> list[str]:
    """The components there are."""
    return sorted(file.parent.name for file in COMPONENTS.glob("*/component.yaml"))


def file_of(step: str) -> Path:
    """A component's component.yaml."""
    return COMPONENTS / step / "component.yaml"


@cache
def read(step: str) -> Contract:
    """The contract of a component."""
    import yaml

    described = yaml.load(file_of(step).read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    annotations = {name: json.loads(text) for name, text in described["metadata"]["annotations"].items()}
    section_of = {name: section for section, names in annotations[SECTIONS].items() for name in names}
    setting_of = {name: place for place, names in annotations[SETTINGS].items() for name in names}
    parameters = tuple(
        Parameter(
            one["name"],
            one["type"],
            one["description"],
            one.get("default"),
            section_of[one["name"]],
            setting_of.get(one["name"], ""),
        )
        for one in described["inputs"]
        if one["type"] in TYPES
    )
    return Contract(step, parameters, **annotations[TRAITS])


def parameters_of(names: tuple[str, ...]) -> list[Parameter]:
    """The parameters of several steps; one that several have is one parameter, as the first describes it."""
    found: dict[str, Parameter] = {}
    for name in names:
        for parameter in read(name).parameters:
            found.setdefault(parameter.name, parameter)
    return list(found.values())
