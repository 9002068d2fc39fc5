"""The model server of one service on this machine: `python -m components.serve.server FOLDER`.

It watches `service.json` in the service's folder and follows it: a new version is loaded beside the old one, requests
move over when it is available, and the old one goes when it has answered all that it had been given. Each version has
one thread, since an interpreter may be used by one thread at a time; the event loop does nothing but HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import click
import numpy as np
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from components.common.cli import BadInput, Terminated, step
from components.common.models import load_classifier, read_card
from components.serve import protocol
from components.serve.protocol import Refused
from components.serve.service import AVAILABLE, END, LOADING, UNLOADING, Service, State, VersionState, Wanted

LARGEST_BODY = 64 * 2**20
SECONDS_BETWEEN_LOOKS = 0.05

log = logging.getLogger("serve")


class Version:
    """One version of the model, and the thread it lives in."""

    def __init__(self, wanted: Wanted, folder: Path) -> None:
        self.wanted = wanted
        self.state = LOADING
        self.error = ""
        self.backend = ""
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"version-{wanted.version}")

    async def load(self) -> None:
        """Load the model and let it answer once; afterwards the version is AVAILABLE, or at its END with an error."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        except Exception as error:
            log.exception("version %d cannot be loaded", self.wanted.version)
            self.state, self.error = END, f"{type(error).__name__}: {' '.join(str(error).split())}"
        else:
            self.state = AVAILABLE

    def _load(self) -> None:
        self.card = read_card(self._folder)
        self._classifier = load_classifier(self._folder)
        self._shape = tuple(self.card["input"]["shape"])
        self._classifier.predict(np.zeros((1, *self._shape), np.float32))
        self.backend = self._classifier.backend

    async def predict(self, body: bytes) -> bytes:
        """Answer the body of a `:predict` request.

        Raises:
            Refused: the body is not one.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, protocol.answer, body, self._classifier, self._shape
        )

    async def unload(self) -> None:
        """Answer what has been asked, then let the model go."""
        self.state = UNLOADING
        await asyncio.to_thread(self._thread.shutdown)


class Served:
    """The versions that are loaded, and which of them answer."""

    def __init__(self, service: Service, url: str) -> None:
        self.service = service
        self.url = url
        self.versions: dict[str, Version] = {}  # by folder; of one number, the last is the newest
        self._wanted: dict[str, Wanted] = {}
        self._seen: tuple[int, int] | None = None  # of service.json: time of its last change, and which file it is
        self._shares: dict[Version, int] = {}  # of those that answer, in percent
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: State | None = None

    def answering(self, number: int | None) -> Version:
        """The version that answers a request: the one of that number, else one by the shares.

        Raises:
            Refused: 404, there is none.
        """
        if number is None:
            if not self._shares:
                raise Refused(404, f"Servable not found for request: Latest({self.service.name})")
            return random.choices(list(self._shares), list(self._shares.values()))[0]
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
            self._seen = (stat.st_mtime_ns, stat.st_ino)
        for folder, wanted in self._wanted.items():
            if folder not in self.versions:
                version = self.versions[folder] = Version(wanted, self.service.versions / folder)
                self._start(self._load(version))
        self._route()
        self._tell()

    def _route(self) -> None:
        """Let those answer that are wanted and available; as long as there are none, those that answered before."""
        shares = {self.versions[folder]: wanted.percent for folder, wanted in self._wanted.items() if wanted.percent}
        ready = {version: percent for version, percent in shares.items() if version.state == AVAILABLE}
        self._shares = ready or self._shares
        for folder, version in list(self.versions.items()):
            if folder not in self._wanted and version not in self._shares and version.state in (AVAILABLE, END):
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
        total = sum(self._shares.values())
        states = tuple(
            VersionState(
                version=version.wanted.version,
                uri=version.wanted.uri,
                folder=folder,
                percent=100 * self._shares[version] // total if version in self._shares else 0,
                state=version.state,
                backend=version.backend,
                error=version.error,
            )
            for folder, version in self.versions.items()
        )
        state = State(os.getpid(), self.url, states)
        if state != self._told:
            self.service.tell(state)
            self._told = state


def application(served: Served) -> Starlette:
    """The HTTP side of a service."""
    name = served.service.name

    async def predict(request: Request) -> Response:
        _check_name(request)
        body = await _body(request)
        return _json(await served.answering(_number(request)).predict(body))

    async def status(request: Request) -> Response:
        _check_name(request)
        number = _number(request)
        versions = list(served.versions.values()) if number is None else served.listed(number)
        if not versions:
            asked = f"any versions of model {name}" if number is None else f"version {number} of model {name}"
            raise Refused(404, f"Could not find {asked}")
        listed = [protocol.version_status(one.wanted.version, one.state, one.error) for one in versions]
        return _json(orjson.dumps({"model_version_status": listed}))

    async def metadata(request: Request) -> Response:
        _check_name(request)
        version = served.answering(_number(request))
        return _json(orjson.dumps(protocol.metadata(name, version.wanted.version, version.card)))

    def _check_name(request: Request) -> None:
        asked = request.path_params["name"]
        if ":" in asked:  # a verb that is none, or GET of one
            raise HTTPException(400)
        if asked != name:
            raise Refused(404, f"Servable not found for request: Latest({asked})")

    def both(path: str, method: str, endpoint: Callable[[Request], Awaitable[Response]]) -> list[Route]:
        """A route for the service, and one for a version of it."""
        paths = (f"/v1/models/{{name}}{path}", f"/v1/models/{{name}}/versions/{{version:int}}{path}")
        return [Route(one, endpoint, methods=[method]) for one in paths]

    return Starlette(
        routes=[*both(":predict", "POST", predict), *both("/metadata", "GET", metadata), *both("", "GET", status)],
        exception_handlers={
            Refused: _refused,
            HTTPException: _no_such_path,
            ClientDisconnect: _gone,
            Exception: _failed,
        },
    )


def _number(request: Request) -> int | None:
    return request.path_params.get("version")


async def _body(request: Request) -> bytes:
    """The body of a request, as long as it is not larger than LARGEST_BODY."""
    size = int(request.headers.get("content-length", 0))
    chunks, received = [], 0
    if size <= LARGEST_BODY:
        async for chunk in request.stream():
            chunks.append(chunk)
            received += len(chunk)
            if received > LARGEST_BODY:
                break
    if max(size, received) > LARGEST_BODY:
        raise Refused(413, f"expected a body of at most {LARGEST_BODY} bytes; send fewer examples per request")
    return b"".join(chunks)


def _json(content: bytes, status: int = 200) -> Response:
    return Response(content, status, media_type="application/json")


async def _refused(request: Request, error: Refused) -> Response:
    return _json(orjson.dumps({"error": str(error)}), error.status)


async def _no_such_path(request: Request, error: HTTPException) -> Response:
    asked = f"Malformed request: {request.method} {request.url.path}"
    return _json(orjson.dumps({"error": asked}), 400 if request.url.path.startswith("/v1/") else 404)


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    return _json(b"{}", 400)  # nobody reads it


async def _failed(request: Request, error: Exception) -> Response:
    return _json(orjson.dumps({"error": f"{type(error).__name__}: {error}"}), 500)


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


def run(service: Service, listener: socket.socket) -> None:
    """Serve until `service.json` is gone, or SIGTERM or SIGINT; what has been asked by then is answered."""
    served = Served(service, "http://{}:{}".format(*listener.getsockname()))
    config = uvicorn.Config(
        application(served),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=75,  # longer than clients keep idle connections, or they would meet closed ones
        timeout_graceful_shutdown=10,
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


@step
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option("--port", default=0, help="Port to listen on; 0: any free one.")
def main(folder: Path, host: str, port: int) -> None:
    """Serve the versions that service.json in FOLDER names (`python -m components.serve` writes it)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    service = Service(folder.resolve())
    with service.hold(), bind(host, port) as listener:
        log.info("%s: process %d listens on %s:%d", service.name, os.getpid(), *listener.getsockname())
        run(service, listener)
    log.info("%s: ended", service.name)


if __name__ == "__main__":
    main()
