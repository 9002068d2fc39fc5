"""kfp.local's own orchestrator, with another way to run a task.

kfp.local walks the pipeline (defaults, placeholders, retries, loops, exit handlers). Its runners refuse steps that are
containers, or say neither how a step ended nor what it said last, and it has no place to plug another runner in. So for
the time of a run its task handler is exchanged, and two functions are wrapped: that which runs a pipeline, to learn its
steps and parameters, and that which makes the handler, to learn the name of the task. kfp is pinned to 2.17, and tests
run small pipelines, so that a change inside kfp shows at once.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..components.common.cli import say
from ..components.common.fetching.web import without_secrets
from . import records, step_cache
from .records import RunRecord, StepRecord
from .runs_page import page as runs_page


@dataclass(frozen=True)
class Task:
    """A task that begins.

    Attributes:
        name: In the pipeline, as kfp has it; in a loop with the iteration before it.
        image: Of its component.
        command: Of its component, placeholders replaced.
        environment: Variables that the pipeline sets for it.
        folder: Its outputs.
        log: File for what it says.
    """

    name: str
    image: str
    command: list[str]
    environment: dict[str, str]
    folder: Path
    log: Path


@dataclass(frozen=True)
class Ended:
    """How a task ended.

    Attributes:
        last_line: What it said last on stderr.
        cpu_seconds: Of all its processes; None: not known.
        peak_memory: Bytes; None: not known.
    """

    exit_code: int
    last_line: str
    cpu_seconds: float | None = None
    peak_memory: int | None = None


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
        runs: Folder for the runs.
        steps: Those that ended, in order.
    """

    runs: Path
    steps: list[StepRun] = field(default_factory=list)
    _record: RunRecord | None = None
    _about: tuple[str, dict[str, Any], list[list[str]]] = ("", {}, [])
    _changes: threading.Lock = field(default_factory=threading.Lock)

    @property
    def began(self) -> bool:
        """Whether its first step began."""
        return self._record is not None

    @property
    def folder(self) -> Path:
        """Its folder, with a folder for each step.

        Raises:
            RuntimeError: it has none before its first step begins.
        """
        if self._record is None:
            raise RuntimeError("expected a pipeline that ran here, received none; call it inside the block")
        return self.runs / self._record.run

    def describe(self, pipeline: str, parameters: dict[str, Any], edges: list[list[str]]) -> None:
        """Learn what is going to run."""
        self._about = pipeline, {name: _plain(value) for name, value in parameters.items()}, edges

    def begin(self, folder: str) -> None:
        """Learn the name of its folder; the first step begins."""
        if self._record is None:
            pipeline, parameters, edges = self._about
            self._record = RunRecord(
                run=folder,
                pipeline=pipeline,
                pid=os.getpid(),
                started=records.now(),
                parameters=parameters,
                edges=edges,
            )

    @contextlib.contextmanager
    def recorded(self, task: Task) -> Iterator[StepRecord]:
        """Keep the record of a step while it runs."""
        assert self._record
        command = records.written(task.command, self.folder)
        step, started = StepRecord(name=task.name, started=records.now(), command=command), time.perf_counter()
        self._write(step)
        if len(self._record.steps) == 1:
            runs_page.write(self.runs)
        try:
            yield step
        except BaseException:
            step.state = records.INTERRUPTED
            raise
        finally:
            step.seconds = round(time.perf_counter() - started, 3)
            self._write()

    def end(self, status: str) -> None:
        """Say how the run ended."""
        if self._record:
            self._record.status, self._record.ended = status, records.now()
            self._write()
            runs_page.write(self.runs)

    def _write(self, began: StepRecord | None = None) -> None:
        """Write the record, and the page of all runs."""
        assert self._record
        with self._changes:  # of a loop, several steps run at the same time
            if began:
                self._record.steps.append(began)
            self._record.write(self.runs)

    @property
    def failed(self) -> StepRun | None:
        """The first step that failed, and did not succeed when it was tried again."""
        last = {step.name: step for step in self.steps}
        return next((step for step in last.values() if step.exit_code), None)


RunTask = Callable[[Task], Ended]
"""Runs a task."""


