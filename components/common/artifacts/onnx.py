"""`model.onnx` of a model folder: what its file tells, and the model loaded on ONNX Runtime."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cli import BadInput
from ..parallel import processors
from ..progress import readable_shape, some_of
from .model import ONNX_MODEL, PIXELS, Card, Onnx

if TYPE_CHECKING:
    import numpy as np

LAYOUTS = {"NCHW": (2, 0, 1), "NHWC": (0, 1, 2), "flat": (0, 1, 2)}
"""Order of the axes after the first one: places in (height, width, channels); `flat` has them all in one axis."""
ANSWERS = ("logits", "probabilities")
INPUTS = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
"""Types of input that are taken, as ONNX Runtime and NumPy call them."""


@dataclass(frozen=True)
class Signature:
    """What an ONNX file tells of its input and outputs.

    Attributes:
        input: Name of the input.
        dtype: Its type, as NumPy calls it.
        batch: How many images it takes at a time; None: any number.
        shape: Its other sizes, in its own order: three, or one for `flat`.
        outputs: Those of shape images x classes by name: the number of classes; None: not told.
        opset: Version of the operators; 0: not told.
        parameters: How many numbers its weights are; those in other files and in operators are counted too.
    """

    input: str
    dtype: str
    batch: int | None
    shape: tuple[int, ...]
    outputs: dict[str, int | None]
    opset: int
    parameters: int


def read_signature(path: Path) -> Signature:
    """Load an ONNX file and look at what it takes and gives.

    Raises:
        BadInput: ONNX Runtime cannot load it, or it is no classifier of images of one size.
    """
    return _signature(path, _session(path))


class OnnxClassifier:
    """A model folder with `model.onnx`, which takes and gives what its card says; see `Onnx`."""

    backend = "ONNX Runtime"

    def __init__(self, folder: Path) -> None:
        path = folder / ONNX_MODEL
        card = Card.read(folder)
        if card.onnx is None:
            raise BadInput(f"{folder}: expected a card that describes {ONNX_MODEL}, received none; use import-model")
        self._session = _session(path)
        self._signature = _signature(path, self._session)
        self._how = card.onnx
        check_description(card.onnx, card.input.shape, self._signature.dtype, str(folder))
        if self._signature.input != card.onnx.input:
            raise _other(folder, f"an input {card.onnx.input!r}", repr(self._signature.input))
        if (shape := laid_out(card.input.shape, card.onnx.layout)) != self._signature.shape:
            wanted = f"an input of {readable_shape(shape)} ({readable_shape(card.input.shape)} as {card.onnx.layout})"
            raise _other(folder, wanted, readable_shape(self._signature.shape))
        self._output = card.onnx.output or next(iter(self._signature.outputs))
        if self._output not in self._signature.outputs:
            raise _other(folder, f"an output {self._output!r}", some_of([*self._signature.outputs]))

    def predict(self, images: np.ndarray, batch: int = 256) -> np.ndarray:
        """See `Classifier.predict`; works through `batch` images at a time, or as many as the model takes."""
        import numpy as np

        size = self._signature.batch or batch
        return np.concatenate([self._answer(images[at : at + size]) for at in range(0, len(images), size)])

    def _answer(self, images: np.ndarray) -> np.ndarray:
        import numpy as np

        count, fixed = len(images), self._signature.batch
        if fixed and count < fixed:
            images = np.concatenate([images, np.repeat(images[-1:], fixed - count, axis=0)])
        feed = {self._how.input: prepared(images, self._how).astype(self._signature.dtype, copy=False)}
        try:
            given = self._session.run([self._output], feed)[0]
        except Exception as error:  # its exceptions share no base of their own
            raise BadInput(
                f"{ONNX_MODEL}: expected an answer for any pixels, the model failed ({_reason(error)}); correct the "
                "network, and import it again"
            ) from error
        answer: np.ndarray = np.asarray(given, np.float32)[:count]
        return softmax(answer) if self._how.answers == "logits" else answer


def prepared(images: np.ndarray, how: Onnx) -> np.ndarray:
    """Images as an ONNX model takes them.

    Args:
        images: uint8 or float32, shape (images, height, width, channels), 0 to 255.
        how: From its card.

    Returns:
        float32, in the model's layout; C-contiguous.
    """
    import numpy as np

    low, high = how.range
    pixels = images.astype(np.float32)
    if (low, high) != (0.0, 255.0):
        pixels *= np.float32((high - low) / 255)
        pixels += np.float32(low)
    if how.mean:
        pixels -= np.asarray(how.mean, np.float32)
    if how.std:
        pixels /= np.asarray(how.std, np.float32)
    pixels = np.ascontiguousarray(pixels.transpose(0, *(1 + place for place in LAYOUTS[how.layout])))
    return pixels.reshape(len(pixels), -1) if how.layout == "flat" else pixels


def laid_out(shape: tuple[int, int, int], layout: str) -> tuple[int, ...]:
    """Sizes of an input for images of height, width and channels, without the first one."""
    sizes = tuple(shape[place] for place in LAYOUTS[layout])
    return (math.prod(sizes),) if layout == "flat" else sizes


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, shape (images, classes)."""
    import numpy as np

    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: np.ndarray = shares / shares.sum(axis=1, keepdims=True)
    return probabilities


