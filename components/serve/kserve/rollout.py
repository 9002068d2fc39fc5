"""How far a rollout on KServe is: done, under way or lost.

KServe's `Ready` alone does not tell: right after an update it is the old model's True, in a rollout it may be False for
a while, and a model that cannot be loaded leaves it as it was. So each deployment mode looks at what is new in this
rollout: the revision (Knative) or the Deployment's template (Standard).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from . import status

GRACE = 60.0
GRACE_INVALID = 15.0
LONGEST_MESSAGE = 240

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
        touched: Whether labels, annotations or scaling changed, which may start new pods.
        replicas: Pods that have to answer at least; 0: as many as the Deployment has.
        generation: That of the InferenceService as it was written; a later one is somebody else's.
    """

    storage_uri: str
    changed: bool = False
    percent: int = 100
    canary: str = ""
    back: bool = False
    touched: bool = False
    replicas: int = 0
    generation: int = 0


@dataclass(frozen=True)
class Before:
    """What was there before the update.

    Attributes:
        revision: The latest created one (Knative); empty: none.
        generation: That of the Deployment which is rolled out (Standard); 0: there was none.
        failure: The last failure that KServe told of, which stays in the status for good.
        since: When it was written, in `time.monotonic()` seconds.
    """

    revision: str = ""
    generation: int = 0
    failure: Object = field(default_factory=dict)
    since: float = 0


DELETED = RolloutStatus(Phase.FAILED, "Deleted", "the InferenceService was deleted meanwhile")


def ended(service: Object, goal: Goal) -> RolloutStatus | None:
    """What takes a service out of any rollout; None if nothing does."""
    if service["metadata"].get("deletionTimestamp"):
        return DELETED
    generation = service["metadata"].get("generation", 0)
    if goal.generation and generation > goal.generation:
        who, when = status.last_writer(service)
        changed = f"{who or 'somebody else'} changed the InferenceService{f' at {when}' if when else ''}"
        return RolloutStatus(Phase.FAILED, "Superseded", f"{changed} (generation {generation})")
    conditions = status.conditions(service)
    if status.is_true(conditions, "Stopped") or conditions.get("PredictorReady", {}).get("reason") == "Stopped":
        return RolloutStatus(Phase.FAILED, "Stopped", "the annotation serving.kserve.io/stop keeps it from running")
    return None


def failure(told: Object, predictor: Object, known: Object) -> RolloutStatus | None:
    """What KServe says is wrong now. Its `lastFailureInfo` and `BlockedByFailedLoad` outlast the rollout that failed.

    Args:
        told: Status of the service, or what it tells of the canary that is rolled out.
        predictor: The condition PredictorReady; empty: not told.
        known: The failure that was told before this rollout.
    """
    model = told.get("modelStatus") or {}
    info = model.get("lastFailureInfo") or {}
    reason, message = info.get("reason", ""), one_line(info.get("message", ""))
    if model.get("transitionStatus") == "InvalidSpec":
        grace = GRACE if reason == "RuntimeNotRecognized" else GRACE_INVALID  # a runtime may still come
        return RolloutStatus(Phase.INVALID, reason or "InvalidSpec", message, grace)
    if model.get("transitionStatus") == "BlockedByFailedLoad" and (not info or info != known):
        if message and "exitCode" in info:
            message = f"{message} (exit code {info['exitCode']})"
        return RolloutStatus(Phase.FAILED, reason or "BlockedByFailedLoad", message, GRACE)
    if predictor.get("status") == "False" and predictor.get("reason") in ("ReconcileFailed", "InvalidGPUAllocation"):
        return RolloutStatus(Phase.FAILED, predictor["reason"], one_line(predictor.get("message", "")), GRACE)
    return None


def all_true(conditions: Mapping[str, Object], *names: str) -> RolloutStatus:
    """READY if these conditions hold, else ROLLING for the first that does not."""
    for name in names:
        if not status.is_true(conditions, name):
            condition = conditions.get(name, {})
            words = filter(None, (condition.get("reason"), condition.get("message")))
            return RolloutStatus(Phase.ROLLING, name, one_line(" ".join(words)))
    return RolloutStatus(Phase.READY, "Ready")


class Patience:
    """Lets a failure count when it was seen in every look for long enough."""

    def __init__(self, longest: float) -> None:
        """Args:
        longest: Seconds of grace at most, whatever the status allows.
        """
        self._longest = longest
        self._since: float | None = None

    def judge(self, seen: RolloutStatus, now: float) -> RolloutStatus:
        """What was seen, or ROLLING as long as its grace lasts; a pod may fail for one reason and then for another.

        Args:
            now: Seconds on a clock that does not go back.
        """
        if not seen.grace:
            self._since = None
            return seen
        self._since = now if self._since is None else self._since
        if now - self._since < min(seen.grace, self._longest):
            return RolloutStatus(Phase.ROLLING, seen.reason, seen.message)
        return seen


LOG_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d [\d:.,]+ \d+ [\w.]+ [A-Z]+ \[\S+\] ")
"""What KServe's Python images write before a message: time, process, logger, level, place."""


def one_line(text: str) -> str:
    """The last line of a text that says something, as a log does in its last one; cut to what can be read."""
    lines = [" ".join(line.split()) for line in text.splitlines() if any(map(str.isalnum, line))]
    line = LOG_PREFIX.sub("", lines[-1]) if lines else ""
    if len(line) <= LONGEST_MESSAGE:
        return line
    end = line[-LONGEST_MESSAGE:]  # where the cause is; from the beginning of a clause, or else of a word
    return f"... {end.partition(': ')[2] or end.partition(' ')[2] or end}"
