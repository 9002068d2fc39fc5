"""Event files for TensorBoard: loss, accuracy and learning rate of every epoch, while training goes on."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

    from ..common.artifacts.model import Epoch

SUFFIX = ".trainyard"
"""Of the files that are ours to replace."""
CURVES = {
    "train": {
        "epoch_loss": "loss",
        "epoch_accuracy": "accuracy",
        "epoch_learning_rate": "learning_rate",
    },
    "validation": {"epoch_loss": "validation_loss", "epoch_accuracy": "validation_accuracy"},
}
"""Per run of TensorBoard, which is a folder, its curves and where an epoch has them; named as Keras's callback names
them, so that training and validation lie in one chart."""


class EventFiles:
    """Writes into `train/` and `validation/` below a folder, one event file each."""

    def __init__(self, folder: Path, before: Iterable[Epoch] = ()) -> None:
        """Open the folder.

        Args:
            folder: Made where it is missing. Event files that an earlier training of ours left there are replaced.
            before: Epochs of this very training before a break; they are written again, so that each stands there once.
        """
        self._folder = folder
        self._writers: dict[str, tf.io.TFRecordWriter] = {}
        for earlier in folder.glob(f"*/events.out.tfevents.*{SUFFIX}"):
            earlier.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        for epoch in before:
            self.add(epoch)

    def add(self, epoch: Epoch) -> None:
        """Write what an epoch gave; it can be read as soon as this returns."""
        import tensorflow as tf

        messages = tf.compat.v1
        for run, curves in CURVES.items():
            points = {tag: getattr(epoch, name) for tag, name in curves.items()}
            values = [
                messages.Summary.Value(tag=tag, simple_value=point)
                for tag, point in points.items()
                if point is not None
            ]
            if values:
                event = messages.Event(wall_time=time.time(), step=epoch.epoch, summary={"value": values})
                self._writer(run).write(event.SerializeToString())
                self._writer(run).flush()

    def _writer(self, run: str) -> tf.io.TFRecordWriter:
        """The file of a run, begun with the first point in it."""
        import tensorflow as tf

        if run not in self._writers:
            (self._folder / run).mkdir(exist_ok=True)
            now = time.time()
            path = self._folder / run / f"events.out.tfevents.{int(now)}{SUFFIX}"
            self._writers[run] = tf.io.TFRecordWriter(str(path))
            version = tf.compat.v1.Event(wall_time=now, file_version="brain.Event:2")
            self._writers[run].write(version.SerializeToString())
        return self._writers[run]
