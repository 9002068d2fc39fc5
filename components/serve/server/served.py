"""The model that a server serves: follow `service.json`, load versions, share the requests, tell the state."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Awaitable

from ..here.service import AVAILABLE, END, Front, ServerState, ServiceFolder, VersionState, WantedVersion
from .metrics import ServerMetrics
from .protocols.request import Refused
from .worker import LoadedVersion

SECONDS_BETWEEN_LOOKS = 0.05

log = logging.getLogger("serve")


class ServedModel:
    """The versions that are loaded, and which of them answer.

    Attributes:
        versions: By folder; of one number, the last is the newest.
        shares: Those that answer requests which name no version, each with its share in percent.
        front: What is shown in a browser, and to whom.
        shadows: Those that are asked the same, see `Shadow`.
        leaving: Whether it was told to end, and answers only what is still on its way.
    """

    def __init__(self, service: ServiceFolder, url: str) -> None:
        self.service = service
        self.url = url
        self.metrics = ServerMetrics()
        self.versions: dict[str, LoadedVersion] = {}
        self.shares: dict[LoadedVersion, int] = {}
        self.front = Front()
        self.shadows: list[LoadedVersion] = []
        self.leaving = False
        self._wanted: dict[str, WantedVersion] = {}
        self._seen: tuple[int, int] | None = None  # of service.json: time of its last change, and which file it is
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: ServerState | None = None
        self.metrics.watch(service.name, self._states)

    def answering(self, number: int | None) -> LoadedVersion:
        """The version that answers a request: the one of that number, else one by the shares.

        Raises:
            Refused: 404, there is none.
        """
        if number is None:
            if not self.shares:
                raise Refused(404, f"Servable not found for request: Latest({self.service.name})")
            if len(self.shares) == 1:
                return next(iter(self.shares))
            return random.choices(list(self.shares), list(self.shares.values()))[0]
        found = [version for version in self.listed(number) if version.state == AVAILABLE]
        if not found:
            raise Refused(404, f"Servable not found for request: Specific({self.service.name}, {number})")
        return found[-1]

    def main(self) -> LoadedVersion:
        """The version with the largest share of the requests.

        Raises:
            Refused: 503, there is none.
        """
        if not self.shares:
            raise Refused(503, "no version is loaded")
        return max(self.shares, key=self.shares.__getitem__)

    def listed(self, number: int) -> list[LoadedVersion]:
        """Loaded versions of that number."""
        return [version for version in self.versions.values() if version.wanted.version == number]

    async def loaded(self) -> None:
        """Wait until a version answers.

        Raises:
            RuntimeError: one cannot be loaded.
        """
        while not self.shares:
            for version in self.versions.values():
                if version.state == END:
                    raise RuntimeError(f"{version.wanted.uri}: expected a model, received one with {version.error}")
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

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
            self.front = self.service.front()
            self._seen = (stat.st_mtime_ns, stat.st_ino)
        for folder, wanted in self._wanted.items():
            if folder not in self.versions:
                version = self.versions[folder] = LoadedVersion(wanted, self.service.versions / folder, self.metrics)
                self._start(self._load(version))
        self._route()
        self._tell()

    def _route(self) -> None:
        """Let those answer that are wanted and available; as long as there are none, those that answered before."""
        shares = {self.versions[folder]: wanted.percent for folder, wanted in self._wanted.items() if wanted.percent}
        ready = {version: percent for version, percent in shares.items() if version.state == AVAILABLE}
        self.shares = ready or self.shares
        shadows = [self.versions[folder] for folder, wanted in self._wanted.items() if wanted.shadow]
        self.shadows = [version for version in shadows if version.state == AVAILABLE]
        for folder, version in list(self.versions.items()):
            if folder not in self._wanted and version not in self.shares and version.state in (AVAILABLE, END):
                self._start(self._unload(folder, version))

    async def _load(self, version: LoadedVersion) -> None:
        await version.load()
        if version.state == AVAILABLE:
            log.info("version %d available, on %s", version.wanted.version, version.backend)

    async def _unload(self, folder: str, version: LoadedVersion) -> None:
        await version.unload()
        del self.versions[folder]
        log.info("version %d unloaded", version.wanted.version)

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)  # the loop itself keeps no hold of a task
        task.add_done_callback(self._tasks.discard)

    def _tell(self) -> None:
        state = ServerState(os.getpid(), self.url, self._states(), self.front)
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
                shadow=version in self.shadows,
            )
            for folder, version in self.versions.items()
        )
