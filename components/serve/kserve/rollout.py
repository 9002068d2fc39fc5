"""Decide from what the cluster shows whether a rollout on KServe is done, under way or lost.

KServe's `Ready` alone does not tell: right after an update it is the old model's True, in a rollout it may be False for
a while, and a model that cannot be loaded leaves it as it was. So the decision looks at what is new in this rollout:
the revision (Knative) or the Deployment's template (Standard). It is a function of what was seen, without a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .specification import MODES

SOURCE_ANNOTATION = "internal.serving.kserve.io/storage-initializer-sourceuri"
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
class Verdict:
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
class Want:
    """What a rollout wants.

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


def classify(service: Object | None, deployment: Object | None, want: Want, before: Before) -> Verdict:
    """Judge one look at the cluster.

    Args:
        service: The InferenceService; None when it is gone.
        deployment: The Deployment that is rolled out, the predictor's or the canary's; None when there is none. Only
            looked at in Standard mode.
        want: What the rollout wants.
        before: What was there before it.
    """
    if service is None or service["metadata"].get("deletionTimestamp"):
        return Verdict(Phase.FAILED, "Deleted", "the InferenceService was deleted meanwhile")
    status = service.get("status") or {}
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    if not conditions:
        return Verdict(Phase.ROLLING, "NotObserved", "KServe has not looked at it yet")
    predictor = conditions.get("PredictorReady", {})
    if _is(conditions, "Stopped", "True") or predictor.get("reason") == "Stopped":
        return Verdict(Phase.FAILED, "Stopped", "the annotation serving.kserve.io/stop keeps it from running")

    mode = deployment_mode(service)
    if mode == "Knative":
        verdict = _knative(status, conditions, want, before)
    elif mode == "Standard":
        verdict = _standard(status, deployment, conditions, want, before)
    elif not mode:
        return Verdict(Phase.ROLLING, "NoDeploymentMode", "KServe has not chosen how to deploy it yet")
    else:
        return Verdict(Phase.FAILED, "UnsupportedMode", f"deployment mode {mode} is not known here")
    failure = _failure(_canary(status, want.canary) if want.canary else status, predictor)
    if failure and (verdict.phase is Phase.ROLLING or failure.phase is Phase.INVALID):
        return failure
    return verdict


def deployment_mode(service: Object) -> str:
    """`Knative`, `Standard`, another mode, or nothing as long as KServe has not chosen; older names are translated."""
    mode = (service.get("status") or {}).get("deploymentMode", "")
    return MODES.get(mode, mode)


def _failure(status: Object, predictor: Object) -> Verdict | None:
    """What KServe says is wrong now. Its `lastFailureInfo` stays for good, so only the transition makes it current."""
    model = status.get("modelStatus") or {}
    info = model.get("lastFailureInfo") or {}
    reason, message = info.get("reason", ""), info.get("message", "")
    if model.get("transitionStatus") == "InvalidSpec":
        grace = GRACE if reason == "RuntimeNotRecognized" else GRACE_INVALID  # a runtime may still come
        return Verdict(Phase.INVALID, reason or "InvalidSpec", message, grace)
    if model.get("transitionStatus") == "BlockedByFailedLoad":
        if "exitCode" in info:
            message = f"{message} (exit code {info['exitCode']})".strip()
        return Verdict(Phase.FAILED, reason or "BlockedByFailedLoad", message, GRACE)
    if predictor.get("status") == "False" and predictor.get("reason") in ("ReconcileFailed", "InvalidGPUAllocation"):
        return Verdict(Phase.FAILED, predictor["reason"], predictor.get("message", ""), GRACE)
    return None


def _canary(status: Object, name: str) -> Object:
    """What the status says of one canary."""
    return next((one for one in status.get("canaryStatuses") or [] if one.get("name") == name), {})


def _knative(status: Object, conditions: Mapping[str, Object], want: Want, before: Before) -> Verdict:
    predictor = (status.get("components") or {}).get("predictor") or {}
    share = sum(one.get("percent") or 0 for one in predictor.get("traffic") or [] if one.get("latestRevision"))
    created = predictor.get("latestCreatedRevision", "")
    if want.back:  # the revision that is left behind need not be ready
        if share != want.percent:
            return Verdict(Phase.ROLLING, "Traffic", f"{created} still gets {share} % of the requests")
        return _all_true(conditions, ("RoutesReady", "IngressReady"))
    if not created or (want.changed and created == before.revision):
        return Verdict(Phase.ROLLING, "NoNewRevision", "KServe has not created the new revision yet")
    if predictor.get("latestReadyRevision", "") != created:
        configuration = conditions.get("PredictorConfigurationReady", {})
        if configuration.get("status") == "False":
            reason = configuration.get("reason", "RevisionFailed")
            return Verdict(Phase.FAILED, reason, f"{created}: {configuration.get('message', '')}", GRACE)
        return Verdict(Phase.ROLLING, "RevisionNotReady", created)
    if share != want.percent:
        return Verdict(Phase.ROLLING, "Traffic", f"{created} gets {share} % of the requests so far")
    if share == 100 and predictor.get("latestRolledoutRevision", "") != created:
        return Verdict(Phase.ROLLING, "NotRolledOut", created)
    needed = ("PredictorReady", "RoutesReady", "LatestDeploymentReady", "IngressReady", "Ready")
    return _all_true(conditions, needed)


