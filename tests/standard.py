"""What KServe makes of an InferenceService in Standard mode: Deployments and a route, for the double of the API.

A canary is a Deployment of its own. Its share is the weight in the HTTPRoute, from the release after 0.20.0 on; before,
the status repeats the percent that was asked for, and nothing is split. Its `modelStatus` is always empty.
"""

from dataclasses import dataclass, field

from tests.kserve_status import conditions, deployment, standard
from tests.kubernetes_api import API, AUTOSCALERS, DEPLOYMENTS, ROUTES, Object, merged


@dataclass
class Standard:
    """Plays the controllers: `api.controller = Standard(api)`.

    Attributes:
        splits: Whether the HTTPRoute has weights.
        shares: What each look saw: the percent of the requests by URI of the model.
    """

    api: API
    splits: bool = True
    shares: list[dict[str, int]] = field(default_factory=list)
    _predictors: dict[str, Object] = field(default_factory=dict)

    def __call__(self, service: Object) -> Object:
        """The status of the service at one look."""
        namespace, stable = service["metadata"]["namespace"], service["spec"]["predictor"]
        entries = service["spec"].get("canary") or []
        pods = {"mnist-predictor": stable}
        for entry in entries:
            name = f"mnist-{entry['predictor']['name']}-predictor"
            pods[name] = merged(stable, entry["predictor"])
            self.api.objects[AUTOSCALERS, namespace, name] = {"metadata": {"name": name}}
        for name, predictor in pods.items():
            self._deploy(namespace, name, predictor)
        for name in set(self._predictors) - set(pods):
            del self._predictors[name]
            del self.api.objects[DEPLOYMENTS, namespace, name]
        self._route(
            namespace, [(name, entry["trafficPercent"]) for name, entry in zip([*pods][1:], entries, strict=True)]
        )
        told = [
            {"name": one["predictor"]["name"], "ready": True, "trafficPercent": one["trafficPercent"]}
            for one in entries
        ]
        status = standard()
        if not entries:
            return status
        return {
            **status,
            "canaryStatuses": told,
            "conditions": [*status["conditions"], *conditions(CanaryPredictorReady=True)],
        }

    def _deploy(self, namespace: str, name: str, predictor: Object) -> None:
        if self._predictors.get(name) == predictor:
            return
        self._predictors[name] = predictor
        old = self.api.objects.get((DEPLOYMENTS, namespace, name), {"metadata": {"generation": 0}})
        generation, replicas = old["metadata"]["generation"] + 1, predictor.get("minReplicas", 1)
        uri = uri_of(predictor)
        new = deployment(uri, generation=generation, replicas=replicas, updated=replicas)
        self.api.objects[DEPLOYMENTS, namespace, name] = new

    def _route(self, namespace: str, canaries: list[tuple[str, int]]) -> None:
        weights = dict(canaries) if self.splits else {}
        weights = {"mnist-predictor": 100 - sum(weights.values()), **weights}
        backends = [{"name": name, "weight": weight} for name, weight in weights.items()]
        self.api.objects[ROUTES, namespace, "mnist"] = {"spec": {"rules": [{"backendRefs": backends}]}}
        by_uri: dict[str, int] = {}
        for name, weight in weights.items():
            uri = uri_of(self._predictors[name])
            by_uri[uri] = by_uri.get(uri, 0) + weight
        self.shares.append({uri: weight for uri, weight in by_uri.items() if weight})


def uri_of(predictor: Object) -> str:
    """The model of a predictor: one of KServe's own servers, or a container's."""
    if "model" in predictor:
        return predictor["model"]["storageUri"]
    [server] = predictor["containers"]
    return next(one["value"] for one in server["env"] if one["name"] == "STORAGE_URI")
