"""Train a classifier on a data set that lies in memory as one tensor."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from components.common.cli import BadInput
from components.common.datasets import Split
from components.train.checkpoint import Checkpoint, State

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    from components.train.hyperparameters import Hyperparameters

VALIDATION_BATCH = 1000


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training split gave: mean loss and accuracy while learning, then those of the validation
    split (None without one), and its seconds."""

    epoch: int
    loss: float
    accuracy: float
    seconds: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None


def hold_out(split: Split, share: float, seed: int) -> tuple[Split, Split | None]:
    """Part a training split into one to learn from and one to validate on, which no step learns from.

    Args:
        split: At least two examples.
        share: Of the examples to validate on, at least 0 and below 1; at least one example is left on each side.
        seed: Of the choice.
    """
    import numpy as np

    if not share:
        return split, None
    count = len(split.labels)
    held = min(max(1, round(count * share)), count - 1)
    order = np.random.default_rng(seed).permutation(count)
    kept, validation = np.sort(order[held:]), np.sort(order[:held])
    return Split(split.images[kept], split.labels[kept]), Split(split.images[validation], split.labels[validation])


def fit(
    model: keras.Model,
    train: Split,
    validation: Split | None,
    chosen: Hyperparameters,
    checkpoint: Checkpoint | None,
    on_epoch: Callable[[Epoch], None],
) -> list[Epoch]:
    """Minimise the cross-entropy.

    An epoch is one compiled function over the images in memory. Without a Python step per batch and a queue between
    them the dense network trains several times faster than by `Model.fit` over a tf.data pipeline; the mathematics is
    the same.

    Args:
        model: From `architectures.build`; its weights change.
        train: What to learn from.
        validation: What to look at after each epoch. With early stopping the model ends with the weights that were best
            on it.
        chosen: Optimizer, its schedule, epochs, batch size and seed.
        checkpoint: Written after each epoch. If it holds the state of this very training, training goes on from there
            and ends in the weights that it would have reached without a break.
        on_epoch: Called after each epoch.

    Returns:
        What each epoch gave, with those before a break.

    Raises:
        BadInput: the loss is no longer a number.
    """
    import numpy as np
    import tensorflow as tf

    count = len(train.labels)
    batch = min(chosen.batch_size, count)
    steps = math.ceil(count / batch)
    optimizer = _optimizer(chosen, steps)
    optimizer.build(model.trainable_variables)
    changes = _augmentation(chosen)
    one_epoch = _epoch_function(model, optimizer, train, chosen, changes)
    score = _score_function(model, validation) if validation else None

    # seed states (dropout, augmentation) are variables too: with them a resumed training draws what it would have drawn
    variables = [*model.variables, *optimizer.variables, *(state for layer in changes for state in layer.variables)]
    history: list[Epoch] = []
    best: list[np.ndarray] = []
    if checkpoint and (state := checkpoint.load()):
        for variable, value in zip(variables, state.variables, strict=True):
            variable.assign(value)
        history, best = [Epoch(**epoch) for epoch in state.history], state.best

    while len(history) < chosen.epochs and not _stalled(history, chosen.early_stopping):
        started = time.perf_counter()
        order = np.full(steps * batch, -1, np.int32)
        order[:count] = np.random.default_rng([chosen.seed, len(history)]).permutation(count)
        losses, right = one_epoch(tf.constant(order.reshape(steps, batch)))
        scored = score() if score else {}
        epoch = Epoch(
            len(history) + 1, float(losses) / count, int(right) / count, time.perf_counter() - started, **scored
        )
        if not math.isfinite(epoch.loss):
            raise BadInput(
                f"epoch {epoch.epoch}: expected a finite loss, received {epoch.loss}; lower --learning-rate "
                f"(now {chosen.learning_rate:g})"
            )
        history.append(epoch)
        if chosen.early_stopping and best_epoch(history) is epoch:
            best = [variable.numpy() for variable in model.variables]
        if checkpoint:
            told = [asdict(epoch) for epoch in history]
            checkpoint.save(State(told, [variable.numpy() for variable in variables], best))
        on_epoch(epoch)
    if best:
        for variable, value in zip(model.variables, best, strict=True):
            variable.assign(value)
    return history


def best_epoch(history: list[Epoch]) -> Epoch:
    """The epoch with the least loss on the validation split; the earliest of equals."""
    return min(history, key=lambda epoch: math.inf if epoch.validation_loss is None else epoch.validation_loss)


def _stalled(history: list[Epoch], patience: int) -> bool:
    return bool(patience and history) and history[-1].epoch - best_epoch(history).epoch >= patience


