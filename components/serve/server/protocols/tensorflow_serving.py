"""TensorFlow Serving's REST protocol: JSON to arrays and back, in its shapes and with its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from ....common.artifacts.model import Card
from . import json_arrays, pictures
from .request import INPUT, OUTPUT, Answer, PredictRequest, Refused, shown

SIGNATURE = "serving_default"

_ANSWERED_BY = {"instances": "predictions", "inputs": "outputs"}


def read(body: bytes, shape: tuple[int, ...]) -> PredictRequest:
    """Read a `:predict` request.

    Args:
        body: JSON with `instances` (one value or `{"image": value}` per example) or `inputs` (one array of all
            examples, or `{"image": array}`), and perhaps `signature_name`. A value is nested lists of numbers, or an
            image file as `{"b64": base64}`, which is brought to the size that the model takes.
        shape: (height, width, channels) of one image.

    Returns:
        The request; its answer is JSON, `predictions` for `instances`, `outputs` for `inputs`.

    Raises:
        Refused: 400, the body is no such request or its numbers have another shape; 413, it has too many values.
    """
    images, key = _plain_images(body, shape) or _images(body, shape)
    answer = _ANSWERED_BY[key]
    return PredictRequest(
        images, lambda probabilities: Answer(orjson.dumps({answer: probabilities}, option=orjson.OPT_SERIALIZE_NUMPY))
    )


def _plain_images(body: bytes, shape: tuple[int, ...]) -> tuple[np.ndarray, str] | None:
    """What `_images` makes of the plainest of requests: one array of images of the right shape."""
    for key in _ANSWERED_BY:
        if not (cut := json_arrays.cut(body, key)):
            continue
        if not isinstance(cut.rest, dict) or not json_arrays.is_hole(_values(cut.rest)[0]):
            return None
        try:
            images = json_arrays.parse(body, shape, start=cut.start, stop=cut.stop)
        except json_arrays.OutOfRange as error:
            raise Refused(400, f"{key}: {error}, received others") from None
        return None if images is None else (images, key)
    return None


def _images(body: bytes, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    try:
        request = json_arrays.load(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"JSON Parse error: {error}") from None
    if not isinstance(request, dict):
        raise Refused(400, "JSON Value: Is not object")
    values, key = _values(request)
    return _tensor(_row(values) if key == "instances" else _column(values), shape, key), key


def _values(request: dict[str, Any]) -> tuple[Any, str]:
    """The images of a request, and under which key they are."""
    signature = request.get("signature_name", "")
    if not isinstance(signature, str):
        raise Refused(400, "JSON Value: not formatted correctly. 'signature_name' key must be a string value.")
    if signature not in ("", SIGNATURE):
        raise Refused(400, f'Serving signature name: "{shown(signature)[1:-1]}" not found in signature def')
    if ("instances" in request) == ("inputs" in request):
        raise Refused(
            400,
            "JSON Value: Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
            if "inputs" in request
            else "Missing 'inputs' or 'instances' key",
        )
    key = "instances" if "instances" in request else "inputs"
    return request[key], key


def _row(instances: Any) -> list[Any]:
    if not isinstance(instances, list):
        raise Refused(400, "JSON Value: Excepting 'instances' to be an list/array")
    if not instances:
        raise Refused(400, "JSON Value: No values in 'instances' array")
    if pictures.are_encoded(instances):
        return instances
    named = isinstance(instances[0], dict)
    for index, instance in enumerate(instances):
        if isinstance(instance, dict) != named:
            expected, received = ("object", "list") if named else ("value/list", "object")
            raise Refused(400, f"Expecting {expected} but got {received} at item {index} of input list")
        if named and set(instance) != {INPUT}:
            raise Refused(
                400,
                f"Failed to process element: {index} of 'instances' list. JSON object: keys must be equal to: {INPUT}, "
                'whose value is numbers, or an image file in base64 as {"b64": ...}',
            )
    return [instance[INPUT] for instance in instances] if named else instances


def _column(inputs: Any) -> Any:
    if not isinstance(inputs, dict) or pictures.KEY in inputs:
        return [inputs] if isinstance(inputs, dict) else inputs
    if INPUT not in inputs:
        raise Refused(400, f"Missing named input: {INPUT} in 'inputs' object.")
    return inputs[INPUT]


def _tensor(values: Any, shape: tuple[int, ...], key: str) -> np.ndarray:
    expected = f"{key}: expected numbers of shape [{','.join(map(str, (-1, *shape)))}]"
    if not isinstance(values, list) or not values:
        raise Refused(400, f"{expected}, received {'shape [0]' if values == [] else 'something else'}")
    if pictures.are_encoded(values):
        return pictures.decoded(values, shape, key)
    try:
        return json_arrays.flattened(values, shape)
    except json_arrays.WrongShape as error:
        raise Refused(400, f"{expected}, received {error}") from None
    except json_arrays.OutOfRange as error:
        raise Refused(400, f"{key}: {error}, received others") from None


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
