"""KServe with plain Deployments: a canary is a Deployment of its own beside the stable one (`spec.canary`)."""

from __future__ import annotations

import copy
import hashlib
import re

from ...common.cli import BadInput
from ..orders import ServedVersion
from . import specification, status
from .cluster import DEPLOYMENT, SERVICE, Object
from .deployment_mode import DeploymentMode
from .rollout import GRACE, Before, Goal, Phase, RolloutStatus, all_true
from .specification import InferenceServiceOptions

SOURCE_ANNOTATION = "internal.serving.kserve.io/storage-initializer-sourceuri"
SCALING = ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "autoScaling")
NOT_IN_THE_DEPLOYMENT = ("timeout", *SCALING)
"""Fields of a predictor that leave its Deployment as it is: KServe hands them to the autoscaler and the ingress."""
LONGEST_NAME = 63


class Standard(DeploymentMode):
    """See `DeploymentMode`."""

    name = "Standard"

    def check(self, options: InferenceServiceOptions) -> None:
        """See `DeploymentMode`."""
        if options.min_replicas == 0:
            raise BadInput(
                "--min-replicas: expected at least 1 in Standard mode, received 0; only Knative scales to zero"
            )

    def with_canary(self, there: Object, wanted: Object, percent: int, options: InferenceServiceOptions) -> Object:
        """See `DeploymentMode`."""
        for name in ("min_replicas", "max_replicas", "scale_metric", "scale_target"):
            if getattr(options, name) not in ("", 0, -1):
                raise BadInput(
                    f"--{name.replace('_', '-')}: expected none for a canary in Standard mode, received one; "
                    "KServe gives it a fixed number of pods by its share"
                )
        name = there["metadata"]["name"]
        entry = _canary_entry(name, there["spec"]["predictor"], wanted["spec"]["predictor"], percent)
        if others := {key for key in wanted["spec"] if wanted["spec"][key] != there["spec"].get(key)} - {"predictor"}:
            raise BadInput(
                f"--inference-service: expected only another predictor for a canary, received another "
                f"{', '.join(sorted(others))}; roll that out first"
            )
        service = {**wanted, "spec": {**copy.deepcopy(there["spec"]), "canary": [entry]}}
        self._check_that_canaries_are_known(there, service)
        return service

    def _check_that_canaries_are_known(self, there: Object, service: Object) -> None:
        """Without the list in its schema the cluster would drop the canary, or give the new version all requests."""
        change = specification.patch(there, service)
        answer = self._cluster.patch(SERVICE, there["metadata"]["name"], change, dry_run=True)
        if not self.has_canary(answer):
            raise BadInput(
                "--canary-percent: expected a KServe with canaries in Standard mode (spec.canary, 0.20 and later), "
                "received one without; update it, use --deployment-mode Knative, or leave --canary-percent out"
            )

    def dry_canary(self, wanted: Object, percent: int) -> Object:
        """See `DeploymentMode`."""
        raise BadInput(
            "--dry-run: expected no canary in Standard mode, received --canary-percent; what it would be depends "
            "on what is served already"
        )

    def has_canary(self, service: Object) -> bool:
        """See `DeploymentMode`."""
        return bool(service["spec"].get("canary"))

    def promoted(self, service: Object) -> Object:
        """See `DeploymentMode`. The predictor keeps the canary's name, and so its Deployment."""
        predictor = specification.overlaid(service["spec"]["predictor"], _only_canary(service)["predictor"])
        return _with_spec(service, predictor=predictor)

    def rolled_back(self, service: Object) -> Object:
        """See `DeploymentMode`."""
        _only_canary(service)
        return _with_spec(service)

    def newest(self, service: Object) -> Object:
        """See `DeploymentMode`."""
        return {key: value for key, value in _newest(service["spec"]).items() if key not in NOT_IN_THE_DEPLOYMENT}

    def is_new_again(self, failed: Object, restored: Object) -> bool:
        """See `DeploymentMode`. The Deployment may never have been touched."""
        return False

    def goal(self, service: Object, changed: bool, back: bool = False) -> Goal:
        """See `DeploymentMode`."""
        spec = service["spec"]
        uri = specification.model_uri_of(_newest(spec))
        if not self.has_canary(service):
            return Goal(uri, changed, back=back)
        entry = spec["canary"][0]
        return Goal(uri, changed, entry["trafficPercent"], entry["predictor"]["name"], back)

    def before(self, service: Object, goal: Goal) -> Before:
        """See `DeploymentMode`."""
        deployment = self._deployment(service, goal) or {"metadata": {}}
        return Before(generation=deployment["metadata"].get("generation", 0))

    def versions(self, service: Object) -> list[ServedVersion]:
        """See `DeploymentMode`."""
        stable, left, versions = service["spec"]["predictor"], 100, []
        for entry in service["spec"].get("canary") or []:
            predictor = specification.overlaid(stable, entry["predictor"])
            told = status.canary(service, predictor["name"])
            share = told.get("trafficPercent") or 0
            left -= share
            versions.append(self._version(service, predictor, share, bool(told.get("ready"))))
        ready = status.is_true(status.conditions(service), "PredictorReady")
        return [*versions, self._version(service, stable, left, ready)]

    def _version(self, service: Object, predictor: Object, percent: int, ready: bool) -> ServedVersion:
        name = specification.deployment_name(service["metadata"]["name"], predictor)
        deployment = self._cluster.get(DEPLOYMENT, name) or {"metadata": {}}
        number = (deployment["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision", "")
        done = [
            one.get("lastUpdateTime", "")
            for one in status.of(deployment).get("conditions") or []
            if one.get("reason") == "NewReplicaSetAvailable"
        ]
        revision = f"{name}/{number}" if number else name
        uri = specification.model_uri_of(predictor)
        return ServedVersion(revision, uri, percent, "Ready" if ready else "NotReady", done[0] if done else "")

    def addresses(self, service: Object, goal: Goal) -> tuple[str, str]:
        """See `DeploymentMode`. A canary is a Service of its own, on the port of the stable one."""
        host = f"{self.proxied(service, goal)}.{self._cluster.name}.svc.cluster.local"
        inside = status.address(service, host)
        if goal.canary:
            inside = inside._replace(netloc=host + (f":{inside.port}" if inside.port else ""))
        return status.url(service), inside.geturl().rstrip("/")

    def proxied(self, service: Object, goal: Goal) -> str:
        """See `DeploymentMode`. The Service is named as its Deployment."""
        predictor = {"name": goal.canary} if goal.canary else service["spec"]["predictor"]
        return specification.deployment_name(service["metadata"]["name"], predictor)

    def _deployment(self, service: Object, goal: Goal) -> Object | None:
        """The Deployment that is rolled out."""
        return self._cluster.get(DEPLOYMENT, self.proxied(service, goal))

    def _progress(self, service: Object, goal: Goal, before: Before) -> RolloutStatus:
        """The Deployment, and then what KServe says of it and of a canary."""
        deployed = _deployed(self._deployment(service, goal), goal, before)
        if deployed.phase is not Phase.READY:
            return deployed
        conditions, needed = status.conditions(service), ("PredictorReady", "IngressReady", "Ready")
        if not goal.canary:
            if status.of(service).get("canaryStatuses"):
                return RolloutStatus(Phase.ROLLING, "CanaryEnding", "the canary still gets requests")
            return all_true(conditions, *needed)
        canary = status.canary(service, goal.canary)
        if not canary.get("ready"):
            return RolloutStatus(Phase.ROLLING, "CanaryNotReady", goal.canary)
        if (share := canary.get("trafficPercent") or 0) != goal.percent:
            return RolloutStatus(Phase.ROLLING, "Traffic", f"{goal.canary} gets {share} % of the requests so far")
        return all_true(conditions, *needed, "CanaryPredictorReady")


def _deployed(deployment: Object | None, goal: Goal, before: Before) -> RolloutStatus:
    """The rules of `kubectl rollout status`, after making sure that the Deployment is the new one."""
    if deployment is None:
        return RolloutStatus(Phase.ROLLING, "NoDeployment", "KServe has not created the Deployment yet")
    spec, told, conditions = deployment["spec"], status.of(deployment), status.conditions(deployment)
    annotations = spec["template"].get("metadata", {}).get("annotations") or {}
    if goal.storage_uri and annotations.get(SOURCE_ANNOTATION) != goal.storage_uri:
        return RolloutStatus(Phase.ROLLING, "NotApplied", "the Deployment still has the earlier model")
    generation = deployment["metadata"].get("generation", 0)
    if goal.changed and generation == before.generation:
        return RolloutStatus(Phase.ROLLING, "NotApplied", "KServe has not changed the Deployment yet")
    if told.get("observedGeneration", 0) < generation:
        return RolloutStatus(Phase.ROLLING, "NotObserved", "the Deployment's update has not begun")
    if conditions.get("Progressing", {}).get("reason") == "ProgressDeadlineExceeded":
        return RolloutStatus(Phase.FAILED, "ProgressDeadlineExceeded", conditions["Progressing"].get("message", ""))
    if status.is_true(conditions, "ReplicaFailure"):
        failure = conditions["ReplicaFailure"]
        return RolloutStatus(Phase.FAILED, failure.get("reason", "ReplicaFailure"), failure.get("message", ""), GRACE)
    wanted, replicas = spec.get("replicas", 1), told.get("replicas", 0)
    updated, available = told.get("updatedReplicas", 0), told.get("availableReplicas", 0)
    if updated < wanted:
        return RolloutStatus(Phase.ROLLING, "Updating", f"{updated} of {wanted} new pods")
    if replicas > updated:
        return RolloutStatus(Phase.ROLLING, "Updating", f"{replicas - updated} old pods have still to go")
    if available < updated:
        return RolloutStatus(Phase.ROLLING, "Updating", f"{available} of {updated} new pods answer")
    return RolloutStatus(Phase.READY, "Deployed")


def _canary_entry(service: str, stable: Object, new: Object, percent: int) -> Object:
    """An entry of `spec.canary`: what the new predictor has otherwise than the stable one, under a name of its own.

    Raises:
        BadInput: it is what is served already.
    """
    differing = {key: value for key, value in new.items() if key not in (*SCALING, "name") and stable.get(key) != value}
    if not differing:
        raise BadInput(
            f"--canary-percent: expected a model that is not served yet, received {specification.model_uri_of(new)}, "
            "which has all requests already; leave --canary-percent out"
        )
    digest = hashlib.sha256(repr(sorted(differing.items())).encode()).hexdigest()[:6]
    version = specification.model_uri_of(new).rstrip("/").rpartition("/")[2]
    name = f"v{version}-{digest}" if re.fullmatch(r"\d{1,9}", version) else f"v-{digest}"
    if len(f"{service}-{name}-predictor") > LONGEST_NAME:
        name = f"v-{digest}"
    return {"trafficPercent": percent, "predictor": {"name": name, **differing}}


def _only_canary(service: Object) -> Object:
    """The entry of the one canary that stands beside the stable version."""
    entries = service["spec"]["canary"]
    if len(entries) > 1:
        names = ", ".join(one["predictor"]["name"] for one in entries)
        raise BadInput(
            f"--action: expected one canary to promote or roll back, received {names}; "
            "remove the others from spec.canary"
        )
    return entries[0]


def _newest(spec: Object) -> Object:
    """The newest version's predictor: what KServe runs as the first canary, else the stable one."""
    entries = spec.get("canary") or []
    return specification.overlaid(spec["predictor"], entries[0]["predictor"]) if entries else spec["predictor"]


def _with_spec(service: Object, **changes: Object) -> Object:
    """The service without canaries."""
    spec = {key: value for key, value in copy.deepcopy(service["spec"]).items() if key != "canary"}
    return {**copy.deepcopy(service), "spec": {**spec, **changes}}
