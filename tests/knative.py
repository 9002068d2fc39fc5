"""What KServe and Knative make of an InferenceService in Knative mode: their rules of traffic, for the double.

Every change of the predictor, and of the tag, is a new revision. Without a share all requests go to the latest
revision that is *ready*; with one, that gets the share, and the rest goes to the revision that had all requests last.
"""

from dataclasses import dataclass, field

from tests.kserve_status import URL, conditions
from tests.kubernetes_api import API, REVISIONS, Object

TAG = "serving.kserve.io/enable-tag-routing"
SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"
LOOKS_UNTIL_READY = 2


@dataclass
class Knative:
    """Plays the controllers: `api.controller = Knative(api)`.

    Attributes:
        broken: URIs of models that cannot be loaded.
        shares: What each look saw: the percent of the requests by URI of the model.
        revisions: All that were created, the newest last.
    """

    api: API
    broken: set[str] = field(default_factory=set)
    shares: list[dict[str, int]] = field(default_factory=list)
    revisions: list[Object] = field(default_factory=list)
    _rolled_out: str = ""

    def __call__(self, service: Object) -> Object:
        """The status of the service at one look."""
        predictor = {key: value for key, value in service["spec"]["predictor"].items() if key != "canaryTrafficPercent"}
        template = {"predictor": predictor, "tag": service["metadata"]["annotations"].get(TAG)}
        if not self.revisions or self.revisions[-1]["template"] != template:
            self._create(template, service["metadata"]["namespace"])
        latest = self.revisions[-1]
        latest["looks"] += 1
        latest["ready"] |= latest["looks"] > LOOKS_UNTIL_READY and latest["uri"] not in self.broken
        ready = next((one for one in reversed(self.revisions) if one["ready"]), None)
        share = service["spec"]["predictor"].get("canaryTrafficPercent")
        split = share is not None and bool(self._rolled_out)
        if ready is latest and not split:
            self._rolled_out = latest["name"]
        return self._status(latest, ready, share if split else 100)

    def _create(self, template: Object, namespace: str) -> None:
        name, uri = f"r-{len(self.revisions) + 1}", template["predictor"]["model"]["storageUri"]
        self.revisions.append({"name": name, "uri": uri, "template": template, "ready": False, "looks": 0})
        self.api.objects[REVISIONS, namespace, name] = {"metadata": {"name": name, "annotations": {SOURCE: uri}}}

    def _status(self, latest: Object, ready: Object | None, share: int) -> Object:
        traffic = []
        if ready:
            tagged = {"tag": "latest", "url": "http://latest-mnist-predictor.vision.example.com"} if share < 100 else {}
            traffic.append({"revisionName": ready["name"], "percent": share, "latestRevision": True, **tagged})
            if share < 100:
                stable = {"revisionName": self._rolled_out, "percent": 100 - share, "latestRevision": False}
                traffic.append({**stable, "tag": "prev"})
        self._note(traffic)
        done = ready is latest
        failed = ("False", "RevisionFailed", f'Revision "{latest["name"]}" failed: no saved_model.pb')
        configured = failed if latest["uri"] in self.broken else done
        known = dict.fromkeys(("LatestDeploymentReady", "PredictorReady", "Ready"), done)
        routed = dict.fromkeys(("IngressReady", "RoutesReady"), bool(traffic))
        return {
            "deploymentMode": "Knative",
            "url": URL,
            "conditions": conditions(PredictorConfigurationReady=configured, **known, **routed),
            "components": {
                "predictor": {
                    "latestCreatedRevision": latest["name"],
                    "latestReadyRevision": ready["name"] if ready else "",
                    "latestRolledoutRevision": self._rolled_out,
                    "traffic": traffic,
                }
            },
            "modelStatus": {"transitionStatus": "UpToDate" if done else "InProgress"},
        }

    def _note(self, traffic: list[Object]) -> None:
        by_name = {one["name"]: one["uri"] for one in self.revisions}
        seen: dict[str, int] = {}
        for one in traffic:
            seen[by_name[one["revisionName"]]] = seen.get(by_name[one["revisionName"]], 0) + one["percent"]
        self.shares.append({uri: percent for uri, percent in seen.items() if percent})
