"""A small HTTP load: fixed request bytes over a few connections, so that the client costs little beside the server."""

import asyncio
import json
import statistics
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from benchmarks.measure import processor_time


def request_bytes(url: str, body: bytes) -> bytes:
    """A POST of JSON as it goes over the wire."""
    parts = urllib.parse.urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def images_body(images: Any) -> bytes:
    """Images (n, height, width, channels) as TensorFlow Serving's row format."""
    return json.dumps({"instances": images.tolist()}).encode()


def first_answer(url: str, body: bytes, deadline: float) -> None:
    """Wait until the server answers this request.

    Raises:
        TimeoutError: `deadline` (time.monotonic) has passed.
    """
    while True:
        try:
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            urllib.request.urlopen(request, timeout=5).read()
            return
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url} does not answer") from None
            time.sleep(0.01)


def under_load(url: str, body: bytes, pid: int, connections: int = 8, seconds: float = 4.0) -> dict[str, float]:
    """Each connection sends its next request when it has the answer to the last.

    Returns:
        `rate`, answers a second, `p99`, the milliseconds within which 99 of 100 came, and `cost`, the microseconds of
        processor time that the server, process `pid`, took for one.
    """
    started, before = time.perf_counter(), processor_time(pid)
    answers = asyncio.run(_load(url, body, connections, seconds))
    rate = len(answers) / (time.perf_counter() - started)
    cost = 1e6 * (processor_time(pid) - before) / len(answers)
    return {"rate": rate, "p99": 1000 * statistics.quantiles(answers, n=100)[-1], "cost": cost}


def seconds_to_answer(url: str, body: bytes, seconds: float = 1.0) -> float:
    """Median time from a request to its answer, one after another over one connection; the first does not count."""
    return statistics.median(asyncio.run(_load(url, body, 1, seconds))[1:])


async def _load(url: str, body: bytes, connections: int, seconds: float) -> list[float]:
    """The seconds that each answer took, at least two per connection."""
    address = urllib.parse.urlsplit(url)
    sent = request_bytes(url, body)
    end = time.perf_counter() + seconds

    async def one() -> list[float]:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        taken: list[float] = []
        while time.perf_counter() < end or len(taken) < 2:
            started = time.perf_counter()
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                raise RuntimeError(f"{url} answered {head.splitlines()[0].decode()}")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            taken.append(time.perf_counter() - started)
        writer.close()
        return taken

    return [taken for one_taken in await asyncio.gather(*(one() for _ in range(connections))) for taken in one_taken]
