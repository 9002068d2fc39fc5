"""The tasks of a run, as the API tells of them."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
"""States of a run that has ended. One that was terminated ends as FAILED."""


CONTAINER = "system-container-impl"
"""Name of the Argo template that runs a step's container, a part of its pod's name."""


@dataclass(frozen=True)
class Task:
    """A step of a run.

    Attributes:
        name: In the pipeline.
        state: As the API has it: PENDING, RUNNING, SUCCEEDED, FAILED, ...
        started: When it began, in seconds since 1970; 0: it has not.
        seconds: How long it took; None: it has not ended.
        error: What the API says is wrong with it; empty if nothing.
        pod: Name of the pod of its container; empty if it has none. With retries it is not the pod's.
    """

    name: str
    state: str
    started: float
    seconds: float | None
    error: str
    pod: str


def tasks_of(run: Any) -> list[Task]:
    """The steps of a run in the order of their start, without what Kubeflow puts around them.

    The API lists the workflow itself, its root, a driver for each task, and under each task its container, named
    `executor`.
    """
    details = (run.run_details.task_details if run.run_details else None) or []
    steps = [_task(detail) for detail in details if detail.display_name and not _is_plumbing(detail, details)]
    return sorted(steps, key=lambda task: task.started or float("inf"))


def failed_task(run: Any) -> Task | None:
    """The step that failed; of several the one inside the others, which is the last to have begun."""
    failed = [task for task in tasks_of(run) if task.state == "FAILED"]
    return failed[-1] if failed else None


def _is_plumbing(detail: Any, details: list[Any]) -> bool:
    name = detail.display_name
    if name in ("root", "executor") or name.startswith("executor(") or name.endswith("-driver"):
        return True
    nodes = [child.pod_name for child in detail.child_tasks or [] if child.pod_name]
    return any(node.startswith(f"{name}-") and node[len(name) + 1 :].isdigit() for node in nodes)  # the workflow


def _task(detail: Any) -> Task:
    started, ended = _seconds(detail.start_time), _seconds(detail.end_time)
    return Task(
        name=detail.display_name,
        state=str(detail.state or "PENDING"),
        started=started,
        seconds=max(0.0, ended - started) if ended else None,
        error="; ".join(_errors(detail)),
        pod=_pod(detail),
    )


def _pod(detail: Any) -> str:
    """The API gives a node's ID, `trainyard-x7k2p-123`; Argo puts its template into the pod's name."""
    for child in detail.child_tasks or []:
        if child.pod_name:
            workflow, _, digest = child.pod_name.rpartition("-")
            return f"{workflow}-{CONTAINER}-{digest}"
    return ""


def _errors(detail: Any) -> Iterator[str]:
    if detail.error and detail.error.message:
        yield " ".join(detail.error.message.split())
    for status in (detail.state_history or [])[-1:]:
        if status.error and status.error.message:
            yield " ".join(status.error.message.split())


def _seconds(time: datetime.datetime | None) -> float:
    """Since 1970; 0 for what has not happened, which the API gives as the year 1 or 1970."""
    return max(0.0, time.timestamp()) if time and time.year > 1970 else 0.0
