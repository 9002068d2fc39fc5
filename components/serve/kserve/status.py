"""Read the status that KServe writes into an InferenceService; any part of it may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

MODES = {"Standard": "Standard", "Knative": "Knative", "RawDeployment": "Standard", "Serverless": "Knative"}
"""KServe's deployment modes, by their present and their older names."""

Object = Mapping[str, Any]


def of(service: Object) -> Object:
    """The whole status."""
    return service.get("status") or {}


def chosen_mode(service: Object) -> str:
    """`Knative`, `Standard` or another mode; empty as long as KServe has not chosen. Older names are translated."""
    mode: str = of(service).get("deploymentMode", "")
    return MODES.get(mode, mode)


def conditions(service: Object) -> dict[str, Object]:
    """The conditions, by type."""
    return {condition["type"]: condition for condition in of(service).get("conditions") or []}


def is_true(conditions: Mapping[str, Object], name: str) -> bool:
    """Whether the condition of that name is there and holds."""
    return conditions.get(name, {}).get("status") == "True"


def revisions(service: Object) -> Object:
    """What it tells of the predictor's revisions (Knative)."""
    return (of(service).get("components") or {}).get("predictor") or {}


def canary(service: Object, name: str) -> Object:
    """What it tells of one canary (Standard)."""
    return next((one for one in of(service).get("canaryStatuses") or [] if one.get("name") == name), {})


def url(service: Object) -> str:
    """Where the service answers the world; empty as long as it does not."""
    return (of(service).get("url") or (of(service).get("address") or {}).get("url") or "").rstrip("/")


def address(service: Object, host: str) -> SplitResult:
    """URL of the service inside the cluster; of this host where none is told."""
    return urlsplit((of(service).get("address") or {}).get("url") or f"http://{host}")


def last_failure(service: Object) -> Object:
    """The last failure to load a model that KServe told of; empty: none."""
    return (of(service).get("modelStatus") or {}).get("lastFailureInfo") or {}


def last_writer(service: Object) -> tuple[str, str]:
    """Who changed the specification last, and when; empty where the cluster does not tell."""
    writes = [
        (one.get("time", ""), one.get("manager", ""))
        for one in service["metadata"].get("managedFields") or []
        if "f:spec" in (one.get("fieldsV1") or {})
    ]
    when, who = max(writes, default=("", ""))
    return who, when
