"""Serve on a cluster: create or update an InferenceService and wait until this rollout is the one that answers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from components.common.cli import BadInput
from components.serve import cluster as kubernetes
from components.serve.cluster import Cluster, Conflict
from components.serve.rollout import Before, Patience, Phase, Verdict, Want, classify, deployment_mode

DEPLOYMENT_MODE = "serving.kserve.io/deploymentMode"
CONFLICTS = 5
SECONDS_BETWEEN_LOOKS = (0.2, 2.0)
"""The first pause and the longest: soon to see what goes fast, seldom enough to spare the API."""
SECONDS_BETWEEN_LINES = 30.0

Object = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is to be served.

    Attributes:
        name: Of the InferenceService: lower-case letters, digits and '-', beginning with a letter.
        namespace: Empty: the pod's own, or the kubeconfig context's.
        model_uri: Published model in an object store that KServe knows.
        runtime_version: Of TensorFlow Serving.
        service_account: Holds the store's credentials; empty: the namespace's default.
        mode: `Standard` or `Knative`, for a service that is not there yet; one that is there keeps its own.
    """

    name: str
    namespace: str
    model_uri: str
    runtime_version: str
    service_account: str
    mode: str = "Standard"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", self.name):
            raise BadInput(
                f"--model-name: expected lower-case letters, digits and '-', beginning with a letter, received "
                f"{self.name!r}; Kubernetes takes no other name"
            )
        if "://" not in self.model_uri or self.model_uri.startswith("file:"):
            raise BadInput(
                f"--model-uri: expected s3://bucket/name/version/, received {self.model_uri!r}; a cluster cannot read "
                "this machine's files, so export the model first, or serve it here with --target process"
            )

    @property
    def storage_uri(self) -> str:
        """Ends in '/': KServe fetches by prefix, and `mnist/1` would bring `mnist/10` along."""
        return self.model_uri.rstrip("/") + "/"


def manifest(plan: Plan, mode: str) -> Object:
    """The InferenceService of a plan. Its deployment mode is always written: defaults differ between clusters."""
    model = {
        "modelFormat": {"name": "tensorflow"},
        "runtimeVersion": plan.runtime_version,
        "storageUri": plan.storage_uri,
    }
    predictor: Object = {"model": model}
    if plan.service_account:
        predictor["serviceAccountName"] = plan.service_account
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": plan.name, "annotations": {DEPLOYMENT_MODE: mode}},
        "spec": {"predictor": predictor},
    }


def serve(plan: Plan, timeout: float, tell: Callable[[str], None]) -> str:
    """Roll a plan out and wait until it answers.

    Args:
        plan: What is to be served.
        timeout: Seconds until it has to be ready.
        tell: Gets lines of progress.

    Returns:
        The predict URL.

    Raises:
        BadInput: the cluster refuses the InferenceService, or KServe cannot serve what it specifies.
        PermissionError, ConnectionError: the cluster does not allow it, or does not answer.
        RuntimeError: the model cannot be loaded.
        TimeoutError: the time is up.
    """
    started = time.monotonic()
    cluster = Cluster(plan.namespace)
    want, before = _apply(cluster, plan, tell)
    service = _wait(cluster, plan.name, want, before, started, timeout, tell)
    url = service["status"].get("url") or service["status"].get("address", {}).get("url")
    if not url:
        raise RuntimeError(f"{plan.name}: KServe calls it ready but gives no URL; check its ingress settings")
    tell(f"{plan.name}: ready after {time.monotonic() - started:.0f} s at {url}")
    return f"{url.rstrip('/')}/v1/models/{plan.name}:predict"


