"""The model server of one service on this machine: `python -m trainyard.components.serve.server FOLDER`.

It watches `service.json` in the service's folder and follows it: a new version is loaded beside the old one, requests
move over when it is available, and the old one goes when it has answered all that it had been given. Each version has a
thread of its own (`worker.py`); the event loop does nothing but HTTP (`http_api.py`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path

import click
import uvicorn

from ...common.cli import BadInput, Terminated, command
from ..here.service import AVAILABLE, END, Service, State, VersionState, Wanted
from .http_api import application
from .limits import MOST_CONNECTIONS, Limits, impatient
from .metrics import Metrics
from .protocols.tensorflow_serving import Refused
from .worker import Version

SECONDS_BETWEEN_LOOKS = 0.05

log = logging.getLogger("serve")


class Served:
    """The versions that are loaded, and which of them answer.

    Attributes:
        versions: By folder; of one number, the last is the newest.
        shares: Those that answer requests which name no version, each with its share in percent.
        shows_page: Whether the root is a page for people.
    """

    def __init__(self, service: Service, url: str) -> None:
        self.service = service
        self.url = url
        self.metrics = Metrics()
        self.versions: dict[str, Version] = {}
        self.shares: dict[Version, int] = {}
        self.shows_page = False
        self._wanted: dict[str, Wanted] = {}
        self._seen: tuple[int, int] | None = None  # of service.json: time of its last change, and which file it is
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: State | None = None
        self.metrics.watch(service.name, self._states)

    def answering(self, number: int | None) -> Version:
        """The version that answers a request: the one of that number, else one by the shares.

        Raises:
            Refused: 404, there is none.
        """
        if number is None:
            if not self.shares:
                raise Refused(404, f"Servable not found for request: Latest({self.service.name})")
            return random.choices(list(self.shares), list(self.shares.values()))[0]
        found = [version for version in self.listed(number) if version.state == AVAILABLE]
        if not found:
            raise Refused(404, f"Servable not found for request: Specific({self.service.name}, {number})")
        return found[-1]

    def listed(self, number: int) -> list[Version]:
        """Loaded versions of that number."""
        return [version for version in self.versions.values() if version.wanted.version == number]

    async def follow(self) -> None:
        """Follow `service.json` until it is gone."""
        while self.service.wanted_file.exists():
            try:
                self._look()
            except FileNotFoundError:
                return
            except Exception:  # a full disk, a file edited by hand: what is served goes on
                log.exception("cannot follow %s", self.service.wanted_file)
                await asyncio.sleep(5)
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    def _look(self) -> None:
        stat = self.service.wanted_file.stat()
        if (stat.st_mtime_ns, stat.st_ino) != self._seen:
            self._wanted = {one.folder: one for one in self.service.wanted()}
            self.shows_page = self.service.shows_page()
            self._seen = (stat.st_mtime_ns, stat.st_ino)
        for folder, wanted in self._wanted.items():
            if folder not in self.versions:
                version = self.versions[folder] = Version(wanted, self.service.versions / folder, self.metrics)
                self._start(self._load(version))
        self._route()
        self._tell()

    def _route(self) -> None:
        """Let those answer that are wanted and available; as long as there are none, those that answered before."""
        shares = {self.versions[folder]: wanted.percent for folder, wanted in self._wanted.items() if wanted.percent}
        ready = {version: percent for version, percent in shares.items() if version.state == AVAILABLE}
        self.shares = ready or self.shares
        for folder, version in list(self.versions.items()):
            if folder not in self._wanted and version not in self.shares and version.state in (AVAILABLE, END):
                self._start(self._unload(folder, version))

    async def _load(self, version: Version) -> None:
        await version.load()
        if version.state == AVAILABLE:
            log.info("version %d available, on %s", version.wanted.version, version.backend)

    async def _unload(self, folder: str, version: Version) -> None:
        await version.unload()
        del self.versions[folder]
        log.info("version %d unloaded", version.wanted.version)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # the loop itself keeps no hold of a task
        task.add_done_callback(self._tasks.discard)

    def _tell(self) -> None:
        state = State(os.getpid(), self.url, self._states(), self.shows_page)
        if state != self._told:
            self.service.tell(state)
            self._told = state

    def _states(self) -> tuple[VersionState, ...]:
        total = sum(self.shares.values())
        return tuple(
            VersionState(
                version=version.wanted.version,
                uri=version.wanted.uri,
                folder=folder,
                percent=100 * self.shares[version] // total if version in self.shares else 0,
                state=version.state,
                backend=version.backend,
                error=version.error,
            )
            for folder, version in self.versions.items()
        )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        BadInput: the port is taken.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        raise BadInput(
            f"--port: expected a free port, received {port} ({error.strerror}); 0 takes any free one"
        ) from None
    return listener


def run(service: Service, listener: socket.socket, patience: float) -> None:
    """Serve until `service.json` is gone, or SIGTERM or SIGINT; what has been asked by then is answered."""
    served = Served(service, "http://{}:{}".format(*listener.getsockname()))
    config = uvicorn.Config(
        application(served, Limits(patience)),
        http=impatient(patience),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than clients keep idle connections, or they would meet closed ones
        timeout_graceful_shutdown=10,
        limit_concurrency=MOST_CONNECTIONS,
    )
    server = uvicorn.Server(config)

    async def follow() -> None:
        await served.follow()
        server.should_exit = True

    async def serve() -> None:
        following = asyncio.create_task(follow())
        with suppress(Terminated, KeyboardInterrupt):  # uvicorn raises the signal again when it is done
            await server.serve(sockets=[listener])
        following.cancel()

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(serve())


@command
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=0, help="Port to listen on; 0: any free one.")
@click.option("--patience", default=30.0, help="Seconds within which a client has to send its request.")
def main(folder: Path, host: str, port: int, patience: float) -> None:
    """Serve the versions that service.json in FOLDER names (`trainyard serve` writes it)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    service = Service(folder.resolve())
    with service.hold(), bind(host, port) as listener:
        log.info("%s: process %d listens on %s:%d", service.name, os.getpid(), *listener.getsockname())
        run(service, listener, patience)
    log.info("%s: ended", service.name)
