"""The pipeline's parameters as command-line options, read from component.yaml: described once, in one place."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from ..components.common.cli import JsonObject

COMPONENTS = Path(__file__).parent.parent / "components"
STEPS = ("download", "train", "evaluate", "export", "serve")
TYPES: dict[str, click.ParamType] = {
    "String": click.STRING,
    "Integer": click.INT,
    "Float": click.FLOAT,
    "Boolean": click.BOOL,
    "JsonObject": JsonObject(),
}
WIRED = ("model_uri", "action", "dry_run", "context")
"""Inputs that the pipeline sets itself."""
CLUSTER_ONLY = (
    "namespace",
    "deployment_mode",
    "route",
    "inference_service",
    "model_format",
    "runtime_version",
    "runtime",
    "image",
    "service_account",
    "storage_secret",
    "request_timeout",
    "min_replicas",
    "max_replicas",
    "scale_metric",
    "scale_target",
    "cpu_request",
    "cpu_limit",
    "memory_request",
    "memory_limit",
    "predictor_gpus",
    "node_selector",
    "labels",
    "annotations",
    "sidecar_injection",
)
"""Inputs that mean nothing on this machine."""


def parameter_options(*left_out: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for every parameter that the steps take from outside.

    An option that is not given is None: then the pipeline's own default holds, which is the component's.

    Args:
        left_out: Parameters that this command does not offer.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for described in reversed(list(_parameters(left_out))):
            default = described.get("default")
            shown = f"  [default: {default}]" if default not in (None, "", "{}") else ""
            option = click.option(
                f"--{described['name'].replace('_', '-')}",
                type=TYPES[described["type"]],
                help=described["description"] + shown,
                required=default is None,
            )
            command = option(command)
        return command

    return decorate


def _parameters(left_out: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    import yaml

    seen = {*left_out, *WIRED}
    for step in STEPS:
        text = (COMPONENTS / step / "component.yaml").read_text()
        for described in yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))["inputs"]:
            if described["type"] in TYPES and described["name"] not in seen:
                seen.add(described["name"])
                yield described
