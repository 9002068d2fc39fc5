"""What the steps would refuse, found before the first of them runs: each step's own check, called by name."""

from collections.abc import Iterable, Mapping
from typing import Any

import click

from ..components.common.cli import BadInput
from .contracts import command_of


def check(steps: Iterable[str], values: Mapping[str, Any]) -> None:
    """Check the parameters of a pipeline; what the data or the store tells is left to the steps.

    Args:
        steps: Names of the components.
        values: By name, what was given; the components' defaults hold for the rest.

    Raises:
        BadInput: a step refuses one; of several mistakes, those before the last have been written to stderr.
    """
    mistakes = []
    for step in steps:
        try:
            command_of(step).check(values)
        except BadInput as error:
            mistakes.append(str(error))
    for mistake in mistakes[:-1]:
        click.echo(mistake, err=True)
    if mistakes:
        raise BadInput(mistakes[-1])