def _apply(cluster: Cluster, plan: Plan, tell: Callable[[str], None]) -> tuple[Want, Before]:
    """Create or update the InferenceService; says what is to come of it and what was there before."""
    where = f"{cluster.namespace}/{plan.name}"
    for _ in range(CONFLICTS):
        there = cluster.get(kubernetes.SERVICE, plan.name)
        try:
            if there is None:
                cluster.create(kubernetes.SERVICE, manifest(plan, plan.mode))
                tell(f"{plan.name}: created InferenceService {where}, model {plan.storage_uri}")
                return Want(plan.storage_uri, changed=True), Before()
            before = _before(cluster, there)
            patched = cluster.patch(kubernetes.SERVICE, plan.name, _patch(there, plan))
        except Conflict:
            continue
        changed = _served(patched) != _served(there)
        tell(f"{plan.name}: {'updated' if changed else 'unchanged'} InferenceService {where}, model {plan.storage_uri}")
        return Want(plan.storage_uri, changed), before
    raise RuntimeError(f"{where}: others changed it {CONFLICTS} times in a row; try again")


def _served(service: Object) -> Object:
    """What of the specification makes a new revision when it changes."""
    return {key: value for key, value in service["spec"]["predictor"].items() if key != "canaryTrafficPercent"}


def _before(cluster: Cluster, service: Object) -> Before:
    deployment = _deployment(cluster, service) or {"metadata": {}}
    predictor = ((service.get("status") or {}).get("components") or {}).get("predictor") or {}
    return Before(predictor.get("latestCreatedRevision", ""), deployment["metadata"].get("generation", 0))


def _deployment(cluster: Cluster, service: Object) -> Object | None:
    """The predictor's Deployment, where the mode has one; a Knative cluster need not allow us to read any."""
    if deployment_mode(service) != "Standard":
        return None
    return cluster.get(kubernetes.DEPLOYMENT, f"{service['metadata']['name']}-predictor")


def _patch(there: Object, plan: Plan) -> Object:
    """A merge patch that leaves alone what the plan does not speak of, and ends a canary rollout."""
    mode = deployment_mode(there) or (there["metadata"].get("annotations") or {}).get(DEPLOYMENT_MODE) or plan.mode
    patch = manifest(plan, mode)
    patch["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"]
    if "canaryTrafficPercent" in there["spec"]["predictor"]:
        patch["spec"]["predictor"]["canaryTrafficPercent"] = None
    return patch


def _wait(
    cluster: Cluster,
    name: str,
    want: Want,
    before: Before,
    started: float,
    timeout: float,
    tell: Callable[[str], None],
) -> Object:
    """Look at the rollout until it is ready; the InferenceService as it then is."""
    patience = Patience(longest=timeout / 10)
    pause, longest = SECONDS_BETWEEN_LOOKS
    told, told_at = "", started
    while True:
        service, verdict = _look(cluster, name, want, before)
        now = time.monotonic()
        verdict = patience.judge(verdict, now)
        if verdict.phase is Phase.READY and service is not None:
            return service
        if verdict.phase is Phase.INVALID:
            raise BadInput(f"{name}: KServe cannot serve this ({verdict})")
        if verdict.phase is Phase.FAILED:
            raise RuntimeError(f"{name}: the rollout failed ({verdict})")
        if now - started > timeout:
            raise TimeoutError(f"{name}: not ready after {timeout:.0f} s ({verdict}){_complaints(service, verdict)}")
        if verdict.reason != told or now - told_at > SECONDS_BETWEEN_LINES:
            told, told_at = verdict.reason, now
            tell(f"{name}: not ready yet ({verdict}), {now - started:.0f} s of {timeout:.0f}")
        time.sleep(pause)
        pause = min(longest, pause * 1.3)


def _look(cluster: Cluster, name: str, want: Want, before: Before) -> tuple[Object | None, Verdict]:
    try:
        service = cluster.get(kubernetes.SERVICE, name)
        deployment = _deployment(cluster, service) if service else None
    except ConnectionError as error:  # it answered when the rollout began
        return None, Verdict(Phase.ROLLING, "Unreachable", str(error))
    return service, classify(service, deployment, want, before)


def _complaints(service: Object | None, verdict: Verdict) -> str:
    """What the conditions that are False say, where the verdict has not said it."""
    conditions = ((service or {}).get("status") or {}).get("conditions") or []
    texts = [
        f"{one['type']} {one.get('reason', '')}: {one['message']}"
        for one in conditions
        if one["status"] == "False" and one.get("message") and one["message"] not in verdict.message
    ]
    return f"; {'; '.join(texts)}" if texts else ""
