"""Run a pipeline's steps as processes of this machine, on kfp.local's own orchestrator.

kfp.local walks the pipeline (defaults, placeholders, retries, loops), but its SubprocessRunner refuses steps that are
containers, and it has no place to plug another runner in. So its task handler is exchanged for the time of a run. kfp
is pinned to 2.17, and a test runs a two-step pipeline, so that a change inside kfp shows at once.
"""

import codecs
import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TAIL = 4096
"""Characters of a step's stderr that are kept, to tell its last line."""


@dataclass(frozen=True)
class StepRun:
    """One step as it ran: its name in the pipeline, wall time in seconds, exit code and last line on stderr."""

    name: str
    seconds: float
    exit_code: int
    last_line: str


@dataclass
class PipelineRun:
    """What is known of a run: its folder (once the first step began) and the steps that ended, in order."""

    folder: Path | None = None
    steps: list[StepRun] = field(default_factory=list)

    def place(self, runs: Path, command: list[str]) -> str:
        """Learn the folder of the run from the command of a step that begins; returns the name of its task.

        kfp.local hands a step paths <runs>/<run>/<task>/<output>. Those of its inputs belong to tasks that succeeded
        before it. A step without any (an exit handler) is named by its place in the run.
        """
        root = runs.resolve()
        parts = [Path(argument).relative_to(root).parts for argument in command if argument.startswith(f"{root}/")]
        if not parts:
            return f"step-{len(self.steps) + 1}"
        succeeded = {step.name for step in self.steps if step.exit_code == 0}
        self.folder = runs / parts[0][0]
        return next(part[1] for part in parts if part[1] not in succeeded)


@contextlib.contextmanager
def steps_as_processes(runs: Path) -> Iterator[PipelineRun]:
    """Inside the block a pipeline that is called runs here: each step is a process, its image is ignored.

    Args:
        runs: Folder for the runs; each gets a folder of its own in it, with a folder per step.
    """
    from kfp import local
    from kfp.local import status
    from kfp.local import subprocess_task_handler as handlers

    run = PipelineRun()

    class StepProcess(handlers.SubprocessTaskHandler):
        """Runs the command of component.yaml with this interpreter."""

        def __init__(
            self, image: str, full_command: list[str], pipeline_root: str, runner: Any, env_vars: dict[str, str] | None
        ) -> None:
            self.image, self.command = image, list(full_command)
            self.environment = {**step_environment(), **(env_vars or {})}

        def run(self) -> Any:
            task = run.place(runs, self.command)
            program, *arguments = self.command
            started = time.perf_counter()
            code, last_line = run_process(
                [sys.executable if program in ("python", "python3") else program, *arguments], self.environment
            )
            run.steps.append(StepRun(task, time.perf_counter() - started, code, last_line))
            return status.Status.SUCCESS if code == 0 else status.Status.FAILURE

    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(runs.resolve()))
    original, handlers.SubprocessTaskHandler = handlers.SubprocessTaskHandler, StepProcess
    try:
        yield run
    finally:
        handlers.SubprocessTaskHandler = original


def step_environment() -> dict[str, str]:
    """The environment of a step's process: this one, with the repository on Python's path, whatever folder it is in."""
    root = str(Path(__file__).parents[1].resolve())
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


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
