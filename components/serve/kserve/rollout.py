"""How far a rollout on KServe is: done, under way or lost.

KServe's `Ready` alone does not tell: right after an update it is the old model's True, in a rollout it may be False for
a while, and a model that cannot be loaded leaves it as it was. So each deployment mode looks at what is new in this
rollout: the revision (Knative) or the Deployment's template (Standard).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from . import status

GRACE = 60.0
GRACE_INVALID = 15.0

Object = Mapping[str, Any]


class Phase(Enum):
    """Where a rollout is."""

    READY = "ready"
    ROLLING = "not ready yet"
    FAILED = "failed"
    INVALID = "cannot be served as it is specified"


@dataclass(frozen=True)
class RolloutStatus:
    """What a look at the cluster means.

    Attributes:
        reason: One word: KServe's own where it gave one.
        message: KServe's text, or ours.
        grace: Seconds that a failure has to be seen in every look before it counts, since some heal.
    """

    phase: Phase
    reason: str
    message: str = ""
    grace: float = 0

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}" if self.message else self.reason


@dataclass(frozen=True)
class Goal:
    """What a rollout is to end in.

    Attributes:
        storage_uri: Where the new model is; empty: it comes in an image.
        changed: Whether the update changed the predictor, so that something newer than `before` has to come.
        percent: Share of the requests that the newest version is to get.
        canary: Name of the canary that is rolled out beside a Deployment that stays (Standard); empty: none.
        back: Whether a canary is taken back, and the version before it is the one that has to answer.
    """

    storage_uri: str
    changed: bool
    percent: int = 100
    canary: str = ""
    back: bool = False


@dataclass(frozen=True)
class Before:
    """What was there before the update.

    Attributes:
        revision: The latest created one (Knative); empty: none.
        generation: That of the Deployment which is rolled out (Standard); 0: there was none.
    """

    revision: str = ""
    generation: int = 0


DELETED = RolloutStatus(Phase.FAILED, "Deleted", "the InferenceService was deleted meanwhile")


def ended(service: Object) -> RolloutStatus | None:
    """What takes a service out of any rollout; None if nothing does."""
    if service["metadata"].get("deletionTimestamp"):
        return DELETED
    conditions = status.conditions(service)
    if status.is_true(conditions, "Stopped") or conditions.get("PredictorReady", {}).get("reason") == "Stopped":
        return RolloutStatus(Phase.FAILED, "Stopped", "the annotation serving.kserve.io/stop keeps it from running")
    return None


def failure(told: Object, predictor: Object) -> RolloutStatus | None:
    """What KServe says is wrong now. Its `lastFailureInfo` stays for good, so only the transition makes it current.

    Args:
        told: Status of the service, or what it tells of the canary that is rolled out.
        predictor: The condition PredictorReady; empty: not told.
    """
    model = told.get("modelStatus") or {}
    info = model.get("lastFailureInfo") or {}
    reason, message = info.get("reason", ""), info.get("message", "")
    if model.get("transitionStatus") == "InvalidSpec":
        grace = GRACE if reason == "RuntimeNotRecognized" else GRACE_INVALID  # a runtime may still come
        return RolloutStatus(Phase.INVALID, reason or "InvalidSpec", message, grace)
    if model.get("transitionStatus") == "BlockedByFailedLoad":
        if "exitCode" in info:
            message = f"{message} (exit code {info['exitCode']})".strip()
        return RolloutStatus(Phase.FAILED, reason or "BlockedByFailedLoad", message, GRACE)
    if predictor.get("status") == "False" and predictor.get("reason") in ("ReconcileFailed", "InvalidGPUAllocation"):
        return RolloutStatus(Phase.FAILED, predictor["reason"], predictor.get("message", ""), GRACE)
    return None


def all_true(conditions: Mapping[str, Object], *names: str) -> RolloutStatus:
    """READY if these conditions hold, else ROLLING for the first that does not."""
    for name in names:
        if not status.is_true(conditions, name):
            condition = conditions.get(name, {})
            words = filter(None, (condition.get("reason"), condition.get("message")))
            return RolloutStatus(Phase.ROLLING, name, " ".join(words))
    return RolloutStatus(Phase.READY, "Ready")


class Patience:
    """Lets a failure count when it was seen in every look for long enough."""

    def __init__(self, longest: float) -> None:
        """Args:
        longest: Seconds of grace at most, whatever the status allows.
        """
        self._longest = longest
        self._reason = ""
        self._since = 0.0

    def judge(self, seen: RolloutStatus, now: float) -> RolloutStatus:
        """What was seen, or ROLLING as long as its grace lasts.

        Args:
            now: Seconds on a clock that does not go back.
        """
        reason = seen.reason if seen.grace else ""
        if reason != self._reason:
            self._reason, self._since = reason, now
        if seen.grace and now - self._since < min(seen.grace, self._longest):
            return RolloutStatus(Phase.ROLLING, seen.reason, seen.message)
        return seen
