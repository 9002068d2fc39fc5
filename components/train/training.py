"""Train a classifier on a data set that lies in memory as one tensor."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.common.cli import BadInput

if TYPE_CHECKING:
    import keras

    from components.common.datasets import Split


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training split gave: mean loss and accuracy while learning, and its seconds."""

    epoch: int
    loss: float
    accuracy: float
    seconds: float


def fit(
    model: keras.Model,
    split: Split,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    on_epoch: Callable[[Epoch], None],
) -> list[Epoch]:
    """Minimise the cross-entropy with Adam.

    An epoch is one compiled function over the images in memory. Without a Python step per batch and a queue between
    them the dense network trains several times faster than by `Model.fit` over a tf.data pipeline; the mathematics is
    the same.

    Args:
        model: From `architectures.build`; its weights change.
        split: The training split.
        epochs: Passes, at least 1.
        batch_size: Images per step; the last step of an epoch takes what is left.
        learning_rate: Adam's, above 0.
        seed: Of the order of the images.
        on_epoch: Called after each epoch.

    Returns:
        What each epoch gave.

    Raises:
        BadInput: the loss is no longer a number.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    logits_of = keras.Model(model.input, model.get_layer("logits").output)
    optimizer = keras.optimizers.Adam(learning_rate)
    optimizer.build(model.trainable_variables)
    images = tf.constant(split.images)
    labels = tf.constant(split.labels)
    count = len(split.labels)
    batch_size = min(batch_size, count)
    steps = math.ceil(count / batch_size)

    @tf.function(jit_compile=_compiles_well(model))
    def one_epoch(order: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Sum of losses and number of right answers over the images in this order; -1 stands for no image."""
        losses, right = tf.constant(0.0), tf.constant(0)
        for step in tf.range(steps):
            picked = order[step]
            there = tf.cast(picked >= 0, tf.float32)  # the last batch is filled up, so that all have one shape
            batch = tf.gather(images, tf.maximum(picked, 0))
            truth = tf.gather(labels, tf.maximum(picked, 0))
            with tf.GradientTape() as tape:
                logits = logits_of(tf.cast(batch, tf.float32), training=True)
                each = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits) * there
                loss = tf.reduce_sum(each) / tf.reduce_sum(there)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            hit = tf.logical_and(tf.argmax(logits, 1) == truth, picked >= 0)
            losses += tf.reduce_sum(each)
            right += tf.reduce_sum(tf.cast(hit, tf.int32))
        return losses, right

    shuffle = np.random.default_rng(seed)
    history = []
    for number in range(1, epochs + 1):
        started = time.perf_counter()
        order = np.full(steps * batch_size, -1, np.int32)
        order[:count] = shuffle.permutation(count)
        losses, right = one_epoch(tf.constant(order.reshape(steps, batch_size)))
        epoch = Epoch(number, float(losses) / count, int(right) / count, time.perf_counter() - started)
        if not math.isfinite(epoch.loss):
            raise BadInput(
                f"epoch {number}: expected a finite loss, received {epoch.loss}; lower --learning-rate "
                f"(now {learning_rate:g})"
            )
        history.append(epoch)
        on_epoch(epoch)
    return history


def _compiles_well(model: keras.Model) -> bool:
    """Whether XLA makes this network faster: on a GPU always; on the CPU its convolutions are 3 to 7 times slower."""
    import keras
    import tensorflow as tf

    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    return on_gpu or not any(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)
