"""From a data set folder to a model folder."""

from __future__ import annotations

import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.artifacts import schema
from ..common.artifacts.model import CARD, README, About, Card, Epoch, Input
from ..common.cli import BadInput
from ..common.files import atomic_folder, check_output
from ..common.native_logs import muted_native_logs
from ..common.progress import Progress, counted, readable_shape
from ..common.tensorflow import import_tensorflow
from . import devices
from .checkpoint import Checkpoint
from .choice import choose
from .data import OpenedData, TrainingData
from .event_files import EventFiles
from .fitting import Fit
from .hyperparameters import Hyperparameters
from .memory import budget_in_bytes
from .model_card import markdown
from .origin import OurNetwork, origin_of
from .saving import write_model

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Training:
    """A training: `run` reads a data set folder and writes a model folder.

    A training that was killed goes on after its last whole epoch when it is started again with the same data set,
    hyper-parameters and output. Where `TF_CONFIG` names several workers, each trains on its share of every batch, and
    the chief writes.
    """

    def __init__(
        self,
        folder: Path,
        chosen: Hyperparameters,
        output: Path,
        about: About,
        progress: Progress,
        memory_budget: int = 0,
        tensorboard: Path | None = None,
    ) -> None:
        """Check what can be checked without the data.

        Args:
            folder: Data set folder.
            chosen: Hyper-parameters.
            output: Where the model folder is to appear.
            about: What only people know of the model, for the card.
            progress: Told what happens.
            memory_budget: Megabytes that images may take; more are read from disk while training goes on. 0: half of
                the memory that is free.
            tensorboard: Folder for event files; None: none are written.

        Raises:
            BadInput: the output is somebody else's, or there is no network or budget as chosen.
        """
        check_output(output, marker=CARD)
        if tensorboard and tensorboard.resolve().is_relative_to(output.resolve()):
            raise BadInput(
                f"--tensorboard: expected a folder outside of {output}, received {tensorboard}; name another"
            )
        self._folder = folder
        self._chosen = chosen
        self._output = output
        self._about = about
        self._progress = progress
        self._tensorboard = tensorboard
        self._origin = origin_of(chosen)
        self._workers = devices.Workers.from_environment()
        self._budget = budget_in_bytes(memory_budget)

    def run(self) -> Card | None:
        """Train.

        Returns:
            The card, as written; None from a worker that is not the chief.

        Raises:
            BadInput: no data set, a damaged one, only one class in it, nothing to validate on where it is needed, or a
                loss that is no longer a number.
        """
        opened = self._open()
        spread = self._start_tensorflow()
        data = self._load(opened, spread)
        checkpoint = self._checkpoint(data)
        fit = self._resume(checkpoint, data, spread)
        self._fit(fit, checkpoint)
        card = self._write(fit, data, spread)
        if self._workers.chief:
            checkpoint.remove()
        if self._workers.count > 1:
            devices.wait_for_all(spread)
        return card

    def _open(self) -> OpenedData:
        """Open the data set, and begin to read it."""
        opened = OpenedData(self._folder, self._chosen)
        dataset = opened.dataset
        self._chosen, self._choices = choose(self._chosen, dataset)
        if self._chosen.ours:
            self._origin = OurNetwork(self._chosen.architecture)
        height, width, channels = dataset.image_shape
        self._progress.say(
            f"{dataset.name}: {dataset.counts.get('train', 0):,} images of {height} x {width} x {channels}, "
            f"{len(dataset.class_names)} classes; {self._origin.name}, {counted(self._chosen.epochs, 'epoch')}"
        )
        for line in (*dataset.notes, *self._choices):
            self._progress.say(line)
        if not dataset.counts.get("test"):
            self._progress.say("no test split; evaluate on another split with --split")
        if self._workers.count == 1:
            opened.read_ahead(self._budget)
        else:
            chief = ", the chief" if self._workers.chief else ""
            self._progress.say(f"one of {self._workers.count} workers{chief}; waiting for the others")
        return opened

    def _start_tensorflow(self) -> tf.distribute.Strategy:
        """How training is spread over devices; importing TensorFlow takes seconds."""
        import_tensorflow()
        with muted_native_logs():
            return devices.strategy(self._workers)

    def _load(self, opened: OpenedData, spread: tf.distribute.Strategy) -> TrainingData:
        """The images, as far as they fit into memory."""
        budget = self._budget
        if self._workers.count > 1:  # all take their steps in the same portions
            budget = int(min(devices.told_by_all(spread, budget)))
        return opened.load(budget, self._progress.say)

    def _checkpoint(self, data: TrainingData) -> Checkpoint:
        """Where the state of this very training is kept."""
        return Checkpoint(
            self._output,
            self._workers.chief,
            chosen=self._hyperparameters(),
            dataset=schema.as_json(data.trained_on),
            classes=data.classes,
        )

    def _resume(self, checkpoint: Checkpoint, data: TrainingData, spread: tf.distribute.Strategy) -> Fit:
        """The network, untrained or as an earlier run left it after its last whole epoch."""
        import keras

        keras.utils.set_random_seed(self._chosen.seed)
        with spread.scope():
            model = self._build(data)
        fit = Fit(model, self._chosen, data.learn, data.validation, data.class_weights)
        if state := checkpoint.read():
            fit.resume(state)
            self._progress.say(f"resuming after epoch {len(fit.history)}")
        if self._workers.count > 1:
            devices.check_agreement(spread, checkpoint.identity, len(fit.history))
        return fit

    def _build(self, data: TrainingData) -> keras.Model:
        try:
            return self._origin.build(data.image_shape, data.classes, self._progress.say)
        except ValueError as error:
            if "negative" not in str(error):
                raise
            size = readable_shape(data.image_shape[:2])
            raise BadInput(
                f"{self._folder}: expected images large enough for {self._origin.name}, received {size} pixels; pass "
                "--image-size 32, or --architecture dense"
            ) from None

    def _fit(self, fit: Fit, checkpoint: Checkpoint) -> None:
        """Train, and keep every epoch: in the checkpoint, in the event files, and for those who watch."""
        import tensorflow as tf

        events = EventFiles(self._tensorboard, fit.history) if self._tensorboard and self._workers.chief else None
        try:
            for epoch in fit.epochs(self._progress):
                checkpoint.save(fit.state())
                self._progress.say(_line(epoch, self._chosen.epochs))
                if events:
                    events.add(epoch)
        except tf.errors.OpError as error:
            if self._workers.count == 1:
                raise
            raise RuntimeError(
                f"expected all {self._workers.count} workers until the end, one was lost ({type(error).__name__}); "
                "start all of them again: training resumes after its last complete epoch"
            ) from error
        if self._chosen.early_stopping:
            kept = fit.best_epoch
            self._progress.say(
                f"keeping the weights of epoch {kept.epoch}, with validation loss {kept.validation_loss:.4f}"
            )

    def _write(self, fit: Fit, data: TrainingData, spread: tf.distribute.Strategy) -> Card | None:
        """Write the model folder, if this is the chief."""
        model = fit.model
        learned = model.get_weights()  # by all workers: some variables are means over them
        if not self._workers.chief:
            self._progress.say("done; the chief writes the model")
            return None
        if spread.num_replicas_in_sync > 1:
            model = devices.plain_copy(model, learned)
        with atomic_folder(self._output, marker=CARD) as partial:
            litert = write_model(model, partial, data.learn.some(256))
            card = Card(
                architecture=model.name,
                about=self._about,
                hyperparameters=self._hyperparameters(),
                choices=self._choices,
                dataset=data.trained_on,
                input=Input(shape=data.image_shape, resized=bool(self._chosen.size)),
                classes=data.classes,
                history=fit.history,
                libraries=_versions(),
                parameters=model.count_params(),
                litert=litert,
            )
            card.write(partial)
            (partial / README).write_text(markdown(card), encoding="utf-8")
        checked = "model.tflite matches the SavedModel"
        outcome = checked if litert.written else f"without model.tflite, since {litert.reason}"
        self._progress.say(f"{card.parameters:,} parameters, {outcome}")
        return card

    def _hyperparameters(self) -> dict[str, Any]:
        """Those that were given, and what the network comes from, as the card tells them."""
        replaced = ["architecture", "model_config", "base_model", "base_weights"]
        if not self._chosen.base_model:
            replaced += ["freeze", "unfreeze_after", "base_learning_rate"]
        given = {name: value for name, value in asdict(self._chosen).items() if value != "" and name not in replaced}
        return self._origin.described | given


def _line(epoch: Epoch, epochs: int) -> str:
    line = f"epoch {epoch.epoch}/{epochs}  loss {epoch.loss:.4f}  accuracy {epoch.accuracy:.4f}"
    if epoch.validation_loss is not None:
        line += f"  validation loss {epoch.validation_loss:.4f}  accuracy {epoch.validation_accuracy:.4f}"
    return f"{line}  {epoch.seconds:.1f} s"


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
