"""Watch a rollout until it is ready, has failed, or the time is up, and tell meanwhile how far it is."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from ...common.cli import BadInput
from ...common.waiting import wait_for
from ..target import Tell
from . import status
from .cluster import EVENT, SERVICE, Namespace, Object, pauses
from .modes import look
from .rollout import GRACE, Before, Goal, Patience, Phase, RolloutStatus, one_line

UNTOUCHED = ("NotObserved", "NoDeploymentMode", "NoDeployment", "NoNewRevision")
"""What is seen as long as KServe has done nothing."""
SECONDS_BETWEEN_LINES = 30.0
SECONDS_OF_CLOCKS_APART = 5
GRACE_FORBIDDEN = 10.0
"""Seconds that a right may be missing: an API server that has just started does not know all roles yet."""


class Watch:
    """Watches the rollouts of one service."""

    def __init__(self, cluster: Namespace, name: str, timeout: float, tell: Tell) -> None:
        """Args:
        timeout: Seconds that a rollout may take; a tenth of it is the longest grace for a failure that may heal.
        """
        self._cluster, self._name, self._tell = cluster, name, tell
        self._longest_grace = timeout / 10
        self._started = self._told_at = time.monotonic()
        self._began = f"{datetime.now(UTC) - timedelta(seconds=SECONDS_OF_CLOCKS_APART):%Y-%m-%dT%H:%M:%SZ}"
        self._told = ""

    def until_ready(self, goal: Goal, before: Before, deadline: float) -> Object:
        """The InferenceService as it is when the rollout is ready.

        Raises:
            BadInput: KServe cannot serve what is specified.
            RuntimeError: the rollout failed.
            TimeoutError: it is not ready at the deadline.
        """
        self._told, patience = "", Patience(self._longest_grace)
        service: Object | None = None
        seen = RolloutStatus(Phase.ROLLING, "NotObserved")

        def ready() -> bool:
            nonlocal service, seen
            service, seen = self._look(goal, before)
            seen = patience.judge(seen, time.monotonic())
            if seen.phase is Phase.INVALID:
                raise BadInput(f"{self._name}: KServe cannot serve this ({seen})")
            if seen.phase is Phase.FAILED:
                more = "" if seen.message else self._complaints(service, seen)
                raise RuntimeError(f"{self._name}: the rollout failed ({seen}){more}")
            if seen.phase is Phase.ROLLING:
                self._say(seen, deadline)
            return seen.phase is Phase.READY

        wait_for(ready, deadline, pauses())
        if seen.phase is Phase.READY and service is not None:
            self._tell(f"{self._name}: ready after {time.monotonic() - self._started:.0f} s")
            return service
        allowed = deadline - self._started
        raise TimeoutError(f"{self._name}: not ready after {allowed:.0f} s ({seen}){self._complaints(service, seen)}")

    def _look(self, goal: Goal, before: Before) -> tuple[Object | None, RolloutStatus]:
        try:
            service = self._cluster.get(SERVICE, self._name)
            seen = look(self._cluster, service, goal, before)
            return service, (self._event() if seen.reason in UNTOUCHED else None) or seen
        except ConnectionError as error:  # it answered when the rollout began
            return None, RolloutStatus(Phase.ROLLING, "Unreachable", str(error))
        except PermissionError as error:
            return None, RolloutStatus(Phase.FAILED, "Forbidden", str(error), GRACE_FORBIDDEN)

    def _say(self, seen: RolloutStatus, deadline: float) -> None:
        """Tell how far the rollout is, when that has changed and now and then."""
        now = time.monotonic()
        if seen.reason != self._told or now - self._told_at > SECONDS_BETWEEN_LINES:
            self._told, self._told_at = seen.reason, now
            seconds, allowed = now - self._started, deadline - self._started
            self._tell(f"{self._name}: not ready yet ({seen}), {seconds:.0f} s of {allowed:.0f}")

    def _complaints(self, service: Object | None, seen: RolloutStatus) -> str:
        """What the conditions that are False say, and what KServe could not do, where `seen` has not said it."""
        texts = [
            f"{name} {one.get('reason', '')}: {one_line(one['message'])}"
            for name, one in status.conditions(service or {}).items()
            if one["status"] == "False" and one.get("message") and one_line(one["message"]) not in seen.message
        ]
        return f"; {'; '.join(texts)}" if texts else ""

    def _event(self) -> RolloutStatus | None:
        """Why KServe does nothing at all, which it tells in an Event alone, as without Knative in Knative mode."""
        about = f"involvedObject.kind=InferenceService,involvedObject.name={self._name},type=Warning"
        with suppress(BadInput, OSError, RuntimeError):  # listing Events is a right that the step can do without
            for one in self._cluster.listed(EVENT, fieldSelector=about):
                if (one.get("lastTimestamp") or one.get("eventTime") or "") >= self._began:
                    return RolloutStatus(Phase.FAILED, one.get("reason", ""), one_line(one.get("message", "")), GRACE)
        return None
