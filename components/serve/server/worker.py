"""One version of the model, and the thread that it runs in: what waits is answered together."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

import numpy as np

from ...common.artifacts.classifier import Classifier, LiteRTClassifier, load_classifier
from ...common.artifacts.model import read_card
from ..here.service import AVAILABLE, END, LOADING, UNLOADING, WantedVersion
from .metrics import ServerMetrics
from .protocols.pictures import ENCODED_IMAGE
from .protocols.request import Answer, PredictRequest, Refused
from .remote import RemoteClassifier

LARGEST_BATCH = 32
"""Images that are answered together; a request of more is answered in portions, with other requests in between."""
SMALL = 2**16
"""Bytes of a body that the thread of the model reads; others are read elsewhere first."""
TURN = 0.002
"""Seconds: a model that takes less for LARGEST_BATCH images runs in the event loop, for about this long at a time.
Handing a request to a thread and back takes longer than its answer."""

Read = Callable[[bytes, "LoadedVersion"], PredictRequest]

log = logging.getLogger("serve")
_readers = ThreadPoolExecutor(4, "reader")


class _Asked(NamedTuple):
    """A request that waits, and where its answer goes."""

    read: Callable[[], PredictRequest]
    answer: asyncio.Future[Answer]


class _Large:
    """A request that is answered in portions."""

    def __init__(self, asked: _Asked, call: PredictRequest) -> None:
        self.asked = asked
        self.call = call
        self.done = 0
        self.probabilities: list[np.ndarray] = []

    def portion(self) -> np.ndarray:
        """The images that come next."""
        return self.call.images[self.done : self.done + LARGEST_BATCH]

    def add(self, probabilities: np.ndarray) -> bool:
        """Take the answers to a portion; whether there are no more."""
        self.probabilities.append(probabilities)
        self.done += len(probabilities)
        return self.done >= len(self.call.images)


class LoadedVersion:
    """A version and its thread: a model may be used by one thread at a time. A quick model runs in the event loop's.

    Attributes:
        wanted: What was asked for.
        folder: Where its files are.
        state: LOADING, AVAILABLE, UNLOADING or END.
        error: Why it could not be loaded.
        backend: `LiteRT`, `TensorFlow` or `TensorFlow Serving`, once loaded.
        card: The model's card, once loaded.
        quick: Whether the model runs in the event loop, see TURN.
    """

    def __init__(self, wanted: WantedVersion, folder: Path, metrics: ServerMetrics) -> None:
        self.wanted = wanted
        self.folder = folder
        self.state = LOADING
        self.error = ""
        self.backend = ""
        self._metrics = metrics
        self._reading = 0  # bodies that are read elsewhere for this version
        self._waiting: SimpleQueue[_Asked | None] = SimpleQueue()  # None: no more will come
        self._large: deque[_Large] = deque()
        self._ended = False
        self.quick = False
        self._turning = False  # whether the event loop will run the model
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
            if not self.quick:
                self._thread.start()
            self.state = AVAILABLE

    def _load(self) -> None:
        self.card = read_card(self.folder)
        self.shape = self.card.input.shape
        image = np.zeros((1, *self.shape), np.float32)
        if self.wanted.url:
            self._classifier: Classifier = RemoteClassifier(self.wanted.url)
            self._classifier.predict(image)
        else:
            self._classifier = load_classifier(self.folder, few=True)
            self.quick = LARGEST_BATCH * _seconds(lambda: self._classifier.predict(image)) < TURN
            if not self.quick and isinstance(self._classifier, LiteRTClassifier):
                del self._classifier
                self._classifier = load_classifier(self.folder)
        self.backend = self._classifier.backend

    async def predict(self, body: bytes, read: Read) -> Answer:
        """Answer the body of a request.

        Args:
            body: See `read`.
            read: Makes images and a way to write their answer of it, see `PredictRequest`.

        Raises:
            Refused: the body is no such request.
        """
        if len(body) <= SMALL and ENCODED_IMAGE not in body:
            return await self._asked(lambda: read(body, self))
        self._reading += 1
        try:
            call = await asyncio.get_running_loop().run_in_executor(_readers, read, body, self)
        finally:
            self._reading -= 1
        return await self.answer(call)

    async def answer(self, call: PredictRequest) -> Answer:
        """Answer a request that has been read.

        Raises:
            Refused: the model's answer is no number.
        """
        return await self._asked(lambda: call)

    async def _asked(self, read: Callable[[], PredictRequest]) -> Answer:
        asked = _Asked(read, asyncio.get_running_loop().create_future())
        self._put(asked)
        return await asked.answer

    def _put(self, asked: _Asked | None) -> None:
        self._waiting.put(asked)
        if self.quick and not self._turning:
            self._turning = True
            self._loop.call_soon(self._turn)

    async def unload(self) -> None:
        """Answer what has been asked, then let the model go."""
        self.state = UNLOADING
        while self._reading:
            await asyncio.sleep(0.02)
        self._put(None)
        while self._turning:
            await asyncio.sleep(0.02)
        if self._thread.ident:
            await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        while self._large or not self._ended:
            self._answer_some()

    def _turn(self) -> None:
        self._answer_some()
        self._turning = bool(self._large) or not self._waiting.empty()
        if self._turning:
            self._loop.call_soon(self._turn)

    def _answer_some(self) -> None:
        """Answer what waits, up to a batch, and the next portion of a large request."""
        batch: list[tuple[_Asked, PredictRequest]] = []
        answers: list[tuple[_Asked, Answer | Exception]] = []
        images = 0
        end = time.perf_counter() + TURN if self.quick else math.inf
        while images < LARGEST_BATCH and not self._ended and time.perf_counter() < end:
            try:
                asked = self._waiting.get(block=not (self.quick or batch or answers or self._large))
            except Empty:
                break
            if asked is None:
                self._ended = True
                break
            try:
                call = asked.read()
            except Exception as error:
                answers.append((asked, error))
                continue
            if len(call.images) > LARGEST_BATCH:
                self._large.append(_Large(asked, call))
            else:
                batch.append((asked, call))
                images += len(call.images)
        answers += self._answered(batch)
        if answers:
            self._deliver(answers)
        if self._large:
            self._answer_portion(self._large)

    def _answer_portion(self, large: deque[_Large]) -> None:
        """Answer the next portion of the large request whose turn it is."""
        one = large.popleft()
        if one.asked.answer.done():  # its client has gone
            return
        try:
            done = one.add(self._predicted(one.portion()))
            answer = self._written(one.call, np.concatenate(one.probabilities)) if done else None
        except Exception as error:
            log.exception("version %d cannot answer", self.wanted.version)
            self._deliver([(one.asked, error)])
            return
        if answer:
            self._deliver([(one.asked, answer)])
        else:
            large.append(one)

    def _answered(self, batch: list[tuple[_Asked, PredictRequest]]) -> list[tuple[_Asked, Answer | Exception]]:
        if not batch:
            return []
        calls = [call for _, call in batch]
        try:
            images = calls[0].images if len(calls) == 1 else np.concatenate([call.images for call in calls])
            probabilities = self._predicted(images)
            numbers = bool(np.isfinite(probabilities).all())
            ends = accumulate(len(call.images) for call in calls)
            return [
                (asked, self._written(call, probabilities[end - len(call.images) : end], numbers))
                for (asked, call), end in zip(batch, ends, strict=True)
            ]
        except Exception as error:
            log.exception("version %d cannot answer", self.wanted.version)
            return [(asked, error) for asked, _ in batch]

    def _predicted(self, images: np.ndarray) -> np.ndarray:
        self._metrics.batch_images.observe(len(images))
        return self._classifier.predict(images)

    def _written(self, call: PredictRequest, probabilities: np.ndarray, numbers: bool = False) -> Answer | Refused:
        """The answer to a request; `numbers`: whether all probabilities are known to be numbers."""
        if numbers or np.isfinite(probabilities).all():
            return call.write(probabilities)._replace(images=call.images, probabilities=probabilities)
        lowest, highest = self.card.input.range
        return Refused(
            400, f"expected numbers from {lowest} to {highest}, received some for which the model's answer is no number"
        )

    def _deliver(self, answers: list[tuple[_Asked, Answer | Exception]]) -> None:
        if self.quick:
            _set(answers)
        else:
            self._loop.call_soon_threadsafe(_set, answers)


def _seconds(call: Callable[[], object]) -> float:
    """What a call takes at least; the first one, and those that something interrupts, take longer."""
    times = [time.perf_counter()]
    while times[-1] - times[0] < 2 * TURN:
        call()
        times.append(time.perf_counter())
    return min(after - before for before, after in pairwise(times))


def _set(answers: list[tuple[_Asked, Answer | Exception]]) -> None:
    for asked, answer in answers:
        if asked.answer.done():  # its client has gone
            continue
        if isinstance(answer, Exception):
            asked.answer.set_exception(answer)
        else:
            asked.answer.set_result(answer)
