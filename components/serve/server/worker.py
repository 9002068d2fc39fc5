"""One version of the model and the thread it lives in: what waits is answered together."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

import numpy as np

from ...common.artifacts.classifier import load_classifier
from ...common.artifacts.model import read_card
from ..here.service import AVAILABLE, END, LOADING, UNLOADING, WantedVersion
from .metrics import ServerMetrics
from .protocols.request import PredictRequest
from .remote import RemoteClassifier

LARGEST_BATCH = 32
"""Images that are answered together; more in one request stay together."""

log = logging.getLogger("serve")


class _Asked(NamedTuple):
    """A request on its way to the thread, and where its answer goes."""

    body: bytes
    read: Callable[[bytes, LoadedVersion], PredictRequest]
    answer: asyncio.Future[bytes]


class LoadedVersion:
    """A version and its thread: an interpreter may be used by one thread at a time.

    Attributes:
        wanted: What was asked for.
        folder: Where its files are.
        state: LOADING, AVAILABLE, UNLOADING or END.
        error: Why it could not be loaded.
        backend: `LiteRT`, `TensorFlow` or `TensorFlow Serving`, once loaded.
        card: The model's card, once loaded.
    """

    def __init__(self, wanted: WantedVersion, folder: Path, metrics: ServerMetrics) -> None:
        self.wanted = wanted
        self.folder = folder
        self.state = LOADING
        self.error = ""
        self.backend = ""
        self._metrics = metrics
        self._waiting: SimpleQueue[_Asked | None] = SimpleQueue()  # None ends the thread
        self._thread = threading.Thread(target=self._work, name=f"version-{wanted.version}", daemon=True)

    async def load(self) -> None:
        """Load the model and let it answer once; afterwards the version is AVAILABLE, or at its END with an error."""
        try:
            await asyncio.to_thread(self._load)
        except Exception as error:
            log.exception("version %d cannot be loaded", self.wanted.version)
            self.state, self.error = END, f"{type(error).__name__}: {' '.join(str(error).split())}"
        else:
            self._loop = asyncio.get_running_loop()
            self._thread.start()
            self.state = AVAILABLE

    def _load(self) -> None:
        self.card = read_card(self.folder)
        self._classifier = RemoteClassifier(self.wanted.url) if self.wanted.url else load_classifier(self.folder)
        self.shape = self.card.input.shape
        self._classifier.predict(np.zeros((1, *self.shape), np.float32))
        self.backend = self._classifier.backend

    async def predict(self, body: bytes, read: Callable[[bytes, LoadedVersion], PredictRequest]) -> bytes:
        """Answer the body of a request.

        Args:
            body: JSON.
            read: Makes images and a way to write their answer of it, see `PredictRequest`.

        Raises:
            Refused: the body is no such request.
        """
        asked = _Asked(body, read, asyncio.get_running_loop().create_future())
        self._waiting.put(asked)
        return await asked.answer

    async def unload(self) -> None:
        """Answer what has been asked, then let the model go."""
        self.state = UNLOADING
        self._waiting.put(None)
        if self._thread.ident:
            await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        ended = False
        while not ended:
            batch: list[tuple[_Asked, PredictRequest]] = []
            answers: list[tuple[_Asked, bytes | Exception]] = []
            asked, images = self._waiting.get(), 0
            while True:
                if asked is None:
                    ended = True
                    break
                try:
                    call = asked.read(asked.body, self)
                except Exception as error:
                    answers.append((asked, error))
                else:
                    batch.append((asked, call))
                    images += len(call.images)
                if images >= LARGEST_BATCH:
                    break
                try:
                    asked = self._waiting.get_nowait()
                except Empty:
                    break
            answers += self._answered(batch)
            self._loop.call_soon_threadsafe(_deliver, answers)

    def _answered(self, batch: list[tuple[_Asked, PredictRequest]]) -> list[tuple[_Asked, bytes | Exception]]:
        if not batch:
            return []
        calls = [call for _, call in batch]
        try:
            images = calls[0].images if len(calls) == 1 else np.concatenate([call.images for call in calls])
            probabilities = self._classifier.predict(images)
            self._metrics.batch_images.observe(len(images))
            ends = accumulate(len(call.images) for call in calls)
            return [
                (asked, call.write(probabilities[end - len(call.images) : end]))
                for (asked, call), end in zip(batch, ends, strict=True)
            ]
        except Exception as error:
            log.exception("version %d cannot answer", self.wanted.version)
            return [(asked, error) for asked, _ in batch]


def _deliver(answers: list[tuple[_Asked, bytes | Exception]]) -> None:
    for asked, answer in answers:
        if asked.answer.done():  # its client has gone
            continue
        if isinstance(answer, Exception):
            asked.answer.set_exception(answer)
        else:
            asked.answer.set_result(answer)