def _standard(
    status: Object, deployment: Object | None, conditions: Mapping[str, Object], want: Want, before: Before
) -> Verdict:
    """The Deployment, and then what KServe says of it and of a canary."""
    verdict = _deployed(deployment, want, before)
    if verdict.phase is not Phase.READY:
        return verdict
    needed = ("PredictorReady", "IngressReady", "Ready")
    if not want.canary:
        if status.get("canaryStatuses"):
            return Verdict(Phase.ROLLING, "CanaryEnding", "the canary still gets requests")
        return _all_true(conditions, needed)
    canary = _canary(status, want.canary)
    if not canary.get("ready"):
        return Verdict(Phase.ROLLING, "CanaryNotReady", want.canary)
    if (share := canary.get("trafficPercent") or 0) != want.percent:
        return Verdict(Phase.ROLLING, "Traffic", f"{want.canary} gets {share} % of the requests so far")
    return _all_true(conditions, (*needed, "CanaryPredictorReady"))


def _deployed(deployment: Object | None, want: Want, before: Before) -> Verdict:
    """The rules of `kubectl rollout status`, after making sure that the Deployment is the new one."""
    if deployment is None:
        return Verdict(Phase.ROLLING, "NoDeployment", "KServe has not created the Deployment yet")
    spec, status = deployment["spec"], deployment.get("status") or {}
    annotations = spec["template"].get("metadata", {}).get("annotations") or {}
    if want.storage_uri and annotations.get(SOURCE_ANNOTATION) != want.storage_uri:
        return Verdict(Phase.ROLLING, "NotApplied", "the Deployment still has the earlier model")
    generation = deployment["metadata"].get("generation", 0)
    if want.changed and generation == before.generation:
        return Verdict(Phase.ROLLING, "NotApplied", "KServe has not changed the Deployment yet")
    if status.get("observedGeneration", 0) < generation:
        return Verdict(Phase.ROLLING, "NotObserved", "the Deployment's update has not begun")
    progress = {condition["type"]: condition for condition in status.get("conditions") or []}
    if progress.get("Progressing", {}).get("reason") == "ProgressDeadlineExceeded":
        return Verdict(Phase.FAILED, "ProgressDeadlineExceeded", progress["Progressing"].get("message", ""))
    if _is(progress, "ReplicaFailure", "True"):
        failure = progress["ReplicaFailure"]
        return Verdict(Phase.FAILED, failure.get("reason", "ReplicaFailure"), failure.get("message", ""), GRACE)
    wanted, replicas = spec.get("replicas", 1), status.get("replicas", 0)
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if updated < wanted:
        return Verdict(Phase.ROLLING, "Updating", f"{updated} of {wanted} new pods")
    if replicas > updated:
        return Verdict(Phase.ROLLING, "Updating", f"{replicas - updated} old pods have still to go")
    if available < updated:
        return Verdict(Phase.ROLLING, "Updating", f"{available} of {updated} new pods answer")
    return Verdict(Phase.READY, "Deployed")


def _all_true(conditions: Mapping[str, Object], names: tuple[str, ...]) -> Verdict:
    for name in names:
        condition = conditions.get(name, {})
        if condition.get("status") != "True":
            words = filter(None, (condition.get("reason"), condition.get("message")))
            return Verdict(Phase.ROLLING, name, " ".join(words))
    return Verdict(Phase.READY, "Ready")


def _is(conditions: Mapping[str, Object], name: str, status: str) -> bool:
    return conditions.get(name, {}).get("status") == status


class Patience:
    """Lets a failure count when it was seen in every look for long enough."""

    def __init__(self, longest: float) -> None:
        """Args:
        longest: Seconds of grace at most, whatever the verdict allows.
        """
        self._longest = longest
        self._reason = ""
        self._since = 0.0

    def judge(self, verdict: Verdict, now: float) -> Verdict:
        """The verdict, or ROLLING as long as its grace lasts.

        Args:
            now: Seconds on a clock that does not go back.
        """
        reason = verdict.reason if verdict.grace else ""
        if reason != self._reason:
            self._reason, self._since = reason, now
        if verdict.grace and now - self._since < min(verdict.grace, self._longest):
            return Verdict(Phase.ROLLING, verdict.reason, verdict.message)
        return verdict
