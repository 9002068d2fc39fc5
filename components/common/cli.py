"""The habits every step's command line shares: `--debug`, exit codes and a plain last line."""

import atexit
import errno
import inspect
import io
import os
import re
import shlex
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click

SECRET = re.compile(r"(SECRET|TOKEN|PASSWORD|PASSWD)(?!.*_(FILE|PATH|URL|URI)$)", re.IGNORECASE)
"""Names of variables whose values are never shown."""
SHORTEST_SECRET = 8
"""Characters; to take shorter ones out would make a text unreadable."""
USER_IN_URL = re.compile(r"(?<=[a-z])://[^/\s@'\"]+@")
LONGEST_LINE = 600
"""Characters of the last line of a failure."""


class BadInput(Exception):
    """The caller's mistake: repeating the same call cannot help. The message says expected, received, what to do."""


class Terminated(BaseException):
    """SIGTERM arrived. A BaseException, so that clean-up runs and no `except Exception` swallows it."""


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


class _PlainFailures:
    """Turns every failure into an exit code and one plain last line on stderr.

    Exit codes: 0 done; 2 the caller's mistake; 1 anything else; 130 and 143 ended by SIGINT and SIGTERM.
    """

    params: list[click.Parameter]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--debug"], is_flag=True, is_eager=True, expose_value=False, help="Show the traceback of a failure."
            )
        )

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the options by section, in the order of their first option; those without one come last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):  # type: ignore[attr-defined]
            if isinstance(option, click.Option) and (record := option.get_help_record(ctx)):
                sections.setdefault(getattr(option, "section", ""), []).append(record)
        other = [*sections.pop("Other options", []), *sections.pop("", [])]
        for title, records in [*sections.items(), ("Other options" if sections else "Options", other)]:
            with formatter.section(title):
                formatter.write_dl(records)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)

    def get_help(self, ctx: click.Context) -> str:
        """The examples name programs as the reader's shell finds them."""
        text: str = super().get_help(ctx)  # type: ignore[misc]
        return re.sub(
            r"(?m)^( +(?:\w+=\S+ )?)(trainyard|python)(?= \S)", lambda found: found[1] + _path_of(found[2]), text
        )

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        signal.signal(signal.SIGTERM, _terminate)
        try:
            super().main(*args, **{**kwargs, "standalone_mode": False})  # type: ignore[misc]
        except click.ClickException as error:
            said = io.StringIO()
            error.show(said)
            for line in said.getvalue().splitlines():
                _tell(_readable(line))
            sys.exit(error.exit_code)
        except (Exception, KeyboardInterrupt, Terminated) as error:
            if "--debug" in (kwargs.get("args") or sys.argv[1:]):
                click.echo(without_secrets(traceback.format_exc()), err=True)
            code, line = explain(error)
            _tell(_readable(line))
            sys.exit(code)
        sys.exit(0)


def without_secrets(text: str) -> str:
    """A text without the secrets that the environment holds, and without user and password in URLs."""
    for name, value in os.environ.items():
        if SECRET.search(name) and len(value.strip()) >= SHORTEST_SECRET:
            for form in (value, repr(value)[1:-1], value.strip()):
                text = text.replace(form, f"${name}")
    return USER_IN_URL.sub("://...@", text)


def explain(error: BaseException) -> tuple[int, str]:
    """Exit code and last line for a failure, which tells no secret of the environment."""
    code, line = _explained(error)
    return code, without_secrets(line)


def _explained(error: BaseException) -> tuple[int, str]:
    if isinstance(error, click.Abort) and error.__cause__:  # Click's name for Ctrl-C
        error = error.__cause__
    text = " ".join(str(error).split())
    if isinstance(error, Terminated):
        return 143, text or "Ended by SIGTERM. Outputs are unchanged; run it again"
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return 130, text or "Interrupted. Outputs are unchanged; run it again"
    if isinstance(error, BadInput):
        return 2, text
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        if error.errno == errno.ENOSPC:
            return 1, f"{where}the disk is full; free some space, or write to another disk"
        return 1, f"{where}{error.strerror} ({type(error).__name__})"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return 1, f'this needs the Python package {error.name}; pip install "trainyard[local]", or use an image with it'
    if isinstance(error, OSError | RuntimeError) and text:
        return 1, text
    return 1, f"unexpected {type(error).__name__}: {text or 'no message'}; run again with --debug for the traceback"


def runnable(text: str) -> str:
    """A text in which a reader's shell finds each `trainyard COMMAND`: by its path, unless PATH leads to it."""
    return re.sub(r"(?<![\w./-])trainyard (?=[a-z])(?!or |and )", f"{_path_of('trainyard')} ", text)


