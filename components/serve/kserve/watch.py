"""Watch a rollout until it is ready, has failed, or the time is up, and tell meanwhile how far it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress

from ...common.cli import BadInput
from ...common.waiting import wait_for
from ..target import Tell
from . import status
from .cluster import SERVICE, Namespace, Object, pauses
from .modes import look
from .rollout import Before, Goal, Patience, Phase, RolloutStatus

SECONDS_BETWEEN_LINES = 30.0


class Watch:
    """Watches the rollouts of one service."""

    def __init__(self, cluster: Namespace, name: str, timeout: float, tell: Tell) -> None:
        """Args:
        timeout: Seconds that a rollout may take; a tenth of it is the longest grace for a failure that may heal.
        """
        self._cluster, self._name, self._tell = cluster, name, tell
        self._longest_grace = timeout / 10
        self._started = self._told_at = time.monotonic()
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
                raise RuntimeError(f"{self._name}: the rollout failed ({seen}){self._complaints(service, seen)}")
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
            return service, look(self._cluster, service, goal, before)
        except ConnectionError as error:  # it answered when the rollout began
            return None, RolloutStatus(Phase.ROLLING, "Unreachable", str(error))

    def _say(self, seen: RolloutStatus, deadline: float) -> None:
        """Tell how far the rollout is, when that has changed and now and then."""
        now = time.monotonic()
        if seen.reason != self._told or now - self._told_at > SECONDS_BETWEEN_LINES:
            self._told, self._told_at = seen.reason, now
            seconds, allowed = now - self._started, deadline - self._started
            self._tell(f"{self._name}: not ready yet ({seen}), {seconds:.0f} s of {allowed:.0f}")

    def _complaints(self, service: Object | None, seen: RolloutStatus) -> str:
        """What pods wait for, and what the conditions that are False say, where `seen` has not said it."""
        texts = [
            f"{name} {one.get('reason', '')}: {one['message']}"
            for name, one in status.conditions(service or {}).items()
            if one["status"] == "False" and one.get("message") and one["message"] not in seen.message
        ]
        with suppress(OSError, RuntimeError):  # reading pods is a right that the step can do without
            texts = [*_waiting(self._cluster.pods(f"serving.kserve.io/inferenceservice={self._name}")), *texts]
        return f"; {'; '.join(texts)}" if texts else ""


def _waiting(pods: list[Object]) -> Iterator[str]:
    """Why containers wait: an image that cannot be pulled, a crash, a missing secret."""
    for pod in pods:
        told = status.of(pod)
        for one in [*(told.get("initContainerStatuses") or []), *(told.get("containerStatuses") or [])]:
            waiting = (one.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
                words = " ".join(waiting.get("message", "").split())
                yield f"pod {pod['metadata']['name']}: {waiting['reason']}{f': {words}' if words else ''}"
        scheduled = status.conditions(pod).get("PodScheduled", {})
        if scheduled.get("status") == "False":
            yield (f"pod {pod['metadata']['name']}: {scheduled.get('reason', '')}: {scheduled.get('message', '')}")