@contextlib.contextmanager
def orchestrated(runs: Path, run_task: RunTask, code_of: Callable[[Task], str] | None = None) -> Iterator[PipelineRun]:
    """Inside the block a pipeline that is called runs here.

    Args:
        runs: Folder for the runs; each gets a folder of its own in it, with a folder per step.
        run_task: Called for each task; of a loop, for several at the same time.
        code_of: What tells the code of a task; with it, the outputs of an earlier run are taken for a task whose code,
            options and inputs are the same.
    """
    from kfp import local
    from kfp.local import executor_input_utils, pipeline_orchestrator, status, subprocess_task_handler, task_dispatcher

    run = PipelineRun(runs)
    place: ContextVar[tuple[str, Path]] = ContextVar("name and folder of the task whose handler is made")
    uncached: set[str] = set()
    handler = subprocess_task_handler.SubprocessTaskHandler
    run_single_task = task_dispatcher.run_single_task_implementation
    run_local_pipeline = pipeline_orchestrator.run_local_pipeline

    def run_known_pipeline(pipeline_spec: Any, arguments: dict[str, Any]) -> Any:
        defaults = {name: _default(one) for name, one in pipeline_spec.root.input_definitions.parameters.items()}
        run.describe(pipeline_spec.pipeline_info.name, {**defaults, **arguments}, records.edges(pipeline_spec))
        uncached.update(step_cache.switched_off(pipeline_spec))
        return run_local_pipeline(pipeline_spec, arguments)

    def run_named_task(**given: Any) -> Any:
        folder, *loops = given["pipeline_resource_name"].split("/")
        run.begin(folder)
        step = executor_input_utils.get_local_task_resource_name(given["component_name"])
        place.set(("/".join([*loops, step]), runs.resolve() / given["pipeline_resource_name"] / step))
        return run_single_task(**given)

    class TaskHandler:
        """Runs a task by `run_task`."""

        def __init__(
            self, image: str, full_command: list[str], pipeline_root: str, runner: Any, env_vars: dict[str, str]
        ) -> None:
            name, folder = place.get()
            log = run.folder / StepRecord(name=name, started="").log
            self.task = Task(name, image, list(full_command), env_vars, folder, log)

        def run(self) -> Any:
            task = self.task
            task.log.parent.mkdir(parents=True, exist_ok=True)
            with run.recorded(task) as step:
                ended = self._reused(step) or run_task(task)
                done = ended.exit_code == 0
                if not step.reused:
                    step.state = records.SUCCEEDED if done else records.FAILED
                step.exit_code, step.last_line = ended.exit_code, ended.last_line
                step.cpu_seconds, step.peak_memory = ended.cpu_seconds, ended.peak_memory
                step.outputs = step_cache.listing(task.folder) if done and step.key else ""
            run.steps.append(StepRun(task.name, step.seconds or 0.0, ended.exit_code, ended.last_line))
            return status.Status.SUCCESS if done else status.Status.FAILURE

        def _reused(self, step: StepRecord) -> Ended | None:
            """Take the outputs of an earlier run, or the checkpoint of one that was interrupted."""
            task = self.task
            if code_of and task.name.rpartition("/")[2] not in uncached:
                step.key = step_cache.key(code_of(task), task.command, task.environment, task.folder, run.folder)
                if step.key and (earlier := step_cache.reuse(step.key, task.folder, runs)):
                    step.state, step.reused = records.REUSED, earlier
                    say(
                        step.name,
                        f"not run: outputs reused from run {earlier}, which had the same code, options and inputs",
                    )
                    return Ended(0, "")
            step_cache.take_checkpoint(step, task.folder, runs)
            return None

    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(runs.resolve()))
    subprocess_task_handler.SubprocessTaskHandler = TaskHandler
    task_dispatcher.run_single_task_implementation = run_named_task
    pipeline_orchestrator.run_local_pipeline = run_known_pipeline
    try:
        yield run
    except BaseException as error:
        run.end(records.FAILED if isinstance(error, Exception) else records.INTERRUPTED)
        raise
    else:
        run.end(records.FAILED if run.failed else records.SUCCEEDED)
    finally:
        subprocess_task_handler.SubprocessTaskHandler = handler
        task_dispatcher.run_single_task_implementation = run_single_task
        pipeline_orchestrator.run_local_pipeline = run_local_pipeline


def _default(parameter: Any) -> Any:
    """The default of a pipeline's parameter."""
    from google.protobuf.json_format import MessageToDict

    value = MessageToDict(parameter.default_value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _plain(value: Any) -> Any:
    return without_secrets(value) if isinstance(value, str) and "://" in value else value
