"""Write a trained classifier as a model folder: SavedModel, Keras file, LiteRT file and card."""

from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.artifacts.model import CARD, KERAS_MODEL, LITERT_MODEL, SAVED_MODEL, LiteRTClassifier

if TYPE_CHECKING:
    import keras
    import numpy as np

EQUAL = 1e-4
"""How far two probabilities for one image may lie apart and still count as the same answer."""


def write_model(model: keras.Model, folder: Path, card: dict[str, Any], samples: np.ndarray) -> dict[str, Any]:
    """Write the model folder of the plan (docs/artifacts.md) and return the card as written.

    Args:
        model: A trained classifier.
        folder: An empty folder.
        card: What is known of the training; `litert` and `parameters` are added.
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
    card = {**card, "parameters": model.count_params(), "litert": _write_litert(folder, samples)}
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n")
    return card


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


def _write_litert(folder: Path, samples: np.ndarray) -> dict[str, Any]:
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
        return {"written": False, "reason": f"LiteRT cannot express this model: {why}"}
    signature = tf.saved_model.load(saved).signatures["serving_default"]
    expected = next(iter(signature(image=tf.constant(samples, tf.float32)).values())).numpy()
    difference = float(np.abs(LiteRTClassifier(path).predict(samples) - expected).max())
    if not difference <= EQUAL:
        path.unlink()
        return {"written": False, "reason": f"its answers differ from the SavedModel's by up to {difference:.2g}"}
    return {"written": True, "max_difference": difference}
