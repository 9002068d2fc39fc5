"""From a data set folder to a model folder."""

import json
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.common.cli import BadInput
from components.common.datasets import ImageDataset, Split, open_dataset
from components.common.files import atomic_folder, check_output
from components.common.models import CARD, processors
from components.common.native_logs import muted_native_logs
from components.train.checkpoint import Checkpoint
from components.train.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    from components.train.training import Epoch


def train(folder: Path, chosen: Hyperparameters, output: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Train on the training split of a data set and write the model folder.

    A run that was killed goes on after its last whole epoch when it is started again with the same data set,
    hyper-parameters and output.

    Args:
        folder: Data set folder.
        chosen: Hyper-parameters.
        output: Where the model folder is to appear.
        say: Told what happens, a line at a time.

    Returns:
        The card, as written to `model.json`.

    Raises:
        BadInput: no data set, a damaged one, only one class in it, nothing to validate on where it is needed, or a loss
            that is no longer a number.
    """
    check_output(output, marker=CARD)
    dataset = open_dataset(folder)
    split = dataset.read("train")
    if len(dataset.class_names) < 2 or split.labels.min() == split.labels.max():
        raise BadInput(f"{folder}: expected at least two classes in the training split, received one; add examples")
    height, width, channels = dataset.image_shape
    say(
        f"{dataset.name}: {len(split.labels):,} images of {width} x {height} x {channels}, "
        f"{len(dataset.class_names)} classes; {chosen.architecture}, {chosen.epochs} epochs"
    )
    described = describe(folder, dataset)
    checkpoint = Checkpoint(output, chosen=asdict(chosen), dataset=described, classes=dataset.class_names)

    _import_tensorflow()
    import keras

    from components.train import architectures, saving, training

    learn, validation = _validation(dataset, split, chosen)
    keras.utils.set_random_seed(chosen.seed)
    model = architectures.build(chosen.architecture, dataset.image_shape, len(dataset.class_names))
    if state := checkpoint.load():
        say(f"going on after epoch {len(state.history)}, which an earlier run reached")
    history = training.fit(model, learn, validation, chosen, checkpoint, lambda epoch: say(_line(epoch, chosen.epochs)))
    if chosen.early_stopping:
        kept = training.best_epoch(history)
        say(f"keeping the weights of epoch {kept.epoch}, with validation loss {kept.validation_loss:.4f}")
    card = {
        "format": 1,
        "architecture": chosen.architecture,
        "input": {"shape": list(dataset.image_shape), "range": [0, 255]},
        "classes": dataset.class_names,
        "hyperparameters": asdict(chosen),
        "dataset": {
            **described,
            "train_counts": [int((split.labels == index).sum()) for index in range(len(dataset.class_names))],
        },
        "history": [{key: value for key, value in asdict(epoch).items() if value is not None} for epoch in history],
        "libraries": _versions(),
    }
    with atomic_folder(output, marker=CARD) as partial:
        card = saving.write_model(model, partial, card, samples=split.images[:256])
    checkpoint.remove()
    litert = card["litert"]
    checked = "model.tflite answers as the SavedModel does"
    say(
        f"{card['parameters']:,} parameters, "
        + (checked if litert["written"] else f"without model.tflite, since {litert['reason']}")
    )
    return card


def _import_tensorflow() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with muted_native_logs():
        import tensorflow as tf

        with suppress(RuntimeError):  # a notebook may have used TensorFlow before; then it stays as it is
            tf.config.threading.set_intra_op_parallelism_threads(processors())  # the container's, not the host's
        tf.config.list_logical_devices()  # they are set up, and talked about, when first asked for


def _validation(dataset: ImageDataset, split: Split, chosen: Hyperparameters) -> tuple[Split, Split | None]:
    """What to learn from and what to validate on: a share of the training split, or the data set's own `validation`."""
    from components.train.training import hold_out

    if not chosen.validation_split and dataset.counts.get("validation"):
        return split, dataset.read("validation")
    if chosen.early_stopping and not chosen.validation_split:
        raise BadInput(
            f"--early-stopping: expected a split 'validation' in {dataset.folder} or --validation-split above 0, "
            "received neither; try --validation-split 0.1"
        )
    return hold_out(split, chosen.validation_split, chosen.seed)


def _line(epoch: "Epoch", epochs: int) -> str:
    line = f"epoch {epoch.epoch}/{epochs}  loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.4f}"
    if epoch.validation_loss is not None:
        line += f"  validation loss {epoch.validation_loss:.4f}  accuracy {epoch.validation_accuracy:.4f}"
    return f"{line}  {epoch.seconds:.1f} s"


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


def _versions() -> dict[str, str]:
    import keras
    import numpy as np
    import tensorflow as tf

    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
