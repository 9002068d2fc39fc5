"""The fit: a model learns, epoch after epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.artifacts.model import Epoch
from ..common.cli import BadInput
from .checkpoint import TrainingState
from .data import LabelledImages
from .devices import share_batch_statistics, told_by_all
from .feed import order_of_steps
from .hyperparameters import Hyperparameters
from .steps import TrainingPass, Validation

if TYPE_CHECKING:
    import keras

    from ..common.progress import Progress


class Fit:
    """A model that learns: it minimises the cross-entropy.

    Attributes:
        model: Its weights change. Where it was built under a strategy of several devices, each takes its share of every
            batch, and the gradients are added up.
        history: Its epochs so far.
    """

    def __init__(
        self,
        model: keras.Model,
        chosen: Hyperparameters,
        learn: LabelledImages,
        validation: LabelledImages | None = None,
        class_weights: np.ndarray | None = None,
    ) -> None:
        """Prepare to fit.

        Args:
            model: Untrained, or one to go on with.
            chosen: Optimizer, its schedule, epochs, batch size and seed.
            learn: What each step learns from.
            validation: What to look at after each epoch; None: nothing.
            class_weights: What an image of each class counts in the loss, shape (classes,); None: all the same.
        """
        self.model = model
        self.history: list[Epoch] = []
        self._chosen = chosen
        self._count = len(learn.labels)
        self._batch = min(chosen.batch_size, self._count)
        self._spread = model.distribute_strategy
        self._replicas = self._spread.num_replicas_in_sync
        if self._replicas > 1:
            share_batch_statistics(model)
        with self._spread.scope():
            self._optimizer = optimizer(chosen, math.ceil(self._count / self._batch))
            self._optimizer.build(model.trainable_variables)
            changes = _augmentation(chosen)
        self._pass = TrainingPass(model, self._optimizer, learn, class_weights, changes)
        self._validation = Validation(model, validation) if validation else None
        # seed states (dropout, augmentation) are variables too: with them a resumed fit draws what it would have drawn
        seeds = [seed for layer in changes for seed in layer.variables]
        self._variables = [*model.variables, *self._optimizer.variables, *seeds]
        self._best: list[np.ndarray] = []

    @property
    def best_epoch(self) -> Epoch:
        """The epoch with the least loss on the validation images; the earliest of equals."""
        return min(self.history, key=lambda epoch: math.inf if epoch.validation_loss is None else epoch.validation_loss)

    def state(self) -> TrainingState:
        """All that `resume` needs."""
        return TrainingState(self.history, [variable.numpy() for variable in self._variables], self._best)

    def resume(self, state: TrainingState) -> None:
        """Go on from a state, to end in the weights that a fit without a break ends in."""
        _assign(self._variables, state.variables)
        self.history, self._best = state.history, state.best

    def epochs(self, progress: Progress) -> Iterator[Epoch]:
        """Learn, and give each epoch when it is done. With early stopping the model ends with its best weights.

        Raises:
            BadInput: the loss is no longer a number.
        """
        while len(self.history) < self._chosen.epochs and not self._stalled():
            epoch = self._epoch(len(self.history) + 1, progress)
            self.history = [*self.history, epoch]
            if self._chosen.early_stopping and self.best_epoch is epoch:
                self._best = [variable.numpy() for variable in self.model.variables]
            yield epoch
        if self._best:
            _assign(self.model.variables, self._best)

    def _stalled(self) -> bool:
        patience = self._chosen.early_stopping
        return bool(patience and self.history) and self.history[-1].epoch - self.best_epoch.epoch >= patience

    def _epoch(self, number: int, progress: Progress) -> Epoch:
        import keras

        def show(share: float, loss: float) -> None:
            progress.show(share, lambda: f"epoch {number}/{self._chosen.epochs}  {100 * share:.0f} %  loss {loss:.4f}")

        started = time.perf_counter()
        permutation = np.random.default_rng([self._chosen.seed, number - 1]).permutation(self._count)
        losses, right = self._pass.run(order_of_steps(permutation, self._batch, self._replicas), show)
        scored = self._validation.run() if self._validation else {}
        if self._replicas > 1:  # whether to stop, all must find the same
            scored = {name: told_by_all(self._spread, value)[0] for name, value in scored.items()}
        epoch = Epoch(
            epoch=number,
            loss=losses / self._count,
            accuracy=right / self._count,
            seconds=time.perf_counter() - started,
            learning_rate=float(keras.ops.convert_to_numpy(self._optimizer.learning_rate)),
            **scored,
        )
        if not math.isfinite(epoch.loss):
            raise BadInput(
                f"epoch {number}: expected a finite loss, received {epoch.loss}; lower --learning-rate "
                f"(now {self._chosen.learning_rate:g})"
            )
        return epoch


def _assign(variables: list[Any], values: list[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def optimizer(chosen: Hyperparameters, steps: int) -> keras.optimizers.Optimizer:
    """The optimizer, its learning rate constant or falling to zero along a cosine, after a linear warm-up.

    Args:
        chosen: Optimizer, schedule and epochs.
        steps: Of an epoch.
    """
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


def _augmentation(chosen: Hyperparameters) -> list[keras.layers.Layer]:
    """Random changes that leave the class as it is: shifts by up to a tenth, turns by 18 degrees, left-right flips."""
    import keras

    layers = {
        "shift": lambda: keras.layers.RandomTranslation(0.1, 0.1, fill_mode="nearest", seed=chosen.seed),
        "rotation": lambda: keras.layers.RandomRotation(0.05, fill_mode="nearest", seed=chosen.seed),
        "flip": lambda: keras.layers.RandomFlip("horizontal", seed=chosen.seed),
    }
    return [layers[kind]() for kind in chosen.augmentations]
