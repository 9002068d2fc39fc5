"""The model server under load, under attack and over time; each function counts what went wrong.

By hand: `python -m tests.chaos.model_server MODEL OTHER_MODEL --seed 7`, with two model folders of the same data set.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gzip
import io
import json
import os
import random
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from tests.serving import answers_of, publish

PROJECT = Path(__file__).parents[2]
NAME = "chaos"
REFUSALS = {400, 403, 404, 405, 408, 413, 415, 431, 503}


class Service:
    """A service of this machine that is changed by the serve step as users do it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.base = ""

    async def act(self, *options: str) -> None:
        """Run the serve step."""
        command = [sys.executable, "-m", "trainyard.components.serve", "--target", "process", "--model-name", NAME]
        process = await asyncio.create_subprocess_exec(
            *command,
            *options,
            cwd=PROJECT,
            env={**os.environ, "TRAINYARD_HOME": str(self.home)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        stdout, stderr = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"serve {' '.join(options)}: {stderr.decode().strip().splitlines()[-1]}")
        self.base = stdout.decode().partition("/v1")[0] or self.base

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.base)
        assert parts.hostname
        assert parts.port
        return parts.hostname, parts.port


@contextmanager
def served(*uris: str) -> Iterator[Service]:
    """A service of these versions, one after another."""
    with tempfile.TemporaryDirectory() as home:
        service = Service(Path(home))
        try:
            for uri in uris:
                asyncio.run(service.act("--model-uri", uri))
            yield service
        finally:
            asyncio.run(service.act("--action", "delete"))


def images_for(model: Path, count: int, seed: int) -> np.ndarray:
    """Random images of the size that a model takes."""
    shape = json.loads((model / "model.json").read_text())["input"]["shape"]
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def swaps(
    models: tuple[Path, Path], seed: int, requests: int = 50_000, changes: int = 50, canaries: int = 20
) -> dict[str, int]:
    """Change what is served while 8 connections ask for predictions.

    Args:
        models: Two model folders whose answers differ.
        seed: Of the images and of the order of the changes.
        requests: To be sent at least.
        changes: New versions that take the place of the one before.
        canaries: Canaries that are promoted or rolled back.

    Returns:
        Counts: `requests`, `failed` (no answer, or another status than 200), `wrong` (not the probabilities of the
        version that the answer names), `changes`.
    """
    pick = random.Random(seed)
    images = images_for(models[0], 1, seed)
    expected = [answers_of(model, images)[0] for model in models]
    body = json.dumps({"instances": images.tolist()}).encode()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        uris = [
            publish(models[number % 2], Path(folder) / str(number), number)
            for number in range(1, changes + canaries + 2)
        ]

        async def ask(service: Service, ended: asyncio.Event) -> None:
            head = f"POST /v1/models/{NAME}:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            connection = None
            while not ended.is_set() or counts["requests"] < requests:
                counts["requests"] += 1
                try:
                    connection = connection or await asyncio.open_connection(*service.address)
                    reader, writer = connection
                    writer.write(head.encode() + body)
                    told = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
                    fields = dict(line.split(": ", 1) for line in told[1:] if line)
                    content = await reader.readexactly(int(fields["content-length"]))
                except (OSError, EOFError):
                    counts["failed"] += 1
                    connection = None
                    continue
                if " 200 " not in told[0]:
                    counts["failed"] += 1
                    continue
                version = int(fields["model-version"])
                if not np.allclose(json.loads(content)["predictions"][0], expected[version % 2], atol=1e-5):
                    counts["wrong"] += 1

        async def change(service: Service) -> None:
            kinds = ["swap"] * changes + ["canary"] * canaries
            pick.shuffle(kinds)
            for uri, kind in zip(uris[1:], kinds, strict=True):
                counts["changes"] += 1
                if kind == "swap":
                    await service.act("--model-uri", uri)
                else:
                    await service.act("--model-uri", uri, "--canary-percent", str(pick.choice((0, 10, 50))))
                    await service.act("--action", pick.choice(("promote", "rollback")))

        async def run(service: Service) -> None:
            ended = asyncio.Event()
            asking = [asyncio.create_task(ask(service, ended)) for _ in range(8)]
            try:
                await change(service)
            finally:
                ended.set()
                await asyncio.gather(*asking)

        with served(uris[0]) as service:
            asyncio.run(run(service))
    return {key: counts[key] for key in ("requests", "failed", "wrong", "changes")}


