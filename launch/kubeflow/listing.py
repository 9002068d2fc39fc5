"""Runs and schedules as tables for people."""

import datetime
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ...components.common.cli import BadInput
from ...components.common.progress import columns
from .api import Api
from .logs import Logs, Results
from .pods import RunPods
from .tasks import ENDED, failed_task, tasks_of

LOGS_AT_ONCE = 8


def tell_runs(api: Api, experiment: str, count: int) -> str:
    """The newest runs: ID, name, state, start, duration, accuracy, and the model or the failed step."""
    listed = api.runs(count, api.experiment(experiment) if experiment else "")
    with ThreadPoolExecutor(LOGS_AT_ONCE) as pool:
        rows = list(pool.map(lambda run: _row(api, run), listed))
    if not rows:
        return "no runs"
    return columns([("RUN", "NAME", "STATE", "STARTED", "TOOK", "ACCURACY", "RESULT"), *rows])


def _row(api: Api, run: Any) -> tuple[str, ...]:
    found = Results()
    result = ""
    if run.state == "SUCCEEDED":
        found = Logs(api, RunPods(run.run_id, api.namespace_of(run)), run.run_id).results(run)
        result = found.model_uri
    elif task := failed_task(run):
        result = f"failed in {task.name}"
    elif running := [task.name for task in tasks_of(run) if task.state in ("RUNNING", "PENDING")]:
        result = f"in {', '.join(running)}"
    took = f"{(run.finished_at - run.created_at).total_seconds():.0f} s" if run.state in ENDED else ""
    return run.run_id, run.display_name, str(run.state or ""), _local(run.created_at), took, found.accuracy, result


def tell_schedules(api: Api) -> str:
    """The schedules: name, ID, state, when they run."""
    rows = [
        (one.display_name, str(one.status or ""), _when(one.trigger), _local(one.created_at), one.recurring_run_id)
        for one in api.schedules()
    ]
    return columns([("NAME", "STATE", "WHEN", "CREATED", "ID"), *rows]) if rows else "no schedules"


def find_schedule(api: Api, name: str, experiment: str = "") -> Any:
    """The schedule with a name or an ID.

    Raises:
        BadInput: there is none, or several.
    """
    listed = api.schedules(api.experiment(experiment) if experiment else "")
    found = [one for one in listed if name in (one.display_name, one.recurring_run_id)]
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInput(f"NAME: expected one schedule, {len(found)} are named {name!r}; pass an ID from schedule list")
    raise BadInput(f"NAME: expected a schedule, received {name!r}, which is none; see trainyard schedule list")


def _when(trigger: Any) -> str:
    if trigger and trigger.cron_schedule:
        return f"cron {trigger.cron_schedule.cron}"
    if trigger and trigger.periodic_schedule:
        return f"every {datetime.timedelta(seconds=int(trigger.periodic_schedule.interval_second))}"
    return ""


def _local(time: datetime.datetime) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M}"
