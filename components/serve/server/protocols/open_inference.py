"""The Open Inference Protocol (V2): its tensors to arrays and back, and what it tells of server and model.

Tensors are JSON or, as Triton's clients send them by default, binary: behind JSON whose length a header tells
(https://github.com/kserve/open-inference-protocol, extension binary_tensor_data). Classes in place of
probabilities are Triton's extension `classification`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson

from ....common.artifacts.model import Card
from . import json_arrays
from .request import INPUT, OUTPUT, Answer, PredictRequest, Refused, shown

DATATYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "UINT8": np.dtype("u1")}
PLATFORMS = {
    "LiteRT": "litert",
    "ONNX Runtime": "onnxruntime_onnx",
    "TensorFlow": "tensorflow_savedmodel",
    "TensorFlow Serving": "tensorflow_savedmodel",
}
SERVER = {"name": "trainyard", "version": "2", "extensions": ["binary_tensor_data", "classification"]}
"""Server metadata; the version is the protocol's."""


def read(body: bytes, json_length: int | None, card: Card, name: str, version: int) -> PredictRequest:
    """Read an inference request: one tensor `image` of FP32 or UINT8, its data binary, or JSON, flat or nested.

    Args:
        body: JSON, and the binary tensor behind it.
        json_length: Bytes of the JSON; None: all.
        card: Of the model.
        name: Of the model, for the answer.
        version: Its version, for the answer.

    Raises:
        Refused: 400, it is no such request; 413, it has too many values.
    """
    text, binary = (body, b"") if json_length is None else (body[:json_length], memoryview(body)[json_length:])
    if json_length is not None and json_length > len(body):
        raise Refused(400, f"expected {json_length} bytes of JSON as the header tells, received {len(body)}")
    shape = card.input.shape
    cut = json_arrays.cut(text, "data")
    request = cut.rest if cut and json_arrays.is_hole(_data(cut.rest)) else _load(text)
    if not isinstance(request, dict):
        raise Refused(400, "expected a JSON object with inputs, received something else")
    head = {"model_name": name, "model_version": str(version)}
    if "id" in request:
        head["id"] = _text(request["id"], "id")
    write = _writer(request, card, head)
    tensor, sizes, datatype = _input(request.get("inputs"), shape)
    try:
        if (size := _parameter(tensor, "binary_data_size", int, INPUT)) is not None:
            images = _from_binary(binary, size, sizes, datatype)
        elif len(binary):
            raise Refused(400, f"{INPUT}: expected binary_data_size of the tensor behind the JSON, received none")
        elif cut and json_arrays.is_hole(tensor.get("data")):
            images = _from_text(text, cut, sizes, datatype)
        else:
            images = _from_lists(tensor.get("data"), sizes, datatype)
    except json_arrays.OutOfRange as error:
        raise Refused(400, f"{INPUT}: {error} ({datatype}), received others") from None
    return PredictRequest(images, write)


def _load(text: bytes) -> Any:
    try:
        return json_arrays.load(text)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"expected JSON, received something else: {error}") from None


def _data(request: Any) -> Any:
    """The data of the first input; None: there is none."""
    try:
        return request["inputs"][0].get("data")
    except (LookupError, TypeError, AttributeError):
        return None


def _parameter(holder: dict[str, Any], name: str, kind: type, where: str) -> Any:
    """A parameter of a request or a tensor; None: it is not given."""
    parameters = holder.get("parameters", {})
    if not isinstance(parameters, dict):
        raise Refused(400, f"{where}: expected parameters as an object, received something else")
    if "shared_memory_region" in parameters:
        raise Refused(400, f"{where}: expected data in the request, received a region of shared memory")
    value = parameters.get(name)
    if value is not None and type(value) is not kind:
        raise Refused(400, f"{where}: expected {name} of type {kind.__name__}, received {shown(value)}")
    return value


def _writer(request: dict[str, Any], card: Card, head: dict[str, str]) -> Callable[[np.ndarray], Answer]:
    """What writes the answer as the request wants it."""
    outputs = request.get("outputs", [])
    if not isinstance(outputs, list) or not all(isinstance(one, dict) for one in outputs):
        raise Refused(400, "outputs: expected a list of objects, received something else")
    for one in outputs:
        if one.get("name") != OUTPUT:
            raise Refused(400, f"outputs: expected {OUTPUT}, received {shown(one.get('name'))}")
    if len(outputs) > 1:
        raise Refused(400, f"outputs: expected {OUTPUT} once, received it {len(outputs)} times")
    wanted = outputs[0] if outputs else {}
    binary = _parameter(wanted, "binary_data", bool, "outputs")
    if binary is None:
        binary = _parameter(request, "binary_data_output", bool, "parameters")
    classes = _parameter(wanted, "classification", int, "outputs") or 0
    if classes < 0:
        raise Refused(400, f"outputs: expected classification of at least 1, received {shown(classes)}")

    def write(probabilities: np.ndarray) -> Answer:
        tensor: dict[str, Any] = {"name": OUTPUT, "shape": probabilities.shape, "datatype": "FP32"}
        if classes:
            strings = _classification(probabilities, card.classes, classes)
            tensor |= {"shape": [len(strings), len(strings[0])], "datatype": "BYTES"}
            data: Any = [one for row in strings for one in row]
            content = b"".join(struct.pack("<I", len(one.encode())) + one.encode() for one in data) if binary else b""
        else:
            data = probabilities.ravel()
            content = np.ascontiguousarray(probabilities, "<f4").tobytes() if binary else b""
        tensor |= {"parameters": {"binary_data_size": len(content)}} if binary else {"data": data}
        text = orjson.dumps({**head, "outputs": [tensor]}, option=orjson.OPT_SERIALIZE_NUMPY)
        return Answer(text + content, len(text) if binary else None)

    return write


