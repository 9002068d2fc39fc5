"""KServe on Knative: every version is a revision, and a share of the requests goes to the newest one."""

from __future__ import annotations

import copy
from urllib.parse import urlsplit

from ...common.cli import BadInput
from ..orders import ServedVersion
from . import specification, status
from .cluster import Object
from .deployment_mode import DeploymentMode
from .rollout import GRACE, Before, Goal, Phase, RolloutStatus, all_true
from .specification import InferenceServiceOptions

SHARE = "canaryTrafficPercent"
TAG_ROUTING = "serving.kserve.io/enable-tag-routing"


class Knative(DeploymentMode):
    """See `DeploymentMode`."""

    name = "Knative"

    def check(self, options: InferenceServiceOptions) -> None:
        """See `DeploymentMode`."""

    def with_canary(self, there: Object, wanted: Object, percent: int, options: InferenceServiceOptions) -> Object:
        """See `DeploymentMode`."""
        if not status.revisions(there).get("latestRolledoutRevision"):
            raise BadInput(
                f"--canary-percent: expected a version that has had all requests, received "
                f"{self._cluster.name}/{there['metadata']['name']}, where none has; KServe would ignore the share"
            )
        return self.dry_canary(wanted, percent)

    def dry_canary(self, wanted: Object, percent: int) -> Object:
        """See `DeploymentMode`. The newest revision gets an address of its own beside its share."""
        service = copy.deepcopy(wanted)
        service["spec"]["predictor"][SHARE] = percent
        service["metadata"].setdefault("annotations", {})[TAG_ROUTING] = "true"
        return service

    def has_canary(self, service: Object) -> bool:
        """See `DeploymentMode`."""
        return SHARE in service["spec"]["predictor"]

    def promoted(self, service: Object) -> Object:
        """See `DeploymentMode`."""
        service = copy.deepcopy(service)
        del service["spec"]["predictor"][SHARE]
        return service

    def rolled_back(self, service: Object) -> Object:
        """See `DeploymentMode`."""
        return self.dry_canary(service, 0)

    def newest(self, service: Object) -> Object:
        """See `DeploymentMode`."""
        return {key: value for key, value in service["spec"]["predictor"].items() if key != SHARE}

    def is_new_again(self, failed: Object, restored: Object) -> bool:
        """See `DeploymentMode`. The same specification again is a new revision."""
        return self.newest(failed) != self.newest(restored)

    def goal(self, service: Object, changed: bool, back: bool = False) -> Goal:
        """See `DeploymentMode`."""
        predictor = service["spec"]["predictor"]
        return Goal(specification.model_uri_of(predictor), changed, predictor.get(SHARE, 100), back=back)

    def before(self, service: Object, goal: Goal) -> Before:
        """See `DeploymentMode`."""
        return Before(revision=status.revisions(service).get("latestCreatedRevision", ""))

    def versions(self, service: Object) -> list[ServedVersion]:
        """See `DeploymentMode`. KServe tells the model of the newest only."""
        predictor = status.revisions(service)
        uri = specification.model_uri_of(service["spec"]["predictor"])
        created, ready = predictor.get("latestCreatedRevision", ""), predictor.get("latestReadyRevision", "")
        since = status.conditions(service).get("LatestDeploymentReady", {}).get("lastTransitionTime", "")
        versions = []
        if created and created != ready:
            versions.append(ServedVersion(created, uri, 0, "NotReady"))
        for target in predictor.get("traffic") or []:
            newest = target.get("revisionName") == created
            name, share = target.get("revisionName") or ready, target.get("percent") or 0
            versions.append(ServedVersion(name, uri if newest else "", share, "Ready", since if newest else ""))
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
                    f"{name}: KServe gives the canary no address of its own, so it cannot be asked; check Knative's "
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
        share = sum(one.get("percent") or 0 for one in predictor.get("traffic") or [] if one.get("latestRevision"))
        created = predictor.get("latestCreatedRevision", "")
        if goal.back:  # the revision that is left behind need not be ready
            if share != goal.percent:
                return RolloutStatus(Phase.ROLLING, "Traffic", f"{created} still gets {share} % of the requests")
            return all_true(conditions, "RoutesReady", "IngressReady")
        if not created or (goal.changed and created == before.revision):
            return RolloutStatus(Phase.ROLLING, "NoNewRevision", "KServe has not created the new revision yet")
        if predictor.get("latestReadyRevision", "") != created:
            configuration = conditions.get("PredictorConfigurationReady", {})
            if configuration.get("status") == "False":
                reason = configuration.get("reason", "RevisionFailed")
                return RolloutStatus(Phase.FAILED, reason, f"{created}: {configuration.get('message', '')}", GRACE)
            return RolloutStatus(Phase.ROLLING, "RevisionNotReady", created)
        if share != goal.percent:
            return RolloutStatus(Phase.ROLLING, "Traffic", f"{created} gets {share} % of the requests so far")
        if share == 100 and predictor.get("latestRolledoutRevision", "") != created:
            return RolloutStatus(Phase.ROLLING, "NotRolledOut", created)
        return all_true(conditions, "PredictorReady", "RoutesReady", "LatestDeploymentReady", "IngressReady", "Ready")
