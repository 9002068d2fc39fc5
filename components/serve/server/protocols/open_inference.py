"""The Open Inference Protocol (V2): its JSON to arrays and back, and what it tells of server and model."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from ....common.artifacts.model import Card
from .request import INPUT, OUTPUT, PredictRequest, Refused

DATATYPES = ("FP32", "UINT8")
PLATFORMS = {
    "LiteRT": "litert",
    "ONNX Runtime": "onnxruntime_onnx",
    "TensorFlow": "tensorflow_savedmodel",
    "TensorFlow Serving": "tensorflow_savedmodel",
}
SERVER = {"name": "trainyard", "version": "2", "extensions": []}
"""Server metadata; the version is the protocol's."""


def read(body: bytes, shape: tuple[int, ...], name: str, version: int) -> PredictRequest:
    """Read an inference request: one tensor `image` of FP32 or UINT8, its data flat or nested.

    Args:
        body: JSON.
        shape: (height, width, channels) of one image.
        name: Of the model, for the answer.
        version: Its version, for the answer.

    Raises:
        Refused: 400, it is no such request.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"expected JSON, received something else: {error}") from None
    if not isinstance(request, dict):
        raise Refused(400, "expected a JSON object with inputs, received something else")
    head = {"model_name": name, "model_version": str(version)}
    if "id" in request:
        head["id"] = _text(request["id"], "id")
    _check_outputs(request.get("outputs", []))
    images = _images(request.get("inputs"), shape)

    def write(probabilities: np.ndarray) -> bytes:
        tensor = {"name": OUTPUT, "shape": probabilities.shape, "datatype": "FP32", "data": probabilities.ravel()}
        return orjson.dumps({**head, "outputs": [tensor]}, option=orjson.OPT_SERIALIZE_NUMPY)

    return PredictRequest(images, write)


def _check_outputs(outputs: Any) -> None:
    if not isinstance(outputs, list) or not all(isinstance(one, dict) for one in outputs):
        raise Refused(400, "outputs: expected a list of objects, received something else")
    for one in outputs:
        if one.get("name") != OUTPUT:
            raise Refused(400, f"outputs: expected {OUTPUT}, received {one.get('name')!r}")


def _images(inputs: Any, shape: tuple[int, ...]) -> np.ndarray:
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Refused(400, f"inputs: expected a list of one tensor, {INPUT}, received something else")
    tensor = inputs[0]
    if tensor.get("name") != INPUT:
        raise Refused(400, f"inputs: expected the tensor {INPUT}, received {tensor.get('name')!r}")
    datatype = tensor.get("datatype")
    if datatype not in DATATYPES:
        raise Refused(400, f"{INPUT}: expected datatype {' or '.join(DATATYPES)}, received {datatype!r}")
    sizes = tensor.get("shape")
    if not isinstance(sizes, list) or not all(type(size) is int for size in sizes):
        raise Refused(400, f"{INPUT}: expected shape as a list of integers, received something else")
    if tuple(sizes[1:]) != shape or len(sizes) != len(shape) + 1 or sizes[0] < 1:
        raise Refused(400, f"{INPUT}: expected shape {[-1, *shape]}, received {sizes}")
    return _array(tensor.get("data"), sizes, datatype)


def _array(data: Any, sizes: list[int], datatype: str) -> np.ndarray:
    if not isinstance(data, list):
        raise Refused(400, f"{INPUT}: expected data as a JSON array, received something else")
    try:
        array = np.asarray(data)
    except ValueError:
        raise Refused(400, f"{INPUT}: expected data of shape {sizes}, received lists of different lengths") from None
    kinds = "iu" if datatype == "UINT8" else "iuf"
    if array.dtype.kind not in kinds:
        raise Refused(400, f"{INPUT}: expected data of datatype {datatype}, received another")
    if array.size != np.prod(sizes) or (array.ndim != 1 and list(array.shape) != sizes):
        raise Refused(400, f"{INPUT}: expected data of shape {sizes} or flat, received {list(array.shape)}")
    if datatype == "UINT8" and (array.min() < 0 or array.max() > 255):
        raise Refused(400, f"{INPUT}: expected data of datatype UINT8, received numbers beyond 0 to 255")
    return array.astype(np.float32).reshape(sizes)


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
