"""From a data set folder to a model folder."""

import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.artifacts.model import CARD, README, About, Card, Epoch, Input, TrainedOn
from ..common.cli import BadInput
from ..common.datasets import ImageDataset, download_of, open_dataset
from ..common.files import atomic_folder, check_output
from ..common.native_logs import muted_native_logs
from ..common.progress import counted, readable_shape, readable_size, some_of
from ..common.tensorflow import import_tensorflow
from .checkpoint import Checkpoint
from .devices import Cluster
from .event_files import EventFiles
from .feed import Examples, budget_in_bytes, bytes_in_memory
from .hyperparameters import Hyperparameters
from .model_card import markdown
from .origin import origin_of
from .read_ahead import read_ahead

if TYPE_CHECKING:
    from .fitting import Progress


def train(
    folder: Path,
    chosen: Hyperparameters,
    output: Path,
    say: Callable[[str], None],
    on_progress: "Progress" = lambda epoch, share, loss: None,
    memory_budget: int = 0,
    about: About = About(),  # noqa: B008 (it never changes)
    tensorboard: Path | None = None,
) -> Card | None:
    """Train on the training split of a data set and write the model folder.

    A run that was killed goes on after its last whole epoch when it is started again with the same data set,
    hyper-parameters and output. Where `TF_CONFIG` names several workers, each trains on its share of every batch, and
    the chief writes.

    Args:
        folder: Data set folder.
        chosen: Hyper-parameters.
        output: Where the model folder is to appear.
        say: Told what happens, a line at a time.
        on_progress: Told how far it is within an epoch.
        memory_budget: Megabytes that images may take; more are read from disk while training goes on. 0: half of the
            memory that is free.
        about: What only people know of the model, for the card.
        tensorboard: Folder for event files; None: none are written.

    Returns:
        The card, as written; None from a worker that is not the chief.

    Raises:
        BadInput: no data set, a damaged one, only one class in it, nothing to validate on where it is needed, or a loss
            that is no longer a number.
    """
    check_output(output, marker=CARD)
    if tensorboard and tensorboard.resolve().is_relative_to(output.resolve()):
        raise BadInput(f"--tensorboard: expected a folder outside of {output}, received {tensorboard}; name another")
    origin = origin_of(chosen)
    cluster = Cluster.from_environment()
    dataset = open_dataset(folder, chosen.size, chosen.on_corrupt)
    needed, budget = bytes_in_memory(dataset, "train"), budget_in_bytes(memory_budget)
    height, width, channels = dataset.image_shape
    say(
        f"{dataset.name}: {dataset.counts.get('train', 0):,} images of {height} x {width} x {channels}, "
        f"{len(dataset.class_names)} classes; {origin.name}, {counted(chosen.epochs, 'epoch')}"
    )
    for note in dataset.notes:
        say(note)
    if not dataset.counts.get("test"):
        say("there is no split test, which evaluate will need")
    reading = read_ahead(dataset, "train") if needed <= budget and cluster.workers == 1 else None
    if cluster.workers > 1:
        say(f"one of {cluster.workers} workers{', the chief' if cluster.chief else ''}; waiting for all of them")
    import_tensorflow()
    import keras
    import numpy as np
    import tensorflow as tf

    from . import devices, fitting, saving

    with muted_native_logs():
        spread = devices.strategy(cluster)
    if cluster.workers > 1:  # all take their steps in the same portions
        budget = int(min(devices.told_by_all(spread, budget)))
    if needed > budget:
        say(f"images would take {readable_size(needed)}: they are read as they are needed, in {readable_size(budget)}")
        examples = Examples.on_disk(dataset, "train", budget)
    else:
        dataset, split = reading() if reading else (dataset, dataset.read("train"))
        examples = Examples.in_memory(split)
    if len(dataset.class_names) < 2 or examples.labels.min() == examples.labels.max():
        raise BadInput(f"{folder}: expected at least two classes in the training split, received one; add examples")
    counts = np.bincount(examples.labels, minlength=len(dataset.class_names))
    if unseen := [name for name, count in zip(dataset.class_names, counts, strict=True) if not count]:
        say(f"without images to learn from: {some_of(unseen)}")
    described, hyperparameters = describe(folder, dataset), _given(chosen, origin.described)
    checkpoint = Checkpoint(
        output, cluster.chief, chosen=hyperparameters, dataset=described, classes=dataset.class_names
    )
    learn, validation = _validation(dataset, examples, chosen, budget)
    weights = fitting.class_weights(chosen, dataset.class_names, learn.labels)
    data = fitting.TrainingData(learn, validation, weights)
    if dataset.skipped:
        say(dataset.told_skipped())
    keras.utils.set_random_seed(chosen.seed)
    with spread.scope():
        try:
            model = origin.build(dataset.image_shape, dataset.class_names, say)
        except ValueError as error:
            if "negative" not in str(error):
                raise
            raise BadInput(
                f"{folder}: expected images large enough for {origin.name}, received {readable_shape((height, width))} "
                "pixels; pass --image-size 32, or --architecture dense"
            ) from None
    before = [Epoch(**epoch) for epoch in checkpoint.earlier.history] if checkpoint.earlier else []
    if before:
        say(f"going on after epoch {len(before)}, which an earlier run reached")
    events = EventFiles(tensorboard, before) if tensorboard and cluster.chief else None

    def on_epoch(epoch: Epoch) -> None:
        say(_line(epoch, chosen.epochs))
        if events:
            events.add(epoch)

    try:
        history = fitting.fit(model, data, chosen, checkpoint, on_epoch, on_progress)
    except tf.errors.OpError as error:
        if cluster.workers == 1:
            raise
        raise RuntimeError(
            f"expected all {cluster.workers} workers until the end, one was lost ({type(error).__name__}); start all "
            "of them again, and training goes on after its last whole epoch"
        ) from error
    if chosen.early_stopping:
        kept = fitting.best_epoch(history)
        say(f"keeping the weights of epoch {kept.epoch}, with validation loss {kept.validation_loss:.4f}")
    learned = model.get_weights()  # by all workers: some variables are means over them
    if not cluster.chief:
        say("done; the chief writes the model")
        devices.wait_for_all(spread)
        return None
    if spread.num_replicas_in_sync > 1:
        model = devices.plain_copy(model, learned)
    with atomic_folder(output, marker=CARD) as partial:
        litert = saving.write_model(model, partial, examples.some(256))
        card = Card(
            architecture=model.name,
            about=about,
            hyperparameters=hyperparameters,
            dataset=TrainedOn(**described, skipped=len(dataset.skipped), train_counts=counts.tolist()),
            input=Input(shape=dataset.image_shape, resized=bool(chosen.size)),
            classes=dataset.class_names,
            history=history,
            libraries=_versions(),
            parameters=model.count_params(),
            litert=litert,
        )
        card.write(partial)
        (partial / README).write_text(markdown(card), encoding="utf-8")
    checkpoint.remove()
    if cluster.workers > 1:
        devices.wait_for_all(spread)
    checked = "model.tflite answers as the SavedModel does"
    say(
        f"{card.parameters:,} parameters, "
        + (checked if litert.written else f"without model.tflite, since {litert.reason}")
    )
    return card


