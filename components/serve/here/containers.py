"""The model server of a service as a container of this machine, which shares the service's folder with the step.

Our server loads the models itself, or each version is held by a container of another server, which speaks TensorFlow
Serving's interface. Then ours passes the requests on, so that shares, versions and the change from one to the next are
the same.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ...common.artifacts.model import SAVED_MODEL
from ...common.cli import BadInput, last_line
from .service import ServiceFolder, WantedVersion

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

PREDICTOR = "trainyard-predictor:dev"
"""The image of the model server, as `make build` names it."""

REST_PORT = 8501
"""Where TensorFlow Serving's images answer."""

SERVICE, VERSION = "trainyard.service", "trainyard.version"
"""Labels of a container: its service's folder, and the name of that of the version it holds, empty for our server."""


class ServerContainer:
    """A container that was started."""

    def __init__(self, container: Container) -> None:
        self._container = container

    def exit_code(self) -> int | None:
        """See `model_server.Started`."""
        self._container.reload()
        state = self._container.attrs["State"]
        return state["ExitCode"] if state["Status"] in ("exited", "dead") else None

    def last_line(self) -> str:
        """See `model_server.Started`."""
        return last_line(self._container.logs(tail=1).decode(errors="replace"))


def start(service: ServiceFolder, image: str, port: int) -> ServerContainer:
    """Start the server of a service: without rights, with a file system that is read-only but for the service's folder.

    Raises:
        BadInput: there is no such image, or the caller may not use the engine.
        RuntimeError: no engine answers, or it cannot start the container.
    """
    engine = _connect()
    remove(service, [one.folder for one in service.wanted()])
    for container in _containers(engine, service):
        _wake(container)  # they have ended if this machine was started anew
    _provide(engine, image, "--image")
    return _run(
        engine,
        image,
        ["python3", "-m", "trainyard.components.serve.server", str(service.folder), "--port", str(port)],
        network_mode="host",  # it listens on loopback, as a process would
        volumes={str(service.folder): {"bind": str(service.folder), "mode": "rw"}},
        labels={SERVICE: str(service.folder), VERSION: ""},
    )


def free_address() -> str:
    """An address of this machine on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def start_model(service: ServiceFolder, wanted: WantedVersion, image: str) -> ServerContainer:
    """Start the container that holds the model of one version, or wake the one that is there.

    It gets what TensorFlow Serving takes: MODEL_NAME, and the SavedModel at /models/<name>/<version>, read-only.

    Args:
        service: The service.
        wanted: The version; its `url` is where the container is to answer.
        image: Image with TensorFlow Serving's interface.

    Raises:
        BadInput: there is no such image, or the caller may not use the engine.
        RuntimeError: no engine answers, or it cannot start the container.
    """
    engine = _connect()
    if there := _containers(engine, service, wanted.folder):
        return _wake(there[0])
    _provide(engine, image, "--server-image")
    model = service.versions / wanted.folder / SAVED_MODEL
    if not model.is_dir():
        raise BadInput(
            f"--server-image: expected a model with {SAVED_MODEL}/, as TensorFlow Serving wants it, received ONNX; "
            "leave it out"
        )
    place = f"/models/{service.name}/{wanted.version}"
    return _run(
        engine,
        image,
        ports={f"{REST_PORT}/tcp": ("127.0.0.1", urlsplit(wanted.url).port)},
        volumes={str(model): {"bind": place, "mode": "ro"}},
        environment={"MODEL_NAME": service.name},
        labels={SERVICE: str(service.folder), VERSION: wanted.folder},
    )


def _run(engine: DockerClient, image: str, command: list[str] | None = None, **options: Any) -> ServerContainer:
    """Start a container that has no more rights than a step."""
    with _told(image):
        container = engine.containers.create(
            image,
            command,
            user=f"{os.getuid()}:{os.getgid()}",
            read_only=True,
            tmpfs={"/tmp": ""},
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            **options,
        )
        container.start()
    return ServerContainer(container)


def _wake(container: Container) -> ServerContainer:
    """Start a container, unless it runs."""
    with _told(container.attrs["Config"]["Image"]):
        container.start()
    return ServerContainer(container)


@contextmanager
def _told(image: str) -> Iterator[None]:
    """Turn what the engine says against a container into a plain failure."""
    import docker

    try:
        yield
    except docker.errors.APIError as error:
        raise RuntimeError(f"the engine cannot start a container of {image} ({error.explanation})") from error


def _provide(engine: DockerClient, image: str, option: str) -> None:
    """Pull an image that is not here."""
    import docker

    try:
        engine.images.get(image)
    except docker.errors.ImageNotFound:
        try:
            engine.images.pull(image)
        except docker.errors.APIError as error:
            raise BadInput(
                f"{option}: expected the image of a model server, received {image!r}, which is not here and cannot be "
                f"pulled ({error.explanation}); make build, or name another"
            ) from error


def remove(service: ServiceFolder, kept: Collection[str] = ()) -> None:
    """Remove the containers of a service, whether they run or not.

    Args:
        service: The service.
        kept: Values of the label VERSION of those that stay.
    """
    for container in _containers(_connect(), service):
        if container.labels.get(VERSION, "") not in kept:
            container.remove(force=True)


def tidy(service: ServiceFolder) -> None:
    """Remove the containers that hold versions which are no longer wanted."""
    remove(service, kept=["", *(one.folder for one in service.wanted())])


def _containers(engine: DockerClient, service: ServiceFolder, version: str = "") -> list[Container]:
    """The containers of a service, or that which holds one version."""
    labels = [f"{SERVICE}={service.folder}", *([f"{VERSION}={version}"] if version else [])]
    return engine.containers.list(all=True, filters={"label": labels})


def _connect() -> DockerClient:
    import docker

    try:
        return docker.from_env()
    except docker.errors.DockerException as error:
        if "permission denied" in str(error).lower():
            raise BadInput(
                "--target: no permission on the container engine's socket; join its group, or use --target process"
            ) from error
        raise RuntimeError(
            "--target: expected a container engine, none answers; start Docker, or use --target process"
        ) from error
