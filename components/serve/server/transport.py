"""What a connection writes, sent with fewer system calls."""

from __future__ import annotations

import asyncio
from typing import Any


class JoinedWrites:
    """A transport that sends what is written in one turn of the event loop together.

    uvicorn writes the head of an answer and its body one after the other, and uvloop sends each at once: that takes as
    long as all else in an answer, and wakes the client twice.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Send data by the end of this turn."""
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(data)

    def close(self) -> None:
        """Send what has been written, and close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if pieces and not self._transport.is_closing():
            self._transport.writelines(pieces)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