def _validation(
    dataset: ImageDataset, examples: Examples, chosen: Hyperparameters, budget: int
) -> tuple[Examples, Examples | None]:
    """What to learn from and what to validate on: a share of the training split, or the data set's own `validation`."""
    from .fitting import hold_out

    if not chosen.validation_split and dataset.counts.get("validation"):
        if examples.held is None:
            return examples, Examples.on_disk(dataset, "validation", budget)
        return examples, Examples.in_memory(dataset.read("validation"))
    if chosen.early_stopping and not chosen.validation_split:
        raise BadInput(
            f"--early-stopping: expected a split 'validation' in {dataset.folder} or --validation-split above 0, "
            "received neither; try --validation-split 0.1"
        )
    return hold_out(examples, chosen.validation_split, chosen.seed)


def _given(chosen: Hyperparameters, origin: dict[str, str]) -> dict[str, Any]:
    """The hyper-parameters that were given, and what the network comes from, as the card tells them."""
    replaced = ("architecture", "model_config", "base_model")
    return origin | {name: value for name, value in asdict(chosen).items() if value != "" and name not in replaced}


def _line(epoch: Epoch, epochs: int) -> str:
    line = f"epoch {epoch.epoch}/{epochs}  loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.4f}"
    if epoch.validation_loss is not None:
        line += f"  validation loss {epoch.validation_loss:.4f}  accuracy {epoch.validation_accuracy:.4f}"
    return f"{line}  {epoch.seconds:.1f} s"


def describe(folder: Path, dataset: ImageDataset) -> dict[str, Any]:
    """The data set as the card tells it; source and digest are what download wrote beside it, if it did."""
    fetched = download_of(folder)
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
