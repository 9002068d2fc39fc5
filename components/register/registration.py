"""A published model as an entry of the Kubeflow Model Registry."""

from __future__ import annotations

import asyncio
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..common.artifacts.evaluation import EVALUATION, Evaluation
from ..common.artifacts.model import CARD, Card
from ..common.artifacts.names import model_name_in
from ..common.artifacts.published import EVALUATION_FOLDER, find
from ..common.cli import BadInput

if TYPE_CHECKING:
    from model_registry.core import ModelRegistryAPIClient

METRICS = ("accuracy", "loss", "balanced_accuracy", "macro_f1", "roc_auc", "calibration_error")
TOKEN_FILES = ("KF_PIPELINES_SA_TOKEN_PATH", "/var/run/secrets/kubernetes.io/serviceaccount/token")
"""Where the token is: the file in this variable, or that of the pod's service account."""


@dataclass(frozen=True)
class Described:
    """What is entered.

    Attributes:
        name: Of the model.
        version: Of the model, as published.
        uri: Where it is.
        format: `tensorflow` or `onnx`, with its version.
        properties: Of the version: metrics, verdict, digest, data set, run; none is empty.
    """

    name: str
    version: str
    uri: str
    format: tuple[str, str]
    properties: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entered:
    """ID of the version in the registry, and whether it was there already."""

    id: str
    already: bool


def check_registry(registry: str) -> None:
    """Raise BadInput for a registry that is no URL."""
    if urlsplit(registry).scheme not in ("http", "https") or not urlsplit(registry).hostname:
        raise BadInput(f"--registry: expected http(s)://host[:port], received {registry!r}")


def describe(uri: str, name: str = "", run: str = "") -> Described:
    """Read what is told of a published version, without the model itself.

    Args:
        uri: s3://bucket/name/version/.
        name: In the registry; empty: as in the URI.
        run: What made it.

    Raises:
        BadInput: there is no such version.
    """
    if not uri.startswith("s3://"):
        raise BadInput(f"--model-uri: expected s3://bucket/name/version/, received {uri!r}; export the model first")
    version = find(uri)
    paths = {file.path for file in version.files}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        version.source.fetch(CARD, folder / CARD)
        card = Card.read(folder)
        evaluation = None
        if f"{EVALUATION_FOLDER}/{EVALUATION}" in paths:
            version.source.fetch(f"{EVALUATION_FOLDER}/{EVALUATION}", folder / EVALUATION)
            evaluation = Evaluation.read(folder)
    properties: dict[str, Any] = {
        "architecture": card.architecture,
        "parameters": card.parameters,
        "dataset": card.dataset.name if card.dataset else "",
        "run": run,
    }
    if evaluation:
        metrics = {metric: getattr(evaluation, metric) for metric in METRICS}
        properties |= {"passed": evaluation.passed, "model_sha256": evaluation.model_sha256, **metrics}
    return Described(
        name=name or model_name_in(uri),
        version=str(version.number),
        uri=version.uri,
        format=("onnx", str(card.onnx.opset or "")) if card.onnx else ("tensorflow", "2"),
        properties={key: value for key, value in properties.items() if value not in (None, "")},
    )


def register(described: Described, registry: str, author: str) -> Entered:
    """Enter a version, or find it entered.

    Raises:
        BadInput: the version is entered with another URI, or the registry refuses the request.
        PermissionError: the registry refuses the token.
        ConnectionError: the registry does not answer.
    """
    with _told(registry):
        return asyncio.run(_register(described, _client(registry), author))


async def _register(described: Described, client: ModelRegistryAPIClient, author: str) -> Entered:
    from model_registry.types import ModelArtifact, ModelVersion, RegisteredModel

    model = await client.get_registered_model_by_params(described.name)
    if model is None:
        model = await client.upsert_registered_model(RegisteredModel(name=described.name, owner=author))
    assert model.id
    version = await client.get_model_version_by_params(model.id, described.version)
    artifacts = await client.get_model_artifacts(version.id) if version and version.id else []
    if version is None:
        made = ModelVersion(name=described.version, author=author, custom_properties=described.properties)
        version = await client.upsert_model_version(made, model.id)
    assert version.id
    if artifacts:
        if artifacts[0].uri != described.uri:
            raise BadInput(
                f"{described.name} version {described.version}: expected {artifacts[0].uri}, as registered, received "
                f"{described.uri}; pass another --model-name"
            )
        return Entered(version.id, already=True)
    name, number = described.format
    artifact = ModelArtifact(
        name=described.name, uri=described.uri, model_format_name=name, model_format_version=number
    )
    await client.upsert_model_version_artifact(artifact, version.id)
    return Entered(version.id, already=False)


def _client(registry: str) -> ModelRegistryAPIClient:
    from model_registry.core import ModelRegistryAPIClient

    address = urlsplit(registry)
    port = address.port or (443 if address.scheme == "https" else 8080)
    host = f"{address.scheme}://{address.hostname}"
    token = _token()
    if address.scheme == "https":
        return ModelRegistryAPIClient.secure_connection(host, port, user_token=token)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ModelRegistryAPIClient.insecure_connection(host, port, token or None)


def _token() -> str:
    variable, default = TOKEN_FILES
    try:
        return Path(os.environ.get(variable) or default).read_text().strip()
    except OSError:
        return ""


@contextmanager
def _told(registry: str) -> Iterator[None]:
    """Turn the client's errors into Python's own."""
    from aiohttp import ClientError
    from mr_openapi.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        if error.status in (401, 403):
            raise PermissionError(
                f"{registry}: the registry refuses the token; check {TOKEN_FILES[0]} and the rights of the account"
            ) from error
        if error.status == 404:
            raise BadInput(
                f"--registry: expected a Kubeflow Model Registry with API v1, received 404 from {registry}; check it"
            ) from error
        raise ConnectionError(f"{registry}: the registry answers {error.status} {error.reason}") from error
    except (ClientError, OSError) as error:
        if isinstance(error, PermissionError | ConnectionError) and str(error).startswith(registry):
            raise
        raise ConnectionError(f"{registry}: the registry does not answer ({error}); check --registry") from error