def check_description(how: Onnx, shape: tuple[int, int, int], dtype: str, where: str) -> None:
    """Raise BadInput for a description of a model that cannot be.

    Args:
        how: The description.
        shape: Height, width and channels of an image.
        dtype: Type of the input, as NumPy calls it.
        where: What to call it in messages.
    """
    channels = shape[2]
    if how.layout not in LAYOUTS:
        raise BadInput(f"{where}: expected the layout {' or '.join(LAYOUTS)}, received {how.layout!r}; choose one")
    if how.answers not in ANSWERS:
        raise BadInput(f"{where}: expected logits or probabilities as answers, received {how.answers!r}; choose one")
    if not (how.range[0] < how.range[1] and all(map(math.isfinite, how.range))):
        raise BadInput(f"{where}: expected a range from low to high, received {list(how.range)}; swap or correct them")
    for name, values in (("mean", how.mean), ("std", how.std)):
        if values and (len(values) != channels or not all(map(math.isfinite, values))):
            raise BadInput(f"{where}: expected a {name} for each of {channels} channels, received {values}; correct it")
    if any(value <= 0 for value in how.std):
        raise BadInput(f"{where}: expected standard deviations above 0, received {how.std}; correct them")
    if dtype == "uint8" and (tuple(how.range) != PIXELS or how.mean or how.std):
        raise BadInput(
            f"{where}: expected the range 0,255 without mean and std for an input of uint8, which takes pixels as they "
            f"are, received {list(how.range)}; correct them"
        )


