"""KServe on Knative: every version is a revision, and a share of the requests goes to the newest one."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from ...common.cli import BadInput
from ..orders import ServedVersion
from . import pods, specification, status
from .cluster import REVISION, Object
from .deployment_mode import DeploymentMode, Stage
from .rollout import GRACE, Before, Goal, Phase, RolloutStatus, all_true, one_line
from .specification import InferenceServiceOptions

SHARE = "canaryTrafficPercent"
TAG_ROUTING = "serving.kserve.io/enable-tag-routing"


class Knative(DeploymentMode):
    """See `DeploymentMode`."""

    name, without_room = "Knative", "free some"

    def check(self, options: InferenceServiceOptions) -> None:
        """See `DeploymentMode`."""

    def can_stage(self, there: Object, wanted: Object) -> str:
        """See `DeploymentMode`. KServe ignores a share as long as no revision has had all requests."""
        return "" if _rolled_out(there) else "no revision of it has had all requests yet"

    def with_canary(self, there: Object, wanted: Object, percent: int) -> Object:
        """See `DeploymentMode`."""
        return self.dry_canary(wanted, percent)

    def staged(self, there: Object, wanted: Object) -> Object:
        """See `DeploymentMode`. The version that is the canary already keeps its share."""
        goal = self.goal(wanted)
        same = self.runs(there, goal) == self.runs(wanted, goal)
        return self.dry_canary(wanted, there["spec"]["predictor"].get(SHARE, 0) if same else 0)

    def check_canary(self, there: Object, wanted: Object, options: InferenceServiceOptions) -> None:
        """See `DeploymentMode`."""
        if not _rolled_out(there):
            raise BadInput(
                f"--canary-percent: expected a version that has had all requests, received "
                f"{self._cluster.name}/{there['metadata']['name']}, where none has; KServe would ignore the share"
            )

    def share_of(self, service: Object) -> int | None:
        """See `DeploymentMode`."""
        targets = status.revisions(service).get("traffic") or []
        return sum(one.get("percent") or 0 for one in targets if one.get("latestRevision"))

    def dry_canary(self, wanted: Object, percent: int) -> Object:
        """See `DeploymentMode`. The newest revision gets an address of its own beside its share."""
        service = copy.deepcopy(wanted)
        service["spec"]["predictor"][SHARE] = percent
        service["metadata"].setdefault("annotations", {})[TAG_ROUTING] = "true"
        return service

    def has_canary(self, service: Object) -> bool:
        """See `DeploymentMode`."""
        return SHARE in service["spec"]["predictor"]

    def promotion(self, service: Object) -> Iterator[Stage]:
        """See `DeploymentMode`."""
        yield Stage(lambda there: _unshared(there or service))

    def rolled_back(self, service: Object) -> Object:
        """See `DeploymentMode`."""
        return self.dry_canary(service, 0)

    def restoration(self, former: Object, now: Object) -> list[Stage]:
        """See `DeploymentMode`.

        Without a share all requests go to the latest revision that is ready, and that is the one which failed. So the
        earlier specification is written with a share of 0 first, and the share goes when its new revision is ready.
        The tag stays: without it Knative would create yet another revision.
        """
        if SHARE in former["spec"]["predictor"]:
            if _rolled_out(former) == _rolled_out(now):
                quiet = self.dry_canary(former, 0)
                return [Stage(lambda _: quiet, stable=True)]
            former = self._stable_again(former)
        quiet = self.dry_canary(former, 0)
        return [Stage(lambda _: quiet), Stage(lambda _: _unshared(quiet))]

    def _stable_again(self, former: Object) -> Object:
        """The service with the model of the revision that was stable before a canary was promoted."""
        revision = _rolled_out(former)
        if not (uri := self._model_of(revision)):
            raise RuntimeError(f"the model of {revision} is no longer known; apply it again")
        again = _unshared(former)
        again["spec"]["predictor"] = specification.with_model(again["spec"]["predictor"], uri)
        return again

    def stable(self, service: Object) -> str:
        """See `DeploymentMode`."""
        if SHARE not in service["spec"]["predictor"]:
            return specification.model_uri_of(service["spec"]["predictor"])
        revision = _rolled_out(service)
        return self._model_of(revision) or f"revision {revision}"

    def _model_of(self, revision: str) -> str:
        """The URI of a revision's model; empty where it is not told, or may not be read."""
        try:
            found = (self._cluster.get(REVISION, revision) if revision else None) or {"metadata": {}}
        except (PermissionError, RuntimeError):
            return ""
        return (found["metadata"].get("annotations") or {}).get(specification.SOURCE_ANNOTATION, "")

    def runs(self, service: Object, goal: Goal) -> Object:
        """See `DeploymentMode`."""
        return {key: value for key, value in service["spec"]["predictor"].items() if key != SHARE}

    def left_behind(self, former: Object, now: Object) -> Iterator[str]:
        """See `DeploymentMode`."""
        return iter(())

    def goal(self, service: Object, stable: bool = False) -> Goal:
        """See `DeploymentMode`."""
        predictor = service["spec"]["predictor"]
        return Goal(specification.model_uri_of(predictor), percent=predictor.get(SHARE, 100), back=stable)

    def before(self, service: Object, goal: Goal) -> Before:
        """See `DeploymentMode`."""
        created = status.revisions(service).get("latestCreatedRevision", "")
        return Before(created, failure=status.last_failure(service), since=time.monotonic())

    def versions(self, service: Object) -> list[ServedVersion]:
        """See `DeploymentMode`."""
        predictor = status.revisions(service)
        uri = specification.model_uri_of(service["spec"]["predictor"])
        created, ready = predictor.get("latestCreatedRevision", ""), predictor.get("latestReadyRevision", "")
        since = status.conditions(service).get("LatestDeploymentReady", {}).get("lastTransitionTime", "")
        versions = []
        if created and created != ready:
            versions.append(ServedVersion(created, uri, 0, "NotReady"))
        for target in predictor.get("traffic") or []:
            name, share = target.get("revisionName") or ready, target.get("percent") or 0
            newest = name == created
            origin = uri if newest else self._model_of(name)
            versions.append(ServedVersion(name, origin, share, "Ready", since if newest else ""))
        return versions

    def addresses(self, service: Object, goal: Goal) -> tuple[str, str]:
        """See `DeploymentMode`. A canary has an address by its tag."""
        name = service["metadata"]["name"]
        own = specification.deployment_name(name, service["spec"]["predictor"])
        host = f"{own}.{self._cluster.name}.svc.cluster.local"
        outside, inside = status.url(service), status.address(service, host)
        if goal.percent < 100:
            targets = status.revisions(service).get("traffic") or []
            outside = next((one["url"] for one in targets if one.get("latestRevision") and one.get("url")), "")
            tag, found, _ = (urlsplit(outside).hostname or "").partition(own)
            if not found:
                raise RuntimeError(
                    f"{name}: KServe gives the canary no address of its own, so it cannot be tested; check Knative's "
                    "tag template, or pass --smoke-test false"
                )
            inside = inside._replace(netloc=f"{tag}{host}")
        return outside.rstrip("/"), inside.geturl().rstrip("/")

    def proxied(self, service: Object, goal: Goal) -> str:
        """See `DeploymentMode`."""
        raise BadInput(
            "--route: expected url, cluster or an ingress in Knative mode, received api; the Kubernetes API does "
            "not reach a service that may be scaled to zero"
        )

    def _progress(self, service: Object, goal: Goal, before: Before) -> RolloutStatus:
        predictor, conditions = status.revisions(service), status.conditions(service)
        share = self.share_of(service)
        created = predictor.get("latestCreatedRevision", "")
        if goal.back:  # the revision that is left behind need not be ready
            if share != goal.percent:
                return RolloutStatus(Phase.ROLLING, "Traffic", f"{created} still gets {share} % of the requests")
            return all_true(conditions, "RoutesReady", "IngressReady")
        if not created or (goal.changed and created == before.revision):
            return RolloutStatus(Phase.ROLLING, "NoNewRevision", "KServe has not created the new revision yet")
        if predictor.get("latestReadyRevision", "") != created:
            return self._trouble(created) or _failed(created, conditions)
        if share != goal.percent:
            return RolloutStatus(Phase.ROLLING, "Traffic", f"{created} gets {share} % of the requests so far")
        if share == 100 and predictor.get("latestRolledoutRevision", "") != created:
            return RolloutStatus(Phase.ROLLING, "NotRolledOut", created)
        return all_true(conditions, "PredictorReady", "RoutesReady", "LatestDeploymentReady", "IngressReady", "Ready")

    def _trouble(self, revision: str) -> RolloutStatus | None:
        with suppress(PermissionError):  # listing pods is a right that the step can do without
            return pods.trouble(pods.of_revision(self._cluster, revision), self._cluster.log)
        return None


def _failed(revision: str, conditions: Mapping[str, status.Object]) -> RolloutStatus:
    """What Knative says of a revision that is not ready, less than its pods in most cases."""
    configuration = conditions.get("PredictorConfigurationReady", {})
    if configuration.get("status") != "False":
        return RolloutStatus(Phase.ROLLING, "RevisionNotReady", revision)
    text = f"{revision}: {one_line(configuration.get('message', ''))}"
    return RolloutStatus(Phase.FAILED, configuration.get("reason", "RevisionFailed"), text, GRACE)


def _unshared(service: Object) -> Object:
    """The service without a share: all requests go to the latest revision that is ready."""
    service = copy.deepcopy(service)
    service["spec"]["predictor"].pop(SHARE, None)
    return service


def _rolled_out(service: Object) -> str:
    """The revision that had all requests last, and has those now that the newest one does not get."""
    return str(status.revisions(service).get("latestRolledoutRevision", ""))
