"""Run a pipeline's steps as containers of this machine, on kfp.local's own orchestrator.

A step gets what it would get from a strict cluster: a file system that is read-only but for /tmp and the outputs, no
capabilities, the caller's user, and this machine's network, where the object store listens.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..components.common.cli import BadInput
from .orchestrator import Ended, PipelineRun, Task, orchestrated
from .processes import pass_on, without_secrets

if TYPE_CHECKING:
    from docker import DockerClient

HARDENED = {
    "read_only": True,
    "tmpfs": {"/tmp": "mode=1777,exec"},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "network_mode": "host",
}
CERTIFICATES = ("AWS_CA_BUNDLE", "SSL_CERT_FILE")
"""Variables that name a file of this machine, which a step needs as well."""
SERVE = ["python3", "-m", "trainyard.components.serve"]
"""How the command of the serve step begins, whatever a pipeline calls its tasks."""


@contextlib.contextmanager
def steps_as_containers(
    runs: Path, images: Mapping[str, str], home: Path | None = None, cache: bool = False
) -> Iterator[PipelineRun]:
    """Inside the block a pipeline that is called runs here, each step in a container of its image.

    Args:
        runs: Folder for the runs; each gets a folder of its own in it, with a folder per step.
        images: By step.
        home: State folder; with it, serve may start a model server, itself a container of this machine. It alone
            reaches the engine's socket and this folder.
        cache: Whether outputs of earlier runs are taken, see `step_cache`.

    Raises:
        BadInput, RuntimeError: no engine answers, or an image is neither here nor in its registry.
    """
    root = runs.resolve()
    environment, certificates = _environment()

    def code_of(task: Task) -> str:
        return str(engine.images.get(task.image).id)

    def run_task(task: Task) -> Ended:
        serves = task.image == images.get("serve") and task.command[: len(SERVE)] == SERVE
        more = _engine_and(home) if home and serves else {}
        command, secrets = without_secrets(task.command)
        return run_container(
            engine,
            task.image,
            command,
            task.log,
            environment={**environment, **more.get("environment", {}), **task.environment, **secrets},
            volumes=[*(f"{path}:{path}:ro" for path in certificates), f"{root}:{root}", *more.get("volumes", [])],
            group_add=more.get("group_add", []),
            user=f"{os.getuid()}:{os.getgid()}",
            **HARDENED,
        )

    with connect() as engine, orchestrated(runs, run_task, code_of if cache else None) as run:
        for image in images.values():
            provide(engine, image)
        yield run


@contextlib.contextmanager
def connect() -> "Iterator[DockerClient]":
    """A client of the engine that DOCKER_HOST or the usual socket names.

    Raises:
        BadInput: the caller may not use its socket.
        RuntimeError: none answers.
    """
    import docker

    try:
        client = docker.from_env()
    except docker.errors.DockerException as error:
        if "permission denied" in str(error).lower():
            raise BadInput(
                "no permission on the container engine's socket; join its group (docker), or run as a user who may"
            ) from error
        raise RuntimeError(
            "expected a container engine, none answers; start Docker, or name it in DOCKER_HOST"
        ) from error
    try:
        yield client
    finally:
        client.close()


def provide(engine: "DockerClient", image: str) -> None:
    """Make sure that an image is here; one that is not is pulled.

    Raises:
        BadInput: there is no such image.
        RuntimeError: its registry does not answer.
    """
    import docker

    try:
        engine.images.get(image)
    except docker.errors.ImageNotFound:
        try:
            engine.images.pull(image)
        except (docker.errors.NotFound, docker.errors.ImageNotFound) as error:
            raise BadInput(f"{image}: expected an image, there is none, here or in a registry; make build") from error
        except docker.errors.APIError as error:
            raise RuntimeError(
                f"{image}: not here, and its registry does not give it ({error.explanation}); make build, or log in"
            ) from error


def run_container(engine: "DockerClient", image: str, command: list[str], log: Path, **options: Any) -> Ended:
    """Run a command in a container of its own, pass on what it says as it comes, and keep the last line.

    Args:
        log: File to write it to as well.
    """
    container = engine.containers.create(image, command, tty=sys.stderr.isatty(), **options)
    try:
        said = container.attach(stream=True, logs=True)
        container.start()
        with measured(container) as used:
            last_line = pass_on(said, log)
        return Ended(container.wait()["StatusCode"], last_line, used.cpu_seconds, used.peak_memory)
    finally:
        container.remove(force=True)


@dataclass
class Used:
    """What a container used, as far as the engine told in time: about once a second."""

    cpu_seconds: float | None = None
    peak_memory: int | None = None


@contextlib.contextmanager
def measured(container: Any) -> Iterator[Used]:
    """Watch what a container uses while the block runs."""
    used = Used()

    def watch() -> None:
        with contextlib.suppress(Exception):  # a figure that is missing must not fail a step
            for told in container.stats(stream=True, decode=True):
                if memory := told["memory_stats"].get("max_usage") or told["memory_stats"].get("usage"):
                    used.peak_memory = max(used.peak_memory or 0, memory)
                if nanoseconds := told["cpu_stats"]["cpu_usage"]["total_usage"]:
                    used.cpu_seconds = round(nanoseconds / 1e9, 3)

    threading.Thread(target=watch, daemon=True).start()
    yield used


def _engine_and(home: Path) -> dict[str, Any]:
    """What lets a step start containers beside its own, and share the folder `home` with them."""
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    environment = {"DOCKER_HOST": host, "TRAINYARD_HOME": str(home)}
    if not host.startswith("unix://"):
        return {"environment": environment, "volumes": [f"{home}:{home}"]}
    socket = Path(host.removeprefix("unix://"))
    return {
        "environment": environment,
        "volumes": [f"{home}:{home}", f"{socket}:{socket}"],
        "group_add": [str(socket.stat().st_gid)] if socket.exists() else [],
    }


def _environment() -> tuple[dict[str, str], list[Path]]:
    """The store's variables for a step, and the files they name."""
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    named = {name: os.environ[name] for name in CERTIFICATES if Path(os.environ.get(name, "")).is_file()}
    return environment | named, sorted({Path(path) for path in named.values()})
