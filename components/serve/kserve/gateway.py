"""The address of the Gateway or the ingress through which the world reaches a service in Standard mode."""

from __future__ import annotations

from contextlib import suppress

from ...common.cli import BadInput
from .cluster import GATEWAY, HTTP_ROUTE, INGRESS, Namespace, Object


def address(cluster: Namespace, service: Object) -> str:
    """URL of the first Gateway in the service's HTTPRoute that speaks plain HTTP, else of the service's Ingress.

    Args:
        service: The InferenceService; KServe names its HTTPRoute or its Ingress like it.

    Returns:
        http://address[:port]; empty: there is none, it has no address, or it may not be read.
    """
    for ask in (_of_gateway, _of_ingress):
        with suppress(BadInput, OSError, RuntimeError):  # reading them is a right that the step can do without
            if url := ask(cluster, service["metadata"]["name"]):
                return url
    return ""


def _of_gateway(cluster: Namespace, name: str) -> str:
    route = cluster.get(HTTP_ROUTE, name) or {"spec": {}}
    for parent in route["spec"].get("parentRefs") or []:
        gateway = cluster.beside(parent.get("namespace", cluster.name)).get(GATEWAY, parent["name"]) or {"spec": {}}
        addresses, listener = (gateway.get("status") or {}).get("addresses"), parent.get("sectionName", "")
        ports = [
            one["port"]
            for one in gateway["spec"].get("listeners") or []
            if one["protocol"] == "HTTP" and listener in ("", one["name"])
        ]
        if addresses and ports:
            return _url(addresses[0]["value"], ports[0])
    return ""


def _of_ingress(cluster: Namespace, name: str) -> str:
    ingress = cluster.get(INGRESS, name) or {}
    balancer = (ingress.get("status") or {}).get("loadBalancer") or {}
    for one in balancer.get("ingress") or []:
        ports = [port["port"] for port in one.get("ports") or [] if port["port"] != 443]
        if host := one.get("ip") or one.get("hostname"):
            return _url(host, ports[0] if ports else 80)
    return ""


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}{'' if port == 80 else f':{port}'}"
