"""KServe with plain Deployments: a canary is a Deployment of its own beside the stable one (`spec.canary`).

The stable Deployment and its Service keep their names for good, since clients in the cluster have written them down: a
promotion gives the stable predictor the canary's model, and the canary goes when that has been rolled out.
"""

from __future__ import annotations

import copy
import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import suppress

from ...common.cli import BadInput
from ..orders import ServedVersion
from . import pods, specification, status
from .cluster import DEPLOYMENT, HTTP_ROUTE, SERVICE, Object
from .deployment_mode import DeploymentMode, Stage
from .rollout import GRACE, Before, Goal, Phase, RolloutStatus, all_true
from .specification import InferenceServiceOptions

SCALING = ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "autoScaling")
NOT_IN_THE_DEPLOYMENT = ("timeout", *SCALING)
"""Fields of a predictor that leave its Deployment as it is: KServe hands them to the autoscaler and the ingress."""
OF_THE_CANARY = ("name", "minReplicas")
LONGEST_NAME = 63
SECONDS_TO_FOLLOW = 5.0
"""How long controllers and routes may take to follow a change; measured on a gateway with KServe."""
NO_CANARIES = "expected a KServe with canaries in Standard mode (spec.canary, 0.20 and later), received one without"


class Standard(DeploymentMode):
    """See `DeploymentMode`."""

    name, without_room = "Standard", "free some, or pass --direct with deploymentStrategy Recreate"

    def check(self, options: InferenceServiceOptions) -> None:
        """See `DeploymentMode`."""
        if options.min_replicas == 0:
            raise BadInput(
                "--min-replicas: expected at least 1 in Standard mode, received 0; only Knative scales to zero"
            )

    def can_stage(self, there: Object, wanted: Object) -> str:
        """See `DeploymentMode`. Without the list in its schema the cluster drops the canary; KServe may refuse it."""
        try:
            service = self.with_canary(there, wanted, 0)
            change = specification.patch(there, service)
            del change["metadata"]["resourceVersion"]  # only asked, so that others may change it meanwhile
            answer = self._cluster.patch(SERVICE, there["metadata"]["name"], change, dry_run=True)
        except BadInput as error:
            return str(error)
        return "" if self.has_canary(answer) else NO_CANARIES

    def with_canary(self, there: Object, wanted: Object, percent: int) -> Object:
        """See `DeploymentMode`. KServe makes no pod for a share of 0 unless it is told to."""
        name = there["metadata"]["name"]
        entry = _canary_entry(name, there["spec"]["predictor"], wanted["spec"]["predictor"], percent)
        if percent == 0:
            entry["predictor"]["minReplicas"] = 1
        if others := {key for key in wanted["spec"] if wanted["spec"][key] != there["spec"].get(key)} - {"predictor"}:
            raise BadInput(
                f"--inference-service: expected only another predictor for a canary, received another "
                f"{', '.join(sorted(others))}; roll that out first"
            )
        return {**wanted, "spec": {**copy.deepcopy(there["spec"]), "canary": [entry]}}

    def staged(self, there: Object, wanted: Object) -> Object:
        """See `DeploymentMode`. Labels and annotations are the pods' of the stable version too."""
        service = self.with_canary(there, wanted, 0)
        for entry in there["spec"].get("canary") or []:  # the version that is the canary already keeps its share
            if entry["predictor"]["name"] == service["spec"]["canary"][0]["predictor"]["name"]:
                service["spec"]["canary"] = [copy.deepcopy(entry)]
        return {**service, "metadata": copy.deepcopy(there["metadata"])}

    def check_canary(self, there: Object, wanted: Object, options: InferenceServiceOptions) -> None:
        """See `DeploymentMode`."""
        for name in ("min_replicas", "max_replicas", "scale_metric", "scale_target"):
            if getattr(options, name) not in ("", 0, -1):
                raise BadInput(
                    f"--{name.replace('_', '-')}: expected none for a canary in Standard mode, received one; "
                    "KServe gives it a fixed number of pods by its share"
                )
        self.with_canary(there, wanted, 0)
        if why := self.can_stage(there, wanted):
            raise BadInput(f"--canary-percent: {why}; use --deployment-mode Knative, or leave --canary-percent out")

    def share_of(self, service: Object) -> int | None:
        """See `DeploymentMode`. Only the weights of its HTTPRoute tell: KServe's status repeats what was asked for."""
        if not self.has_canary(service):
            return 100
        weights = self._weights(service)
        if weights is None:
            return None
        canary = self.proxied(service, self.goal(service))
        return 100 * weights.get(canary, 0) // (sum(weights.values()) or 1)

    def splits(self, service: Object) -> bool | None:
        """Whether the service's HTTPRoute leads to its canary, be it with a weight of 0; None: it may not be read."""
        weights = self._weights(service)
        return None if weights is None else self.proxied(service, self.goal(service)) in weights

    def _weights(self, service: Object) -> dict[str, int] | None:
        """Weights of the Services in the HTTPRoute that leads to most of them; None: it may not be read."""
        try:
            route = self._cluster.get(HTTP_ROUTE, service["metadata"]["name"]) or {"spec": {}}
        except PermissionError:
            return None
        backends = [rule.get("backendRefs") or [] for rule in route["spec"].get("rules") or []]
        return {one["name"]: one.get("weight", 1) for one in max(backends, key=len, default=[])}

    def dry_canary(self, wanted: Object, percent: int) -> Object:
        """See `DeploymentMode`."""
        raise BadInput(
            "--dry-run: expected no canary in Standard mode, received --canary-percent; what it would be depends "
            "on what is served already"
        )

    def has_canary(self, service: Object) -> bool:
        """See `DeploymentMode`."""
        return bool(service["spec"].get("canary"))

    def promotion(self, service: Object) -> Iterator[Stage]:
        """See `DeploymentMode`.

        Where the requests are split, the canary takes them all while the stable Deployment changes, so that no request
        meets a pod that is going; each time the routes get some seconds before anything is taken away from them.
        """
        _only_canary(service)
        if self.splits(service):
            yield Stage(lambda there: self._with_share(there or service, 100), proved=False, settle=SECONDS_TO_FOLLOW)
            yield Stage(lambda there: self._taken_over(there or service), stable=True, proved=False)
            yield Stage(lambda there: self._with_share(there or service, 0), proved=False, settle=SECONDS_TO_FOLLOW)
        yield Stage(lambda there: _with_spec(self._taken_over(there or service)))

    def _with_share(self, service: Object, percent: int) -> Object:
        entry = copy.deepcopy(_only_canary(service))
        entry["predictor"].pop("minReplicas", None)
        if percent == 0:
            entry["predictor"]["minReplicas"] = 1
        return {**service, "spec": {**service["spec"], "canary": [{**entry, "trafficPercent": percent}]}}

    def _taken_over(self, service: Object) -> Object:
        """The service whose stable predictor is the canary's, under the stable name."""
        own = {key: value for key, value in _only_canary(service)["predictor"].items() if key not in OF_THE_CANARY}
        predictor = specification.overlaid(service["spec"]["predictor"], own)
        return {**copy.deepcopy(service), "spec": {**copy.deepcopy(service["spec"]), "predictor": predictor}}

    def rolled_back(self, service: Object) -> Object:
        """See `DeploymentMode`."""
        _only_canary(service)
        return _with_spec(service)

    def restoration(self, former: Object, now: Object) -> list[Stage]:
        """See `DeploymentMode`."""
        alone = _with_spec(former)
        return [Stage(lambda _: alone)]

    def stable(self, service: Object) -> str:
        """See `DeploymentMode`."""
        predictor = service["spec"]["predictor"]
        own = specification.deployment_name(service["metadata"]["name"], predictor)
        return specification.model_uri_of(predictor) or f"Deployment {own}"

    def runs(self, service: Object, goal: Goal) -> Object:
        """See `DeploymentMode`."""
        predictor = service["spec"]["predictor"]
        for entry in service["spec"].get("canary") or []:
            if goal.canary and entry["predictor"]["name"] == goal.canary:
                predictor = specification.overlaid(predictor, entry["predictor"])
        return {key: value for key, value in predictor.items() if key not in NOT_IN_THE_DEPLOYMENT}

    def left_behind(self, former: Object, now: Object) -> Iterator[str]:
        """See `DeploymentMode`."""
        name, stay = now["metadata"]["name"], [one["predictor"]["name"] for one in now["spec"].get("canary") or []]
        for entry in former["spec"].get("canary") or []:
            if entry["predictor"]["name"] not in stay:
                yield specification.deployment_name(name, entry["predictor"])

    def goal(self, service: Object, stable: bool = False) -> Goal:
        """See `DeploymentMode`."""
        spec = service["spec"]
        if stable or not self.has_canary(service):
            uri, replicas = specification.model_uri_of(spec["predictor"]), spec["predictor"].get("minReplicas") or 1
            return Goal(uri, replicas=0 if spec.get("canary") else replicas)
        entry = spec["canary"][0]
        uri = specification.model_uri_of(specification.overlaid(spec["predictor"], entry["predictor"]))
        return Goal(uri, percent=entry["trafficPercent"], canary=entry["predictor"]["name"])

    def before(self, service: Object, goal: Goal) -> Before:
        """See `DeploymentMode`."""
        deployment = self._deployment(service, goal) or {"metadata": {}}
        generation, failure = deployment["metadata"].get("generation", 0), status.last_failure(service)
        return Before(generation=generation, failure=failure, since=time.monotonic())

    def versions(self, service: Object) -> list[ServedVersion]:
        """See `DeploymentMode`."""
        stable, versions = service["spec"]["predictor"], []
        for entry in service["spec"].get("canary") or []:
            predictor = specification.overlaid(stable, entry["predictor"])
            share = self.share_of({**service, "spec": {**service["spec"], "canary": [entry]}})
            told = status.canary(service, predictor["name"])
            versions.append(self._version(service, predictor, share, bool(told.get("ready"))))
        left = None if any(one.percent is None for one in versions) else 100 - sum(one.percent or 0 for one in versions)
        ready = status.is_true(status.conditions(service), "PredictorReady")
        return [*versions, self._version(service, stable, left, ready)]

    def _version(self, service: Object, predictor: Object, percent: int | None, ready: bool) -> ServedVersion:
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
        deployment = self._deployment(service, goal)
        deployed = _deployed(deployment, goal, before)
        if deployed.phase is not Phase.READY:
            return (self._trouble(deployment) if deployment and deployed.reason == "Updating" else None) or deployed
        conditions, needed = status.conditions(service), ("PredictorReady", "IngressReady", "Ready")
        if not goal.canary:
            if status.of(service).get("canaryStatuses") and not self.has_canary(service):
                return RolloutStatus(Phase.ROLLING, "CanaryEnding", "the canary still gets requests")
            return all_true(conditions, *needed)
        canary = status.canary(service, goal.canary)
        if not canary.get("ready"):
            return RolloutStatus(Phase.ROLLING, "CanaryNotReady", goal.canary)
        if (share := canary.get("trafficPercent") or 0) != goal.percent:
            return RolloutStatus(Phase.ROLLING, "Traffic", f"{goal.canary} gets {share} % of the requests so far")
        return all_true(conditions, *needed, "CanaryPredictorReady")

    def _trouble(self, deployment: Object) -> RolloutStatus | None:
        with suppress(PermissionError):  # listing pods is a right that the step can do without
            return pods.trouble(pods.of_deployment(self._cluster, deployment), self._cluster.log)
        return None


