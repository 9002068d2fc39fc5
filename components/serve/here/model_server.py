"""The running model server of a service on this machine: a process, or containers; started, waited for, ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from ...common.cli import BadInput, last_line
from ...common.waiting import wait_for
from ..client import Endpoint
from ..target import Tell
from . import containers
from .service import AVAILABLE, END, LOADING, Front, ServerState, ServiceFolder, VersionState, WantedVersion

SECONDS_TO_STOP = 15
Result = TypeVar("Result")


class Started(Protocol):
    """A process or a container that was started."""

    def exit_code(self) -> int | None:
        """None as long as it runs."""

    def last_line(self) -> str:
        """What it said last."""


class ModelServer:
    """The server of one service, and the containers that hold models for it."""

    def __init__(self, service: ServiceFolder) -> None:
        self._service = service

    def start(self, port: int, deadline: float) -> ServerState:
        """Start the server, detached from this process.

        Raises:
            BadInput: the port is taken.
            RuntimeError: it ended.
            TimeoutError: it did not answer in time.
        """
        service = self._service
        service.forget_state()
        started: Started = (
            containers.start(service, image, port) if (image := service.image()) else Process(service, port)
        )
        return _until(service.state, started, deadline, f"{service.name}: the model server does not answer yet")

    def start_model(self, version: WantedVersion, image: str, deadline: float) -> None:
        """Let a container of this image hold the model of a version, and wait until it has loaded it.

        Raises:
            BadInput: there is no such image.
            RuntimeError: it ended.
            TimeoutError: it did not load the model in time.
        """
        containers.tidy(self._service)  # a step that was killed may have left a container
        container = containers.start_model(self._service, version, image)
        what = f"{self._service.name}: {image} has not loaded version {version.version} yet"
        _until(Endpoint(version.url).available, container, deadline, what)

    def serve(self, versions: list[WantedVersion], port: int, deadline: float, front: Front | None = None) -> None:
        """Let these versions answer, with these shares and no others, and wait until it is so.

        Args:
            port: Of a server that has to be started.
            front: What is shown to whom; None: as before.
        """
        self._service.want(versions, front)
        if not self._service.runs():
            self.start(port, deadline)
        as_wanted = _roles(versions), self._service.front()

        def settled() -> bool:
            state = self.state()
            return (_roles(state.versions), state.front) == as_wanted

        _wait(settled, deadline, f"{self._service.name}: earlier versions still answer requests")

    def wait_until_loaded(self, version: WantedVersion, deadline: float) -> str:
        """The backend of a version, once it is available.

        Raises:
            RuntimeError: it cannot be loaded, or the server has ended.
            TimeoutError: it was not loaded in time.
        """

        def backend() -> str | None:
            told = self.state().of(version.folder)
            if told and told.state == END:
                raise RuntimeError(f"{self._service.name}: version {version.version} cannot be loaded ({told.error})")
            return told.backend if told and told.state == AVAILABLE else None

        return _wait(backend, deadline, f"{self._service.name}: version {version.version} is not loaded yet")

    def state(self) -> ServerState:
        """What the running server tells.

        Raises:
            RuntimeError: it has ended.
        """
        state = self._service.state()
        if state is None:
            log = self._service.log
            said = last_line(log.read_text(errors="replace") if log.is_file() else "")
            raise RuntimeError(f"{self._service.name}: the model server has ended ({said}); see {log}")
        return state

    def restore(self, versions: list[WantedVersion], running: ServerState | None) -> None:
        """Leave the service as it was before a rollout that failed; a server that did not survive it is started again.

        Args:
            versions: Those of before; none: the service goes.
            running: The server of before; None: none ran.
        """
        if not versions or running is None:
            self.end(versions)
        if not versions:
            self._service.remove()
            return
        self._service.want(versions)
        if running is not None:
            deadline = time.monotonic() + SECONDS_TO_STOP
            with suppress(BadInput, RuntimeError, TimeoutError):  # the rollout's own failure is the one to tell
                if not self._service.runs():
                    self.start(running.port, deadline)
                folders = {version.folder for version in versions}
                _wait(lambda: self._holds(folders), deadline, "not as before")
        self.tidy()

    def _holds(self, folders: Collection[str]) -> bool:
        """Whether no other versions are left than these, and these are loaded."""
        versions = self.state().versions
        return {version.folder for version in versions} == folders and all(one.state != LOADING for one in versions)

    def tidy(self) -> None:
        """Remove what is left of versions that are no longer wanted."""
        if self._service.image():
            containers.tidy(self._service)
        self._service.tidy()

    def end(self, left: Sequence[WantedVersion] = ()) -> None:
        """End the server, in good order if it can: what it has been asked is answered.

        Args:
            left: Versions of which containers that hold them stay.
        """
        service = self._service
        image = service.image()
        service.want_none()
        ended = wait_for(lambda: not service.runs(), time.monotonic() + SECONDS_TO_STOP)
        if not ended and not image and (state := service.state()) is not None:
            os.kill(state.pid, signal.SIGKILL)
        if image:
            with suppress(BadInput, RuntimeError):  # it has ended anyhow
                containers.remove(service, kept=[one.folder for one in left])

    def remove(self, tell: Tell) -> None:
        """End the server and leave nothing of the service."""
        there = self._service.wanted_file.exists()
        self.end()
        self._service.remove()
        self._service.log.unlink(missing_ok=True)
        name = self._service.name
        tell(f"{name}: stopped" if there else f"{name}: nothing is served under this name")


class Process:
    """A model server as a process, of a session of its own."""

    def __init__(self, service: ServiceFolder, port: int) -> None:
        server = "trainyard.components.serve.server"
        command = [sys.executable, "-P", "-m", server, str(service.folder), "--port", str(port)]  # -P: not from here
        # It needs no store, since what it serves has been fetched.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self._log = service.log
        with service.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment
            )

    def exit_code(self) -> int | None:
        """See `Started`."""
        return self._process.poll()

    def last_line(self) -> str:
        """See `Started`."""
        return last_line(self._log.read_text(errors="replace"))


def _roles(versions: Iterable[WantedVersion | VersionState]) -> dict[str, tuple[int, bool]]:
    """{folder: share of the requests, whether it is a shadow}."""
    return {version.folder: (version.percent, version.shadow) for version in versions}


def _until(ready: Callable[[], Result | None], started: Started, deadline: float, what: str) -> Result:
    """Wait for what was started, see `_wait`.

    Raises:
        BadInput, RuntimeError: it has ended.
    """

    def looked() -> Result | None:
        if (code := started.exit_code()) is not None:
            line = started.last_line()
            raise BadInput(line) if code == 2 else RuntimeError(f"the model server ended: {line}")
        return ready()

    return _wait(looked, deadline, what)


def _wait(look: Callable[[], Result | None], deadline: float, what: str) -> Result:
    """The result, once there is one; TimeoutError with `what` at the deadline."""
    if not (result := wait_for(look, deadline)):
        raise TimeoutError(f"{what}, and the time is up; raise --timeout")
    return result
