"""TensorFlow Serving's REST protocol: JSON to arrays and back, in its shapes and with its errors."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import orjson

from ....common.artifacts.model import Card
from . import json_arrays
from .request import INPUT, OUTPUT, PredictRequest, Refused

SIGNATURE = "serving_default"

_ANSWERED_BY = {"instances": "predictions", "inputs": "outputs"}
_IMAGES_ALONE = re.compile(rb'\s*\{\s*"(instances|inputs)"\s*:\s*(\[.*\])\s*\}\s*', re.DOTALL)


def read(body: bytes, shape: tuple[int, ...]) -> PredictRequest:
    """Read a `:predict` request.

    Args:
        body: JSON with `instances` (one value or `{"image": value}` per example) or `inputs` (one array of all
            examples, or `{"image": array}`), and perhaps `signature_name`.
        shape: (height, width, channels) of one image.

    Returns:
        The request; its answer is JSON, `predictions` for `instances`, `outputs` for `inputs`.

    Raises:
        Refused: 400, the body is no such request or its numbers have another shape.
    """
    images, key = _ordinary_images(body, shape) or _images(body, shape)
    answer = _ANSWERED_BY[key]
    return PredictRequest(
        images, lambda probabilities: orjson.dumps({answer: probabilities}, option=orjson.OPT_SERIALIZE_NUMPY)
    )


def _ordinary_images(body: bytes, shape: tuple[int, ...]) -> tuple[np.ndarray, str] | None:
    """What `_images` makes of the plainest of requests: images of the right shape, and nothing besides."""
    plain = _IMAGES_ALONE.fullmatch(body)
    if not plain:
        return None
    images = json_arrays.parse(plain[2], shape)
    return None if images is None else (images.astype(np.float32), plain[1].decode())


def _images(body: bytes, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"JSON Parse error: {error}") from None
    if not isinstance(request, dict):
        raise Refused(400, "JSON Value: Is not object")
    signature = request.get("signature_name", "")
    if not isinstance(signature, str):
        raise Refused(400, "JSON Value: not formatted correctly. 'signature_name' key must be a string value.")
    if signature not in ("", SIGNATURE):
        raise Refused(400, f'Serving signature name: "{signature}" not found in signature def')
    if ("instances" in request) == ("inputs" in request):
        raise Refused(
            400,
            "JSON Value: Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
            if "inputs" in request
            else "Missing 'inputs' or 'instances' key",
        )
    if "instances" in request:
        return _tensor(_row(request["instances"]), shape, "instances"), "instances"
    return _tensor(_column(request["inputs"]), shape, "inputs"), "inputs"


def _row(instances: Any) -> list[Any]:
    if not isinstance(instances, list):
        raise Refused(400, "JSON Value: Excepting 'instances' to be an list/array")
    if not instances:
        raise Refused(400, "JSON Value: No values in 'instances' array")
    named = isinstance(instances[0], dict)
    for index, instance in enumerate(instances):
        if isinstance(instance, dict) != named:
            expected, received = ("object", "list") if named else ("value/list", "object")
            raise Refused(400, f"Expecting {expected} but got {received} at item {index} of input list")
        if named and set(instance) != {INPUT}:
            raise Refused(
                400,
                f"Failed to process element: {index} of 'instances' list. JSON object: keys must be equal to: {INPUT}",
            )
    return [instance[INPUT] for instance in instances] if named else instances


def _column(inputs: Any) -> Any:
    if not isinstance(inputs, dict):
        return inputs
    if INPUT not in inputs:
        raise Refused(400, f"Missing named input: {INPUT} in 'inputs' object.")
    return inputs[INPUT]


def _tensor(values: Any, shape: tuple[int, ...], key: str) -> np.ndarray:
    expected = f"{key}: expected numbers of shape {_written((-1, *shape))}"
    try:
        tensor = np.asarray(values)
    except ValueError:
        raise Refused(400, f"{expected}, received lists of different lengths") from None
    if tensor.size and tensor.dtype.kind not in "iuf":
        raise Refused(400, f"{expected}, received a value that is not of expected type: float")
    if tensor.ndim != len(shape) + 1 or tensor.shape[1:] != shape or not len(tensor):
        raise Refused(400, f"{expected}, received shape {_written(tensor.shape)}")
    return tensor.astype(np.float32)


def _written(shape: tuple[int, ...]) -> str:
    return f"[{','.join(map(str, shape))}]"


def metadata(name: str, version: int, card: Card) -> dict[str, Any]:
    """What `/metadata` tells of a version; beside TensorFlow Serving's `signature_def` stands the model's card."""
    inputs = {INPUT: _tensor_info((-1, *card.input.shape), f"{SIGNATURE}_{INPUT}:0")}
    outputs = {OUTPUT: _tensor_info((-1, len(card.classes)), "StatefulPartitionedCall:0")}
    signature = {"inputs": inputs, "outputs": outputs, "method_name": "tensorflow/serving/predict"}
    return {
        "model_spec": {"name": name, "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": {SIGNATURE: signature}}, "card": card.as_json()},
    }


def _tensor_info(shape: tuple[int, ...], name: str) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in shape]
    return {"dtype": "DT_FLOAT", "tensor_shape": {"dim": dimensions, "unknown_rank": False}, "name": name}


def version_status(version: int, state: str, error: str) -> dict[str, Any]:
    """One entry of `model_version_status`."""
    code = "UNKNOWN" if error else "OK"
    return {"version": str(version), "state": state, "status": {"error_code": code, "error_message": error}}
