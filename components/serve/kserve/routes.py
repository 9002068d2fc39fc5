"""The ways to a model on a cluster: where an InferenceService answers, and how to ask one of its versions alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ...common.cli import BadInput
from ..client import Endpoint, EndpointError
from ..known_examples import Answers
from . import specification
from .cluster import Cluster
from .rollout import Want, deployment_mode

Object = Mapping[str, Any]


def endpoint(service: Object) -> str:
    """The URL for predictions, in the protocol of the model's server; empty as long as KServe gives none."""
    url, name = _url(service), service["metadata"]["name"]
    model = service["spec"]["predictor"].get("model") or {}
    triton = (model.get("modelFormat") or {}).get("name") == "triton"
    if not url:
        return ""
    return f"{url}/v2/models/{name}/infer" if triton or model.get("protocolVersion") == "v2" else f"{url}{_path(name)}"


def way(cluster: Cluster, service: Object, want: Want, route: str) -> tuple[Answers, str]:
    """The way to the version that is rolled out, and its name in words.

    Args:
        cluster: Where it is.
        service: The InferenceService, ready.
        want: The rollout: a canary is asked by itself, not through its share of the requests.
        route: `url`, `cluster`, `api`, or the URL of an ingress; empty: what leads there from here.

    Raises:
        BadInput: the route does not lead to it.
        RuntimeError: KServe gives a canary no address of its own.
    """
    name = service["metadata"]["name"]
    standard = deployment_mode(service) == "Standard"
    if not route:
        route = "cluster" if cluster.inside else "api" if want.canary else "url"
    if route == "api":
        if not standard:
            raise BadInput(
                "--route: expected url, cluster or an ingress in Knative mode, received api; the Kubernetes API does "
                "not reach a service that may be scaled to zero"
            )
        return _Proxied(cluster, _service_name(service, want), _path(name)), "the Kubernetes API"
    if want.canary and route != "cluster":
        raise BadInput(
            f"--route: expected api or cluster for a canary in Standard mode, received {route}; "
            "from outside it cannot be asked by itself"
        )
    outside, inside = addresses(service, want, cluster.namespace)
    if route == "cluster":
        return Endpoint(f"{inside}{_path(name)}"), inside
    if route == "url":
        return Endpoint(f"{outside}{_path(name)}"), outside
    return Endpoint(f"{route.rstrip('/')}{_path(name)}", host=urlsplit(outside).netloc), route


def addresses(service: Object, want: Want, namespace: str) -> tuple[str, str]:
    """URLs of the version that is rolled out: as the world sees it, and inside the cluster.

    Raises:
        RuntimeError: KServe gives a canary no address of its own.
    """
    own = _service_name(service, want)
    host = f"{own}.{namespace}.svc.cluster.local"
    outside = _url(service)
    inside = urlsplit((service["status"].get("address") or {}).get("url") or f"http://{host}")
    if want.canary:  # a service of its own, on the port of the stable one
        inside = inside._replace(netloc=host + (f":{inside.port}" if inside.port else ""))
    elif want.percent < 100:
        targets = predictor_status(service).get("traffic") or []
        outside = next((one["url"] for one in targets if one.get("latestRevision") and one.get("url")), "").rstrip("/")
        tag, found, _ = (urlsplit(outside).hostname or "").partition(own)
        if not found:
            raise RuntimeError(
                f"{service['metadata']['name']}: KServe gives the canary no address of its own, so it cannot be "
                "asked; check Knative's tag template, or pass --smoke-test false"
            )
        inside = inside._replace(netloc=f"{tag}{host}")
    return outside, inside.geturl().rstrip("/")


def predictor_status(service: Object) -> Object:
    """What the status says of the predictor's revisions (Knative); empty when it says nothing."""
    return ((service.get("status") or {}).get("components") or {}).get("predictor") or {}


class _Proxied:
    """A service asked through the Kubernetes API."""

    def __init__(self, cluster: Cluster, service: str, path: str) -> None:
        self._cluster, self._service, self._path = cluster, service, path

    def predict(self, instances: list[Any]) -> list[Any]:
        """See `client.Endpoint.predict`."""
        try:
            answer = self._cluster.ask_service(self._service, self._path, {"instances": instances})
        except BadInput as error:
            raise EndpointError(f"{self._service}: {error}", 400) from error
        except RuntimeError as error:
            raise EndpointError(f"{self._service}: {error}") from error
        if not isinstance(answer, dict) or "predictions" not in answer:
            raise EndpointError(f"{self._service}: expected predictions, received {str(answer)[:200]}")
        return answer["predictions"]


def _service_name(service: Object, want: Want) -> str:
    own = {"name": want.canary} if want.canary else service["spec"]["predictor"]
    return specification.deployment_name(service["metadata"]["name"], own)


def _path(name: str) -> str:
    return f"/v1/models/{name}:predict"


def _url(service: Object) -> str:
    status = service.get("status") or {}
    return (status.get("url") or (status.get("address") or {}).get("url") or "").rstrip("/")
