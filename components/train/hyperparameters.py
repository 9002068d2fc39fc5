"""What the caller of the train step chooses."""

import json
import math
import re
from collections.abc import Collection
from dataclasses import dataclass

from ..common.cli import BadInput
from ..common.datasets import ON_CORRUPT
from .architectures import ARCHITECTURES

AUTO = "auto"
"""Left to `choice` to choose by the data; of numbers 0."""
OPTIMIZERS = ("adam", "adamw", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine")
AUGMENTATIONS = ("shift", "rotation", "flip", "light")
BALANCED = "balanced"
KERAS = "keras://"
"""What names a network of Keras Applications."""
SLOWER = 0.1
"""Step size for the base of such a network, as a share of that for its new last layer."""


@dataclass(frozen=True)
class Hyperparameters:
    """Units, ranges and meaning as in `--help`. BadInput where one lies outside of them."""

    architecture: str = AUTO
    epochs: int = 0
    batch_size: int = 0
    learning_rate: float = 0.001
    seed: int = 0
    optimizer: str = "adam"
    schedule: str = AUTO
    warmup: float = 0.0
    validation_split: float = 0.0
    early_stopping: int = 0
    class_weights: str = ""
    augmentation: str = AUTO
    model_config: str = ""
    base_model: str = ""
    base_weights: str = ""
    freeze: bool = False
    unfreeze_after: int = 0
    base_learning_rate: float = 0.0
    image_size: str = ""
    on_corrupt: str = "fail"

    def __post_init__(self) -> None:
        _one_of("--architecture", self.architecture, (AUTO, *ARCHITECTURES))
        _one_of("--optimizer", self.optimizer, OPTIMIZERS)
        _one_of("--schedule", self.schedule, (AUTO, *SCHEDULES))
        _one_of("--on-corrupt", self.on_corrupt, ON_CORRUPT)
        if self.model_config and self.base_model:
            raise BadInput(
                "--model-config and --base-model: expected one of them, received both; a base model brings its network"
            )
        self._check_base()
        if self.image_size and not self.size:
            raise BadInput(
                f"--image-size: expected a height and width in pixels, such as 64x96, or one number for both, received "
                f"{self.image_size!r}; leave it out where all images have one size"
            )
        if self.class_weights != BALANCED and not all(_is_weight(one) for one in self.weights_by_class.values()):
            raise BadInput(
                f"--class-weights: expected numbers above 0, received {self.class_weights!r}; a class without one has 1"
            )
        for kind in filter(None, map(str.strip, self.augmentation.split(","))):
            _one_of("--augmentation", kind, (AUTO, "none", *AUGMENTATIONS))
        for option, value, least in (
            ("--epochs", self.epochs, 0),
            ("--batch-size", self.batch_size, 0),
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

    def _check_base(self) -> None:
        if self.base_weights and not self.pretrained:
            raise BadInput(
                f"--base-weights: expected a --base-model as keras://MobileNetV3Small, received {self.base_model!r}; "
                "other models bring their weights"
            )
        tuned = {
            "--freeze": self.freeze,
            "--unfreeze-after": self.unfreeze_after,
            "--base-learning-rate": self.base_learning_rate,
        }
        if not self.base_model and (option := next((name for name, value in tuned.items() if value), None)):
            raise BadInput(f"{option}: expected a --base-model to fine-tune, received none; name one")
        if self.unfreeze_after < 0 or 0 < self.epochs <= self.unfreeze_after:
            raise BadInput(
                f"--unfreeze-after: expected fewer than the {self.epochs or 'chosen'} epochs, at least 0, received "
                f"{self.unfreeze_after}; with 0 the base stays frozen"
            )
        if not (self.base_learning_rate >= 0 and math.isfinite(self.base_learning_rate)):
            raise BadInput(
                f"--base-learning-rate: expected a number of at least 0, received {self.base_learning_rate}; try 0.0001"
            )

    @property
    def pretrained(self) -> bool:
        """Whether the base is a network of Keras Applications."""
        return self.base_model.startswith(KERAS)

    @property
    def freezes(self) -> bool:
        """Whether the base is at rest, to begin with at least."""
        return self.freeze or self.unfreeze_after > 0

    @property
    def base_apart(self) -> bool:
        """Whether the base learns otherwise than the last layer."""
        return bool(self.base_model) and (self.freezes or self.rate_of_base != self.learning_rate)

    @property
    def rate_of_base(self) -> float:
        """Step size of the optimizer for the base."""
        return self.base_learning_rate or self.learning_rate * (SLOWER if self.pretrained else 1)

    @property
    def ours(self) -> bool:
        """Whether the network is that of `architecture`."""
        return not (self.model_config or self.base_model)

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
        """The kinds of augmentation, in the order given; none where that is still left open."""
        kinds = (kind.strip() for kind in self.augmentation.split(","))
        return [kind for kind in kinds if kind in AUGMENTATIONS]


def _is_weight(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _one_of(option: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise BadInput(f"{option}: expected one of {', '.join(known)}, received {value!r}; choose one of these")
