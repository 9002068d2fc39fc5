"""Serve on this machine: one model server per model name, which outlives the step.

A rollout never takes an answer away: the new version is loaded beside the old one, proves itself on the known examples,
and only then gets the requests. If anything fails before that, the service is left as it was.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import components
from components.common.cli import BadInput
from components.serve import known_examples, versions
from components.serve.client import Endpoint
from components.serve.service import AVAILABLE, END, LOADING, Service, State, Wanted

SECONDS_TO_STOP = 15
T = TypeVar("T")
Tell = Callable[[str], None]


def serve(uri: str, model_name: str, port: int, timeout: float, tell: Tell) -> str:
    """Let this machine's server of a model name answer with a published version.

    Args:
        uri: The published version, see `versions.find`.
        model_name: Name of the service.
        port: Port of a server that is to be started; 0: any free one.
        timeout: Seconds until the version has to answer.
        tell: Gets lines of progress.

    Returns:
        The predict URL.

    Raises:
        BadInput: there is no such version, the port is taken, or the service runs on another one.
        RuntimeError: the version cannot be loaded, answers wrongly, or the time is up; the service is as it was.
    """
    service = Service.named(model_name)
    deadline = time.monotonic() + timeout
    version = versions.find(uri)
    with service.alone(deadline):
        running = service.state()
        if running and port not in (0, running.port):
            raise BadInput(
                f"--port: {model_name} is served on port {running.port} already, received {port}; "
                f"leave --port out, or run `stop --model-name {model_name}` first"
            )
        before = [wanted for wanted in service.wanted() if wanted.percent]  # without what a killed step left
        try:
            url = _roll_out(service, version, before, port, deadline, tell)
        except BaseException:
            _restore(service, before, running)
            raise
        service.tidy()
    return url


def _roll_out(
    service: Service, version: versions.Version, before: list[Wanted], port: int, deadline: float, tell: Tell
) -> str:
    folder = service.versions / version.folder_name
    if not folder.is_dir():
        versions.fetch(version, folder)
        tell(f"{service.name}: version {version.number}, {len(version.files)} files, from {version.source.uri}")
    new = Wanted(version.number, version.source.uri, version.folder_name, percent=100)
    old = [wanted for wanted in before if wanted.folder != new.folder]
    if old == before:
        service.want([*old, Wanted(new.version, new.uri, new.folder, percent=0)])
    state = service.state() or _start(service, port, deadline)

    loaded = _wait(lambda: _loaded(service, new), deadline, f"{service.name}: version {new.version} is not loaded yet")
    tell(f"{service.name}: version {new.version} loaded, on {loaded}")
    seen = known_examples.check(Endpoint(service.url(state.url, new.version)), folder)
    tell(f"{service.name}: version {new.version} {seen}")

    service.want([new])
    _wait(lambda: _only_one(service, new), deadline, f"{service.name}: earlier versions still answer requests")
    url = service.url(state.url)
    instead = f" in place of {', '.join(str(wanted.version) for wanted in old)}" if old else ""
    tell(f"{service.name}: version {new.version}{instead} at {url}")
    return url


def _loaded(service: Service, new: Wanted) -> str | None:
    """The backend of a version that is available; None as long as it loads."""
    version = _running(service).of(new.folder)
    if version and version.state == END:
        raise RuntimeError(f"{service.name}: version {new.version} cannot be loaded ({version.error})")
    return version.backend if version and version.state == AVAILABLE else None


def _only_one(service: Service, new: Wanted) -> bool:
    """Whether a version is the only one left."""
    folders = {version.folder: version.percent for version in _running(service).versions}
    return folders == {new.folder: 100}


def _running(service: Service) -> State:
    state = service.state()
    if state is None:
        raise RuntimeError(f"{service.name}: the model server has ended ({_last_line(service.log)}); see {service.log}")
    return state


def _restore(service: Service, before: list[Wanted], running: State | None) -> None:
    """Leave a service as it was before a rollout that failed; a server that did not survive it is started again."""
    if not before or running is None:
        _end_server(service)
    if not before:
        service.remove()
        return
    service.want(before)
    if running is not None:
        deadline = time.monotonic() + SECONDS_TO_STOP
        folders = {wanted.folder for wanted in before}
        with suppress(BadInput, RuntimeError, TimeoutError):  # the rollout's own failure is the one to tell
            if not service.runs():
                _start(service, running.port, deadline)
            _wait(lambda: _settled(service, folders), deadline, "not as before")
    service.tidy()


def _settled(service: Service, folders: set[str]) -> bool:
    """Whether no other versions are left than these, and these are loaded."""
    versions = _running(service).versions
    return {version.folder for version in versions} == folders and all(v.state != LOADING for v in versions)


def _without_credentials(environment: Mapping[str, str]) -> dict[str, str]:
    """A server needs no store: what it serves has been fetched."""
    return {name: value for name, value in environment.items() if not name.startswith("AWS_")}


def _start(service: Service, port: int, deadline: float) -> State:
    """Start the server of a service, detached from this process.

    Raises:
        BadInput: the port is taken.
        RuntimeError: it ended, or it did not answer in time.
    """
    service.forget_state()
    command = [sys.executable, "-m", "components.serve.server", str(service.folder), "--port", str(port)]
    root = str(Path(components.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    with service.log.open("ab") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**_without_credentials(os.environ), "PYTHONPATH": path},
        )

    def answers() -> State | None:
        if child.poll() is not None:
            line = _last_line(service.log)
            raise BadInput(line) if child.returncode == 2 else RuntimeError(f"the model server ended: {line}")
        return service.state()

    return _wait(answers, deadline, f"{service.name}: the model server does not answer yet")


def stop(model_name: str, tell: Tell) -> None:
    """End the server of one service, or of all (empty name), and remove what they left.

    Raises:
        BadInput: there is no service of that name.
    """
    if model_name and not Service.named(model_name).wanted():
        raise BadInput(f"--model-name: expected a model that is served here, received {model_name!r}; see `status`")
    services = [Service.named(model_name)] if model_name else Service.all()
    for service in services:
        with service.alone(time.monotonic() + SECONDS_TO_STOP):
            _end_server(service)
            service.remove()
            service.log.unlink(missing_ok=True)
            tell(f"{service.name}: stopped")
    if not services:
        tell("nothing is served here")


def _end_server(service: Service) -> None:
    """End the server, in good order if it can: what it has been asked is answered."""
    service.want_none()
    try:
        _wait(lambda: not service.runs(), time.monotonic() + SECONDS_TO_STOP, "still there")
    except TimeoutError:
        if (state := service.state()) is not None:
            os.kill(state.pid, signal.SIGKILL)


def status() -> list[tuple[str, ...]]:
    """One row per version of each service: model, version, share of the requests, state, endpoint, origin."""
    rows = []
    for service in Service.all():
        state = service.state()
        if state is None:
            rows += [(service.name, str(one.version), "", "STOPPED", "", one.uri) for one in service.wanted()]
            continue
        url = service.url(state.url)
        rows += [
            (service.name, str(one.version), f"{one.percent} %", one.state, url, one.uri) for one in state.versions
        ]
    return rows


def _wait(until: Callable[[], T | None], deadline: float, what: str) -> T:
    """Look again and again until there is a result; TimeoutError with `what` at the deadline."""
    while not (result := until()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}, and the time is up; raise --timeout")
        time.sleep(0.02)
    return result


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1] if lines else "it left no word"
