"""What one client may ask of the server, and what all may together: beyond that they are refused in good order."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import ClientDisconnect, Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .protocols.request import Refused, shown
from .transport import JoinedWrites

LARGEST_BODY = 64 * 2**20
MOST_BYTES = 4 * LARGEST_BODY
"""Of the bodies of all predictions under way."""
MOST_PREDICTIONS = 128
"""Under way at a time: waiting or being answered."""
MOST_CONNECTIONS = 1000
ENCODINGS = ("gzip", "deflate")
"""In which a body may be compressed."""
LARGEST_HEAD = 2**16
"""Bytes of the request line and headers, besides those that come with their first piece (at most 256 KiB)."""
WHOLE = "trainyard.whole"
"""Key in an ASGI scope: whether all of the body has come."""
PIECE = 2**20
"""Bytes that are decompressed at a time."""


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
        """The body of its request, decompressed.

        Raises:
            Refused: 413, it is larger than LARGEST_BODY; 408, it comes too slowly; 503, there is no room for it now;
                415, it is compressed in another way than ENCODINGS; 400, it is damaged.
        """
        headers = request.headers
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > LARGEST_BODY:
            raise _too_large()
        encoding = headers.get("content-encoding", "identity").lower()
        if encoding not in ("identity", *ENCODINGS):
            raise Refused(415, f"expected Content-Encoding {' or '.join(ENCODINGS)}, received {shown(encoding)}")
        chunks = []
        patience = None if request.scope.get(WHOLE) else self._limits.patience  # a timer costs as much as the rest here
        try:
            async with asyncio.timeout(patience):
                more = True
                while more:
                    message = await request.receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    chunk, more = message["body"], message["more_body"]
                    self._take(len(chunk), self.held)
                    chunks.append(chunk)
        except TimeoutError:
            raise Refused(
                408, f"expected the whole body within {self._limits.patience:g} seconds, received {self.held} bytes"
            ) from None
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return body if encoding == "identity" else await self._decompressed(body)

    async def _decompressed(self, body: bytes) -> bytes:
        pieces, size = [], 0
        inflating = _inflated(body)
        while piece := await asyncio.to_thread(next, inflating, b""):
            self._take(len(piece), size)
            size += len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _take(self, count: int, before: int) -> None:
        """Make room for more of a body of which some is there."""
        if before + count > LARGEST_BODY:
            raise _too_large()
        self._limits.hold(count)
        self.held += count


def _inflated(body: bytes) -> Iterator[bytes]:
    """What a gzip or zlib stream holds, in pieces of at most PIECE bytes.

    Raises:
        Refused: 400, it is damaged.
    """
    stream = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)  # either kind
    try:
        while not stream.eof:
            piece = stream.decompress(body, PIECE)
            body = stream.unconsumed_tail
            if piece:
                yield piece
            elif not body and not stream.eof:
                raise Refused(400, "expected a whole gzip or zlib stream, received one that is cut off")
    except zlib.error as error:
        raise Refused(400, f"expected a gzip or zlib stream, received something else: {error}") from None
    if stream.unused_data:
        raise Refused(400, f"expected one gzip or zlib stream, received {len(stream.unused_data)} bytes behind it")


def _too_large() -> Refused:
    return Refused(413, f"expected a body of at most {LARGEST_BODY} bytes; send fewer examples per request")


_HEAD_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def impatient(patience: float) -> type[HttpToolsProtocol]:
    """uvicorn's protocol, but a connection is closed whose request line and headers take too long or are too large.

    The parser keeps headers, and trailers behind a chunked body, in memory without a limit of its own.

    Args:
        patience: Seconds, from the connection or the first byte of a further request.
    """

    class Impatient(HttpToolsProtocol):
        _deadline: asyncio.TimerHandle | None = None
        _in_head = False  # whether a request line or headers have begun and not ended
        _head = 0  # bytes since the last that were part of a body

        def connection_made(self, transport: Any) -> None:
            super().connection_made(JoinedWrites(transport, self.loop))  # type: ignore[arg-type]
            self._set_deadline()

        def connection_lost(self, exc: Exception | None) -> None:
            self._cancel_deadline()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            self._head += len(data)
            super().data_received(data)
            if self._in_head and not self._deadline:
                self._set_deadline()
            if self._head > LARGEST_HEAD and not self.transport.is_closing():
                self.transport.write(_HEAD_TOO_LARGE)
                self.transport.close()

        def on_message_begin(self) -> None:
            self._head, self._in_head = 0, True
            self._cancel_deadline()
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._head, self._in_head = 0, False
            self._cancel_deadline()
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._head = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self.scope[WHOLE] = True  # type: ignore[literal-required]
            super().on_message_complete()

        def _set_deadline(self) -> None:
            self._deadline = self.loop.call_later(patience, self.transport.close)

        def _cancel_deadline(self) -> None:
            if self._deadline:
                self._deadline.cancel()
                self._deadline = None

    return Impatient
