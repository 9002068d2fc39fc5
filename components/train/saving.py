"""Write a trained classifier into a model folder: SavedModel, Keras file and LiteRT file."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..common.artifacts.classifier import LiteRTClassifier
from ..common.artifacts.model import KERAS_MODEL, LITERT_MODEL, SAVED_MODEL, LiteRT

if TYPE_CHECKING:
    import keras
    import numpy as np

EQUAL = 1e-4
"""How far two probabilities for one image may lie apart and still count as the same answer."""


def write_model(model: keras.Model, folder: Path, samples: np.ndarray) -> LiteRT:
    """Write the files of the model; tells what came of that for LiteRT.

    Args:
        model: A trained classifier.
        folder: An empty folder.
        samples: uint8 images (n, height, width, channels), on which the LiteRT file is checked against the SavedModel.

    Raises:
        OSError: the disk is full.
    """
    import tensorflow as tf

    try:
        model.save(folder / KERAS_MODEL)
        _export(model, folder / SAVED_MODEL)
    except tf.errors.ResourceExhaustedError as error:  # TensorFlow's word for a full disk
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
    return _write_litert(folder, samples)


def _export(model: keras.Model, folder: Path) -> None:
    """Write the SavedModel, as `model.export` does, but with layers that change images at random (of a network of
    somebody else's) at rest: `model.export` leaves them as they are in training."""
    import keras
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(model)
    image = tf.TensorSpec(model.inputs[0].shape, tf.float32, name="image")
    archive.add_endpoint("serve", lambda image: model(image, training=False), input_signature=[image])
    archive.write_out(folder, verbose=False)


def _write_litert(folder: Path, samples: np.ndarray) -> LiteRT:
    """Write `model.tflite` if LiteRT can express the model and answers as the SavedModel does; tell what came of it."""
    import numpy as np
    import tensorflow as tf

    saved = str(folder / SAVED_MODEL)
    path = folder / LITERT_MODEL
    try:
        path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(saved).convert())
    except Exception as error:  # the converter raises whatever its passes raise
        missing = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", str(error))))
        why = f"it has no operation {', '.join(missing)}" if missing else str(error).splitlines()[0][:200]
        return LiteRT(written=False, reason=f"LiteRT cannot express this model: {why}")
    signature = tf.saved_model.load(saved).signatures["serving_default"]
    expected = next(iter(signature(image=tf.constant(samples, tf.float32)).values())).numpy()
    difference = float(np.abs(LiteRTClassifier(path).predict(samples) - expected).max())
    if not difference <= EQUAL:
        path.unlink()
        return LiteRT(written=False, reason=f"its answers differ from the SavedModel's by up to {difference:.2g}")
    return LiteRT(written=True, max_difference=difference)
