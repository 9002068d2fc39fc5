"""How a step hands its results to Kubeflow Pipelines: output parameters, and metadata of output artifacts."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .cli import BadInput, shown
from .files import check_place, write_json, write_text


def write_parameter(path: Path | None, value: str | int | float | bool) -> None:
    """Write one output parameter, as KFP reads it: plain text, `true`/`false`, no newline at the end."""
    write_text(path, str(value).lower() if isinstance(value, bool) else str(value))


def check_executor_input(executor_input: str) -> None:
    """Raise BadInput for what KFP never fills in, before any work is done; see `record_artifacts`."""
    if not executor_input or executor_input.startswith("{{"):
        return
    try:
        outputs = json.loads(executor_input)["outputs"]
        known = isinstance(outputs["outputFile"], str) and all(
            isinstance(listed["artifacts"][0], dict) for listed in outputs.get("artifacts", {}).values()
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        known = False
    if known:
        check_place(Path(outputs["outputFile"]), folder=False)
    else:
        raise BadInput(
            f"--executor-input: expected the JSON object that KFP fills in, received {shown(executor_input, 60)}; "
            "leave it out by hand"
        )


def artifact_uri(executor_input: str, name: str) -> str:
    """Where KFP 2 keeps an output artifact, as others reach it; empty outside KFP 2."""
    if not executor_input or executor_input.startswith("{{"):
        return ""
    known = json.loads(executor_input)["outputs"].get("artifacts", {})
    return known[name]["artifacts"][0].get("uri", "") if name in known else ""


def record_artifacts(executor_input: str, metadata: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Tell KFP 2 about the step's output artifacts; does nothing outside KFP 2.

    The KFP 2 launcher takes artifact metadata (scalars, confusion matrix, ROC) only from this file, and kfp.local drops
    every output artifact that it does not name. Its path stands in the executor input and differs between backends.

    Args:
        executor_input: What `{executorInput: null}` of component.yaml became: JSON in KFP 2, the bare text `{{$}}` in
            KFP 1, empty by hand.
        metadata: Per output artifact, what the UI shows. None and non-finite numbers are left out (the backend
            refuses both).
    """
    if not executor_input or executor_input.startswith("{{"):
        return
    outputs = json.loads(executor_input)["outputs"]
    artifacts = {}
    for name, listed in outputs.get("artifacts", {}).items():
        artifact = {key: value for key, value in listed["artifacts"][0].items() if key in ("name", "uri", "type")}
        artifact["metadata"] = _plain((metadata or {}).get(name, {}))
        artifacts[name] = {"artifacts": [artifact]}
    write_json(Path(outputs["outputFile"]), {"artifacts": artifacts})


def _plain(value: Any) -> Any:
    """The same value without None and non-finite numbers in its mappings."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if not _unfit(item)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _unfit(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))
