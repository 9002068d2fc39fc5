"""The ways to a model on a cluster: where an InferenceService answers, and how to ask the version rolled out."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from ...common.cli import BadInput
from ..client import Endpoint, EndpointError, PredictionClient
from . import gateway, status
from .cluster import Namespace, Object
from .deployment_mode import DeploymentMode
from .rollout import Goal

SECONDS_TO_CONNECT = 5
PROXY = ("create", "services/proxy")
"""The right that the route `api` needs."""
WORDS = ("url", "cluster", "api")
"""The routes that are no address of an ingress."""


def endpoint(service: Object) -> str:
    """The URL for predictions, in the protocol of the model's server; empty as long as KServe gives none."""
    url = status.url(service)
    return f"{url}{path_of(service)}" if url else ""


def path_of(service: Object) -> str:
    """Path of predictions, in the protocol of the model's server."""
    name, model = service["metadata"]["name"], service["spec"]["predictor"].get("model") or {}
    triton = (model.get("modelFormat") or {}).get("name") == "triton"
    return f"/v2/models/{name}/infer" if triton or model.get("protocolVersion") == "v2" else _path(name)


class Route:
    """How this process reaches a service."""

    def __init__(self, cluster: Namespace, mode: DeploymentMode, given: str) -> None:
        """Args:
        cluster: Where the service is.
        mode: How it is deployed.
        given: `url`, `cluster`, `api`, or the URL of an ingress; empty: what leads there from here.
        """
        self._cluster, self._mode, self._given = cluster, mode, given
        self._through_the_api = mode.name == "Standard" and (given == "api" or self._may_pass())
        self._chosen = given or ("cluster" if cluster.inside else "api" if self._through_the_api else "url")

    def _may_pass(self) -> bool:
        return not self._cluster.inside and self._cluster.may(*PROXY)

    def check(self, service: Object | None) -> None:
        """Find out, before anything is changed, whether the route leads anywhere.

        Args:
            service: The InferenceService as it is; None when there is none.

        Raises:
            BadInput: it does not.
            PermissionError: the right for it is missing.
        """
        if self._chosen == "api":
            if self._mode.name != "Standard":
                self._mode.proxied({}, Goal(""))  # says why not
            if not self._cluster.may(*PROXY):
                raise PermissionError(
                    f"not allowed to create services/proxy in namespace {self._cluster.name}, which --route api needs; "
                    "bind a role with this verb, or pass another --route"
                )
        elif self._chosen not in WORDS:
            _check_address(self._chosen, self._others())
        elif service is not None and status.url(service):
            outside, inside = self._mode.addresses(service, Goal(""))
            if self._chosen == "url" or not self._cluster.inside:
                _check_address(outside if self._chosen == "url" else inside, self._others())

    def _others(self) -> str:
        """The routes that may lead there from here."""
        ways = ["--route api"] if self._through_the_api and self._chosen != "api" else []
        return " or ".join([*ways, "--route http://INGRESS for an ingress that this machine reaches"])

    def leads_to_a_canary(self) -> bool:
        """Whether a canary can be asked by itself."""
        return self._mode.name != "Standard" or self._chosen in ("api", "cluster") or self._through_the_api

    def check_canary(self) -> None:
        """Raises BadInput when a canary cannot be asked by itself."""
        if not self.leads_to_a_canary():
            raise BadInput(
                f"--route: expected api or cluster for a canary in Standard mode, received {self._chosen}; "
                "it has no address of its own outside the cluster"
            )

    def answers(self, service: Object, goal: Goal) -> tuple[PredictionClient, str]:
        """The way to the version that is rolled out, and its name in words.

        Args:
            service: The InferenceService, ready.
            goal: The rollout: a canary is asked by itself, not through its share of the requests.

        Raises:
            BadInput: the address resolves nowhere.
            RuntimeError: KServe gives a canary no address of its own.
        """
        path = _path(service["metadata"]["name"])
        if self._chosen == "api" or (goal.canary and self._chosen != "cluster"):
            self.check_canary()
            return _Proxied(self._cluster, self._mode.proxied(service, goal), path), "the Kubernetes API"
        outside, inside = self._mode.addresses(service, goal)
        if self._chosen == "cluster":
            return Endpoint(f"{inside}{path}"), inside
        if self._chosen == "url":
            _check_address(outside, self._others())
            return Endpoint(f"{outside}{path}"), outside
        return Endpoint(f"{self._chosen.rstrip('/')}{path}", host=urlsplit(outside).netloc), self._chosen

    def from_outside(self, service: Object) -> tuple[PredictionClient, str]:
        """The way of clients outside the cluster to the service, whatever the route is, and its name in words.

        Raises:
            BadInput: this process cannot take it.
        """
        if self._chosen not in WORDS:
            return self.answers(service, Goal(""))
        path, (outside, _) = _path(service["metadata"]["name"]), self._mode.addresses(service, Goal(""))
        parts = urlsplit(outside)
        with suppress(BadInput):
            at = gateway.address(self._cluster, service) if parts.scheme == "http" else ""
            if at and not _is_proxied(at):
                _check_address(at, "")
                return Endpoint(f"{at}{path}", host=parts.netloc), at
        if _is_proxied(outside):
            raise BadInput(f"{outside}: expected a route without a proxy; pass {self._others()}")
        _check_address(outside, self._others())
        return Endpoint(f"{outside}{path}"), outside

    def command(self, service: Object) -> str:
        """A command that asks the service by this route, with the request in request.json; empty: no address yet."""
        path, goal = path_of(service), Goal("")
        if not status.url(service):
            return ""
        if self._chosen == "api":
            there = f"namespaces/{self._cluster.name}/services/{self._mode.proxied(service, goal)}:80/proxy"
            return f"kubectl create --raw /api/v1/{there}{path} -f request.json"
        outside, inside = self._mode.addresses(service, goal)
        if self._chosen in ("url", "cluster"):
            return f"curl -d @request.json {outside if self._chosen == 'url' else inside}{path}"
        host = urlsplit(outside).netloc
        return f"curl -d @request.json -H 'Host: {host}' {self._chosen.rstrip('/')}{path}"


def _check_address(url: str, others: str) -> None:
    """Raises BadInput when an address resolves nowhere, does not answer, or has a certificate that is not trusted here.

    Behind a proxy nothing is known.
    """
    if _is_proxied(url):
        return
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", _port(parts)), SECONDS_TO_CONNECT) as connection:
            if parts.scheme == "https":
                ssl.create_default_context().wrap_socket(connection, server_hostname=parts.hostname).close()
    except socket.gaierror:
        raise BadInput(f"--route: expected an address that resolves, received {url}; pass {others}") from None
    except OSError as error:
        raise BadInput(
            f"--route: expected an address that answers, received {url} ({error.strerror or error}); pass {others}"
        ) from None


def _is_proxied(url: str) -> bool:
    """Whether an address is asked for through a proxy."""
    parts = urlsplit(url)
    return parts.scheme in getproxies() and not proxy_bypass(parts.hostname or "")


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


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
            raise EndpointError(f"{self._service}: expected predictions, received {str(answer)[:200]}", 200)
        return answer["predictions"]


def _path(name: str) -> str:
    return f"/v1/models/{name}:predict"