def _deployed(deployment: Object | None, goal: Goal, before: Before) -> RolloutStatus:
    """The rules of `kubectl rollout status`, after making sure that the Deployment is the new one."""
    if deployment is None:
        return RolloutStatus(Phase.ROLLING, "NoDeployment", "KServe has not created the Deployment yet")
    spec, told, conditions = deployment["spec"], status.of(deployment), status.conditions(deployment)
    annotations = spec["template"].get("metadata", {}).get("annotations") or {}
    if goal.storage_uri and annotations.get(specification.SOURCE_ANNOTATION) != goal.storage_uri:
        return RolloutStatus(Phase.ROLLING, "NotApplied", "the Deployment still has the earlier model")
    generation = deployment["metadata"].get("generation", 0)
    if goal.changed and generation == before.generation:
        return RolloutStatus(Phase.ROLLING, "NotApplied", "KServe has not changed the Deployment yet")
    if goal.touched and generation == before.generation and time.monotonic() - before.since < SECONDS_TO_FOLLOW:
        return RolloutStatus(Phase.ROLLING, "NotObserved", "KServe may still change the Deployment")
    if told.get("observedGeneration", 0) < generation:
        return RolloutStatus(Phase.ROLLING, "NotObserved", "the Deployment's update has not begun")
    if conditions.get("Progressing", {}).get("reason") == "ProgressDeadlineExceeded":
        return RolloutStatus(Phase.FAILED, "ProgressDeadlineExceeded", conditions["Progressing"].get("message", ""))
    if status.is_true(conditions, "ReplicaFailure"):
        failure = conditions["ReplicaFailure"]
        return RolloutStatus(Phase.FAILED, failure.get("reason", "ReplicaFailure"), failure.get("message", ""), GRACE)
    wanted, replicas = max(spec.get("replicas", 1), goal.replicas), told.get("replicas", 0)
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


def _with_spec(service: Object, **changes: Object) -> Object:
    """The service without canaries."""
    spec = {key: value for key, value in copy.deepcopy(service["spec"]).items() if key != "canary"}
    return {**copy.deepcopy(service), "spec": {**spec, **changes}}
