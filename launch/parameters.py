"""The parameters of a pipeline as command-line options, read from the contracts of its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import click

from ..components.common.options import Option
from .contract import TYPES, Parameter

Command = Callable[..., None]


def parameter_options(parameters: Iterable[Parameter]) -> Callable[[Command], Command]:
    """Give a command an option for each parameter; one that is not given is None, and the component's default holds."""

    def decorate(command: Command) -> Command:
        for one in reversed(list(parameters)):
            shown = f"  [default: {one.default}]" if one.default not in (None, "", "{}") else ""
            command = click.option(
                one.option,
                cls=Option,
                section=one.section,
                type=TYPES[one.type],
                help=one.description + shown,
                required=one.default is None,
                default=None,
            )(command)
        return command

    return decorate
