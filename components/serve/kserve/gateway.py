"""The address of the Gateway through which the world reaches a service (Gateway API)."""

from __future__ import annotations

from contextlib import suppress

from ...common.cli import BadInput
from .cluster import GATEWAY, HTTP_ROUTE, Namespace, Object


def address(cluster: Namespace, service: Object) -> str:
    """URL of the first Gateway in the service's HTTPRoute that speaks plain HTTP.

    Args:
        service: The InferenceService; KServe names its HTTPRoute like it.

    Returns:
        http://address[:port]; empty: there is none, it has no address, or it may not be read.
    """
    with suppress(BadInput, OSError, RuntimeError):  # reading both is a right that the step can do without
        route = cluster.get(HTTP_ROUTE, service["metadata"]["name"]) or {"spec": {}}
        for parent in route["spec"].get("parentRefs") or []:
            gateway = cluster.beside(parent.get("namespace", cluster.name)).get(GATEWAY, parent["name"])
            if gateway and (url := _url(gateway, parent.get("sectionName", ""))):
                return url
    return ""


def _url(gateway: Object, listener: str) -> str:
    addresses = (gateway.get("status") or {}).get("addresses") or []
    ports = [
        one["port"]
        for one in gateway["spec"].get("listeners") or []
        if one["protocol"] == "HTTP" and listener in ("", one["name"])
    ]
    if not addresses or not ports:
        return ""
    host = addresses[0]["value"]
    return f"http://{f'[{host}]' if ':' in host else host}{'' if ports[0] == 80 else f':{ports[0]}'}"
