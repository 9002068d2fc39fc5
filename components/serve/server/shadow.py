"""Shadow traffic: what a version that answers nobody would have answered, and where it disagrees."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson

from ..here.service import AVAILABLE
from .metrics import ServerMetrics
from .protocols.request import Answer, PredictRequest
from .worker import LoadedVersion

MOST_WAITING = 32
"""Requests that a shadow has yet to answer; beyond that they are not sent to it."""
MOST_BYTES = 64 * 2**20
"""Of the disagreements that are kept of a version."""

log = logging.getLogger("serve")


class Shadow:
    """Sends requests that have been answered to shadow versions, and compares; nobody waits for it.

    Two answers to an image agree when the same class is the most probable. Disagreements go to
    `disagreements-<version>.jsonl` in the service's folder, with the image.
    """

    def __init__(self, folder: Path, metrics: ServerMetrics) -> None:
        self._folder = folder
        self._count = metrics.shadow_images
        self._tasks: set[asyncio.Task[None]] = set()

    def ask(self, shadow: LoadedVersion, version: LoadedVersion, answer: Answer) -> None:
        """Send a request to a shadow.

        Args:
            shadow: The version that is compared.
            version: The one that has answered.
            answer: Its answer, with images and probabilities.
        """
        assert answer.images is not None
        if len(self._tasks) >= MOST_WAITING:
            self._note(shadow, "skipped", len(answer.images))
            return
        task = asyncio.ensure_future(self._compare(shadow, version, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compare(self, shadow: LoadedVersion, version: LoadedVersion, answer: Answer) -> None:
        assert answer.images is not None
        assert answer.probabilities is not None
        if shadow.state != AVAILABLE:
            self._note(shadow, "skipped", len(answer.images))
            return
        try:
            told = await shadow.answer(PredictRequest(answer.images, lambda probabilities: Answer(b"")))
            assert told.probabilities is not None
            ours, theirs = answer.probabilities.argmax(1), told.probabilities.argmax(1)
            differing = np.flatnonzero(ours != theirs)
            self._note(shadow, "agree", len(ours) - len(differing))
            self._note(shadow, "disagree", len(differing))
            if len(differing):
                lines = [self._line(shadow, version, answer, told.probabilities, index) for index in differing.tolist()]
                await asyncio.to_thread(self._keep, shadow, b"".join(lines))
        except Exception as error:
            self._note(shadow, "failed", len(answer.images))
            log.warning("version %d as shadow: %s", shadow.wanted.version, error)

    def _note(self, shadow: LoadedVersion, result: str, count: int) -> None:
        self._count.labels(str(shadow.wanted.version), result).inc(count)

    def _line(
        self, shadow: LoadedVersion, version: LoadedVersion, answer: Answer, theirs: np.ndarray, index: int
    ) -> bytes:
        assert answer.images is not None
        assert answer.probabilities is not None
        pairs = ((version, answer.probabilities[index]), (shadow, theirs[index]))
        answers = [
            {"version": one.wanted.version, "label": one.card.classes[row.argmax()], "probabilities": row}
            for one, row in pairs
        ]
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        told = {"time": now, "answer": answers[0], "shadow": answers[1], "instance": answer.images[index]}
        return orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)

    def _keep(self, shadow: LoadedVersion, lines: bytes) -> None:
        path = self._folder / f"disagreements-{shadow.wanted.version}.jsonl"
        with path.open("ab") as file:
            if file.tell() + len(lines) <= MOST_BYTES:
                file.write(lines)