def _classification(probabilities: np.ndarray, classes: list[str], count: int) -> list[list[str]]:
    """The most probable classes of each image, as Triton writes them: `probability:index:name`."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
    return [
        [f"{row[index]:.6f}:{index}:{classes[index]}" for index in indices]
        for row, indices in zip(probabilities, best, strict=True)
    ]


def _input(inputs: Any, shape: tuple[int, ...]) -> tuple[dict[str, Any], list[int], str]:
    """The tensor, its shape and its datatype."""
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Refused(400, f"inputs: expected a list of one tensor, {INPUT}, received something else")
    tensor = inputs[0]
    if tensor.get("name") != INPUT:
        raise Refused(400, f"inputs: expected the tensor {INPUT}, received {shown(tensor.get('name'))}")
    datatype = tensor.get("datatype")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise Refused(400, f"{INPUT}: expected datatype {' or '.join(DATATYPES)}, received {shown(datatype)}")
    sizes = tensor.get("shape")
    if not isinstance(sizes, list) or not all(type(size) is int for size in sizes):
        raise Refused(400, f"{INPUT}: expected shape as a list of integers, received something else")
    if tuple(sizes[1:]) != shape or len(sizes) != len(shape) + 1 or sizes[0] < 1:
        raise Refused(400, f"{INPUT}: expected shape {[-1, *shape]}, received {shown(sizes)}")
    return tensor, sizes, datatype


def _from_binary(binary: memoryview | bytes, size: int, sizes: list[int], datatype: str) -> np.ndarray:
    dtype = DATATYPES[datatype]
    expected = math.prod(sizes) * dtype.itemsize
    if size != expected or len(binary) != expected:
        raise Refused(
            400,
            f"{INPUT}: expected {expected} bytes for {datatype} of shape {sizes}, received binary_data_size {size} and "
            f"{len(binary)} bytes",
        )
    images = np.frombuffer(binary, dtype).reshape(sizes)
    if datatype == "FP32" and not np.isfinite(images).all():
        raise json_arrays.OutOfRange("expected finite numbers")
    return images


def _from_text(text: bytes, cut: json_arrays.Cut, sizes: list[int], datatype: str) -> np.ndarray:
    dtype = DATATYPES[datatype].type
    nested = text[cut.start + 1 : cut.start + 1000].lstrip()[:1] == b"["
    images = json_arrays.parse(text, tuple(sizes[1:]) if nested else (), dtype, cut.start, cut.stop)
    if images is None:  # what is wrong with it
        return _from_lists(_load(text[cut.start : cut.stop]), sizes, datatype)
    if images.size != math.prod(sizes):
        raise _not_of_shape(sizes, list(images.shape))
    return images.reshape(sizes)


def _from_lists(data: Any, sizes: list[int], datatype: str) -> np.ndarray:
    if not isinstance(data, list):
        raise Refused(400, f"{INPUT}: expected data as a JSON array, received something else")
    dtype = DATATYPES[datatype].type
    nested = bool(data) and isinstance(data[0], list)
    try:
        images = json_arrays.flattened(data, tuple(sizes[1:]) if nested else (), dtype)
    except json_arrays.WrongShape as error:
        raise Refused(
            400, f"{INPUT}: expected data of datatype {datatype} and shape {sizes} or flat, received {error}"
        ) from None
    if images.size != math.prod(sizes):
        raise _not_of_shape(sizes, list(images.shape))
    return images.reshape(sizes)


def _not_of_shape(sizes: list[int], received: list[int]) -> Refused:
    return Refused(400, f"{INPUT}: expected data of shape {sizes} or flat, received {received}")


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise Refused(400, f"{key}: expected a string, received something else")
    return value


def metadata(name: str, versions: list[int], backend: str, card: Card) -> dict[str, Any]:
    """What the protocol's model metadata tells of a version."""
    return {
        "name": name,
        "versions": [str(version) for version in versions],
        "platform": PLATFORMS[backend],
        "inputs": [{"name": INPUT, "datatype": "FP32", "shape": [-1, *card.input.shape]}],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, len(card.classes)]}],
    }
