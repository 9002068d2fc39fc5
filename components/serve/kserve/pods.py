"""What the pods of a new version say is wrong: KServe's own status is silent on most of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from ...common.cli import BadInput
from . import status
from .cluster import POD, REPLICA_SET, Namespace, Object
from .rollout import GRACE, Phase, RolloutStatus, one_line

STARTING = ("PodInitializing", "ContainerCreating")
PULLING = ("ErrImagePull", "ImagePullBackOff")
GRACE_PULL = 20.0
"""Seconds; the first failure is seen late, and the kubelet tries again in them."""
NO_LOG = "unable to retrieve container logs"
"""What the kubelet writes in place of the log of a container that it has removed."""
_PREEMPTION = re.compile(r"[.,]? *(?:no new claims to deallocate, *)?preemption:.*", re.DOTALL)
"""What the scheduler adds to its reason: that it can end no other pod for this one either."""
REVISION_ANNOTATION = "deployment.kubernetes.io/revision"

Log = Callable[[str, str, bool], str]
"""Name of a pod, name of a container, whether that before the present one is meant: the end of its log."""


def of_deployment(cluster: Namespace, deployment: Object) -> list[Object]:
    """The pods of a Deployment's newest ReplicaSet.

    Raises:
        PermissionError: listing ReplicaSets or pods is not allowed.
    """
    labels = ",".join(f"{key}={value}" for key, value in deployment["spec"]["selector"]["matchLabels"].items())
    number = _annotations(deployment).get(REVISION_ANNOTATION)
    owners = [
        one["metadata"]["uid"]
        for one in cluster.listed(REPLICA_SET, labelSelector=labels)
        if _owner(one) == deployment["metadata"]["uid"] and _annotations(one).get(REVISION_ANNOTATION) == number
    ]
    return [pod for pod in cluster.listed(POD, labelSelector=labels) if _owner(pod) in owners]


def of_revision(cluster: Namespace, revision: str) -> list[Object]:
    """The pods of a Knative revision.

    Raises:
        PermissionError: listing pods is not allowed.
    """
    return cluster.listed(POD, labelSelector=f"serving.knative.dev/revision={revision}")


def trouble(pods: list[Object], log: Log) -> RolloutStatus | None:
    """The first thing that keeps one of the pods from running; None: nothing known."""
    for pod in pods:
        for reason, message in _unscheduled(pod), *_failing(pod, log):
            if reason:
                grace = GRACE_PULL if reason == "ImagePullBackOff" else GRACE
                return RolloutStatus(Phase.FAILED, reason, f"pod {pod['metadata']['name']}: {message}", grace)
    return None


def _unscheduled(pod: Object) -> tuple[str, str]:
    scheduled = status.conditions(pod).get("PodScheduled", {})
    if scheduled.get("status") != "False":
        return "", ""
    message = _PREEMPTION.sub("", scheduled.get("message", ""))
    return scheduled.get("reason") or "Unschedulable", one_line(message)


def _failing(pod: Object, log: Log) -> Iterator[tuple[str, str]]:
    """Reason and message for each container that waits for something, or has ended and is started again."""
    told = status.of(pod)
    for one in [*(told.get("initContainerStatuses") or []), *(told.get("containerStatuses") or [])]:
        state, last = one.get("state") or {}, one.get("lastState") or {}
        waiting = state.get("waiting") or {}
        ended = state.get("terminated") or last.get("terminated") or {}
        if ended.get("exitCode") and not one.get("ready"):
            yield "CrashLoopBackOff", _crash(pod, one["name"], ended, "running" in state, log)
        elif waiting.get("reason") not in (None, *STARTING):
            text = one_line(waiting.get("message", "")) or f"container {one['name']} waits"
            if waiting["reason"] not in PULLING:
                yield waiting["reason"], text
            else:
                image = one.get("image", "")
                yield "ImagePullBackOff", text if image in text else f"{image}: {text}"


def _crash(pod: Object, container: str, ended: Mapping[str, Any], previous: bool, log: Log) -> str:
    """How a container ended, with the last line of its log."""
    text = ended.get("message", "")
    if not text:
        with suppress(BadInput, OSError, RuntimeError):  # reading logs is a right that the step can do without
            text = log(pod["metadata"]["name"], container, previous)
    if text.startswith(NO_LOG):
        text = ""
    reason = ended.get("reason", "Error")
    how = f"exit code {ended['exitCode']}" + ("" if reason == "Error" else f", {reason}")
    return f"container {container} ended with {how}" + (f": {one_line(text)}" if text else "")


def _annotations(one: Object) -> Mapping[str, str]:
    return one["metadata"].get("annotations") or {}


def _owner(one: Object) -> str:
    """UID of what an object belongs to."""
    owners = one["metadata"].get("ownerReferences") or [{}]
    return str(owners[0].get("uid", ""))
