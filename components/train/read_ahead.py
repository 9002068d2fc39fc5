"""Read the images while TensorFlow is imported.

Of a short training most is start: importing TensorFlow takes 2 to 3 s and reading MNIST's 60,000 PNGs 0.7 s. Reading in
a process of its own beside the import takes most of that off (docs/performance.md).
"""

import multiprocessing
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection

import numpy as np

from ..common.datasets import ImageDataset, Split


def read_ahead(dataset: ImageDataset, split: str) -> Callable[[], tuple[ImageDataset, Split]]:
    """Begin to read a split; the function given back waits for it, or raises what reading raised.

    It gives the data set too, as it is after reading.
    """
    if sys.platform != "linux" or "tensorflow" in sys.modules:  # a process with TensorFlow's threads cannot be forked
        return partial(_read, dataset, split)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(receiver, sender, dataset, split), daemon=True)
    process.start()
    sender.close()

    def result() -> tuple[ImageDataset, Split]:
        try:
            answer = receiver.recv()
            if isinstance(answer, Exception):
                raise answer
            as_read, labels, shape = answer
            images = np.empty(shape, np.uint8)
            receiver.recv_bytes_into(images.data.cast("B"))
        except EOFError:
            process.join()
            raise RuntimeError(
                f"{dataset.folder}: reading {split} was ended (exit code {process.exitcode}), as happens where memory "
                "is short; give the step more, or lower --memory-budget"
            ) from None
        process.join()
        return as_read, Split(images, labels)

    return result


def _read(dataset: ImageDataset, split: str) -> tuple[ImageDataset, Split]:
    return dataset, dataset.read(split)


def _send(receiver: Connection, sender: Connection, dataset: ImageDataset, split: str) -> None:
    receiver.close()  # so that sending fails, and this process ends, when the one that waits is gone
    with suppress(BrokenPipeError):
        try:
            read = dataset.read(split)
        except Exception as error:
            sender.send(error)
        else:
            sender.send((dataset, read.labels, read.images.shape))
            sender.send_bytes(np.ascontiguousarray(read.images).data.cast("B"))  # as they are, without a copy
