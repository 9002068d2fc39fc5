"""A service on this machine as files: what is to be served, and what is served.

The folder of a service, `$TRAINYARD_HOME/serving/<model name>/`, holds

- `service.json`: the versions that are to be loaded, each one's share of the requests, and what is shown to
  whom, written by the step;
- `state.json`: where the server answers and how far each version is, written by the server;
- `server.lock`: locked by the server as long as it lives;
- `port`: that of the previous server, once another one is started;
- `versions/<version>-<digest>/`: the downloaded versions;

- `disagreements-<version>.jsonl`: where a shadow version answered otherwise;

and beside it lies `<model name>.log`, what the server says. The step writes what it wants and waits until the state
shows it; the server follows, and ends when `service.json` is gone. No other word passes between them.
"""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from ...common.cli import BadInput
from ...common.files import write_json, write_text
from ...common.state import state_folder
from ...common.waiting import wait_for

LOADING, AVAILABLE, UNLOADING, END = "LOADING", "AVAILABLE", "UNLOADING", "END"
"""States of a version, in TensorFlow Serving's words; END with an error is a version that could not be loaded."""


@dataclass(frozen=True)
class Front:
    """What a server shows in a browser, and to whom.

    Attributes:
        page: Whether its root is a page to try the model.
        origins: Origins of other sites whose pages may send requests; `*`: all.
        hosts: Host names that it answers to besides its own address and localhost.
    """

    page: bool = False
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    @classmethod
    def read(cls, content: dict[str, Any]) -> Front:
        """From JSON."""
        return cls(content.get("page", False), tuple(content.get("origins", ())), tuple(content.get("hosts", ())))


@dataclass(frozen=True)
class WantedVersion:
    """A version that is to be loaded.

    Attributes:
        version: Its number, 1 or more.
        uri: Where it came from.
        folder: Name of its folder below `versions/`; different content, or another server, has a different name.
        percent: Its share of the requests that name no version, 0 to 100.
        since: When it was asked for, ISO 8601 in UTC.
        on_trial: It has yet to prove itself, and goes unless it does.
        url: Predict URL of another server that holds its model; empty: ours loads it.
        shadow: It is sent what other versions are asked, and its answers are compared with theirs.
    """

    version: int
    uri: str
    folder: str
    percent: int
    since: str = ""
    on_trial: bool = False
    url: str = ""
    shadow: bool = False


@dataclass(frozen=True)
class VersionState:
    """How far the server is with one version.

    Attributes:
        percent: The share of the requests it gets now, 0 to 100.
        state: LOADING, AVAILABLE, UNLOADING or END.
        backend: `LiteRT`, `TensorFlow` or `TensorFlow Serving`, once loaded.
        error: Why it could not be loaded.
        shadow: Whether it is sent what other versions are asked.
    """

    version: int
    uri: str
    folder: str
    percent: int
    state: str
    backend: str = ""
    error: str = ""
    shadow: bool = False


@dataclass(frozen=True)
class ServerState:
    """What a running server tells of itself."""

    pid: int
    url: str
    versions: tuple[VersionState, ...]
    front: Front = field(default_factory=Front)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def of(self, folder: str) -> VersionState | None:
        """The version loaded from that folder."""
        return next((version for version in self.versions if version.folder == folder), None)


