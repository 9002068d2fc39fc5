"""Images on their way to the devices, in the order of the steps: as one tensor, or from disk part by part.

Both give every step the same images: the memory that training may take changes nothing in its result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .data import LabelledImages
from .devices import columns_here, on_each_device

if TYPE_CHECKING:
    import tensorflow as tf


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

    def __init__(self, images: LabelledImages, spread: tf.distribute.Strategy) -> None:
        self._source = images
        self._spread = spread
        if images.held is not None:
            self._images = on_each_device(spread, images.held)
            self._labels = on_each_device(spread, images.labels)

    def epoch(self, order: np.ndarray) -> Iterator[Part]:
        """The parts of an epoch; `order`: int32, shape (steps, batch), indices of images, ~index for a filling one."""
        import tensorflow as tf

        if self._source.held is not None:
            yield Part(self._images, self._labels, tf.constant(order), len(order))
            return
        columns = columns_here(self._spread, order.shape[1])
        size = min(len(order), max(1, self._source.at_once // (columns.stop - columns.start)))
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
        images, labels = self._source.read(chosen), self._source.labels[chosen]
        picked = np.zeros((size, order.shape[1]), np.int32)
        picked[: len(order), columns] = np.arange(len(chosen)).reshape(len(order), -1)
        picked[: len(order)][filling] = ~picked[: len(order)][filling]
        if missing := size * (columns.stop - columns.start) - len(chosen):  # so that the last part has the same shape
            images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), np.uint8)])
            labels = np.concatenate([labels, np.zeros(missing, np.int64)])
        return images, labels, picked


def order_of_steps(permutation: np.ndarray, batch: int, replicas: int) -> np.ndarray:
    """The images of each step: int32, shape (steps, batch rounded up to a multiple of the replicas).

    Where a batch is not full, others fill it up, as ~index: they count neither in the loss nor in the accuracy, but
    batch normalisation sees a whole batch.
    """
    count = len(permutation)
    steps, width = math.ceil(count / batch), math.ceil(batch / replicas) * replicas
    others = np.resize(permutation, steps * width).astype(np.int32)
    order = ~others.reshape(steps, width)
    flat = order[:, :batch].ravel()
    flat[:count] = permutation
    order[:, :batch] = flat.reshape(steps, batch)
    return order
