"""Run a pipeline's steps as processes of this machine, on kfp.local's own orchestrator."""

import codecs
import contextlib
import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from .orchestrator import PipelineRun, Task, orchestrated

TAIL = 4096
"""Characters of a step's stderr that are kept, to tell its last line."""


@contextlib.contextmanager
def steps_as_processes(runs: Path) -> Iterator[PipelineRun]:
    """Inside the block a pipeline that is called runs here: each step is a process, its image is ignored.

    Args:
        runs: Folder for the runs; each gets a folder of its own in it, with a folder per step.
    """

    def run_task(task: Task) -> tuple[int, str]:
        command, more = without_secrets(task.command)
        return run_process(command_here(command), {**step_environment(), **task.environment, **more})

    with orchestrated(runs, run_task) as run:
        yield run


def without_secrets(command: list[str]) -> tuple[list[str], dict[str, str]]:
    """A step's command without a source that may hold a secret, and the variables that the step takes it from.

    The process list shows a command to every user of the machine, its variables to its owner alone.
    """
    if "--source" not in command[:-1]:
        return command, {}
    place = command.index("--source")
    source = command[place + 1]
    if "://" not in source or not {"@", "?"} & set(source):
        return command, {}
    others = [*command[:place], *command[place + 2 :]]
    told = json.dumps(source)[1:-1]  # as KFP's description of the inputs has it, which no step reads
    return [word.replace(told, "...") for word in others], {"TRAINYARD_SOURCE": source}


def command_here(command: list[str]) -> list[str]:
    """A step's command on this machine, where `python3` is this interpreter.

    A step of this package does not look for modules in the current folder (`-P`): there a team may have a `random.py`
    or a `components/` of its own.
    """
    program, *arguments = command
    if program not in ("python", "python3"):
        return command
    ours = arguments[0] == "-m" and arguments[1].startswith("trainyard.")
    return [sys.executable, *(["-P"] if ours else []), *arguments]


def step_environment() -> dict[str, str]:
    """The environment of a step's process: this one, with this interpreter first on PATH.

    The steps that kfp makes of Python functions (`@dsl.component`) call `python3` through a shell.
    """
    path = os.pathsep.join(filter(None, [str(Path(sys.executable).parent), os.environ.get("PATH")]))
    return {**os.environ, "PATH": path}


def run_process(command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Run a command, pass its stderr on as it comes, and keep the last line.

    On a terminal the command gets one too (a pseudo-terminal), so that its progress bars move.

    Returns:
        Exit code, and the last line of stderr.
    """
    ours, theirs = pty.openpty() if sys.stderr.isatty() else os.pipe()
    with subprocess.Popen(command, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        try:
            last_line = pass_on(iter(lambda: _next_chunk(ours, process), b""))
            code = process.wait()
        except BaseException:
            process.terminate()
            raise
        finally:
            os.close(ours)
    return code, last_line


def pass_on(chunks: Iterable[bytes]) -> str:
    """Write what a step says to stderr as it comes; returns its last line."""
    tail = ""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for chunk in chunks:
        text = decoder.decode(chunk)
        sys.stderr.write(text)  # as text: a notebook's stderr takes no bytes
        sys.stderr.flush()
        tail = (tail + text)[-TAIL:]
    lines = [line for line in tail.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _next_chunk(descriptor: int, process: subprocess.Popen[bytes]) -> bytes:
    """What the process wrote next; empty when it ended, even if a server it left behind still holds the descriptor."""
    while True:
        ended = process.poll() is not None
        if select.select([descriptor], [], [], 0 if ended else 0.05)[0]:
            try:
                return os.read(descriptor, 65536)
            except OSError:  # a pseudo-terminal whose other side is closed
                return b""
        if ended:
            return b""
