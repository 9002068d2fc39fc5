"""Follow a run to its end: a line per step as it changes state, what a step waits for, what it all ended in."""

import time
from typing import Any

import click

from ...components.common.cli import Terminated, say
from .api import Api
from .errors import Away, NotKfp, SignIn
from .logs import Logs
from .pods import RunPods
from .tasks import ENDED, Task, failed_task, tasks_of

SECONDS_BETWEEN_LOOKS = (1.0, 5.0)
"""At the beginning, and after some minutes."""
SECONDS_BEFORE_ASKING = 60.0
"""After so long in one state it is asked what a step waits for."""
SECONDS_BETWEEN_QUESTIONS = 30.0
SECONDS_OF_SILENCE = 60.0
"""After so long a line says that the run goes on, for those who watch a log."""
PATIENCE = 3600.0
"""Seconds for which the API may be away."""


def follow_run(api: Api, run_id: str, timeout: float = 0) -> None:
    """Follow a run to its end and print its results.

    Args:
        timeout: Seconds after which the wait ends, not the run; 0: none.

    Raises:
        BadInput: there is no such run.
        RuntimeError: the run did not succeed; the failed step and its last line are in the message.
        TimeoutError, ConnectionError: the wait ended before the run did.
        KeyboardInterrupt, Terminated: likewise.
    """
    goes_on = f"the run continues: trainyard follow {run_id} --host {api.host}"
    watch = _Watch(api, run_id, timeout)
    try:
        run = watch.until_ended()
    except TimeoutError as error:
        raise TimeoutError(f"{error}; {goes_on}") from None
    except (Away, NotKfp, SignIn) as error:
        raise ConnectionError(f"{error}; {goes_on}") from None
    except (KeyboardInterrupt, Terminated) as error:
        raise type(error)(f"stopped waiting; {goes_on}") from None
    logs = Logs(api, RunPods(run_id, api.namespace_of(run)), run_id)
    if run.state != "SUCCEEDED":
        raise _failure(api, logs, run, watch.terminated)
    say("run", f"succeeded in {(run.finished_at - run.created_at).total_seconds():.0f} s")
    found = logs.results(run)
    for name, value in (("accuracy", found.accuracy), ("model", found.model_uri), ("endpoint", found.endpoint)):
        if value:
            click.echo(f"{name:<9} {value}")


def _failure(api: Api, logs: Logs, run: Any, terminated: bool) -> RuntimeError:
    """What to raise for a run that did not succeed."""
    link = api.link(run.run_id)
    last_states = {run.state, *(status.state for status in (run.state_history or [])[-2:])}
    if terminated or {"CANCELING", "CANCELED"} & last_states:
        return RuntimeError(f"run {run.run_id} was terminated; submit it again, or trainyard retry {run.run_id}")
    task = failed_task(run)
    if not task:
        told = " ".join((run.error.message if run.error else "").split()) or "the API names no failed step"
        return RuntimeError(f"run {run.run_id} ended as {run.state}: {told}; see {link or 'its page in the UI'}")
    lines = logs.lines(task)
    where = f"kubectl logs -n {api.namespace_of(run)} {task.pod} -c main" if task.pod else ""
    if where or link:
        say(task.name, "log: " + ", or ".join(filter(None, (where, link))))
    said = lines[-1] if lines else task.error or "its log cannot be read from here"
    return RuntimeError(f"run {run.run_id} failed in step {task.name}: {said}")


class _Watch:
    """Looks at a run again and again, and tells what changed."""

    def __init__(self, api: Api, run_id: str, timeout: float) -> None:
        self._api, self._run_id, self._timeout = api, run_id, timeout
        self._began = self._spoke = time.monotonic()
        self._away_since = 0.0
        self._asked = float("-inf")
        self._states: dict[tuple[str, int], str] = {}
        self._reasons: dict[str, str] = {}
        self._pods: RunPods | None = None
        self.terminated = False
        """Whether its end was asked for: it ends as FAILED all the same."""

    def until_ended(self) -> Any:
        """The run at its end.

        Raises:
            TimeoutError: it did not end in time.
            Away, NotKfp, SignIn: the API was away for too long, or wants another sign-in.
        """
        while True:
            if run := self._look():
                self.terminated = run.state == "CANCELING" or (self.terminated and run.state in ENDED)
                self._tell_changes(run)
                if run.state in ENDED:
                    return run
                self._tell_waits(run)
            waited = time.monotonic() - self._began
            first, last = SECONDS_BETWEEN_LOOKS
            pause = min(last, first + waited / 60)
            if self._timeout:
                if waited >= self._timeout:
                    raise TimeoutError(f"no end after {self._timeout:.0f} s")
                pause = min(pause, self._timeout - waited)
            time.sleep(pause)

    def _look(self) -> Any:
        """The run as it is now; None while the API is away."""
        try:
            run = self._api.run(self._run_id, patience=0)
        except (Away, NotKfp) as error:
            now = time.monotonic()
            if not self._away_since:
                self._away_since = now
                self._say("run", f"{str(error).rpartition(';')[0]}; the run continues, trying again")
            if now - self._away_since > PATIENCE:
                raise
            return None
        if self._away_since:
            self._say("run", f"the API answers again after {time.monotonic() - self._away_since:.0f} s")
            self._away_since = 0.0
        return run

    def _tell_changes(self, run: Any) -> None:
        seen: dict[str, int] = {}
        for task in tasks_of(run):
            seen[task.name] = seen.get(task.name, 0) + 1  # a loop has several of one name
            key = (task.name, seen[task.name])
            if self._states.get(key) != task.state:
                self._states[key] = task.state
                self._say(task.name, _told(task, run.created_at.timestamp()))

    def _tell_waits(self, run: Any) -> None:
        now = time.time()
        slow = [
            task
            for task in tasks_of(run)
            if task.state in ("PENDING", "RUNNING") and now - (task.started or now) >= SECONDS_BEFORE_ASKING
        ]
        if not slow and now - run.created_at.timestamp() < SECONDS_BEFORE_ASKING:
            return
        if time.monotonic() - self._asked >= SECONDS_BETWEEN_QUESTIONS:
            self._asked = time.monotonic()
            self._tell_reasons(run, slow)
        if time.monotonic() - self._spoke >= SECONDS_OF_SILENCE:
            for task in slow[-1:]:
                self._say(task.name, f"{task.state.lower()} for {now - task.started:.0f} s")

    def _tell_reasons(self, run: Any, slow: list[Task]) -> None:
        if self._pods is None:
            self._pods = RunPods(self._run_id, self._api.namespace_of(run))
        reasons = {task.name: task.error for task in slow if task.error} | self._pods.waiting()
        for step, reason in reasons.items():
            if self._reasons.get(step) != reason:
                self._reasons[step] = reason
                self._say(step, f"waits: {reason}")
        if self._pods.unreadable and not self._reasons:
            self._reasons["run"] = self._pods.unreadable
            self._say(
                "run",
                f"the pods cannot be read from here ({self._pods.unreadable}): a step that waits for a secret, "
                "an image, a GPU or the quota shows as running",
            )

    def _say(self, step: str, text: str) -> None:
        self._spoke = time.monotonic()
        say(step, text)


def _told(task: Task, created: float) -> str:
    """The state of a step, with seconds."""
    if task.state == "RUNNING" and task.started:
        return f"running, {max(0.0, task.started - created):.0f} s into the run"
    if task.state in ENDED and task.seconds is not None:
        return f"{task.state.lower()} after {task.seconds:.0f} s"
    return task.state.lower()
