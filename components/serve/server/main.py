"""The model server of one service on this machine: `python -m trainyard.components.serve.server FOLDER`.

It watches `service.json` in the service's folder and follows it: a new version is loaded beside the old one, requests
move over when it is available, and the old one goes when it has answered all that it had been given. Quick models
run in the event loop, others in a thread of their own (`worker.py`); HTTP is in `http_api.py`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from types import FrameType

import click
import uvicorn

from ...common.cli import BadInput, Terminated, command
from ..here.service import ServiceFolder
from .access import LOOPBACK, Access
from .http_api import application
from .limits import MOST_CONNECTIONS, Limits, impatient
from .memory import give_back_what_is_freed
from .served import ServedModel

BACKLOG = 2048

log = logging.getLogger("serve")


def bind(host: str, port: int, listening: bool = True) -> socket.socket:
    """A socket.

    Args:
        listening: Whether it accepts connections already.

    Raises:
        BadInput: the port is taken.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        if listening:
            listener.listen(BACKLOG)
    except OSError as error:
        raise BadInput(
            f"--port: expected a free port, received {port} ({error.strerror}); 0 takes any free one"
        ) from None
    return listener


class _Server(uvicorn.Server):
    """A server that goes on for a while after SIGTERM, and says meanwhile that it is not ready."""

    def __init__(self, config: uvicorn.Config, served: ServedModel, drain: float) -> None:
        super().__init__(config)
        self._served, self._drain = served, drain

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig != signal.SIGTERM or self._served.leaving or not self._drain:
            super().handle_exit(sig, frame)
            return
        log.info("SIGTERM: %g more seconds for requests that are on their way", self._drain)
        self._served.leaving = True
        self._loop.call_soon_threadsafe(self._loop.call_later, self._drain, super().handle_exit, sig, frame)


def run(
    service: ServiceFolder,
    listener: socket.socket,
    patience: float,
    drain: float = 0,
    loaded_first: bool = False,
    any_host: bool = False,
) -> None:
    """Serve until `service.json` is gone, or SIGTERM or SIGINT; what has been asked by then is answered.

    Args:
        patience: Seconds within which a client has to send its request.
        drain: Seconds to go on after SIGTERM.
        loaded_first: Whether to listen only when a version answers.
        any_host: Whether requests to all host names are answered, see `Access`.

    Raises:
        RuntimeError: no version can be loaded, where that is waited for.
    """
    give_back_what_is_freed()
    served = ServedModel(service, "http://{}:{}".format(*listener.getsockname()))
    own = (listener.getsockname()[0], *LOOPBACK)

    def access() -> Access:
        return Access(None if any_host else (*own, *served.front.hosts), served.front.origins)

    config = uvicorn.Config(
        application(served, Limits(patience), access),
        http=impatient(patience),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=75,  # longer than clients keep idle connections, or they would meet closed ones
        timeout_graceful_shutdown=10,
        limit_concurrency=MOST_CONNECTIONS,
    )
    server = _Server(config, served, drain)

    async def follow() -> None:
        await served.follow()
        server.should_exit = True

    async def serve() -> None:
        following = asyncio.create_task(follow())
        with suppress(Terminated, KeyboardInterrupt):  # uvicorn raises the signal again when it is done
            if loaded_first:
                await served.loaded()
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
    service = ServiceFolder(folder.resolve())
    with service.hold(), bind(host, port) as listener:
        log.info("%s: process %d listens on %s:%d", service.name, os.getpid(), *listener.getsockname())
        run(service, listener, patience)
    log.info("%s: ended", service.name)