def _session(path: Path) -> Any:
    """An ONNX file, loaded.

    Raises:
        BadInput: it cannot be, or ONNX Runtime is not installed.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise BadInput(
            f"{path}: expected ONNX Runtime for a model in this format, received none; use the image whose tag ends in "
            '-onnx, or pip install "trainyard[onnx]"'
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = processors()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # its lines on stderr come before ours
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base of their own
        opset, _ = _read(path)
        if lacking := [name for name in weight_files(path) if not (path.parent / name).is_file()]:
            raise BadInput(
                f"{path}: expected its weights next to it, received no {some_of(lacking)}; copy them there"
            ) from None
        known = f" that ONNX Runtime {onnxruntime.__version__} loads"
        received = f"one of opset {opset}" if opset else "a damaged or other file"
        raise BadInput(
            f"{path}: expected an ONNX model{known}, received {received} ({_reason(error)}); export it with an older "
            "opset"
        ) from None


def _reason(error: Exception) -> str:
    """What ONNX Runtime says, without the parts that are the same in each of its messages."""
    said = " ".join(str(error).split()).rpartition(" : ")[2].removeprefix("/onnxruntime_src/")
    said = said.removeprefix("Non-zero status code returned while running ")
    return said.replace("Name:'' Status Message: ", "")[:160]


def _signature(path: Path, session: Any) -> Signature:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        names = some_of([one.name for one in inputs]) or "none"
        raise BadInput(f"{path}: expected one input, the images, received {len(inputs)} ({names}); export it with one")
    [takes] = inputs
    if takes.type not in INPUTS:
        raise BadInput(
            f"{path}: expected an input of float32 or uint8, received {takes.type[7:-1]}; "
            f"{'convert it with keep_io_types=True' if '16' in takes.type else 'export it with one of them'}"
        )
    if len(takes.shape) not in (2, 4):
        raise BadInput(
            f"{path}: expected images with four axes (NCHW or NHWC) or two (flat), received "
            f"{_readable(takes.shape)}; export the model for images"
        )
    batch, *sizes = takes.shape
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise BadInput(
            f"{path}: expected a fixed height, width and number of channels, received {_readable(takes.shape)}; "
            "export it with only the first axis dynamic"
        )
    answers = {
        one.name: one.shape[1] if isinstance(one.shape[1], int) else None
        for one in outputs
        if one.type.startswith("tensor(float") and len(one.shape or []) == 2
    }
    if not answers:
        received = some_of([f"{one.name}: {_readable_type(one)}" for one in outputs])
        advice = "skl2onnx's options={'zipmap': False}" if "map(" in outputs[-1].type else "that output"
        raise BadInput(
            f"{path}: expected an output of numbers of shape images x classes, received {received}; export it "
            f"with {advice}"
        )
    opset, parameters = _read(path)
    fixed = batch if isinstance(batch, int) else None
    return Signature(takes.name, INPUTS[takes.type], fixed, tuple(sizes), answers, opset, parameters)


def _readable_type(output: Any) -> str:
    """Type and shape of an output of ONNX Runtime."""
    if not output.type.startswith("tensor("):
        return "a dictionary for each image" if "map(" in output.type else str(output.type)
    return f"{output.type[7:-1]} of shape {_readable(output.shape)}"


def _readable(shape: list[Any]) -> str:
    """A shape of ONNX Runtime, whose dynamic axes may have no name."""
    return readable_shape("?" if size is None else size for size in shape) or "none"


def _other(folder: Path, expected: str, received: str) -> BadInput:
    return BadInput(
        f"{folder}: expected {expected}, as its card says, received {received} in {ONNX_MODEL}; import it again"
    )


# The file is a protobuf message ModelProto (onnx/onnx.proto). Few of its fields are needed here.
OPSET_IMPORT, GRAPH = 8, 7  # of ModelProto
NODE, INITIALIZER = 1, 5  # of GraphProto: the operators and the weights
ATTRIBUTE = 5  # of NodeProto
FLOATS = 7  # of AttributeProto: the weights of operators of scikit-learn's models
DOMAIN, VERSION = 1, 2  # of OperatorSetIdProto
DIMS, DATA_TYPE, EXTERNAL_DATA = 1, 2, 13  # of TensorProto
INT64 = 7  # of TensorProto.DataType: shapes and indices
KEY, VALUE = 1, 2  # of StringStringEntryProto


def _read(path: Path) -> tuple[int, int]:
    """Opset of the standard operators, and the number of parameters; 0 where the file does not tell."""
    opset = parameters = 0
    try:
        for field, value in _fields(memoryview(path.read_bytes())):
            if field == OPSET_IMPORT and isinstance(value, memoryview):
                told = dict(_fields(value))
                if not bytes(told.get(DOMAIN, b"")):
                    opset = int(told.get(VERSION, 0))
            elif field == GRAPH and isinstance(value, memoryview):
                parameters = sum(
                    _size(inner) if part == INITIALIZER else _floats(inner) if part == NODE else 0
                    for part, inner in _fields(value)
                )
    except (IndexError, ValueError, OSError):
        return opset, parameters
    return opset, parameters


def weight_files(path: Path) -> list[str]:
    """Files with weights of an ONNX file, as it names them: relative to its folder. None for a damaged file."""
    found: dict[str, None] = {}
    try:
        for field, graph in _fields(memoryview(path.read_bytes())):
            if field == GRAPH and isinstance(graph, memoryview):
                for tensor in (value for part, value in _fields(graph) if part == INITIALIZER):
                    for entry in (dict(_fields(value)) for part, value in _fields(tensor) if part == EXTERNAL_DATA):
                        if bytes(entry.get(KEY, b"")) == b"location":
                            found[bytes(entry[VALUE]).decode()] = None
    except (LookupError, ValueError, TypeError, OSError):
        return []
    return list(found)


def _size(tensor: Any) -> int:
    sizes = []
    for field, value in _fields(tensor):
        if field == DIMS:
            sizes += [value] if isinstance(value, int) else _varints(value)
        elif field == DATA_TYPE and value == INT64:
            return 0
    return math.prod(sizes)


def _floats(node: Any) -> int:
    attributes = [value for field, value in _fields(node) if field == ATTRIBUTE]
    return sum(len(value) // 4 for one in attributes for field, value in _fields(one) if field == FLOATS)


def _fields(message: memoryview) -> Iterator[tuple[int, Any]]:
    """Numbers and values of the fields of a protobuf message: an int, or the bytes of anything else."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 == 0:
            value, at = _varint(message, at)
            yield key >> 3, value
        elif key & 7 == 2:
            length, at = _varint(message, at)
            yield key >> 3, message[at : at + length]
            at += length
        elif key & 7 in (1, 5):
            length = 8 if key & 7 == 1 else 4
            yield key >> 3, message[at : at + length]
            at += length
        else:
            raise ValueError("no protobuf")


def _varints(content: memoryview) -> list[int]:
    at, found = 0, []
    while at < len(content):
        value, at = _varint(content, at)
        found.append(value)
    return found


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
