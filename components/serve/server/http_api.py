"""The HTTP side of a service: TensorFlow Serving's REST, the Open Inference Protocol, metrics and the page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from ..here.service import AVAILABLE
from . import metrics, openapi, page
from .access import Access, guarded
from .limits import ENCODINGS, Limits
from .protocols import open_inference as protocol_v2
from .protocols import tensorflow_serving as protocol
from .protocols.request import PredictRequest, Refused, shown
from .served import ServedModel
from .shadow import Shadow
from .worker import LoadedVersion, Read

VERSION_HEADER = "Model-Version"
"""Tells which version has answered a prediction."""
JSON_LENGTH_HEADER = "Inference-Header-Content-Length"
"""Tells where JSON ends and binary tensors begin."""


class _VersionNumber(IntegerConvertor):
    """A version in a path; Python refuses to read a number of more than 4,300 digits."""

    regex = "[0-9]{1,18}"


register_url_convertor("version", _VersionNumber())

Handler = Callable[[Request], Awaitable[Response]]
Predictions = Callable[[Request, Read], Awaitable[Response]]


def application(served: ServedModel, limits: Limits, access: Callable[[], Access]) -> Starlette:
    """All routes of a service.

    Args:
        served: The model.
        limits: What clients may ask of it.
        access: Tells who may send requests.
    """
    predictions = _predictions(served, limits)
    routes = [*_tensorflow_serving(served, predictions), *_open_inference(served, predictions), *_page(served)]

    async def scrape(request: Request) -> Response:
        return Response(served.metrics.text(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def described(request: Request) -> Response:
        main = served.main()
        return _json(openapi.description(served.service.name, main.wanted.version, main.card))

    handlers: dict[Any, Any] = {  # Starlette's types want each to take any exception
        Refused: _refused,
        HTTPException: _no_such_path,
        ClientDisconnect: _gone,
        Exception: _failed,
    }
    return Starlette(
        routes=[*routes, Route("/metrics", scrape), Route("/openapi.json", described)],
        middleware=[
            Middleware(served.metrics.around),
            Middleware(guarded(access, _refusal, (VERSION_HEADER, JSON_LENGTH_HEADER))),
            Middleware(_shortcut(routes, served.service.name)),
        ],
        exception_handlers=handlers,
    )


def _tensorflow_serving(served: ServedModel, predictions: Predictions) -> list[Route]:
    name = served.service.name

    def read(body: bytes, version: LoadedVersion) -> PredictRequest:
        return protocol.read(body, version.shape)

    async def predict(request: Request) -> Response:
        _check_name(request)
        return await predictions(request, read)

    async def status(request: Request) -> Response:
        _check_name(request)
        number = _number(request)
        versions = list(served.versions.values()) if number is None else served.listed(number)
        if not versions:
            asked = f"any versions of model {name}" if number is None else f"version {number} of model {name}"
            raise Refused(404, f"Could not find {asked}")
        listed = [protocol.version_status(one.wanted.version, one.state, one.error) for one in versions]
        return _json({"model_version_status": listed})

    async def metadata(request: Request) -> Response:
        _check_name(request)
        version = served.answering(_number(request))
        return _json(protocol.metadata(name, version.wanted.version, version.card))

    def _check_name(request: Request) -> None:
        asked = request.path_params["name"]
        if ":" in asked:  # a verb that is none, or GET of one
            raise HTTPException(400)
        if asked != name:
            raise Refused(404, f"Servable not found for request: Latest({asked})")

    return [
        *_both("/v1/models/{name}", ":predict", predict, "POST"),
        *_both("/v1/models/{name}", "/metadata", metadata),
        *_both("/v1/models/{name}", "", status),
    ]


def _open_inference(served: ServedModel, predictions: Predictions) -> list[Route]:
    name = served.service.name

    async def infer(request: Request) -> Response:
        _answering(request)  # an unknown name or version is told before the body is read
        json_length = _json_length(request)

        def read(body: bytes, version: LoadedVersion) -> PredictRequest:
            return protocol_v2.read(body, json_length, version.card, name, version.wanted.version)

        return await predictions(request, read)

    async def model_metadata(request: Request) -> Response:
        version = _answering(request)
        numbers = sorted({one.wanted.version for one in served.versions.values() if one.state == AVAILABLE})
        return _json(protocol_v2.metadata(name, numbers, version.backend, version.card))

    async def model_ready(request: Request) -> Response:
        try:
            _answering(request)
            ready = not served.leaving
        except Refused:
            ready = False
        if not ready:
            return _json({"name": request.path_params["name"], "ready": False}, 404)
        return _json({"name": name, "ready": True})

    async def live(request: Request) -> Response:
        return _json({"live": True})

    async def ready(request: Request) -> Response:
        answers = bool(served.shares) and not served.leaving
        return _json({"ready": answers}, 200 if answers else 503)

    async def server_metadata(request: Request) -> Response:
        return _json(protocol_v2.SERVER)

    def _answering(request: Request) -> LoadedVersion:
        asked, number = request.path_params["name"], _number(request)
        try:
            if asked == name:
                return served.answering(number)
        except Refused:
            pass
        received = asked if number is None else f"{asked}, version {number}"
        raise Refused(404, f"expected a model that is loaded, received {received}; GET /v1/models/{name} lists them")

    return [
        Route("/v2", server_metadata),
        Route("/v2/health/live", live),
        Route("/v2/health/ready", ready),
        *_both("/v2/models/{name}", "/infer", infer, "POST"),
        *_both("/v2/models/{name}", "/ready", model_ready),
        *_both("/v2/models/{name}", "", model_metadata),
    ]


def _page(served: ServedModel) -> list[Route]:
    """The page, as long as the service shows it."""

    def shown() -> None:
        if not served.front.page:
            raise HTTPException(404)

    async def root(request: Request) -> Response:
        shown()
        return _static("index.html")

    async def static(request: Request) -> Response:
        shown()
        return _static(request.path_params["file"])

    async def model(request: Request) -> Response:
        shown()
        shares = list(served.shares.items())
        described = await asyncio.to_thread(page.description, served.service.name, served.main(), shares)
        return _json(described, headers=page.HEADERS)

    return [Route("/", root), Route("/page/model.json", model), Route("/page/{file}", static)]


def _static(name: str) -> Response:
    try:
        content, media_type = page.file(name)
    except KeyError:
        raise HTTPException(404) from None
    return Response(content, media_type=media_type, headers=page.HEADERS)


def _predictions(served: ServedModel, limits: Limits) -> Predictions:
    """What answers requests for predictions, once it is known how to read them."""
    shadow = Shadow(served.service.folder, served.metrics)

    async def predicted(request: Request, read: Read) -> Response:
        number = _number(request)
        with limits.admitted() as admitted:
            body = await admitted.body(request)
            version = served.answering(number)
            request.scope[metrics.VERSION] = str(version.wanted.version)
            answer = await version.predict(body, read)
        for other in served.shadows if number is None else ():
            shadow.ask(other, version, answer)
        headers = {VERSION_HEADER: str(version.wanted.version), **({"Connection": "close"} if served.leaving else {})}
        if answer.json_length is None:
            return Response(answer.content, media_type="application/json", headers=headers)
        headers[JSON_LENGTH_HEADER] = str(answer.json_length)
        return Response(answer.content, media_type="application/octet-stream", headers=headers)

    return predicted


def _json_length(request: Request) -> int | None:
    """Where the JSON of a request ends and its binary tensors begin; None: it is all JSON.

    Raises:
        Refused: 400, the header is no number.
    """
    told = request.headers.get(JSON_LENGTH_HEADER)
    if told is None:
        return None
    if not (told.isascii() and told.isdecimal() and len(told) < 20):
        raise Refused(400, f"{JSON_LENGTH_HEADER}: expected a number of bytes, received {shown(told)}")
    return int(told)


def _shortcut(routes: list[Route], name: str) -> Callable[[ASGIApp], ASGIApp]:
    """Middleware that hands requests for predictions to their handlers, without the cost of finding the route.

    Args:
        routes: All routes; those of a POST to the service itself are short.
        name: Of the service.
    """
    handlers: dict[str, Handler] = {
        route.path.replace("{name}", name): route.endpoint
        for route in routes
        if route.methods == {"POST"} and "{version" not in route.path
    }

    def around(app: ASGIApp) -> ASGIApp:
        async def shortcut(scope: Scope, receive: Receive, send: Send) -> None:
            handler = handlers.get(scope["path"]) if scope["method"] == "POST" else None
            if handler is None:
                await app(scope, receive, send)
                return
            scope["endpoint"], scope["path_params"] = handler, {"name": name}
            request = Request(scope, receive, send)
            try:
                response = await handler(request)
            except Refused as error:
                response = _refusal(error)
            except ClientDisconnect as error:
                response = await _gone(request, error)
            await response(scope, receive, send)

        return shortcut

    return around


def _both(path: str, rest: str, handler: Handler, method: str = "GET") -> list[Route]:
    """A route for the service, and one for a version of it."""
    return [Route(one + rest, handler, methods=[method]) for one in (path, f"{path}/versions/{{version:version}}")]


def _number(request: Request) -> int | None:
    return request.path_params.get("version")


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")


async def _refused(request: Request, error: Refused) -> Response:
    return _refusal(error)


def _refusal(error: Refused) -> Response:
    headers = {
        408: {"Connection": "close"},
        415: {"Accept-Encoding": ", ".join(ENCODINGS)},
        503: {"Retry-After": "1"},
    }.get(error.status)
    return _json({"error": str(error)}, error.status, headers)


async def _no_such_path(request: Request, error: HTTPException) -> Response:
    path: str = request.scope["path"]  # not request.url: urllib keeps what it has read, scattered over the memory
    asked = f"Malformed request: {request.method} {path[:200]}"
    return _json({"error": asked}, 400 if path.startswith("/v1/") else error.status_code)


async def _gone(request: Request, error: ClientDisconnect) -> Response:
    return _json({}, 400)  # nobody reads it


async def _failed(request: Request, error: Exception) -> Response:
    # uvicorn logs the error itself, which may tell of the model's insides and of this machine
    return _json({"error": "the model server failed on this request; its log has the cause"}, 500)
