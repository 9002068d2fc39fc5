"""Train a classifier: an epoch is one compiled function over images on the device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from ..common.artifacts.model import Epoch
from ..common.cli import BadInput
from .checkpoint import Checkpoint, State
from .devices import check_agreement, share_batch_statistics, told_by_all
from .feed import Examples, Feed
from .hyperparameters import BALANCED, Hyperparameters

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

    Tensors = tuple[tf.Tensor, ...]

VALIDATION_BATCH = 1000
SECONDS_BETWEEN_TIDINGS = 0.5
"""How often a long epoch says how far it is."""
PORTION = 20
"""Steps between them, as long as it is not known how many take so long."""


class Progress(Protocol):
    """Told now and then how far training is: number of the epoch, share of it that is done, mean loss so far."""

    def __call__(self, epoch: int, share: float, loss: float) -> None: ...


@dataclass(frozen=True)
class TrainingData:
    """What a model learns from.

    Attributes:
        train: What each step learns from.
        validation: What to look at after each epoch; None: nothing.
        weights: What an image of each class counts, from `class_weights`; None: all the same.
    """

    train: Examples
    validation: Examples | None = None
    weights: np.ndarray | None = None


def hold_out(examples: Examples, share: float, seed: int) -> tuple[Examples, Examples | None]:
    """Part a training split into examples to learn from and those to validate on, which no step learns from.

    Args:
        examples: At least two.
        share: Of the examples to validate on, at least 0 and below 1; at least one example is left on each side.
        seed: Of the choice.
    """
    import numpy as np

    if not share:
        return examples, None
    count = len(examples.labels)
    held = min(max(1, round(count * share)), count - 1)
    order = np.random.default_rng(seed).permutation(count)
    return examples.subset(np.sort(order[held:])), examples.subset(np.sort(order[:held]))


def fit(
    model: keras.Model,
    data: TrainingData,
    chosen: Hyperparameters,
    checkpoint: Checkpoint | None,
    on_epoch: Callable[[Epoch], None],
    on_progress: Progress = lambda epoch, share, loss: None,
) -> list[Epoch]:
    """Minimise the cross-entropy.

    An epoch is one compiled function over images on the device. Without a Python step per batch and a queue between
    them the dense network trains several times faster than by `Model.fit` over a tf.data pipeline; the mathematics is
    the same.

    Args:
        model: Its weights change. Where it was built under a strategy of several devices, each takes its share of every
            batch, and the gradients are added up.
        data: What to learn from. With early stopping the model ends with the weights that were best on its validation
            examples.
        chosen: Optimizer, its schedule, epochs, batch size and seed.
        checkpoint: Written after each epoch. Training goes on from what an earlier run left there, and ends in the
            weights that it would have reached without a break.
        on_epoch: Called after each epoch.
        on_progress: Called now and then within one.

    Returns:
        What each epoch gave, with those before a break.

    Raises:
        BadInput: the loss is no longer a number.
    """
    import keras
    import numpy as np

    spread = model.distribute_strategy
    replicas = spread.num_replicas_in_sync
    count = len(data.train.labels)
    batch = min(chosen.batch_size, count)
    steps = math.ceil(count / batch)
    if replicas > 1:
        share_batch_statistics(model)
    with spread.scope():
        optimizer = _optimizer(chosen, steps)
        optimizer.build(model.trainable_variables)
        changes = _augmentation(chosen)
    one_epoch = _epoch_function(model, optimizer, data, changes)
    score = _score_function(model, data.validation) if data.validation else None

    # seed states (dropout, augmentation) are variables too: with them a resumed training draws what it would have drawn
    variables = [*model.variables, *optimizer.variables, *(seed for layer in changes for seed in layer.variables)]
    history: list[Epoch] = []
    best: list[np.ndarray] = []
    if checkpoint and (state := checkpoint.earlier):
        for variable, value in zip(variables, state.variables, strict=True):
            variable.assign(value)
        history, best = [Epoch(**epoch) for epoch in state.history], state.best
    if checkpoint and replicas > 1:
        check_agreement(spread, checkpoint.identity, len(history))

    while len(history) < chosen.epochs and not _stalled(history, chosen.early_stopping):
        started = time.perf_counter()
        number = len(history) + 1
        order = _order(np.random.default_rng([chosen.seed, len(history)]).permutation(count), batch, replicas)
        losses, right = one_epoch(order, partial(on_progress, number))
        scored = score() if score else {}
        if replicas > 1:  # whether to stop, all must find the same
            scored = {name: told_by_all(spread, value)[0] for name, value in scored.items()}
        seconds, rate = time.perf_counter() - started, float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        epoch = Epoch(
            epoch=number,
            loss=losses / count,
            accuracy=right / count,
            seconds=seconds,
            learning_rate=rate,
            **scored,
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


def class_weights(chosen: Hyperparameters, classes: list[str], labels: np.ndarray) -> np.ndarray:
    """What an image of each class counts in the loss: float, shape (classes,).

    Balanced is as in scikit-learn: images / (classes * images of the class).

    Raises:
        BadInput: a weight is for a class that is not there.
    """
    import numpy as np

    if chosen.class_weights == BALANCED:
        return len(labels) / np.maximum(len(classes) * np.bincount(labels, minlength=len(classes)), 1)
    if unknown := sorted(set(chosen.weights_by_class) - set(classes)):
        raise BadInput(
            f"--class-weights: expected classes of the data set ({', '.join(classes[:10])}"
            f"{', ...' if len(classes) > 10 else ''}), received {', '.join(unknown)}; correct the names"
        )
    return np.array([chosen.weights_by_class.get(name, 1) for name in classes], float)


def best_epoch(history: list[Epoch]) -> Epoch:
    """The epoch with the least loss on the validation split; the earliest of equals."""
    return min(history, key=lambda epoch: math.inf if epoch.validation_loss is None else epoch.validation_loss)


def _stalled(history: list[Epoch], patience: int) -> bool:
    return bool(patience and history) and history[-1].epoch - best_epoch(history).epoch >= patience


def _order(permutation: np.ndarray, batch: int, replicas: int) -> np.ndarray:
    """The images of each step: int32, shape (steps, batch rounded up to a multiple of the replicas).

    Where a batch is not full, others fill it up, as ~index: they count neither in the loss nor in the accuracy, but
    batch normalisation sees a whole batch.
    """
    import numpy as np

    count = len(permutation)
    steps, width = math.ceil(count / batch), math.ceil(batch / replicas) * replicas
    others = np.resize(permutation, steps * width).astype(np.int32)
    order = ~others.reshape(steps, width)
    flat = order[:, :batch].ravel()
    flat[:count] = permutation
    order[:, :batch] = flat.reshape(steps, batch)
    return order


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
    data: TrainingData,
    changes: list[keras.layers.Layer],
) -> Callable[[np.ndarray, Callable[[float, float], None]], tuple[float, int]]:
    """A pass over the images in a given order.

    It takes the order from `_order`, and whom to tell the share that is done and the mean loss so far; it gives the sum
    of losses and the number of right answers.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    logits_of = keras.Model(model.input, model.layers[-1].input)
    weights = np.ones(model.output_shape[-1]) if data.weights is None else data.weights
    class_weights = tf.constant(weights, tf.float32)
    spread = model.distribute_strategy
    replicas = spread.num_replicas_in_sync

    def step(images: tf.Tensor, labels: tf.Tensor, picked: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """One replica's share of an optimizer step: its sum of losses and number of right answers."""
        in_batch = tf.reduce_sum(tf.cast(picked >= 0, tf.float32))
        if replicas > 1:
            here = tf.distribute.get_replica_context().replica_id_in_sync_group
            picked = tf.reshape(picked, (replicas, -1))[here]
        counts = picked >= 0
        indices = tf.where(counts, picked, -1 - picked)
        batch, truth = tf.cast(tf.gather(images, indices), tf.float32), tf.gather(labels, indices)
        with tf.GradientTape() as tape:
            for change in changes:
                batch = change(batch, training=True)
            logits = logits_of(batch, training=True)
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(truth, logits) * tf.cast(counts, tf.float32)
            loss = tf.reduce_sum(each * tf.gather(class_weights, truth)) / in_batch
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)  # which adds those of all replicas up
        hit = tf.logical_and(tf.argmax(logits, 1) == truth, counts)
        return tf.reduce_sum(each), tf.reduce_sum(tf.cast(hit, tf.int32))

    @tf.function(
        autograph=False,  # rewriting this code takes it longer than tracing it
        jit_compile=_compiles_well(model) and not changes and replicas == 1,  # XLA cannot turn images
    )
    def take_steps(part: Tensors, first: tf.Tensor, last: tf.Tensor, losses: tf.Tensor, right: tf.Tensor) -> Tensors:
        """Losses and right answers after the steps from `first` to before `last`, added to those before."""
        images, labels, picked = part

        def one(index: tf.Tensor, losses: tf.Tensor, right: tf.Tensor) -> Tensors:
            of_replicas = spread.run(step, args=(images, labels, picked[index]))
            lost, hit = (spread.reduce("SUM", value, axis=None) for value in of_replicas)
            return index + 1, losses + lost, right + hit

        return tf.while_loop(lambda index, *_: index < last, one, (first, losses, right))[1:]

    feed = Feed(data.train, spread)
    pace = PORTION

    def one_epoch(order: np.ndarray, on_progress: Callable[[float, float], None]) -> tuple[float, int]:
        nonlocal pace
        losses, right = tf.constant(0.0), tf.constant(0)
        done = 0
        for part in feed.epoch(order):
            tensors = part.images, part.labels, part.picked
            first = 0
            while first < part.steps:
                last = min(part.steps, first + pace)
                began = time.perf_counter()
                losses, right = take_steps(tensors, tf.constant(first), tf.constant(last), losses, right)
                so_far = float(losses)
                if replicas == 1:  # several workers must take their steps in the same portions
                    pace = max(1, int((last - first) * SECONDS_BETWEEN_TIDINGS / (time.perf_counter() - began)))
                done += last - first
                first = last
                on_progress(done / len(order), so_far / int((order[:done] >= 0).sum()))
        return float(losses), int(right)

    return one_epoch


