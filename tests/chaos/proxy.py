"""A proxy between a step and the store that does, at random, what networks and stores do."""

import contextlib
import random
import socket
import threading
import time

ERROR = """<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>"""
TOLD = {"SlowDown": 503, "InternalError": 500, "ServiceUnavailable": 503, "RequestTimeout": 400}
"""Errors that a store tells now and then, with their status."""


class FaultProxy:
    """Passes connections on to a store, and spoils some of them.

    Args:
        url: Of the store.
        chance: Random choices.
        spoiled: Share of the connections that are spoiled.
        error: An S3 error that it answers from the `after`th connection on.
    """

    def __init__(self, url: str, chance: random.Random, spoiled: float = 0.0, error: str = "", after: int = 0) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._store = (host, int(port))
        self._chance = chance
        self._spoiled = spoiled
        self._error = error
        self._after = after
        self.connections = 0
        self.faults = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _accept(self):
        faults = [self._cut, self._reset, self._garbage, self._told, self._slow, self._silent]
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            fault = None
            if self._error and self.connections > self._after:
                fault = lambda client: answer(client, 403, self._error)  # noqa: E731
            elif self._chance.random() < self._spoiled:
                fault = self._chance.choice(faults)
            self.faults += fault is not None
            threading.Thread(target=self._serve, args=(client, fault), daemon=True).start()

    def _serve(self, client, fault):
        with contextlib.suppress(OSError):
            if fault:
                fault(client)
            else:
                self._pass_on(client)
        client.close()

    def _cut(self, client):
        """The connection ends after some bytes of the answer, which may be none."""
        self._pass_on(client, self._chance.choice([0, 1, 100, 1000, 50_000, 300_000]))

    def _reset(self, client):
        client.recv(1000)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    def _garbage(self, client):
        client.recv(65536)
        client.sendall(self._chance.randbytes(200))

    def _told(self, client):
        code = self._chance.choice(sorted(TOLD))
        answer(client, TOLD[code], code)

    def _slow(self, client):
        self._pass_on(client, pause=0.01)

    def _silent(self, client):
        """Nothing for a while, then the end."""
        client.recv(1000)
        time.sleep(0.5)

    def _pass_on(self, client, left=1 << 40, pause=0.0):
        with socket.create_connection(self._store) as store:
            sending = threading.Thread(target=pump, args=(client, store, 1 << 40, 0.0), daemon=True)
            sending.start()
            pump(store, client, left, pause)


def pump(source, target, left, pause):
    """Pass bytes on until one side ends, or so many have passed."""
    with contextlib.suppress(OSError):
        while left > 0 and (data := source.recv(min(left, 16384))):
            target.sendall(data)
            left -= len(data)
            time.sleep(pause)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def answer(client, status, code):
    """Answer one request with an error of S3, whatever it is."""
    client.settimeout(0.5)
    with contextlib.suppress(TimeoutError):
        while len(client.recv(65536)) == 65536:
            pass
    body = ERROR.format(code=code)
    client.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode())
    client.shutdown(socket.SHUT_WR)
    with contextlib.suppress(TimeoutError):
        while client.recv(65536):
            pass
