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

from .logs import LogFile, on_screen
from .orchestrator import Ended, PipelineRun, Task, orchestrated
from .step_cache import code_here

TAIL = 4096
"""Characters of a step's stderr that are kept, to tell its last line."""


@contextlib.contextmanager
def steps_as_processes(runs: Path, cache: bool = False) -> Iterator[PipelineRun]:
    """Inside the block a pipeline that is called runs here: each step is a process, its image is ignored.

    Args:
        runs: Folder for the runs; each gets a folder of its own in it, with a folder per step.
        cache: Whether outputs of earlier runs are taken, see `step_cache`.
    """

    def run_task(task: Task) -> Ended:
        command, more = without_secrets(task.command)
        return run_process(command_here(command), {**step_environment(), **task.environment, **more}, task.log)

    with orchestrated(runs, run_task, (lambda task: code_here(task.command)) if cache else None) as run:
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


def run_process(command: list[str], environment: dict[str, str], log: Path | None = None) -> Ended:
    """Run a command, pass its stderr on as it comes, and keep the last line.

    On a terminal the command gets one too (a pseudo-terminal), so that its progress bars move.

    Args:
        log: File to write it to as well.
    """
    ours, theirs = pty.openpty() if sys.stderr.isatty() else os.pipe()
    with subprocess.Popen(command, env=environment, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        watched = _Watched(process)
        try:
            last_line = pass_on(iter(lambda: _next_chunk(ours, watched), b""), log)
            watched.ended(0)
        except BaseException:
            process.terminate()
            raise
        finally:
            os.close(ours)
    return Ended(process.returncode, last_line, watched.cpu_seconds, watched.peak_memory)


class _Watched:
    """A process, and what it and its own processes used when it has ended."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.cpu_seconds = 0.0
        self.peak_memory = 0

    def ended(self, how: int = os.WNOHANG) -> bool:
        """Whether it has ended; with 0 for `how`, wait until it has."""
        if self._process.returncode is None:
            pid, status, used = os.wait4(self._process.pid, how)
            if pid:
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self.cpu_seconds = round(used.ru_utime + used.ru_stime, 3)
                self.peak_memory = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return self._process.returncode is not None


def pass_on(chunks: Iterable[bytes], log: Path | None = None) -> str:
    """Write what a step says to stderr as it comes, and to a log; returns its last line."""
    tail = ""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with LogFile(log) if log else contextlib.nullcontext() as file:
        for chunk in chunks:
            text = decoder.decode(chunk)
            sys.stderr.write(text)  # as text: a notebook's stderr takes no bytes
            sys.stderr.flush()
            if file:
                file.write(text)
            tail = (tail + text)[-TAIL:]
    lines = [shown for line in tail.split("\n") if (shown := on_screen(line).strip())]
    return lines[-1] if lines else ""


def _next_chunk(descriptor: int, process: _Watched) -> bytes:
    """What the process wrote next; empty when it ended, even if a server it left behind still holds the descriptor."""
    while True:
        ended = process.ended()
        if select.select([descriptor], [], [], 0 if ended else 0.05)[0]:
            try:
                return os.read(descriptor, 65536)
            except OSError:  # a pseudo-terminal whose other side is closed
                return b""
        if ended:
            return b""
