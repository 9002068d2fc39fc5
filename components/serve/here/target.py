"""Serve on this machine: one model server per model name, a process or a container, which outlives the step.

A rollout never takes an answer away: the new version is loaded beside the old one, proves itself on the known examples,
and only then gets the requests. If anything fails before that, the service is left as it was.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from ...common.artifacts import published
from ...common.cli import BadInput
from .. import known_examples
from ..client import Endpoint
from ..orders import Order, Outcome, Serving
from . import containers
from .containers import ServerContainer
from .service import AVAILABLE, END, LOADING, Service, State, Wanted

HERE = "this machine"
SECONDS_TO_STOP = 15
T = TypeVar("T")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Kind:
    """What a model server of this machine is to be.

    Attributes:
        port: Its port; 0: any free one.
        page: Whether it shows a page for trying the model in a browser.
        image: Image that it is a container of; empty: it is a process.
        server_image: Image of the containers that hold the models, with TensorFlow Serving's interface; empty: it loads
            them itself.
    """

    port: int = 0
    page: bool = True
    image: str = ""
    server_image: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise BadInput(f"--port: expected 0 to 65535, received {self.port}; choose another")


def act(order: Order, kind: Kind, tell: Tell) -> Outcome:
    """Do what is asked with this machine's server of a model name.

    Args:
        order: What to do.
        kind: What a server is to be that is started for it.
        tell: Gets lines of progress.

    Returns:
        What is served afterwards.

    Raises:
        BadInput: there is no such version, canary or service, the port is taken, or the service runs on another one.
        RuntimeError: the version cannot be loaded, answers wrongly, or the time is up; the service is as it was.
    """
    service = Service.named(order.model_name)
    deadline = time.monotonic() + order.timeout
    if order.action == "status":
        return _outcome(service, _served(service))
    if order.action == "apply":
        version = published.find(_model_uri(order))
        if order.dry_run:
            return _foretold(order, service, version, kind)
        with service.alone(deadline):
            _apply(order, service, version, kind, deadline, tell)
            return _outcome(service, service.wanted())
    with service.alone(deadline):
        if order.action == "delete":
            _delete(service, tell)
            return Outcome(service.name, HERE)
        kept, gone = reversed(_canary(service)) if order.action == "promote" else _canary(service)
        _settle(service, [replace(kept, percent=100)], kind, deadline)
        _tidy(service)
        tell(f"{service.name}: version {kept.version} alone, without version {gone.version}")
        return _outcome(service, service.wanted())


def _model_uri(order: Order) -> str:
    if not order.model_uri:
        raise BadInput("--model-uri: expected the URI of a published model, received none; pass what export printed")
    return order.model_uri


def _served(service: Service) -> list[Wanted]:
    """The versions that answer, the stable one before its canary; without what a killed step left."""
    served = [wanted for wanted in service.wanted() if not wanted.on_trial]
    if not served:
        raise BadInput(f"--model-name: expected a model that is served here, received {service.name!r}; see `status`")
    return served


def _canary(service: Service) -> tuple[Wanted, Wanted]:
    """The stable version and its canary."""
    served = _served(service)
    if len(served) < 2:
        raise BadInput(
            f"--action: expected a canary of {service.name} to promote or roll back, received version "
            f"{served[0].version} alone; apply one with --canary-percent"
        )
    return served[0], served[1]


def _shared(order: Order, service: Service, new: Wanted) -> list[Wanted]:
    """What is to be served: the new version alone, or as a canary beside the stable one."""
    before = [wanted for wanted in service.wanted() if not wanted.on_trial]
    if not order.canary:
        return [replace(new, percent=100)]
    if not before:
        raise BadInput(
            f"--canary-percent: nothing is served as {service.name} yet beside which a canary could stand, received "
            f"{order.canary_percent}; leave it out the first time"
        )
    stable = before[0]
    if stable.folder == new.folder:  # as when a promotion is tried again
        return [replace(stable, percent=100)]
    return [replace(stable, percent=100 - order.canary_percent), replace(new, percent=order.canary_percent)]


def _foretold(order: Order, service: Service, version: published.PublishedVersion, kind: Kind) -> Outcome:
    """What `_apply` would do."""
    wanted = _shared(order, service, _wanted(service, version, kind.server_image))
    if order.auto_promote:
        wanted = [replace(wanted[-1], percent=100)]
    shares = ", ".join(f"version {one.version} with {one.percent} % of the requests" for one in wanted)
    return Outcome(service.name, HERE, text=f"{service.name} on this machine: {shares}, from {version.uri}")


def _apply(
    order: Order, service: Service, version: published.PublishedVersion, kind: Kind, deadline: float, tell: Tell
) -> None:
    running = service.state()
    if running and kind.port not in (0, running.port):
        raise BadInput(
            f"--port: {service.name} is served on port {running.port} already, received {kind.port}; "
            f"leave --port out, or run `stop --model-name {service.name}` first"
        )
    if running and bool(kind.image) != bool(service.image()):
        other = "container" if service.image() else "process"
        raise BadInput(
            f"--target: {service.name} is served by a {other} already, received the other; "
            f"keep to it, or run `stop --model-name {service.name}` first"
        )
    new = _wanted(service, version, kind.server_image)
    wanted = _shared(order, service, new)
    before = [one for one in service.wanted() if not one.on_trial]
    try:
        folder = service.versions / new.folder
        if not folder.is_dir():
            published.fetch(version, folder)
            tell(f"{service.name}: version {new.version}, {len(version.files)} files, from {new.uri}")
        if not running:
            service.run_as(kind.image)
        if new.url:
            _start_model(service, new, kind.server_image, deadline)
        if new.folder not in {one.folder for one in before}:
            service.want([*before, replace(new, on_trial=True)], kind.page if not before else None)
        state = service.state() or _start(service, kind.port, deadline)
        own = Endpoint(service.url(state.url, new.version))
        loaded = _wait(
            lambda: _loaded(service, new), deadline, f"{service.name}: version {new.version} is not loaded yet"
        )
        tell(f"{service.name}: version {new.version} loaded, on {loaded}")
        if order.smoke_test:
            tell(f"{service.name}: version {new.version} {known_examples.check(own, folder)}")
        _settle(service, wanted, kind, deadline, kind.page)
        if order.auto_promote and len(wanted) > 1:
            tell(f"{service.name}: version {new.version} with {order.canary_percent} % of the requests")
            if order.smoke_test:
                known_examples.check(own, folder)
            wanted = [replace(new, percent=100)]
            _settle(service, wanted, kind, deadline)
    except BaseException:
        _restore(service, before, running)
        raise
    _tidy(service)
    tell(f"{service.name}: {_told(wanted, before)} at {service.url(state.url)}")


def _wanted(service: Service, version: published.PublishedVersion, server_image: str) -> Wanted:
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    wanted = Wanted(version.number, version.uri, version.folder_name, percent=0, since=now)
    if not server_image:
        return wanted
    folder = f"{wanted.folder}-{hashlib.sha256(server_image.encode()).hexdigest()[:6]}"
    known = next((one.url for one in service.wanted() if one.folder == folder), "")
    return replace(wanted, folder=folder, url=known or service.url(containers.free_address(), wanted.version))


def _told(wanted: list[Wanted], before: list[Wanted]) -> str:
    """What is served now, in words."""
    if len(wanted) > 1:
        return " and ".join(f"version {one.version} with {one.percent} % of the requests" for one in wanted)
    gone = ", ".join(str(one.version) for one in before if one.folder != wanted[0].folder)
    return f"version {wanted[0].version}" + (f" in place of {gone}" if gone else "")


def _settle(service: Service, wanted: list[Wanted], kind: Kind, deadline: float, page: bool | None = None) -> None:
    """Let these versions answer, with these shares and no others, and wait until it is so."""
    service.want(wanted, page)
    if not service.runs():
        _start(service, kind.port, deadline)
    as_wanted = {one.folder: one.percent for one in wanted}, service.shows_page()

    def settled() -> bool:
        state = _running(service)
        return ({version.folder: version.percent for version in state.versions}, state.page) == as_wanted

    _wait(settled, deadline, f"{service.name}: earlier versions still answer requests")


def _outcome(service: Service, served: list[Wanted]) -> Outcome:
    state = service.state()
    serving = []
    for one in reversed(served):
        told = state and state.of(one.folder)
        percent = told.percent if told else one.percent
        word = told.state if told else LOADING if state else "STOPPED"
        serving.append(Serving(str(one.version), one.uri, percent, word, one.since))
    return Outcome(service.name, HERE, service.url(state.url) if state else "", tuple(serving))


def _loaded(service: Service, new: Wanted) -> str | None:
    """The backend of a version that is available; None as long as it loads."""
    version = _running(service).of(new.folder)
    if version and version.state == END:
        raise RuntimeError(f"{service.name}: version {new.version} cannot be loaded ({version.error})")
    return version.backend if version and version.state == AVAILABLE else None


def _running(service: Service) -> State:
    state = service.state()
    if state is None:
        raise RuntimeError(f"{service.name}: the model server has ended ({_last_line(service.log)}); see {service.log}")
    return state


def _restore(service: Service, before: list[Wanted], running: State | None) -> None:
    """Leave a service as it was before a rollout that failed; a server that did not survive it is started again."""
    if not before or running is None:
        _end_server(service, before)
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
    _tidy(service)


def _tidy(service: Service) -> None:
    """Remove what is left of versions that are no longer wanted."""
    if service.image():
        containers.tidy(service)
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
    server = containers.start(service, image, port) if (image := service.image()) else _Child(service, port)
    return _until(service.state, server, deadline, f"{service.name}: the model server does not answer yet")


def _start_model(service: Service, new: Wanted, server_image: str, deadline: float) -> None:
    """Let a container hold the model of a version, and wait until it has loaded it.

    Raises:
        BadInput: there is no such image.
        RuntimeError: it ended, or it did not load the model in time.
    """
    containers.tidy(service)  # a step that was killed may have left a container
    container = containers.start_model(service, new, server_image)
    what = f"{service.name}: {server_image} has not loaded version {new.version} yet"
    _until(Endpoint(new.url).available, container, deadline, what)


def _until(ready: Callable[[], T | None], server: _Child | ServerContainer, deadline: float, what: str) -> T:
    """Wait for a server that was started, see `_wait`.

    Raises:
        BadInput, RuntimeError: it has ended.
    """

    def looked() -> T | None:
        if (code := server.exit_code()) is not None:
            line = server.last_line()
            raise BadInput(line) if code == 2 else RuntimeError(f"the model server ended: {line}")
        return ready()

    return _wait(looked, deadline, what)


class _Child:
    """A server process that was started, of a session of its own."""

    def __init__(self, service: Service, port: int) -> None:
        command = [sys.executable, "-m", "trainyard.components.serve.server", str(service.folder), "--port", str(port)]
        self._log = service.log
        with service.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=_without_credentials(os.environ),
            )

    def exit_code(self) -> int | None:
        return self._process.poll()

    def last_line(self) -> str:
        return _last_line(self._log)


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
            _delete(service, tell)
    if not services:
        tell("nothing is served here")


def _delete(service: Service, tell: Tell) -> None:
    there = service.wanted_file.exists()
    _end_server(service)
    service.remove()
    service.log.unlink(missing_ok=True)
    tell(f"{service.name}: stopped" if there else f"{service.name}: nothing is served here under this name")


def _end_server(service: Service, left: Sequence[Wanted] = ()) -> None:
    """End the server, in good order if it can: what it has been asked is answered.

    Args:
        service: The service.
        left: Versions of which containers that hold them stay.
    """
    image = service.image()
    service.want_none()
    try:
        _wait(lambda: not service.runs(), time.monotonic() + SECONDS_TO_STOP, "still there")
    except TimeoutError:
        if (state := service.state()) is not None and not image:
            os.kill(state.pid, signal.SIGKILL)
    if image:
        with suppress(BadInput, RuntimeError):  # it has ended anyhow
            containers.remove(service, kept=[one.folder for one in left])


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
