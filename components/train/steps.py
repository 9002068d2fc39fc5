"""Optimizer steps, compiled: a pass over the training images, and a look at the validation images.

A pass is one compiled function over images on the device. Without a Python step per batch and a queue between them the
dense network trains several times faster than by `Model.fit` over a tf.data pipeline; the mathematics is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .data import LabelledImages
from .feed import Feed

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from .tuning import Group

    Tensors = tuple[tf.Tensor, ...]

VALIDATION_BATCH = 1000
SECONDS_BETWEEN_REPORTS = 0.5
"""How often a long pass says how far it is."""
WORTH_COMPILING = 1000
"""Steps of a training from which on XLA saves more time than its compiling takes, about a second."""
PORTION = 20
"""Steps between them, as long as it is not known how many take so long."""


class TrainingPass:
    """Takes the optimizer steps of an epoch."""

    def __init__(
        self,
        model: keras.Model,
        images: LabelledImages,
        class_weights: np.ndarray | None,
        steps: int,
        changes: list[keras.layers.Layer],
    ) -> None:
        """Put the images on the devices and prepare the steps; they are compiled when the first is taken.

        Args:
            model: Its weights change.
            images: What to learn from.
            class_weights: What an image of each class counts in the loss, shape (classes,); None: all the same.
            steps: How many are taken in the whole training.
            changes: Made to each batch at random.
        """
        import keras
        import tensorflow as tf

        self._model = model
        self._logits_of = keras.Model(model.input, model.layers[-1].input)
        self._groups: list[Group] = []
        self._changes = changes
        weights = np.ones(model.output_shape[-1]) if class_weights is None else class_weights
        self._class_weights = tf.constant(weights, tf.float32)
        self._spread = model.distribute_strategy
        self._replicas = self._spread.num_replicas_in_sync
        self._feed = Feed(images, self._spread)
        self._portion = PORTION
        self._compile = _compiles_well(model, steps) and not changes and self._replicas == 1  # XLA cannot turn images

    def run(self, order: np.ndarray, groups: list[Group], show: Callable[[float, float], None]) -> tuple[float, int]:
        """Take the steps of an epoch.

        Args:
            order: From `order_of_steps`.
            groups: The variables that learn.
            show: Told now and then the share of the steps that are taken, and the mean loss so far.

        Returns:
            Sum of the losses, and number of right answers.
        """
        import tensorflow as tf

        if groups != self._groups:
            self._groups = groups
            self._take_steps = tf.function(
                self._steps,
                autograph=False,  # rewriting this code takes it longer than tracing it
                jit_compile=self._compile,
            )
        losses, right = tf.constant(0.0), tf.constant(0)
        done = 0
        for part in self._feed.epoch(order):
            tensors = part.images, part.labels, part.picked
            first = 0
            while first < part.steps:
                last = min(part.steps, first + self._portion)
                began = time.perf_counter()
                losses, right = self._take_steps(tensors, tf.constant(first), tf.constant(last), losses, right)
                so_far = float(losses)
                if self._replicas == 1:  # several workers must take their steps in the same portions
                    rate = (last - first) / (time.perf_counter() - began)
                    self._portion = max(1, int(rate * SECONDS_BETWEEN_REPORTS))
                done += last - first
                first = last
                show(done / len(order), so_far / int((order[:done] >= 0).sum()))
        return float(losses), int(right)

    def _steps(self, part: Tensors, first: tf.Tensor, last: tf.Tensor, losses: tf.Tensor, right: tf.Tensor) -> Tensors:
        """Losses and right answers after the steps from `first` to before `last`, added to those before."""
        import tensorflow as tf

        images, labels, picked = part

        def one(index: tf.Tensor, losses: tf.Tensor, right: tf.Tensor) -> Tensors:
            of_replicas = self._spread.run(self._step, args=(images, labels, picked[index]))
            lost, hit = (self._spread.reduce("SUM", value, axis=None) for value in of_replicas)
            return index + 1, losses + lost, right + hit

        _, losses, right = tf.while_loop(lambda index, *_: index < last, one, (first, losses, right))
        return losses, right

    def _step(self, images: tf.Tensor, labels: tf.Tensor, picked: tf.Tensor) -> Tensors:
        """One replica's share of an optimizer step: its sum of losses and number of right answers."""
        import tensorflow as tf

        in_batch = tf.reduce_sum(tf.cast(picked >= 0, tf.float32))
        if self._replicas > 1:
            here = tf.distribute.get_replica_context().replica_id_in_sync_group
            picked = tf.reshape(picked, (self._replicas, -1))[here]
        counts = picked >= 0
        indices = tf.where(counts, picked, -1 - picked)
        batch, truth = tf.cast(tf.gather(images, indices), tf.float32), tf.gather(labels, indices)
        with tf.GradientTape() as tape:
            for change in self._changes:
                batch = change(batch, training=True)
            logits = self._logits_of(batch, training=True)
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits) * tf.cast(counts, tf.float32)
            loss = tf.reduce_sum(each * tf.gather(self._class_weights, truth)) / in_batch
        gradients = tape.gradient(loss, [group.variables for group in self._groups])
        for group, of_group in zip(self._groups, gradients, strict=True):
            group.optimizer.apply(of_group, group.variables)  # which adds those of all replicas up
        hit = tf.logical_and(tf.argmax(logits, 1) == truth, counts)
        return tf.reduce_sum(each), tf.reduce_sum(tf.cast(hit, tf.int32))


class Validation:
    """Loss and accuracy on images that nothing is learned from."""

    def __init__(self, model: keras.Model, images: LabelledImages) -> None:
        import tensorflow as tf

        self._images = images
        self._probabilities = tf.function(
            lambda batch: model(tf.cast(batch, tf.float32), training=False), autograph=False
        )

    def run(self) -> dict[str, float]:
        """The numbers by their names in `Epoch`."""
        labels = self._images.labels
        at_once = VALIDATION_BATCH if self._images.held is not None else min(VALIDATION_BATCH, self._images.at_once)
        batches = (np.arange(at, min(at + at_once, len(labels))) for at in range(0, len(labels), at_once))
        answers = np.concatenate([self._probabilities(self._images.read(batch)).numpy() for batch in batches])
        of_truth = np.take_along_axis(answers, labels[:, None], 1)
        return {
            "validation_loss": float(-np.log(np.maximum(of_truth, 1e-7)).mean()),
            "validation_accuracy": float((answers.argmax(1) == labels).mean()),
        }


def _compiles_well(model: keras.Model, steps: int) -> bool:
    """Whether XLA makes this network faster: on a GPU always; on the CPU its convolutions are 3 to 7 times slower, and
    few steps do not make up for compiling.

    A network of somebody else's, which is a layer of the model, may hold what XLA has no kernel for.
    """
    import keras
    import tensorflow as tf

    if any(isinstance(layer, keras.Model) for layer in model.layers):
        return False
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    return on_gpu or (
        steps >= WORTH_COMPILING and not any(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)
    )
