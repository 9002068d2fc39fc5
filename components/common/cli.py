"""The habits every step's command line shares: `--debug`, exit codes and a plain last line."""

import atexit
import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, NoReturn

import click


class BadInput(Exception):
    """The caller's mistake: repeating the same call cannot help. The message says expected, received, what to do."""


class Terminated(BaseException):
    """SIGTERM arrived. A BaseException, so that clean-up runs and no `except Exception` swallows it."""


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


class JsonObject(click.ParamType):
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


class _SectionOption(click.Option):
    """An option that the help lists under a heading of its own."""

    def __init__(self, *args: Any, section: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section


def section(title: str) -> Callable[..., Any]:
    """`click.option` for options that belong together: the help lists them under this title."""
    return partial(click.option, cls=_SectionOption, section=title)


class _PlainFailures:
    """Turns every failure into an exit code and one plain last line on stderr.

    Exit codes: 0 done; 2 the caller's mistake; 1 anything else; 130 and 143 ended by SIGINT and SIGTERM.
    """

    params: list[click.Parameter]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for option in self.params:
            if isinstance(option, click.Option) and option.default == "":
                option.show_default = False  # '' stands for absent, as component.yaml has it
        self.params.append(
            click.Option(
                ["--debug"], is_flag=True, is_eager=True, expose_value=False, help="Show the traceback of a failure."
            )
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the options by section, in the order of their first option; those without one come last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):  # type: ignore[attr-defined]
            if record := option.get_help_record(ctx):
                sections.setdefault(getattr(option, "section", ""), []).append(record)
        unnamed = sections.pop("", [])
        for title, records in [*sections.items(), ("Other options" if sections else "Options", unnamed)]:
            with formatter.section(title):
                formatter.write_dl(records)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        signal.signal(signal.SIGTERM, _terminate)
        try:
            super().main(*args, **{**kwargs, "standalone_mode": False})  # type: ignore[misc]
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (Exception, KeyboardInterrupt, Terminated) as error:
            if "--debug" in (kwargs.get("args") or sys.argv[1:]):
                traceback.print_exc()
            code, line = explain(error)
            click.echo(line, err=True)
            sys.exit(code)
        sys.exit(0)


def explain(error: BaseException) -> tuple[int, str]:
    """Exit code and last line for a failure."""
    if isinstance(error, Terminated):
        return 143, "ended by SIGTERM before it was done; nothing half-written is left, run it again"
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return 130, "interrupted before it was done; nothing half-written is left, run it again"
    text = " ".join(str(error).split())
    if isinstance(error, BadInput):
        return 2, text
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        if error.errno == errno.ENOSPC:
            return 1, f"{where}the disk is full; make room, or write elsewhere"
        return 1, f"{where}{error.strerror} ({type(error).__name__})"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return 1, f"this needs the Python package {error.name}, which is not here; install it, or take an image with it"
    if isinstance(error, OSError | RuntimeError) and text:
        return 1, text
    return 1, f"unexpected {type(error).__name__}: {text or 'no message'}; run again with --debug for the traceback"


class StepCommand(_PlainFailures, click.Command):
    """A step with one action."""


class StepGroup(_PlainFailures, click.Group):
    """A step whose main action stands beside others (`predict`, `stop`)."""

    command_class = StepCommand


SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 120, "show_default": True}


def step(function: Callable[..., None]) -> StepCommand:
    """Make a function the command line of a step."""
    return click.command(cls=StepCommand, context_settings=SETTINGS)(function)


def step_group(function: Callable[..., None]) -> StepGroup:
    """Make a function the command line of a step that has further actions as subcommands."""
    return click.group(cls=StepGroup, invoke_without_command=True, context_settings=SETTINGS)(function)


executor_input = click.option(
    "--executor-input", default="", help="KFP's description of the outputs; filled in by KFP."
)
"""The option by which KFP 2 tells a step where its artifacts go; see `kfp_outputs.record_artifacts`."""


def leave_at_once(command: click.Command) -> NoReturn:
    """Run a step and end the process without taking the interpreter down, which takes a second after TensorFlow.

    What the step wrote is closed by then. What libraries registered for the exit is done: TensorFlow removes its
    temporary files there.
    """
    code: Any = 0
    try:
        command()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    atexit._run_exitfuncs()
    os._exit(code if isinstance(code, int) else 0)


def last_line(text: str) -> str:
    """The line that a process said last, for a message about it."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "no message"


def say(step_name: str, text: str) -> None:
    """One line of progress that stands alone when a log is searched: the step's name, then what happened."""
    click.echo(f"{step_name:<9} {text}", err=True)