def _optimizer(chosen: Hyperparameters, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer, its learning rate constant or falling to zero along a cosine, after a linear warm-up."""
    import keras

    total = steps * chosen.epochs
    warmup = round(total * chosen.warmup)
    rate: Any = chosen.learning_rate
    if chosen.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else chosen.learning_rate,
            total - warmup,
            warmup_target=chosen.learning_rate,
            warmup_steps=warmup,
        )
    elif warmup:
        rate = keras.optimizers.schedules.PolynomialDecay(0.0, warmup, chosen.learning_rate)
    kinds = {
        "adam": keras.optimizers.Adam,
        "adamw": keras.optimizers.AdamW,
        "rmsprop": keras.optimizers.RMSprop,
        "sgd": lambda learning_rate: keras.optimizers.SGD(learning_rate, momentum=0.9),
    }
    return kinds[chosen.optimizer](rate)


def _epoch_function(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    train: Split,
    chosen: Hyperparameters,
    changes: list[keras.layers.Layer],
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """A compiled pass over the images in a given order.

    It takes indices of images, int32 (steps, batch), -1 for none, and gives the sum of losses and the number of right
    answers.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    logits_of = keras.Model(model.input, model.get_layer("logits").output)
    images, labels = tf.constant(train.images), tf.constant(train.labels)
    classes = model.output_shape[-1]
    weights = np.ones(classes, np.float32)
    if chosen.balance_classes:  # as scikit-learn's "balanced": examples / (classes * examples of the class)
        weights = len(train.labels) / np.maximum(classes * np.bincount(train.labels, minlength=classes), 1)
    class_weights = tf.constant(weights, tf.float32)

    @tf.function(jit_compile=_compiles_well(model) and not changes)  # XLA has no kernel for turning images
    def one_epoch(order: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        losses, right = tf.constant(0.0), tf.constant(0)
        for step in tf.range(tf.shape(order)[0]):
            picked = order[step]
            there = tf.cast(picked >= 0, tf.float32)  # the last batch is filled up, so that all have one shape
            batch = tf.cast(tf.gather(images, tf.maximum(picked, 0)), tf.float32)
            truth = tf.gather(labels, tf.maximum(picked, 0))
            with tf.GradientTape() as tape:
                for change in changes:
                    batch = change(batch, training=True)
                logits = logits_of(batch, training=True)
                each = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits) * there
                loss = tf.reduce_sum(each * tf.gather(class_weights, truth)) / tf.reduce_sum(there)
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)
            hit = tf.logical_and(tf.argmax(logits, 1) == truth, picked >= 0)
            losses += tf.reduce_sum(each)
            right += tf.reduce_sum(tf.cast(hit, tf.int32))
        return losses, right

    return one_epoch


def _score_function(model: keras.Model, split: Split) -> Callable[[], dict[str, float]]:
    """Loss and accuracy on a split, named as in `Epoch`."""
    import numpy as np
    import tensorflow as tf

    @tf.function
    def probabilities(images: tf.Tensor) -> tf.Tensor:
        return model(tf.cast(images, tf.float32), training=False)

    def score() -> dict[str, float]:
        batches = range(0, len(split.labels), VALIDATION_BATCH)
        answers = np.concatenate([probabilities(split.images[at : at + VALIDATION_BATCH]).numpy() for at in batches])
        of_truth = np.take_along_axis(answers, split.labels[:, None], 1)
        return {
            "validation_loss": float(-np.log(np.maximum(of_truth, 1e-7)).mean()),
            "validation_accuracy": float((answers.argmax(1) == split.labels).mean()),
        }

    return score


def _augmentation(chosen: Hyperparameters) -> list[keras.layers.Layer]:
    """Random changes that leave the class as it is: shifts by up to a tenth, turns by 18 degrees, left-right flips."""
    import keras

    layers = {
        "shift": lambda: keras.layers.RandomTranslation(0.1, 0.1, fill_mode="nearest", seed=chosen.seed),
        "rotation": lambda: keras.layers.RandomRotation(0.05, fill_mode="nearest", seed=chosen.seed),
        "flip": lambda: keras.layers.RandomFlip("horizontal", seed=chosen.seed),
    }
    return [layers[kind]() for kind in chosen.augmentations]


def _compiles_well(model: keras.Model) -> bool:
    """Whether XLA makes this network faster: on a GPU always; on the CPU its convolutions are 3 to 7 times slower."""
    import keras
    import tensorflow as tf

    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    return on_gpu or not any(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)
