"""The folder of an embedded object store: who runs on it, where it answers, and its secret."""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ACCESS_KEY = "trainyard:local"  # Swift's tempauth reads it as account:user
REGION = "us-east-1"


@dataclass(frozen=True)
class Running:
    """The server that runs on a folder: its process and the URL it answers at."""

    pid: int
    url: str


class StoreFolder:
    """One folder, at most one server.

    A server holds the lock as long as it lives, and the kernel drops it however the server ends; only after taking
    it does the server write its record. A held lock therefore vouches for the record's pid: it is never that of a
    process which merely inherited the number.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.log = self.path / "store.log"
        self.lock = self.path / "lock"
        self._record = self.path / "server.json"
        self._secret = self.path / "secret"
        self._port = self.path / "port"

    def make(self) -> None:
        """Make the folder, readable by its owner alone."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def make_secret(self) -> None:
        """Make the store's secret, once."""
        if not self._secret.exists():
            write_private(self._secret, secrets.token_hex(20))

    def secret(self) -> str:
        """The secret key of the store."""
        return self._secret.read_text()

    def has_secret(self, value: str | None) -> bool:
        """Whether `value` is the secret of this store."""
        return self._secret.exists() and self.secret() == value

    def hold(self) -> IO[bytes]:
        """Become the folder's server for as long as the returned file stays open.

        Raises:
            BlockingIOError: another server holds it.
        """
        lock = self.lock.open("ab")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock

    def held(self) -> bool:
        """Whether a server lives. Takes the lock for a moment, so ask only where none can be starting."""
        try:
            self.hold().close()
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    def announce(self, url: str) -> None:
        """Say where the server answers; called by the server, which holds the lock."""
        write_private(self._record, json.dumps({"pid": os.getpid(), "url": url}))
        write_private(self._port, url.rpartition(":")[2])

    def last_port(self) -> int:
        """Port of the server that ran here before: what names the store by its URL finds it there again; 0: none."""
        return int(self._port.read_text()) if self._port.exists() else 0

    def running(self) -> Running | None:
        """The server that lives and has announced itself, or None."""
        if not self._record.exists() or not self.held():  # in this order: a server may be about to take the lock
            return None
        return Running(**json.loads(self._record.read_text()))

    def forget(self) -> bool:
        """Remove the record of a server that is gone; whether there was one."""
        there = self._record.exists()
        self._record.unlink(missing_ok=True)
        return there

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Keep starting and stopping apart: of two who start a store together, the second finds it running."""
        with (self.path / "starting").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)
