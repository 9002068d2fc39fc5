"""What is known of a run on this machine: `run.json` in its folder, written anew at every change."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..components.common.artifacts import schema
from ..components.common.cli import BadInput
from ..components.common.fetching.web import without_secrets
from ..components.common.files import write_json

RECORD = "run.json"
LOGS = "logs"
RUNNING, SUCCEEDED, FAILED, INTERRUPTED, REUSED = "running", "succeeded", "failed", "interrupted", "reused"
"""States of runs and steps; REUSED is a step whose outputs were taken from an earlier run."""
DONE = (SUCCEEDED, REUSED)


@dataclass(kw_only=True)
class StepRecord:
    """A step of a run.

    Attributes:
        name: In the pipeline; in a loop with the iteration before it.
        state: One of the above.
        started: ISO 8601 in UTC.
        command: Without secrets, the run's folder as `RUN`.
        seconds: Wall time.
        cpu_seconds: Of all its processes; None: not known.
        peak_memory: Bytes of its largest process, or of its container; None: not known.
        exit_code: None: it has not ended.
        last_line: What it said last.
        key: What tells it from a step with other code, options or inputs; empty: not asked for, or not known.
        outputs: Digest of names and sizes of the files that it wrote.
        reused: Run that its outputs were taken from.
    """

    name: str
    state: str = RUNNING
    started: str
    command: list[str] = field(default_factory=list)
    seconds: float | None = None
    cpu_seconds: float | None = None
    peak_memory: int | None = None
    exit_code: int | None = None
    last_line: str = ""
    key: str = ""
    outputs: str = ""
    reused: str = ""

    @property
    def log(self) -> str:
        """Its log, in the run's folder."""
        return f"{LOGS}/{self.name.replace('/', '.')}.log"


@dataclass(kw_only=True)
class RunRecord:
    """A run.

    Attributes:
        run: Name of its folder.
        pipeline: Name.
        pid: Process that runs it.
        started: ISO 8601 in UTC.
        status: One of RUNNING, SUCCEEDED, FAILED, INTERRUPTED.
        ended: As `started`.
        parameters: Of the pipeline, without secrets.
        edges: Which step follows which.
        steps: In the order in which they began.
    """

    run: str
    pipeline: str
    pid: int
    started: str
    status: str = RUNNING
    ended: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    edges: list[list[str]] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)

    def write(self, runs: Path) -> None:
        """Write it into the run's folder."""
        write_json(runs / self.run / RECORD, {"format": schema.FORMAT, **schema.as_json(self)}, allow_nan=True)


def written(command: list[str], run: Path) -> list[str]:
    """A command as equal runs have it: without secrets, the run's folder as `RUN`, JSON in one order."""
    return [_written(part).replace(str(run.resolve()), "RUN") for part in command]


def _written(part: str) -> str:
    if part.startswith("{"):
        with suppress(ValueError):
            return json.dumps(json.loads(part), sort_keys=True)
    return without_secrets(part) if re.fullmatch(r"\w+://\S+", part) else part


def now() -> str:
    """The time, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read(folder: Path) -> RunRecord | None:
    """The record of a run; None: it has none, or one that this release cannot read."""
    with suppress(OSError, BadInput):
        record = schema.parse(RunRecord, (folder / RECORD).read_bytes(), folder, BadInput)
        if record.status == RUNNING and not _lives(record.pid):
            record.status = INTERRUPTED
        return record
    return None


def newest_first(runs: Path) -> Iterator[RunRecord]:
    """The runs in a folder that have a record."""
    folders = [path for path in runs.glob(f"*/{RECORD}") if not path.parent.is_symlink()]
    for path in sorted(folders, key=lambda path: path.parent.stat().st_ctime_ns, reverse=True):
        if record := read(path.parent):
            yield record


def edges(spec: Any) -> list[list[str]]:
    """Which step follows which, of a compiled pipeline; what is in a loop or an exit handler stands for itself.

    Args:
        spec: kfp's PipelineSpec.
    """
    found: list[list[str]] = []
    _walk(spec.root.dag, spec.components, [], found)
    return found


def _walk(dag: Any, components: Mapping[str, Any], before: list[str], found: list[list[str]]) -> list[str]:
    """Collect the edges of a DAG whose first steps follow those in `before`; its last steps."""
    ends: dict[str, list[str]] = {}
    for name in _in_order(dag.tasks):
        task = dag.tasks[name]
        former = [end for one in task.dependent_tasks for end in ends[one]] or before
        component = components[task.component_ref.name]
        if component.WhichOneof("implementation") == "dag":
            ends[name] = _walk(component.dag, components, former, found) or former
        else:
            step = task.component_ref.name.removeprefix("comp-")
            found += [[one, step] for one in former]
            ends[name] = [step]
    followed = {one for task in dag.tasks.values() for one in task.dependent_tasks}
    return [end for name in ends if name not in followed for end in ends[name]]


def _in_order(tasks: Mapping[str, Any]) -> list[str]:
    from graphlib import TopologicalSorter

    return list(TopologicalSorter({name: list(task.dependent_tasks) for name, task in tasks.items()}).static_order())


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
