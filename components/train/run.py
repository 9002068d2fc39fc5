"""From a data set folder to a model folder."""

import json
import math
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.common.cli import BadInput
from components.common.datasets import ImageDataset, open_dataset
from components.common.files import atomic_folder
from components.common.models import CARD, processors
from components.common.native_logs import muted_native_logs
from components.train.architectures import ARCHITECTURES


@dataclass(frozen=True)
class Hyperparameters:
    """What the caller chooses; units and ranges as in `--help`."""

    architecture: str
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            names = ", ".join(ARCHITECTURES)
            raise BadInput(
                f"--architecture: expected one of {names}, received {self.architecture!r}; choose one of these"
            )
        for option, value in (("--epochs", self.epochs), ("--batch-size", self.batch_size)):
            if value < 1:
                raise BadInput(f"{option}: expected at least 1, received {value}; raise it")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise BadInput(f"--learning-rate: expected a number above 0, received {self.learning_rate}; try 0.001")
        if not 0 <= self.seed < 2**32:
            raise BadInput(f"--seed: expected 0 to {2**32 - 1}, received {self.seed}; choose one in this range")


def train(folder: Path, chosen: Hyperparameters, output: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Train on the training split of a data set and write the model folder.

    Args:
        folder: Data set folder.
        chosen: Hyper-parameters.
        output: Where the model folder is to appear.
        say: Told what happens, a line at a time.

    Returns:
        The card, as written to `model.json`.

    Raises:
        BadInput: no data set, a damaged one, only one class in it, or a loss that is no longer a number.
    """
    dataset = open_dataset(folder)
    split = dataset.read("train")
    if len(dataset.class_names) < 2 or split.labels.min() == split.labels.max():
        raise BadInput(f"{folder}: expected at least two classes in the training split, received one; add examples")
    height, width, channels = dataset.image_shape
    say(
        f"{dataset.name}: {len(split.labels):,} images of {width} x {height} x {channels}, "
        f"{len(dataset.class_names)} classes; {chosen.architecture}, {chosen.epochs} epochs"
    )

    with atomic_folder(output, marker=CARD) as partial:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        with muted_native_logs():
            import keras
            import numpy as np
            import tensorflow as tf

            tf.config.threading.set_intra_op_parallelism_threads(processors())  # the container's, not the host's
            tf.config.list_logical_devices()  # they are set up, and talked about, when first asked for

        from components.train import architectures, saving, training

        keras.utils.set_random_seed(chosen.seed)
        model = architectures.build(chosen.architecture, dataset.image_shape, len(dataset.class_names))
        history = training.fit(
            model,
            split,
            chosen.epochs,
            chosen.batch_size,
            chosen.learning_rate,
            chosen.seed,
            on_epoch=lambda epoch: say(
                f"epoch {epoch.epoch}/{chosen.epochs}  loss {epoch.loss:.4f}  "
                f"accuracy {epoch.accuracy:.4f}  {epoch.seconds:.1f} s"
            ),
        )
        card = saving.write_model(
            model,
            partial,
            {
                "format": 1,
                "architecture": chosen.architecture,
                "input": {"shape": list(dataset.image_shape), "range": [0, 255]},
                "classes": dataset.class_names,
                "hyperparameters": {**asdict(chosen), "optimizer": "adam"},
                "dataset": describe(folder, dataset),
                "history": [asdict(epoch) for epoch in history],
                "libraries": {
                    "python": platform.python_version(),
                    "tensorflow": tf.__version__,
                    "keras": keras.__version__,
                    "numpy": np.__version__,
                },
            },
            samples=split.images[:256],
        )
    litert = card["litert"]
    say(
        f"{output}: {card['parameters']:,} parameters"
        + ("" if litert["written"] else f"; without model.tflite, since {litert['reason']}")
    )
    return card


def describe(folder: Path, dataset: ImageDataset) -> dict[str, Any]:
    """The data set as the card tells it; source and digest are what download wrote beside it, if it did."""
    try:
        fetched = json.loads((folder / "download.json").read_text())
    except FileNotFoundError:
        fetched = {}
    return {
        "name": dataset.name,
        "layout": dataset.layout,
        "source": fetched.get("source"),
        "sha256": fetched.get("sha256"),
        "train_examples": dataset.counts.get("train", 0),
        "test_examples": dataset.counts.get("test", 0),
    }