def _path_of(program: str) -> str:
    """A program of this Python environment as a shell finds it."""
    path = Path(sys.executable).with_name(program)
    found = shutil.which(program)
    if not path.exists() or (found and Path(found) == path):
        return program
    with suppress(OSError, ValueError):
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path))


def _readable(line: str) -> str:
    """A line without what a terminal would act on, its middle left out where it is too long to read."""
    line = runnable(line)
    line = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line)
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE * 2 // 3]} ... {line[-LONGEST_LINE // 3 :]}"


@dataclass(frozen=True)
class Traits:
    """What a pipeline has to know of a step beyond its inputs and outputs.

    Attributes:
        checks: What looks at the options whatever the data is: each `module.name` in the step's package, a callable
            whose arguments are named as options and which raises BadInput.
        cached: Whether a result may be reused for equal inputs; not if the step changes the world outside. Or what
            tells it: `module.name` in the step's package, a callable whose arguments are named as options.
        store: Whether it reads or writes the object store; or the options of which one has to be given for that.
    """

    checks: tuple[str, ...]
    cached: bool | str = True
    store: bool | tuple[str, ...] = True


class StepCommand(_PlainFailures, click.Command):
    """A command line with one action. That of a step has traits, and checks its options before it runs."""

    traits: Traits | None = None

    def check(self, values: Mapping[str, Any]) -> None:
        """Look at the options that can be judged by themselves.

        Args:
            values: By name; an option that is missing has its default, a required one is empty.

        Raises:
            BadInput: one of them cannot be taken.
        """
        assert self.traits
        for check in self.traits.checks:
            self._call(check, values)

    def reusable(self, values: Mapping[str, Any]) -> bool:
        """Whether an earlier result may be taken for these options; see `Traits.cached`.

        Args:
            values: By name; an option that is missing has its default.
        """
        assert self.traits
        cached = self.traits.cached
        return bool(self._call(cached, values)) if isinstance(cached, str) else cached

    def _call(self, rule: str, values: Mapping[str, Any]) -> Any:
        """What a callable of the step's package says of the options it names."""
        assert self.callback
        package = inspect.unwrap(self.callback).__globals__["__package__"]
        known = {option.name: "" if option.required else option.default for option in self.params} | dict(values)
        module, _, name = rule.rpartition(".")
        function = getattr(import_module(f".{module}", package), name)
        return function(**{name: known[name] for name in inspect.signature(function).parameters})


class StepGroup(StepCommand, click.Group):
    """A command line whose main action stands beside others (`predict`, `stop`)."""

    command_class = StepCommand


SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 120, "show_default": True}
Function = Callable[..., None]
Command = TypeVar("Command", bound=StepCommand)


def command(function: Function) -> StepCommand:
    """Make a function a command line."""
    return click.command(cls=StepCommand, context_settings=SETTINGS)(function)


def command_group(function: Function) -> StepGroup:
    """Make a function a command line that has further actions as subcommands."""
    return click.group(cls=StepGroup, invoke_without_command=True, context_settings=SETTINGS)(function)


def step(*checks: str, **traits: Any) -> Callable[[Function], StepCommand]:
    """Make a function the command line of a step, called when its options have been checked; see `Traits`."""
    return _with_traits(command, Traits(checks, **traits))


def step_group(*checks: str, **traits: Any) -> Callable[[Function], StepGroup]:
    """Make a function the command line of a step that has further actions as subcommands; see `step`."""
    return _with_traits(command_group, Traits(checks, **traits))


def _with_traits(make: Callable[[Function], Command], traits: Traits) -> Callable[[Function], Command]:
    def decorate(function: Function) -> Command:
        @wraps(function)
        def checked(*args: Any, **kwargs: Any) -> None:
            ctx = click.get_current_context()
            if not ctx.invoked_subcommand:
                made.check(ctx.params)
            function(*args, **kwargs)

        made = make(checked)
        made.traits = traits
        return made

    return decorate


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


def shown(value: object, width: int = 160) -> str:
    """A name or value for a message: quoted, what does not print escaped, and no longer than `width`."""
    text = repr(str(value))
    return text if len(text) <= width else f"{text[: width - 23]}...{text[-20:]}"


def say(step_name: str, text: str) -> None:
    """One line of progress that stands alone when a log is searched: the step's name, then what happened."""
    _tell(f"{step_name:<9} {runnable(text)}")


def _tell(line: str) -> None:
    """Write a line to stderr; on a terminal, in place of the progress bar that may stand there."""
    click.echo(f"\r\033[K{line}" if sys.stderr.isatty() else line, err=True)
