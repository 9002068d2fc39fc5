"""Where training takes its images from: one tensor in memory, or the disk, part by part.

Both give every step the same images: the memory that training may take changes nothing in its result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..common.cli import BadInput
from .devices import columns_here, on_each_device

if TYPE_CHECKING:
    import tensorflow as tf

    from ..common.datasets import ImageDataset, Split

MEGABYTE = 1_000_000
COPIES = 2
"""Of images in memory at once: the array that was read, and TensorFlow's tensor of it."""
PARTS = 2
"""In memory at once when images come from disk: training works on one while the next is read."""


@dataclass(frozen=True)
class Examples:
    """Labelled images, in memory or on disk.

    Attributes:
        labels: int64, shape (examples,).
        read: Gives images by their indices, uint8 (indices, height, width, channels).
        held: All of them, where they lie in memory.
        at_once: How many may be read at a time, where they lie on disk.
    """

    labels: np.ndarray
    read: Callable[[np.ndarray], np.ndarray]
    held: np.ndarray | None = None
    at_once: int = 1

    @classmethod
    def in_memory(cls, split: Split) -> Examples:
        """Those of a split that was read whole."""
        return cls(split.labels, split.images.__getitem__, split.images)

    @classmethod
    def on_disk(cls, dataset: ImageDataset, split: str, budget: int) -> Examples:
        """Those of a split, each read and decoded whenever it is its turn; `budget`: bytes that they may take."""
        at_once = max(1, budget // (PARTS * COPIES * int(np.prod(dataset.image_shape))))
        return cls(dataset.labels(split), lambda indices: dataset.images(split, indices), at_once=at_once)

    def subset(self, indices: np.ndarray) -> Examples:
        """Those at some indices."""
        if self.held is None:
            return Examples(self.labels[indices], lambda chosen: self.read(indices[chosen]), at_once=self.at_once)
        images = self.held[indices]
        return Examples(self.labels[indices], images.__getitem__, images)

    def some(self, count: int) -> np.ndarray:
        """The first images, at most `count`."""
        return self.read(np.arange(min(count, len(self.labels))))


@dataclass(frozen=True)
class Part:
    """Some steps of an epoch, on the devices that take them.

    Attributes:
        images: uint8, shape (images, height, width, channels).
        labels: int64, shape (images,).
        picked: int32, shape (steps, batch): for each step the images it takes; ~index for one that only fills it up.
        steps: How many of these steps there are; those after are filling, so that all parts have one shape.
    """

    images: tf.Tensor
    labels: tf.Tensor
    picked: tf.Tensor
    steps: int


class Feed:
    """Gives an epoch in parts: as one when the images lie in memory, else as large as the memory allows."""

    def __init__(self, examples: Examples, spread: tf.distribute.Strategy) -> None:
        self._examples = examples
        self._spread = spread
        if examples.held is not None:
            self._images = on_each_device(spread, examples.held)
            self._labels = on_each_device(spread, examples.labels)

    def epoch(self, order: np.ndarray) -> Iterator[Part]:
        """The parts of an epoch; `order`: int32, shape (steps, batch), indices of images, ~index for a filling one."""
        import tensorflow as tf

        if self._examples.held is not None:
            yield Part(self._images, self._labels, tf.constant(order), len(order))
            return
        columns = columns_here(self._spread, order.shape[1])
        size = min(len(order), max(1, self._examples.at_once // (columns.stop - columns.start)))
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._read, order[:size], size, columns)
            for start in range(0, len(order), size):
                images, labels, picked = coming.result()
                following = order[start + size : start + 2 * size]
                if len(following):
                    coming = reader.submit(self._read, following, size, columns)
                yield Part(
                    on_each_device(self._spread, images),
                    on_each_device(self._spread, labels),
                    tf.constant(picked),
                    min(size, len(order) - start),
                )

    def _read(self, order: np.ndarray, size: int, columns: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images, labels and picked of a part with `size` steps, of which `order` are there.

        Only the columns of the batch that this worker's replicas take are read.
        """
        filling = order < 0
        chosen = np.where(filling, ~order, order)[:, columns].ravel()
        images, labels = self._examples.read(chosen), self._examples.labels[chosen]
        picked = np.zeros((size, order.shape[1]), np.int32)
        picked[: len(order), columns] = np.arange(len(chosen)).reshape(len(order), -1)
        picked[: len(order)][filling] = ~picked[: len(order)][filling]
        if missing := size * (columns.stop - columns.start) - len(chosen):  # so that the last part has the same shape
            images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)])
            labels = np.concatenate([labels, np.zeros(missing, np.int64)])
        return images, labels, picked


def bytes_in_memory(dataset: ImageDataset, split: str) -> int:
    """What a split takes when it is held in memory."""
    return COPIES * dataset.counts.get(split, 0) * int(np.prod(dataset.image_shape))


def budget_in_bytes(megabytes: int) -> int:
    """What images may take of the memory: as chosen, or half of what this process may still have.

    Raises:
        BadInput: below zero.
    """
    if megabytes < 0:
        raise BadInput(f"--memory-budget: expected megabytes, at least 0, received {megabytes}; 0 chooses by itself")
    return megabytes * MEGABYTE or _available_memory() // 2


def _available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process may still take: what its container leaves, or the machine."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError):  # not Linux
        free = 1024 * _named_number(root / "proc/meminfo", "MemAvailable:")
    with suppress(OSError, ValueError):  # no cgroup v2, or no limit ("max")
        limit = int((root / "sys/fs/cgroup/memory.max").read_text())
        taken = _named_number(root / "sys/fs/cgroup/memory.stat", "anon")  # without files, which can be read again
        free = min(free, max(0, limit - taken))
    return free


def _named_number(path: Path, name: str) -> int:
    """The number behind a name, in a file with a name and a number on each line."""
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.split()[0] == name)
