"""What the caller of the train step chooses."""

import json
import math
import re
from collections.abc import Collection
from dataclasses import dataclass

from ..common.cli import BadInput
from ..common.datasets import ON_CORRUPT
from .architectures import ARCHITECTURES

OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine")
AUGMENTATIONS = ("shift", "rotation", "flip")
BALANCED = "balanced"


@dataclass(frozen=True)
class Hyperparameters:
    """Units, ranges and meaning as in `--help`. BadInput where one lies outside of them."""

    architecture: str = "dense"
    epochs: int = 5
    batch_size: int = 128
    learning_rate: float = 0.001
    seed: int = 0
    optimizer: str = "adam"
    schedule: str = "constant"
    warmup: float = 0.0
    validation_split: float = 0.0
    early_stopping: int = 0
    class_weights: str = ""
    augmentation: str = ""
    model_config: str = ""
    base_model: str = ""
    image_size: str = ""
    on_corrupt: str = "fail"

    def __post_init__(self) -> None:
        _one_of("--architecture", self.architecture, ARCHITECTURES)
        _one_of("--optimizer", self.optimizer, OPTIMIZERS)
        _one_of("--schedule", self.schedule, SCHEDULES)
        _one_of("--on-corrupt", self.on_corrupt, ON_CORRUPT)
        if self.model_config and self.base_model:
            raise BadInput(
                "--model-config and --base-model: expected one of them, received both; a base model brings its network"
            )
        if self.image_size and not self.size:
            raise BadInput(
                f"--image-size: expected a height and width in pixels, such as 64x96, or one number for both, received "
                f"{self.image_size!r}; leave it out where all images have one size"
            )
        if self.class_weights != BALANCED and not all(_is_weight(one) for one in self.weights_by_class.values()):
            raise BadInput(
                f"--class-weights: expected numbers above 0, received {self.class_weights!r}; a class without one has 1"
            )
        for kind in self.augmentations:
            _one_of("--augmentation", kind, AUGMENTATIONS)
        for option, value, least in (
            ("--epochs", self.epochs, 1),
            ("--batch-size", self.batch_size, 1),
            ("--early-stopping", self.early_stopping, 0),
        ):
            if value < least:
                raise BadInput(f"{option}: expected at least {least}, received {value}; raise it")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise BadInput(f"--learning-rate: expected a number above 0, received {self.learning_rate}; try 0.001")
        if not 0 <= self.seed < 2**32:
            raise BadInput(f"--seed: expected 0 to {2**32 - 1}, received {self.seed}; choose one in this range")
        for option, share in (("--warmup", self.warmup), ("--validation-split", self.validation_split)):
            if not 0 <= share < 1:
                raise BadInput(f"{option}: expected a share of at least 0 and below 1, received {share}; try 0.1")

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that images are brought to, in pixels; None: they stay as they are."""
        found = re.fullmatch(r"\s*([1-9]\d{0,4})(?:\s*[xX]\s*([1-9]\d{0,4}))?\s*", self.image_size)
        return (int(found[1]), int(found[2] or found[1])) if found else None

    @property
    def weights_by_class(self) -> dict[str, float]:
        """What one image of a class counts, where it was said."""
        if self.class_weights in ("", BALANCED):
            return {}
        try:
            weights = json.loads(self.class_weights)
        except ValueError:
            weights = None
        if not isinstance(weights, dict):
            raise BadInput(
                f"--class-weights: expected {BALANCED}, or JSON of weights by class, received {self.class_weights!r}; "
                "write it as '{\"cat\": 2.5}'"
            )
        return weights

    @property
    def augmentations(self) -> list[str]:
        """The kinds of augmentation, in the order given."""
        return [kind.strip() for kind in self.augmentation.split(",") if kind.strip()]


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _one_of(option: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise BadInput(f"{option}: expected one of {', '.join(known)}, received {value!r}; choose one of these")
