"""What one client may ask of the server, and what all may together: beyond that they are refused in good order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .protocols.request import Refused

LARGEST_BODY = 64 * 2**20
MOST_BYTES = 4 * LARGEST_BODY
"""Of the bodies of all predictions under way."""
MOST_PREDICTIONS = 128
"""Under way at a time: waiting or being answered."""
MOST_CONNECTIONS = 1000


class Limits:
    """Counts the predictions that are under way.

    Attributes:
        patience: Seconds within which a client has to send its request.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._predictions = 0
        self._bytes = 0

    @contextmanager
    def admitted(self) -> Iterator[Admitted]:
        """Let a prediction in.

        Raises:
            Refused: 503, there are too many.
        """
        if self._predictions >= MOST_PREDICTIONS:
            raise Refused(503, f"busy with {self._predictions} predictions; try again in a second")
        self._predictions += 1
        one = Admitted(self)
        try:
            yield one
        finally:
            self._predictions -= 1
            self._bytes -= one.held

    def hold(self, count: int) -> None:
        if self._bytes + count > MOST_BYTES:
            raise Refused(503, f"busy with {self._bytes} bytes of requests; try again in a second")
        self._bytes += count


class Admitted:
    """A prediction under way."""

    def __init__(self, limits: Limits) -> None:
        self.held = 0
        self._limits = limits

    async def body(self, request: Request) -> bytes:
        """The body of its request.

        Raises:
            Refused: 413, it is larger than LARGEST_BODY; 408, it comes too slowly; 503, there is no room for it now.
        """
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > LARGEST_BODY:
            raise _too_large()
        chunks = []
        try:
            async with asyncio.timeout(self._limits.patience):
                async for chunk in request.stream():
                    self._limits.hold(len(chunk))
                    self.held += len(chunk)
                    if self.held > LARGEST_BODY:
                        raise _too_large()
                    chunks.append(chunk)
        except TimeoutError:
            raise Refused(
                408, f"expected the whole body within {self._limits.patience:g} seconds, received {self.held} bytes"
            ) from None
        return b"".join(chunks)


def _too_large() -> Refused:
    return Refused(413, f"expected a body of at most {LARGEST_BODY} bytes; send fewer examples per request")


def impatient(patience: float) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, but a connection whose request line and headers are not there in time is closed.

    Args:
        patience: Seconds, from the connection or the first byte of a further request.
    """

    class Impatient(HttpToolsProtocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._await_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            self._got_headers()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            self._await_headers()
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._got_headers()
            super().on_headers_complete()

        def _await_headers(self) -> None:
            self._got_headers()
            self._deadline = self.loop.call_later(patience, self.transport.close)

        def _got_headers(self) -> None:
            if self._deadline:
                self._deadline.cancel()
                self._deadline = None

    return Impatient