def attacks(model: Path, seed: int, count: int = 200) -> dict[str, int]:
    """Send damaged and hostile requests, and after each an ordinary one.

    Returns:
        Counts: `attacks`, `answered` (200), `refused` (a status that tells why), `closed` (the connection, without an
        answer), `unexpected` (any other answer), `harmed` (the ordinary request was not answered as before).
    """
    pick = random.Random(seed)
    images = images_for(model, 1, seed)
    expected = answers_of(model, images)[0]
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, served(publish(model, Path(folder) / "1", 1)) as service:
        for _ in range(count):
            status = _status(service.address, hostile(pick, images))
            counts["attacks"] += 1
            kind = "answered" if status == 200 else "refused" if status in REFUSALS else "closed"
            counts[kind if status is None or kind != "closed" else "unexpected"] += 1
            answer = _exchange(service.address, _request(f"/v1/models/{NAME}:predict", ordinary(images)))
            try:
                predictions = json.loads(answer.partition(b"\r\n\r\n")[2])["predictions"]
            except (ValueError, KeyError):
                predictions = [np.nan]
            counts["harmed"] += not np.allclose(predictions[0], expected, atol=1e-5)
    return {key: counts[key] for key in ("attacks", "answered", "refused", "closed", "unexpected", "harmed")}


def ordinary(images: np.ndarray) -> bytes:
    """The body of an ordinary request."""
    return json.dumps({"instances": images.tolist()}).encode()


def tensor(images: np.ndarray, **more: Any) -> bytes:
    """The same by the other protocol."""
    told = {"name": "image", "shape": images.shape, "datatype": "UINT8", "data": images.ravel().tolist(), **more}
    return json.dumps({"inputs": [told]}).encode()


def hostile(pick: random.Random, images: np.ndarray) -> bytes:
    """A request that is damaged or means harm."""
    v1, v2 = f"/v1/models/{NAME}:predict", f"/v2/models/{NAME}/infer"
    path, body = pick.choice(((v1, ordinary(images)), (v2, tensor(images))))
    whole = _request(path, body)
    text = base64.b64encode(pick.randbytes(pick.randrange(2_000))).decode()
    return pick.choice(
        (
            lambda: whole[: pick.randrange(len(whole))],
            lambda: _damaged(pick, whole),
            lambda: _request(path, _damaged(pick, body)),
            lambda: pick.randbytes(pick.randrange(1, 5_000)) + b"\r\n\r\n",
            lambda: _request(path, b"[" * pick.randrange(1, 300_000)),
            lambda: _request(path, b'{"instances": [' + b"[]," * pick.randrange(400_000) + b"[]]}"),
            lambda: _request(path, b'{"instances": ["' + b"a" * 200_000 + b'"' + b',"b"' * 20_000 + b"]}"),
            lambda: _request(path, gzip.compress(bytes(pick.choice((10**6, 10**8)))), "Content-Encoding: gzip"),
            lambda: _request(path, gzip.compress(body)[: pick.randrange(100)], "Content-Encoding: gzip"),
            lambda: _request(path, body, f"Content-Encoding: {text[:50]}"),
            lambda: _request(v1, json.dumps({"instances": [{"b64": text}]}).encode()),
            lambda: _request(v1, json.dumps({"instances": [{"b64": _bomb(pick)}]}).encode()),
            lambda: _request(v2, tensor(images, shape=[2 ** pick.randrange(20, 80), *images.shape[1:]])),
            lambda: _request(v2, tensor(images, parameters={"binary_data_size": pick.randrange(-1, 2**63)})),
            lambda: _request(v2, body, f"Inference-Header-Content-Length: {pick.randrange(-9, 10**9)}"),
            lambda: _request(path, body, f"Content-Length: {pick.randrange(10**12)}"),
            lambda: _request(path, body, "Transfer-Encoding: chunked"),
            lambda: _request(path, body, f"Host: {text[:40]}"),
            lambda: _request(path, body, f"X: {'a' * pick.choice((100, 70_000, 10**6))}"),
            lambda: _request(path, body, f"Origin: https://{text[:20]}.example"),
            lambda: _request(f"/v1/models/{text[:30]}/versions/{pick.randrange(-5, 10**30)}:predict", body),
            lambda: _request("/page/..%2f..%2fmodel.json", b""),
        )
    )()


