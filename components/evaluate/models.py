"""Open what is to be evaluated: a model folder of ours, a bare SavedModel or a `.keras` file."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.artifacts.classifier import SavedModelClassifier, require_tensorflow
from ..common.artifacts.model import CARD, KERAS_MODEL, SAVED_MODEL, Card, Input, read_card
from ..common.cli import BadInput
from ..common.datasets import ImageDataset


def foreign_model(model: Path) -> SavedModelClassifier | KerasClassifier | None:
    """A model that train did not write, loaded; None where it is a model folder of ours, or no model at all.

    Raises:
        BadInput: it cannot be loaded, or TensorFlow is not installed.
    """
    if (model / CARD).is_file():
        return None
    if model.is_file() and zipfile.is_zipfile(model):
        return KerasClassifier(model)
    for place in (model, model / SAVED_MODEL):
        if (place / "saved_model.pb").is_file():
            try:
                return SavedModelClassifier(place)
            except (KeyError, StopIteration):
                raise BadInput(
                    f"{model}: expected a SavedModel with a signature serving_default of one input, received one "
                    "without; export the model with a signature"
                ) from None
            except OSError as error:
                raise BadInput(
                    f"{model}: expected a SavedModel, received a damaged or other file ({error}); export it again"
                ) from None
    return None


def card_of(
    model: Path, data: ImageDataset, say: Callable[[str], None]
) -> tuple[Card, SavedModelClassifier | KerasClassifier | None]:
    """The card of a model, and the model itself if it had to be loaded for it.

    A model that train did not write has no card: its class names are the data set's, which `say` receives a line about.

    Raises:
        BadInput: this is no model.
    """
    foreign = foreign_model(model)
    if foreign is None:
        return read_card(model), None
    say(f"{model}: no {CARD} there; {foreign.kind}, run on TensorFlow, with the data set's class names")
    shape = _filled(foreign.input_shape, data.image_shape)
    return Card(
        architecture=foreign.kind,
        input=Input(shape=shape),
        classes=data.class_names,
        parameters=foreign.parameters,
    ), foreign


def _filled(takes: Sequence[int | None] | None, shape: tuple[int, int, int]) -> Any:
    """The shape of an image as the model takes it; what it leaves open is as in the data."""
    if takes is None:
        return shape
    if len(takes) != len(shape):  # no images; the sizes are told when they are compared with the data's
        return tuple(size or 0 for size in takes)
    return tuple(wanted or there for wanted, there in zip(takes, shape, strict=True))


def _load(path: Path) -> Any:
    """The Keras model in a file of any name: as a KFP artifact it has no ending, which Keras insists on."""
    import keras

    with tempfile.TemporaryDirectory() as scratch:
        named = Path(scratch) / KERAS_MODEL
        named.symlink_to(path.resolve())
        return keras.saving.load_model(named, compile=False)


class KerasClassifier:
    """A `.keras` file. Imports TensorFlow."""

    backend = "TensorFlow"
    kind = "Keras model"

    def __init__(self, path: Path) -> None:
        require_tensorflow(path)
        import keras

        try:
            self._model = _load(path)
        except (ValueError, TypeError, OSError, KeyError) as error:
            raise BadInput(
                f"{path}: expected a model that Keras {keras.__version__} can load, received another "
                f"({str(error).splitlines()[0]}); save it with model.save(...) and without code of its own"
            ) from None
        self.input_shape = tuple(self._model.input_shape[1:])
        self.parameters = self._model.count_params()

    def predict(self, images: np.ndarray, batch: int = 256) -> np.ndarray:
        """See `Classifier.predict`."""
        return np.asarray(self._model.predict(images.astype(np.float32), batch_size=batch, verbose=0))
