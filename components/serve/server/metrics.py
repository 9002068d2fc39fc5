"""What the model server tells Prometheus of itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..here.service import VersionState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
VERSION = "trainyard.version"
"""Key in an ASGI scope: the version that a request was given to."""
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ServerMetrics:
    """Counters of one server."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "trainyard_requests", "Requests by what was asked and the status of the answer.",
            ["handler", "code", "version"],
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "trainyard_request_seconds", "From the first byte of a request to the last of its answer.",
            ["handler", "version"], buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self._in_flight = 0
        in_flight = Gauge("trainyard_requests_in_flight", "Requests without an answer.", registry=self.registry)
        in_flight.set_function(lambda: self._in_flight)
        self.batch_images = Histogram(
            "trainyard_batch_images", "Images that were answered together.", buckets=IMAGES, registry=self.registry
        )

        self.shadow_images = Counter(
            "trainyard_shadow_images", "Images that a shadow version was asked for, by how its answers compare.",
            ["version", "result"], registry=self.registry,
        )  # fmt: skip
        self._count = cache(self.requests.labels)  # its own look-up takes 3 µs
        self._time = cache(self.seconds.labels)

    def watch(self, name: str, versions: Callable[[], Iterable[VersionState]]) -> None:
        """Tell of the versions of a model, as they are whenever Prometheus asks."""
        self.registry.register(_Versions(name, versions))

    def text(self) -> bytes:
        """All of it in Prometheus's text format."""
        return generate_latest(self.registry)

    def around(self, app: ASGIApp) -> ASGIApp:
        """An application whose requests are counted."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            started, code = time.perf_counter(), 500

            async def sending(message: Message) -> None:
                nonlocal code
                if message["type"] == "http.response.start":
                    code = message["status"]
                await send(message)

            self._in_flight += 1
            try:
                await app(scope, receive, sending)
            finally:
                self._in_flight -= 1
                handler = getattr(scope.get("endpoint"), "__name__", "none")
                version = scope.get(VERSION, "")
                self._count(handler, code, version).inc()
                self._time(handler, version).observe(time.perf_counter() - started)

        return counted


class _Versions(Collector):
    def __init__(self, name: str, versions: Callable[[], Iterable[VersionState]]) -> None:
        self._name = name
        self._versions = versions

    def collect(self) -> Iterator[Metric]:
        labels = ["model", "version", "state", "backend"]
        share = GaugeMetricFamily(
            "trainyard_version_percent", "Share of the requests that a version gets.", labels=labels
        )
        for one in self._versions():
            share.add_metric([self._name, str(one.version), one.state, one.backend], one.percent)
        yield share