def _request(path: str, body: bytes, *headers: str) -> bytes:
    ordinary = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body))}
    given = {one.partition(":")[0] for one in headers}
    if "Transfer-Encoding" in given:
        given.add("Content-Length")
    own = [f"{name}: {value}" for name, value in ordinary.items() if name not in given]
    lines = [f"POST {path} HTTP/1.1", *own, *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _damaged(pick: random.Random, content: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(pick.randrange(1, 8)):
        at = pick.randrange(len(damaged))
        damaged[at : at + pick.randrange(3)] = pick.randbytes(pick.randrange(3))
    return bytes(damaged)


def _bomb(pick: random.Random) -> str:
    """A small image file of many pixels, in base64."""
    from PIL import Image

    file = io.BytesIO()
    Image.new(pick.choice(("1", "L", "RGBA")), (pick.choice((1, 4_000, 12_000)), 3_000)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _exchange(address: tuple[str, int], request: bytes, patience: float = 20) -> bytes:
    """All that the server answers within `patience` seconds; empty: it closed the connection, or waits for more."""
    with socket.create_connection(address, timeout=patience) as connection:
        answer = b""
        try:
            connection.sendall(request)
            while chunk := connection.recv(2**16):
                answer += chunk
        except (ConnectionError, TimeoutError):
            pass
    return answer


def _status(address: tuple[str, int], request: bytes) -> int | None:
    words = _exchange(address, request, patience=1).split(b" ", 2)
    return int(words[1]) if len(words) > 2 and words[1].isdigit() else None


def memory(model: Path, seed: int, count: int = 20_000) -> dict[str, int]:
    """Send mixed requests, most of them ordinary.

    Returns:
        `requests`, and the server's resident memory in bytes after a twentieth of them (`start`) and at the end
        (`end`).
    """
    pick = random.Random(seed)
    images = images_for(model, 200, seed)
    figures = {"requests": count, "start": 0, "end": 0}
    with tempfile.TemporaryDirectory() as folder, served(publish(model, Path(folder) / "1", 1)) as service:
        pid = json.loads((service.home / "serving" / NAME / "state.json").read_text())["pid"]
        v1, v2 = f"/v1/models/{NAME}:predict", f"/v2/models/{NAME}/infer"
        ordinary_ones = [
            _request(v1, ordinary(images[:1])),
            _request(v1, ordinary(images[:30])),
            _request(v1, ordinary(images)),
            _request(v2, tensor(images[:3])),
            _request(v1, gzip.compress(ordinary(images[:5])), "Content-Encoding: gzip"),
            b"GET /metrics HTTP/1.0\r\n\r\n",
            b"GET /openapi.json HTTP/1.0\r\n\r\n",
        ]
        for number in range(count):
            if pick.random() < 0.9:
                _exchange(service.address, pick.choice(ordinary_ones))
            else:
                _exchange(service.address, hostile(pick, images[:1]), patience=0.2)
            if number == count // 20:
                figures["start"] = _at_rest(pid)
        figures["end"] = _at_rest(pid)
    return figures


def _at_rest(pid: int, seconds: float = 5) -> int:
    """The least memory within some seconds: requests whose client has left may still be worked on at first."""
    return min(_resident(pid) for _ in range(10) if not time.sleep(seconds / 10))


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Run all three and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs=2)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--requests", type=int, default=20_000, help="Of the measurement of memory.")
    parser.add_argument("--only", choices=("swaps", "attacks", "memory"))
    arguments = parser.parse_args()
    model, other = arguments.models
    runs = {
        "swaps": lambda: swaps((model, other), arguments.seed),
        "attacks": lambda: attacks(model, arguments.seed),
        "memory": lambda: memory(model, arguments.seed, arguments.requests),
    }
    for name, run in runs.items():
        if arguments.only in (None, name):
            print(name, f"seed {arguments.seed}", json.dumps(run()), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
