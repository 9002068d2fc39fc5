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
from .tuning import Tuning

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
        from . import augmentation

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
            steps = math.ceil(self._count / self._batch)
            self._tuning = Tuning(model, chosen, steps)
            changes = augmentation.layers(chosen.augmentations, chosen.seed)
        self._pass = TrainingPass(model, learn, class_weights, steps * chosen.epochs, changes)
        self._validation = Validation(model, validation) if validation else None
        # seed states (dropout, augmentation) are variables too: with them a resumed fit draws what it would have drawn
        seeds = [seed for layer in changes for seed in layer.variables]
        self._variables = [*model.variables, *self._tuning.variables, *seeds]
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
        self._tuning.end()
        if self._best:
            _assign(self.model.variables, self._best)

    def _stalled(self) -> bool:
        patience = self._chosen.early_stopping
        return bool(patience and self.history) and self.history[-1].epoch - self.best_epoch.epoch >= patience

    def _epoch(self, number: int, progress: Progress) -> Epoch:
        def show(share: float, loss: float) -> None:
            progress.show(share, lambda: f"epoch {number}/{self._chosen.epochs}  {100 * share:.0f} %  loss {loss:.4f}")

        started = time.perf_counter()
        permutation = np.random.default_rng([self._chosen.seed, number - 1]).permutation(self._count)
        order = order_of_steps(permutation, self._batch, self._replicas)
        losses, right = self._pass.run(order, self._tuning.begin(number), show)
        scored = self._validation.run() if self._validation else {}
        if self._replicas > 1:  # whether to stop, all must find the same
            scored = {name: told_by_all(self._spread, value)[0] for name, value in scored.items()}
        epoch = Epoch(
            epoch=number,
            loss=losses / self._count,
            accuracy=right / self._count,
            seconds=time.perf_counter() - started,
            learning_rate=self._tuning.learning_rate,
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
