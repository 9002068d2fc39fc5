"""Which variables of a model learn, when, and how fast: all alike, or its last layer first and its base slower.

The base of a model that is fine-tuned is all but its last layer with weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .architectures import every_layer

if TYPE_CHECKING:
    import keras

    from .hyperparameters import Hyperparameters


@dataclass(frozen=True)
class Group:
    """Variables that learn at one rate."""

    optimizer: keras.optimizers.Optimizer
    variables: list[Any]


class Tuning:
    """The groups of a model's variables, and which of them learn in an epoch.

    Attributes:
        groups: The last layer first, if the base learns otherwise than it.
    """

    def __init__(self, model: keras.Model, chosen: Hyperparameters, steps: int) -> None:
        """Build an optimizer for each group.

        Args:
            model: The model.
            chosen: Optimizer, its schedule, epochs, and how the base learns.
            steps: Of an epoch.
        """
        self._chosen = chosen
        variables = list(model.trainable_variables)
        self._base: list[keras.layers.Layer] = []
        parts = [(variables, chosen)]
        if chosen.base_apart:
            *self._base, head = (one for one in every_layer(model) if one.weights and not hasattr(one, "layers"))
            last = {id(variable) for variable in head.trainable_variables}
            parts = [([one for one in variables if id(one) in last], chosen)]
            if not self._frozen(chosen.epochs):
                rate, epochs = chosen.rate_of_base, chosen.epochs - chosen.unfreeze_after
                slower = replace(chosen, learning_rate=rate, epochs=epochs, unfreeze_after=0)
                parts.append(([one for one in variables if id(one) not in last], slower))
        self.groups = [Group(optimizer(how, steps), part) for part, how in parts]
        for group in self.groups:
            group.optimizer.build(group.variables)

    @property
    def variables(self) -> list[Any]:
        """Those of all optimizers."""
        return [variable for group in self.groups for variable in group.optimizer.variables]

    @property
    def learning_rate(self) -> float:
        """Of the last layer, now."""
        import keras

        return float(keras.ops.convert_to_numpy(self.groups[0].optimizer.learning_rate))

    def begin(self, epoch: int) -> list[Group]:
        """The groups that learn in an epoch, its number from 1; layers of the others are at rest."""
        frozen = self._frozen(epoch)
        for layer in self._base if self._chosen.freezes else ():
            layer.trainable = not frozen
        return self.groups[:1] if frozen else self.groups

    def end(self) -> None:
        """Leave a model of which every layer can learn again."""
        for layer in self._base if self._chosen.freezes else ():
            layer.trainable = True

    def _frozen(self, epoch: int) -> bool:
        return self._chosen.freezes and not 0 < self._chosen.unfreeze_after < epoch


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
