"""The model server of a service as a container of this machine, which shares the service's folder with the step."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from components.common.cli import BadInput
from components.serve.service import Service

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.containers import Container

PREDICTOR = "trainyard-predictor:dev"
"""The image of the model server, as `make build` names it."""

LABEL = "trainyard.service"


class ServerContainer:
    """A container that was started."""

    def __init__(self, container: Container) -> None:
        self._container = container

    def exit_code(self) -> int | None:
        """None as long as it runs."""
        self._container.reload()
        state = self._container.attrs["State"]
        return state["ExitCode"] if state["Status"] in ("exited", "dead") else None

    def last_line(self) -> str:
        """What it said last."""
        lines = self._container.logs(tail=1).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it left no word"


def start(service: Service, image: str, port: int) -> ServerContainer:
    """Start the server of a service: without rights, with a file system that is read-only but for the service's folder.

    Raises:
        BadInput: there is no such image, or the caller may not use the engine.
        RuntimeError: no engine answers, or it cannot start the container.
    """
    import docker

    engine = _connect()
    remove(service)
    command = ["python3", "-m", "components.serve.server", str(service.folder), "--port", str(port)]
    options: dict[str, Any] = {
        "detach": True,
        "network_mode": "host",  # it listens on loopback, as a process would
        "user": f"{os.getuid()}:{os.getgid()}",
        "read_only": True,
        "tmpfs": {"/tmp": ""},
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "volumes": {str(service.folder): {"bind": str(service.folder), "mode": "rw"}},
        "labels": {LABEL: str(service.folder)},
    }
    _provide(engine, image)
    try:
        return ServerContainer(engine.containers.run(image, command, **options))
    except docker.errors.APIError as error:
        raise RuntimeError(f"{service.name}: the engine cannot start {image} ({error.explanation})") from error


def _provide(engine: DockerClient, image: str) -> None:
    """Pull an image that is not here."""
    import docker

    try:
        engine.images.get(image)
    except docker.errors.ImageNotFound:
        try:
            engine.images.pull(image)
        except docker.errors.APIError as error:
            raise BadInput(
                f"--image: expected the image of a model server, received {image!r}, which is not here and cannot be "
                f"pulled ({error.explanation}); make build"
            ) from error


def remove(service: Service) -> None:
    """Remove the containers of a service, whether they run or not."""
    for container in _connect().containers.list(all=True, filters={"label": f"{LABEL}={service.folder}"}):
        container.remove(force=True)


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
