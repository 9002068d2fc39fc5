"""The model of a model folder, loaded: on LiteRT where it can be, without TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..cli import BadInput
from ..native_logs import muted_native_logs
from ..parallel import processors
from ..tensorflow import import_tensorflow
from .model import LITERT_MODEL, ONNX_MODEL, SAVED_MODEL

if TYPE_CHECKING:
    import numpy as np


class Classifier(Protocol):
    """A loaded model. Not thread safe.

    Attributes:
        backend: `LiteRT`, `ONNX Runtime` or `TensorFlow`.
    """

    backend: str

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities of images.

        Args:
            images: uint8 or float32, shape (images, height, width, channels), 0 to 255.

        Returns:
            float32, shape (images, classes), 0 to 1.
        """


def load_classifier(model: Path, few: bool = False) -> Classifier:
    """Load a model folder: `model.tflite` on LiteRT, else `model.onnx` on ONNX Runtime, else the SavedModel.

    Args:
        model: The folder.
        few: Whether calls are of few images each, see `LiteRTClassifier`.
    """
    if (model / LITERT_MODEL).is_file():
        return LiteRTClassifier(model / LITERT_MODEL, few)
    if (model / ONNX_MODEL).is_file():
        from .onnx import OnnxClassifier

        return OnnxClassifier(model)
    return SavedModelClassifier(model / SAVED_MODEL)


class LiteRTClassifier:
    """A `.tflite` model. Starts in hundredths of a second, where TensorFlow needs seconds."""

    backend = "LiteRT"

    def __init__(self, path: Path, few: bool = False) -> None:
        """Args:
            path: The file.
            few: Whether calls are of few images, now one and now another number. It then uses one thread, and pads
                images to a number that seldom changes: to prepare for another one takes as long as ten images.

        Raises:
            BadInput: it is no such file.
        """
        from ai_edge_litert.interpreter import Interpreter

        try:
            with muted_native_logs():
                self._interpreter = Interpreter(str(path), num_threads=1 if few else processors())
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise BadInput(
                f"{path}: expected a LiteRT model, received a damaged or other file ({error}); train it again"
            ) from None
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]
        self._few = few
        self._batch = 0  # images that it is prepared for
        self._spare = 0  # calls in a row for which half of them would do

    def predict(self, images: np.ndarray, batch: int = 256) -> np.ndarray:
        """See `Classifier.predict`; works through `batch` images at a time, so that memory stays flat."""
        import numpy as np

        return np.concatenate([self._answer(images[at : at + batch]) for at in range(0, len(images), batch)])

    def _answer(self, images: np.ndarray) -> np.ndarray:
        import numpy as np

        count = len(images)
        batch = self._padded(count) if self._few else count
        if batch != self._batch:
            self._interpreter.resize_tensor_input(self._input, (batch, *images.shape[1:]))
            self._interpreter.allocate_tensors()
            self._batch = batch
        if batch > count:
            images = np.concatenate([images, np.zeros((batch - count, *images.shape[1:]), images.dtype)])
        self._interpreter.set_tensor(self._input, images.astype("float32", copy=False))
        self._interpreter.invoke()
        answer: np.ndarray = self._interpreter.get_tensor(self._output)
        return answer[:count]

    def _padded(self, count: int) -> int:
        """The number of images to prepare for, a power of two."""
        self._spare = self._spare + 1 if count <= self._batch // 2 else 0
        if count <= self._batch and self._spare < 100:
            return self._batch
        self._spare = 0
        return 1 << (count - 1).bit_length()


class SavedModelClassifier:
    """A SavedModel, for what LiteRT cannot express. Imports TensorFlow.

    Attributes:
        input_shape: (height, width, channels), each None where it is left open; None where all is.
        parameters: How many numbers its variables hold.
    """

    backend = "TensorFlow"
    kind = "SavedModel"

    def __init__(self, path: Path) -> None:
        require_tensorflow(path)
        import numpy as np
        import tensorflow as tf

        self._model = tf.saved_model.load(str(path))  # kept: the signature does not keep its variables alive
        self._answer = self._model.signatures["serving_default"]
        self._key, takes = next(iter(self._answer.structured_input_signature[1].items()))
        self._dtype = takes.dtype
        self.input_shape = None if takes.shape.rank is None else tuple(takes.shape.as_list()[1:])
        self.parameters = sum(int(np.prod(variable.shape)) for variable in self._answer.variables)

    def predict(self, images: np.ndarray, batch: int = 256) -> np.ndarray:
        """See `Classifier.predict`."""
        import numpy as np
        import tensorflow as tf

        answers = [
            next(iter(self._answer(**{self._key: tf.constant(images[at : at + batch], self._dtype)}).values())).numpy()
            for at in range(0, len(images), batch)
        ]
        return np.concatenate(answers)


def require_tensorflow(path: Path) -> None:
    """Import TensorFlow for the model at `path`.

    Raises:
        BadInput: it is not installed.
    """
    try:
        import_tensorflow()
    except ModuleNotFoundError:
        raise BadInput(
            f"{path}: expected {LITERT_MODEL}, received a model without it, which needs TensorFlow; "
            "use the image whose tag ends in -tf, or install tensorflow"
        ) from None
