"""How a step's options are written: once, at its Click command, from which component.yaml and its page are generated.

An option is an input or an output of the component. Its type tells which:

- an ordinary Click type: an input parameter (String, Integer, Float, Boolean, JsonObject);
- `Input`: the path of an input artifact;
- `Output`: the path of an output, an artifact or a parameter.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from .cli import BadInput

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
ARTIFACTS = ("Artifact", "Dataset", "Model", "Metrics", "ClassificationMetrics", "HTML", "Markdown")
"""Types of artifacts; any other word would silently become a generic artifact."""
PARAMETERS = ("String", "Integer", "Float", "Boolean", "JsonObject")
FOLDERS = ("Dataset", "Model")
"""Artifacts that are always folders."""


class JsonObject(click.ParamType):  # type: ignore[type-arg] # generic in newer versions of Click alone
    """An option that takes a JSON object, as KFP passes a JsonObject."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        """The object as a dict."""
        try:
            parsed = value if isinstance(value, dict) else json.loads(value or "{}")
        except ValueError as error:
            self.fail(f'expected a JSON object, received {value!r} ({error}); write it as \'{{"key": "value"}}\'')
        if not isinstance(parsed, dict):
            self.fail(f'expected a JSON object, received {value!r}; write it as \'{{"key": "value"}}\'')
        return parsed


class FinalStatus(JsonObject):
    """An option by which KFP tells an exit handler how the run ended. A pipeline does not pass it."""


class Location(click.Path):
    """Where an artifact or an output parameter is.

    Attributes:
        kind: One of ARTIFACTS, or for an output one of PARAMETERS.
        folder: Whether it is a folder; else a file.
    """

    def __init__(self, kind: str, folder: bool = False) -> None:
        super().__init__(path_type=Path)
        self.kind = kind
        self.folder = folder or kind in FOLDERS

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """FOLDER or FILE."""
        return "FOLDER" if self.folder else "FILE"


class Input(Location):
    """The path of an input artifact."""


class Output(Location):
    """The path to write an output to; its folder is created.

    A place where it cannot appear, or that of another output, is refused before any work is done.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        from .files import check_place

        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        option = param.opts[0] if param else "output"
        try:
            check_place(path, self.folder)
        except BadInput as error:
            raise BadInput(f"{option}: {error}") from error
        taken = ctx.meta.setdefault("outputs", {}) if ctx else {}
        if (other := taken.setdefault(path.absolute(), option)) != option:
            raise BadInput(f"{option}: expected a path of its own, received that of {other}; pass another")
        return path


class Option(click.Option):
    """An option of a step.

    Attributes:
        section: Heading in the help.
        setting: Empty for what changes from run to run. Otherwise it belongs to a place and is bound when a pipeline is
            compiled: `any` place, a `cluster`, or this `machine`.
        by_hand: Only for the command line, not part of the component.
    """

    def __init__(self, *args: Any, section: str = "", setting: str = "", by_hand: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section
        self.setting = setting
        self.by_hand = by_hand
        if self.default == "":
            self.show_default = False  # '' stands for absent, as in component.yaml


def section(title: str, setting: str = "") -> Callable[..., Callable[[Decorated], Decorated]]:
    """`click.option` for options that belong together: the help lists them under this title; see `Option`."""
    return partial(click.option, cls=Option, section=title, setting=setting)


inputs = section("Inputs")
outputs = section("Outputs")
other = section("Other options")

on_corrupt = section("Data")(
    "--on-corrupt",
    default="fail",
    metavar="fail|skip",
    help="How to handle damaged images: fail names the first one, skip leaves them out and counts them.",
)


def _checked_executor_input(ctx: click.Context, param: click.Parameter, value: str) -> str:
    from .kfp_outputs import check_executor_input

    check_executor_input(value)
    return value


executor_input = other(
    "--executor-input",
    default="",
    by_hand=True,
    callback=_checked_executor_input,
    help="KFP's description of the outputs; filled in by KFP.",
)
"""The option by which KFP 2 tells a step where its artifacts go; see `kfp_outputs.record_artifacts`."""
