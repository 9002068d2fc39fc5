"""What the caller leaves open is chosen by the data: the network, the size of the images, how long and how to learn."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .hyperparameters import AUTO, Hyperparameters

if TYPE_CHECKING:
    from ..common.datasets import ImageDataset

SMALL = 32
"""Largest height and width in pixels of the grey images that a dense network does well on."""
LARGEST = 256
"""Largest height and width in pixels of images that are not resized."""
SIZE = 128
"""Height and width in pixels that other images are resized to."""
PRETRAINED_SIZE = 224
"""The same for networks that were trained on ImageNet: most were at this size."""


@dataclass(frozen=True)
class Recipe:
    """How a network learns, where the caller does not say it.

    Attributes:
        batch_size: Images per optimizer step.
        epochs: Passes over the training images, at least.
        steps: Optimizer steps, at least; few images are passed over more often.
        most_epochs: Passes over the training images, at most.
        schedule: Of the learning rate.
        warmup: Share of the training in which the learning rate rises.
        augmentation: Random changes of the training images.
    """

    batch_size: int = 128
    epochs: int = 5
    steps: int = 0
    most_epochs: int = 5
    schedule: str = "constant"
    warmup: float = 0.0
    augmentation: str = ""


RECIPES = {
    "compact": Recipe(
        batch_size=32,
        epochs=10,
        steps=1000,
        most_epochs=120,
        schedule="cosine",
        warmup=0.1,
        augmentation="shift,flip,light",
    )
}
"""By network; all others learn as in the tutorials."""
FINE_TUNING = Recipe(
    batch_size=32,
    epochs=5,
    steps=300,
    most_epochs=30,
    schedule="cosine",
    warmup=0.1,
    augmentation="shift,flip,light",
)
"""For networks that were trained on ImageNet."""


def choose(chosen: Hyperparameters, dataset: ImageDataset) -> tuple[Hyperparameters, list[str]]:
    """Choose what is left open; images that are to be resized are from now on.

    Args:
        chosen: What the caller chose.
        dataset: Its images are not read yet.

    Returns:
        Hyper-parameters with nothing left open; what was chosen and why, a line each.
    """
    told: list[str] = []
    side = PRETRAINED_SIZE if chosen.pretrained else SIZE
    if (chosen.ours or chosen.pretrained) and not chosen.size and (why := _why_resized(dataset)):
        dataset.bring_to((side, side))
        chosen = replace(chosen, image_size=f"{side}x{side}")
        told.append(f"images resized to {side} x {side}, since {why}; --image-size sets another size")
    if chosen.ours and chosen.architecture == AUTO:
        height, width, channels = dataset.image_shape
        small = channels == 1 and max(height, width) <= SMALL
        they = "small grey images" if small else "colour images" if channels > 1 else "images above 32 x 32"
        chosen = replace(chosen, architecture="dense" if small else "compact")
        told.append(f"architecture {chosen.architecture}, for {they}; --architecture selects another")
    recipe = _recipe(chosen)
    if chosen.augmentation == AUTO and recipe.augmentation:
        told.append(f"augmentation {recipe.augmentation}; --augmentation selects others, or none")
    return _with_recipe(chosen, recipe, dataset), told


def _recipe(chosen: Hyperparameters) -> Recipe:
    if chosen.pretrained:
        return FINE_TUNING
    return RECIPES.get(chosen.architecture, Recipe()) if chosen.ours else Recipe()


def _why_resized(dataset: ImageDataset) -> str:
    if max(dataset.image_shape[:2]) > LARGEST:
        return f"they are larger than {LARGEST} x {LARGEST}"
    return "" if dataset.of_one_size() else "they differ in size"


def _with_recipe(chosen: Hyperparameters, recipe: Recipe, dataset: ImageDataset) -> Hyperparameters:
    batch = chosen.batch_size or recipe.batch_size
    count = max(1, round(dataset.counts.get("train", 0) * (1 - chosen.validation_split)))
    enough = math.ceil(recipe.steps / math.ceil(count / batch))
    return replace(
        chosen,
        batch_size=batch,
        epochs=chosen.epochs or min(max(recipe.epochs, enough), recipe.most_epochs),
        schedule=recipe.schedule if chosen.schedule == AUTO else chosen.schedule,
        warmup=chosen.warmup or recipe.warmup,
        augmentation=recipe.augmentation if chosen.augmentation == AUTO else chosen.augmentation,
    )