class ServiceFolder:
    """One service's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.versions = folder / "versions"
        self.log = folder.with_name(f"{folder.name}.log")
        self.wanted_file = folder / "service.json"
        self._state_file = folder / "state.json"
        self._lock_file = folder / "server.lock"
        self._port_file = folder / "port"

    @classmethod
    def named(cls, name: str) -> ServiceFolder:
        """The service of that name, there or not.

        Raises:
            BadInput: the name cannot stand in a URL and be a folder.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise BadInput(
                f"--model-name: expected letters, digits, '.', '_' and '-', received {name!r}; choose another"
            )
        return cls(_home() / name)

    @classmethod
    def all(cls) -> list[ServiceFolder]:
        """Every service of this TRAINYARD_HOME, by name."""
        return [cls(path.parent) for path in sorted(_home().glob("*/service.json"))]

    def url(self, base: str, version: int | None = None) -> str:
        """The predict URL of the service, or of one version of it."""
        return f"{base}/v1/models/{self.name}{f'/versions/{version}' if version else ''}:predict"

    def wanted(self) -> list[WantedVersion]:
        """The versions that are to be loaded."""
        return [WantedVersion(**version) for version in _read(self.wanted_file).get("versions", [])]

    def served(self) -> list[WantedVersion]:
        """Those that answer requests, the stable one before its canary; without what a killed step left."""
        return [version for version in self.wanted() if not version.on_trial]

    def front(self) -> Front:
        """What the server is to show, and to whom."""
        return Front.read(_read(self.wanted_file))

    def want(self, versions: list[WantedVersion], front: Front | None = None) -> None:
        """Change what is to be loaded and, if told, what is shown to whom; a running server follows at once."""
        front = self.front() if front is None else front
        listed = [asdict(version) for version in versions]
        write_json(self.wanted_file, {**_read(self.wanted_file), **asdict(front), "versions": listed}, indent=2)

    def image(self) -> str:
        """Image that the server is a container of; empty: it is a process."""
        return _read(self.wanted_file).get("image", "")

    def run_as(self, image: str) -> None:
        """Say what the server is to be when it is started next, see `image`."""
        write_json(self.wanted_file, {**_read(self.wanted_file), "image": image}, indent=2)

    def want_none(self) -> None:
        """Let the server end."""
        self.wanted_file.unlink(missing_ok=True)

    def state(self) -> ServerState | None:
        """What the running server tells; None when none runs or it has not told yet."""
        if not self.runs():
            return None
        told = _read(self._state_file)
        if not told:
            return None
        versions = tuple(VersionState(**version) for version in told["versions"])
        return ServerState(**{**told, "versions": versions, "front": Front.read(told.get("front", {}))})

    def tell(self, state: ServerState) -> None:
        """Write the state (the server's part)."""
        write_json(self._state_file, asdict(state), indent=2)

    def last_port(self) -> int:
        """Port of the server that runs here, or ran before; 0: none did."""
        if told := _read(self._state_file):
            return int(told["url"].rpartition(":")[2])
        return int(self._port_file.read_text()) if self._port_file.exists() else 0

    def check_port(self, port: int) -> None:
        """Raise BadInput for another port than that of the server that runs; 0 is any."""
        running = self.state()
        if running and port not in (0, running.port):
            raise BadInput(
                f"--port: {self.name} is served on port {running.port} already, received {port}; "
                f"leave --port out, or trainyard serve stop --model-name {self.name} first"
            )

    def forget_state(self) -> None:
        """Remove what an ended server left, before a new one starts: a state beside a held lock is then its own.

        The port is kept, for the case that the start fails and is tried again.
        """
        if port := self.last_port():
            write_text(self._port_file, str(port))
        self._state_file.unlink(missing_ok=True)

    def runs(self) -> bool:
        """Whether a server lives: the kernel frees its lock however it ends, so no recycled process id misleads."""
        try:
            with self._lock_file.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def hold(self) -> TextIO:
        """Take the server's lock; it lasts as long as the returned file is open.

        Raises:
            RuntimeError: another server has it.
        """
        file = self._lock_file.open("a")
        if not _locked_before(file, time.monotonic() + 2):
            raise RuntimeError(f"{self.name}: another model server runs in {self.folder}; stop it first")
        return file

    @contextmanager
    def alone(self, deadline: float) -> Iterator[None]:
        """One step at a time changes a service.

        Args:
            deadline: Until when to wait for another step, in `time.monotonic()` seconds.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self.folder.with_name(f".{self.name}.lock").open("a") as file:
            if not _locked_before(file, deadline):
                raise RuntimeError(
                    f"{self.name}: another step is still changing this service; try again when it is done"
                )
            yield

    def tidy(self) -> None:
        """Remove the folders of versions that are no longer wanted."""
        kept = {version.folder for version in self.wanted()}
        for folder in self.versions.glob("*"):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def remove(self) -> None:
        """Remove everything of a service whose server has ended."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _home() -> Path:
    return state_folder().resolve() / "serving"


def _locked_before(file: TextIO, deadline: float) -> bool:
    return wait_for(lambda: _locked(file), deadline)


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return {}