def _score_function(model: keras.Model, examples: Examples) -> Callable[[], dict[str, float]]:
    """Loss and accuracy on examples that nothing is learned from, named as in `Epoch`."""
    import numpy as np
    import tensorflow as tf

    @tf.function(autograph=False)
    def probabilities(images: tf.Tensor) -> tf.Tensor:
        return model(tf.cast(images, tf.float32), training=False)

    def score() -> dict[str, float]:
        count = len(examples.labels)
        size = VALIDATION_BATCH if examples.held is not None else min(VALIDATION_BATCH, examples.at_once)
        batches = (np.arange(at, min(at + size, count)) for at in range(0, count, size))
        answers = np.concatenate([probabilities(examples.read(batch)).numpy() for batch in batches])
        of_truth = np.take_along_axis(answers, examples.labels[:, None], 1)
        return {
            "validation_loss": float(-np.log(np.maximum(of_truth, 1e-7)).mean()),
            "validation_accuracy": float((answers.argmax(1) == examples.labels).mean()),
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
    """Whether XLA makes this network faster: on a GPU always; on the CPU its convolutions are 3 to 7 times slower.

    A network of somebody else's, which is a layer of the model, may hold what XLA has no kernel for.
    """
    import keras
    import tensorflow as tf

    if any(isinstance(layer, keras.Model) for layer in model.layers):
        return False
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    return on_gpu or not any(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)
