"""Streams of bytes that resume, that are measured, and that are read ahead of their use."""

import hashlib
import http.client
import queue
import ssl
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypeVar

from ..progress import Advance
from .archives import CHUNK, Readable

_DELAYS = (0.5, 1.0, 2.0, 4.0)  # seconds between five attempts
_TRANSIENT = (ConnectionError, TimeoutError, ssl.SSLError, http.client.HTTPException)

Result = TypeVar("Result")


@dataclass(frozen=True)
class OpenFile:
    """A file about to be read.

    Attributes:
        name: Without folders.
        size: In bytes; None: not known.
        stream: Its bytes.
        media_type: What its server says that it is; empty: nothing.
        encoding: What its server has done to the bytes for their transfer; empty: nothing.
        checksum: Algorithm (of hashlib, or crc32) and digest that its server gives for its bytes; None: none.
        is_shard: Whether it is a tar of a WebDataset, which is read as it is.
    """

    name: str
    size: int | None
    stream: Readable
    media_type: str = ""
    encoding: str = ""
    checksum: tuple[str, bytes] | None = None
    is_shard: bool = False


@dataclass(frozen=True)
class ListedFile:
    """A file of a folder: its path from there, its size in bytes, and how to open it."""

    path: str
    size: int
    open: Callable[[], OpenFile]


class Busy(ConnectionError):
    """A server asks to try again later.

    Attributes:
        seconds: How much later, at least.
    """

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


def persist(where: str, action: Callable[[], Result]) -> Result:
    """Do something over the network, again after a failure that may pass.

    Raises:
        ConnectionError: five attempts have failed; the message says how the last one did.
    """
    for delay in _DELAYS:
        try:
            return action()
        except _TRANSIENT as error:
            time.sleep(max(delay, error.seconds if isinstance(error, Busy) else 0.0))
    try:
        return action()
    except _TRANSIENT as error:
        reason = str(error) or type(error).__name__
        raise ConnectionError(f"{where}: {reason}; gave up after {len(_DELAYS) + 1} attempts") from error


class Resuming:
    """A remote file, read once from start to end; where the connection breaks off, a new one goes on.

    Args:
        where: The file's name in messages.
        open_at: Opens the file at an offset.
        size: Its size in bytes, by which a premature end is recognised; None: not known.
        body: The file already opened at its start.
    """

    def __init__(self, where: str, open_at: Callable[[int], Readable], size: int | None, body: Readable) -> None:
        self._where = where
        self._open_at = open_at
        self._size = size
        self._offset = 0
        self._body: Readable | None = body

    def read(self, size: int, /) -> bytes:
        return persist(self._where, lambda: self._read(size))

    def _read(self, size: int) -> bytes:
        body = self._body or self._open_at(self._offset)
        self._body = None  # until it has proved sound
        data = body.read(size)
        if not data and self._size is not None and self._offset < self._size:
            raise ConnectionError(f"the connection ended after {self._offset:,} of {self._size:,} bytes")
        self._body = body
        self._offset += len(data)
        if self._size is not None and self._offset > self._size:
            raise RuntimeError(f"{self._where}: expected {self._size:,} bytes, received more; run again")
        return data


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc32:
    """CRC-32 as hashlib has its algorithms."""

    def __init__(self) -> None:
        self._crc = 0

    def update(self, data: bytes, /) -> None:
        self._crc = zlib.crc32(data, self._crc)

    def digest(self) -> bytes:
        return self._crc.to_bytes(4)


def _hash(algorithm: str) -> _Hash:
    return _Crc32() if algorithm == "crc32" else hashlib.new(algorithm, usedforsecurity=False)


def digest_size(algorithm: str) -> int:
    """Bytes of a checksum."""
    return len(_hash(algorithm).digest())


class Measured:
    """A stream whose bytes are counted, hashed and shown as they pass; `checksum` as `OpenFile` has it."""

    def __init__(self, stream: Readable, advance: Advance, checksum: tuple[str, bytes] | None = None) -> None:
        self.size = 0
        self._stream = stream
        self._advance = advance
        self._hash = hashlib.sha256()
        self._told = checksum
        algorithm = checksum[0] if checksum else "sha256"
        self._checked: _Hash = self._hash if algorithm == "sha256" else _hash(algorithm)

    @property
    def sha256(self) -> str:
        """SHA-256 of what has passed so far."""
        return self._hash.hexdigest()

    def mismatch(self) -> str:
        """What the server's checksum is, and that of what has passed; empty where they agree or there is none."""
        if not self._told or self._checked.digest() == self._told[1]:
            return ""
        return (
            f"expected {self._told[0]} {self._told[1].hex()} as its server tells, received "
            f"{self._checked.digest().hex()}"
        )

    def read(self, size: int, /) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        if self._checked is not self._hash:
            self._checked.update(data)
        self._advance(len(data))
        self.size += len(data)
        return data


class ReadAhead:
    """A stream read by a thread of its own, some chunks ahead, so that fetching and unpacking overlap."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._chunks: queue.Queue[bytes | BaseException] = queue.Queue(maxsize=32)
        self._left = memoryview(b"")
        self._ended = False
        self._abandoned = threading.Event()
        threading.Thread(target=self._work, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._abandoned.set()

    def read(self, size: int, /) -> bytes:
        if not self._left and not self._ended:
            chunk = self._chunks.get()
            if isinstance(chunk, BaseException):
                self._ended = True
                raise chunk
            self._left = memoryview(chunk)
            self._ended = not chunk
        data, self._left = self._left[:size], self._left[size:]
        return bytes(data)

    def _work(self) -> None:
        try:
            while chunk := self._stream.read(CHUNK):
                if not self._hand_over(chunk):
                    return
            self._hand_over(b"")
        except BaseException as error:  # the reader raises it
            self._hand_over(error)

    def _hand_over(self, chunk: bytes | BaseException) -> bool:
        """Queue a chunk; False when nobody wants it any more."""
        while not self._abandoned.is_set():
            try:
                self._chunks.put(chunk, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
