"""kfp.local's own orchestrator, with another way to run a task.

kfp.local walks the pipeline (defaults, placeholders, retries, loops, exit handlers). Its runners refuse steps that are
containers, or say neither how a step ended nor what it said last, and it has no place to plug another runner in. So for
the time of a run its task handler is exchanged, and the function that makes the handler is wrapped to learn the name of
the task. kfp is pinned to 2.17, and tests run small pipelines, so that a change inside kfp shows at once.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """A task that begins.

    Attributes:
        name: In the pipeline, as kfp has it; in a loop with the iteration before it.
        image: Of its component.
        command: Of its component, placeholders replaced.
        environment: Variables that the pipeline sets for it.
    """

    name: str
    image: str
    command: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class StepRun:
    """One step as it ran: its name in the pipeline, wall time in seconds, exit code and last line on stderr."""

    name: str
    seconds: float
    exit_code: int
    last_line: str


@dataclass
class PipelineRun:
    """What is known of a run.

    Attributes:
        steps: Those that ended, in order.
    """

    steps: list[StepRun] = field(default_factory=list)
    _folder: Path | None = None

    @property
    def began(self) -> bool:
        """Whether its first step began."""
        return self._folder is not None

    @property
    def folder(self) -> Path:
        """Its folder, with a folder for each step.

        Raises:
            RuntimeError: it has none before its first step begins.
        """
        if self._folder is None:
            raise RuntimeError("expected a pipeline that ran here, received none; call it inside the block")
        return self._folder

    def begin(self, folder: Path) -> None:
        """Learn its folder; the first step begins."""
        self._folder = folder

    @property
    def failed(self) -> StepRun | None:
        """The first step that failed, and did not succeed when it was tried again."""
        last = {step.name: step for step in self.steps}
        return next((step for step in last.values() if step.exit_code), None)


RunTask = Callable[[Task], tuple[int, str]]
"""Runs a task; returns its exit code and its last line on stderr."""


@contextlib.contextmanager
def orchestrated(runs: Path, run_task: RunTask) -> Iterator[PipelineRun]:
    """Inside the block a pipeline that is called runs here.

    Args:
        runs: Folder for the runs; each gets a folder of its own in it, with a folder per step.
        run_task: Called for each task; of a loop, for several at the same time.
    """
    from kfp import local
    from kfp.local import executor_input_utils, status, subprocess_task_handler, task_dispatcher

    run = PipelineRun()
    name: ContextVar[str] = ContextVar("name of the task whose handler is made")
    handler = subprocess_task_handler.SubprocessTaskHandler
    run_single_task = task_dispatcher.run_single_task_implementation

    def run_named_task(**given: Any) -> Any:
        folder, *loops = given["pipeline_resource_name"].split("/")
        run.begin(runs / folder)
        name.set("/".join([*loops, executor_input_utils.get_local_task_resource_name(given["component_name"])]))
        return run_single_task(**given)

    class TaskHandler:
        """Runs a task by `run_task`."""

        def __init__(
            self, image: str, full_command: list[str], pipeline_root: str, runner: Any, env_vars: dict[str, str]
        ) -> None:
            self.task = Task(name.get(), image, list(full_command), env_vars)

        def run(self) -> Any:
            started = time.perf_counter()
            code, last_line = run_task(self.task)
            run.steps.append(StepRun(self.task.name, time.perf_counter() - started, code, last_line))
            return status.Status.SUCCESS if code == 0 else status.Status.FAILURE

    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(runs.resolve()))
    subprocess_task_handler.SubprocessTaskHandler = TaskHandler
    task_dispatcher.run_single_task_implementation = run_named_task
    try:
        yield run
    finally:
        subprocess_task_handler.SubprocessTaskHandler = handler
        task_dispatcher.run_single_task_implementation = run_single_task
