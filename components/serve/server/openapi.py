"""The description of a service's HTTP interface, as OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from ...common.artifacts.model import Card
from .protocols.open_inference import DATATYPES
from .protocols.request import INPUT, OUTPUT

JSON = "application/json"
Object = dict[str, Any]


def description(name: str, version: int, card: Card) -> Object:
    """All paths of a service.

    Args:
        name: Of the model.
        version: Its version.
        card: Of that version.
    """
    v1, v2 = f"/v1/models/{name}", f"/v2/models/{name}"
    paths: Object = {}
    for path, parameters in ((v1, []), (f"{v1}/versions/{{version}}", [_VERSION])):
        paths |= {
            f"{path}:predict": _path(parameters, post=_predict()),
            path: _path(parameters, get=_get("States of the versions", "VersionStates")),
            f"{path}/metadata": _path(parameters, get=_get("Signature and model card", "Metadata")),
        }
    for path, parameters in ((v2, []), (f"{v2}/versions/{{version}}", [_VERSION])):
        paths |= {
            f"{path}/infer": _path(parameters, post=_infer()),
            path: _path(parameters, get=_get("Inputs and outputs of the model", "ModelMetadata")),
            f"{path}/ready": _path(parameters, get=_get("Whether the model is loaded", "ModelReady", 404)),
        }
    paths |= {
        "/v2": _path([], get=_get("Name and extensions of the server", "ServerMetadata")),
        "/v2/health/live": _path([], get=_get("Whether the server runs", "Live")),
        "/v2/health/ready": _path([], get=_get("Whether a version is loaded", "Ready", 503)),
        "/metrics": _path([], get={"summary": "Prometheus metrics", "responses": {"200": _text("Metrics")}}),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": name,
            "version": str(version),
            "summary": f"Image classification: {len(card.classes)} classes, TensorFlow Serving's REST and the Open "
            "Inference Protocol",
        },
        "paths": paths,
        "components": {"schemas": _schemas(name, card)},
    }


_VERSION: Object = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 1},
    "description": "Version of the model",
}
_STATUS = {
    400: "Malformed request",
    403: "Request for another host, or from another site",
    404: "No such model or version",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "Unknown Content-Encoding",
    503: "Busy; Retry-After tells when to try again",
}


def _path(parameters: list[Object], **operations: Object) -> Object:
    return {**({"parameters": parameters} if parameters else {}), **operations}


def _get(summary: str, schema: str, otherwise: int | None = None) -> Object:
    responses = {"200": _content("Answer", schema), "404": _content(_STATUS[404], "Error")}
    if otherwise:
        responses[str(otherwise)] = _content("Not ready", schema)
    return {"summary": summary, "responses": responses}


def _post(summary: str, request: Object, answer: Object) -> Object:
    failures = {str(status): _content(text, "Error") for status, text in _STATUS.items()}
    headers = {"Model-Version": {"description": "Version that answered", "schema": {"type": "string"}}}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": request},
        "responses": {"200": {"description": "Answer", "headers": headers, "content": answer}, **failures},
    }


def _predict() -> Object:
    return _post(
        "Class probabilities, by TensorFlow Serving's REST",
        {JSON: {"schema": _ref("PredictRequest")}},
        {JSON: {"schema": _ref("PredictResponse")}},
    )


def _infer() -> Object:
    binary = {"schema": {"type": "string", "format": "binary"}}
    operation = _post(
        "Class probabilities, by the Open Inference Protocol",
        {JSON: {"schema": _ref("InferRequest")}, "application/octet-stream": binary},
        {JSON: {"schema": _ref("InferResponse")}, "application/octet-stream": binary},
    )
    operation["parameters"] = [
        {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "schema": {"type": "integer"},
            "description": "Bytes of the JSON where a binary tensor follows it",
        }
    ]
    return operation


def _content(text: str, schema: str) -> Object:
    return {"description": text, "content": {JSON: {"schema": _ref(schema)}}}


def _text(description: str) -> Object:
    return {"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}}


def _ref(schema: str) -> Object:
    return {"$ref": f"#/components/schemas/{schema}"}


def _object(required: str, **properties: Object) -> Object:
    return {"type": "object", "required": required.split(), "properties": properties}


def _list(items: Object, **limits: int) -> Object:
    return {"type": "array", "items": items, **limits}


def _constant(value: Any) -> Object:
    return {"const": value}


def _schemas(name: str, card: Card) -> Object:
    text, number, integer, true = {"type": "string"}, {"type": "number"}, {"type": "integer"}, {"type": "boolean"}
    pixels: Object = {"type": "number"}
    for size in reversed(card.input.shape):
        pixels = _list(pixels, minItems=size, maxItems=size)
    probabilities = _list(_list(number, minItems=len(card.classes), maxItems=len(card.classes)))
    tensor = {"shape": _list(integer), "parameters": {"type": "object"}}
    lowest, highest = card.input.range
    return {
        "Error": _object("error", error=text),
        "Pixels": {**pixels, "description": f"Height, width, channels; numbers from {lowest} to {highest}"},
        "EncodedImage": {
            **_object("b64", b64={"type": "string", "contentEncoding": "base64"}),
            "additionalProperties": False,
            "description": "An image file (PNG, JPEG, ...) of any size in base64; it is resized",
        },
        "Image": {"oneOf": [_ref("Pixels"), _ref("EncodedImage")]},
        "NamedImage": {**_object(INPUT, **{INPUT: _ref("Image")}), "additionalProperties": False},
        "PredictRequest": {
            "oneOf": [
                _object(
                    "instances",
                    instances=_list({"oneOf": [_ref("Image"), _ref("NamedImage")]}, minItems=1),
                    signature_name=_constant("serving_default"),
                ),
                _object(
                    "inputs",
                    inputs={
                        "oneOf": [
                            _list(_ref("Image"), minItems=1),
                            _object(INPUT, **{INPUT: _list(_ref("Image"), minItems=1)}),
                        ]
                    },
                    signature_name=_constant("serving_default"),
                ),
            ]
        },
        "PredictResponse": {
            "oneOf": [_object("predictions", predictions=probabilities), _object("outputs", outputs=probabilities)],
            "description": f"Probabilities of the classes: {', '.join(card.classes[:20])}"
            + (", ..." if len(card.classes) > 20 else ""),
        },
        "VersionStates": _object(
            "model_version_status",
            model_version_status=_list(
                _object(
                    "version state status",
                    version=text,
                    state=text,
                    status=_object("error_code error_message", error_code=text, error_message=text),
                )
            ),
        ),
        "Metadata": _object("model_spec metadata", model_spec={"type": "object"}, metadata={"type": "object"}),
        "InferRequest": _object(
            "inputs",
            id=text,
            parameters={"type": "object"},
            inputs=_list(
                _object(
                    "name shape datatype",
                    name=_constant(INPUT),
                    datatype={"enum": list(DATATYPES)},
                    data={"type": "array", "description": "Flat or nested; absent where a binary tensor follows"},
                    **tensor,
                ),
                minItems=1,
                maxItems=1,
            ),
            outputs=_list(_object("name", name=_constant(OUTPUT), parameters={"type": "object"}), maxItems=1),
        ),
        "InferResponse": _object(
            "model_name model_version outputs",
            model_name=_constant(name),
            model_version=text,
            id=text,
            outputs=_list(
                _object(
                    "name shape datatype",
                    name=_constant(OUTPUT),
                    datatype={"enum": ["FP32", "BYTES"]},
                    data={"type": "array"},
                    **tensor,
                )
            ),
        ),
        "ModelMetadata": _object(
            "name versions platform inputs outputs",
            name=_constant(name),
            versions=_list(text),
            platform=text,
            inputs=_list({"type": "object"}),
            outputs=_list({"type": "object"}),
        ),
        "ServerMetadata": _object("name version extensions", name=text, version=text, extensions=_list(text)),
        "ModelReady": _object("name ready", name=text, ready=true),
        "Live": _object("live", live=true),
        "Ready": _object("ready", ready=true),
    }
