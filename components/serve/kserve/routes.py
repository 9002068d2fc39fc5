"""The ways to a model on a cluster: where an InferenceService answers, and how to ask the version rolled out."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from ...common.cli import BadInput
from ..client import Endpoint, EndpointError, PredictionClient
from . import status
from .cluster import Namespace, Object
from .deployment_mode import DeploymentMode
from .rollout import Goal


def endpoint(service: Object) -> str:
    """The URL for predictions, in the protocol of the model's server; empty as long as KServe gives none."""
    url, name = status.url(service), service["metadata"]["name"]
    model = service["spec"]["predictor"].get("model") or {}
    triton = (model.get("modelFormat") or {}).get("name") == "triton"
    if not url:
        return ""
    return f"{url}/v2/models/{name}/infer" if triton or model.get("protocolVersion") == "v2" else f"{url}{_path(name)}"


def way(
    cluster: Namespace, mode: DeploymentMode, service: Object, goal: Goal, route: str
) -> tuple[PredictionClient, str]:
    """The way to the version that is rolled out, and its name in words.

    Args:
        cluster: Where it is.
        mode: How it is deployed.
        service: The InferenceService, ready.
        goal: The rollout: a canary is asked by itself, not through its share of the requests.
        route: `url`, `cluster`, `api`, or the URL of an ingress; empty: what leads there from here.

    Raises:
        BadInput: the route does not lead to it.
        RuntimeError: KServe gives a canary no address of its own.
    """
    path = _path(service["metadata"]["name"])
    if not route:
        route = "cluster" if cluster.inside else "api" if goal.canary else "url"
    if route == "api":
        return _Proxied(cluster, mode.proxied(service, goal), path), "the Kubernetes API"
    if goal.canary and route != "cluster":
        raise BadInput(
            f"--route: expected api or cluster for a canary in Standard mode, received {route}; "
            "from outside it cannot be asked by itself"
        )
    outside, inside = mode.addresses(service, goal)
    if route == "cluster":
        return Endpoint(f"{inside}{path}"), inside
    if route == "url":
        return Endpoint(f"{outside}{path}"), outside
    return Endpoint(f"{route.rstrip('/')}{path}", host=urlsplit(outside).netloc), route


class _Proxied:
    """A Kubernetes Service asked through the API."""

    def __init__(self, cluster: Namespace, service: str, path: str) -> None:
        self._cluster, self._service, self._path = cluster, service, path

    def predict(self, instances: list[Any]) -> list[Any]:
        """See `PredictionClient`."""
        try:
            answer = self._cluster.ask_service(self._service, self._path, {"instances": instances})
        except BadInput as error:
            raise EndpointError(f"{self._service}: {error}", 400) from error
        except RuntimeError as error:
            raise EndpointError(f"{self._service}: {error}") from error
        if not isinstance(answer, dict) or "predictions" not in answer:
            raise EndpointError(f"{self._service}: expected predictions, received {str(answer)[:200]}")
        return answer["predictions"]


def _path(name: str) -> str:
    return f"/v1/models/{name}:predict"
