"""What the versions of an InferenceService answered, by a Prometheus of the cluster."""

from __future__ import annotations

import json
import time
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import urlopen

from ...common.cli import BadInput
from ..analysis import QUANTILE, Traffic

_OURS = '{{namespace="{namespace}",pod=~"{revision}(-deployment)?-[a-z0-9]+-[a-z0-9]{{5}}",handler=~"predict|infer"'
_ISTIOS = (
    '{{reporter="destination",destination_workload_namespace="{namespace}",'
    'destination_workload=~"{revision}(-deployment)?"'
)
QUERIES = {
    "trainyard": (
        f"trainyard_requests_total{_OURS}}}}}",
        f'trainyard_requests_total{_OURS},code=~"5.."}}}}',
        f"trainyard_request_seconds_bucket{_OURS}}}}}",
        1.0,
    ),
    "istio": (
        f"istio_requests_total{_ISTIOS}}}}}",
        f'istio_requests_total{_ISTIOS},response_code=~"5.."}}}}',
        f"istio_request_duration_milliseconds_bucket{_ISTIOS}}}}}",
        0.001,
    ),
}
"""Series of the requests, of those that failed and of the histogram of their time, and the histogram's unit in seconds.

Of our own model server, whose metrics need a scrape configuration that adds `namespace` and `pod`, or of Istio's
proxies, whatever the model server. Pods are told apart by the name of their Deployment, or of their Knative revision.
"""
GROWTH = (
    "(last_over_time({series}[{window}]) unless {series} offset {window}"
    " or last_over_time({series}[{window}]) - {series} offset {window} >= 0"
    " or increase({series}[{window}]))"
)
"""How much counters have grown within a window: those that were not there before it, those that were, and those that
began anew because their container did. `increase` alone leaves out what a counter holds when it is first scraped, and
with it all errors of a canary that failed at once, and what came between the window's begin and its first scrape."""


def check(url: str, metrics: str) -> None:
    """Raises BadInput: the URL is none, or the metrics are unknown."""
    parts = urlsplit(url)
    if url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query):
        raise BadInput(
            "--prometheus: expected a URL such as http://prometheus.monitoring:9090, without a user or a query, "
            f"received {parts.scheme}://{parts.hostname or ''}; correct it"
        )
    if metrics not in QUERIES:
        raise BadInput(f"--prometheus-metrics: expected {' or '.join(QUERIES)}, received {metrics!r}; choose one")


class PrometheusTraffic:
    """See `TrafficSource`."""

    def __init__(self, url: str, metrics: str, namespace: str, stable: str, canary: str) -> None:
        """Args:
        url: Of Prometheus.
        metrics: Key in QUERIES.
        namespace: Of the service.
        stable: Name of the revision (Knative) or Deployment before the canary.
        canary: That of the canary.
        """
        self._url, self._metrics, self._namespace = url.rstrip("/"), metrics, namespace
        self._stable, self._canary = stable, canary
        self._began = time.monotonic()
        self._ask("vector(1)")

    def stable(self) -> Traffic:
        """See `TrafficSource`."""
        return self._of(self._stable)

    def canary(self) -> Traffic:
        """See `TrafficSource`."""
        return self._of(self._canary)

    def _of(self, revision: str) -> Traffic:
        *series, unit = QUERIES[self._metrics]
        window = f"{max(1, round(1000 * (time.monotonic() - self._began)))}ms"
        requests, failed, seconds = (
            GROWTH.format(series=one.format(namespace=self._namespace, revision=revision), window=window)
            for one in series
        )
        latency = self._ask(f"histogram_quantile({QUANTILE}, sum by (le) ({seconds}))")
        return Traffic(
            round(self._ask(f"sum({requests})") or 0),
            round(self._ask(f"sum({failed})") or 0),
            None if latency is None else latency * unit,
        )

    def _ask(self, query: str) -> float | None:
        """The value of a query; None: it has none.

        Raises:
            ConnectionError: Prometheus does not answer.
            RuntimeError: it refuses the query.
        """
        try:
            with urlopen(f"{self._url}/api/v1/query?{urlencode({'query': query})}", timeout=30) as answer:
                told = json.load(answer)
        except HTTPError as error:
            raise RuntimeError(f"{self._url}: Prometheus refused a query ({error.code}): {_reason(error)}") from None
        except (URLError, HTTPException, OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise ConnectionError(f"{self._url}: no Prometheus answers ({reason}); check --prometheus") from None
        try:
            result = told["data"]["result"]
            value = float(result[0]["value"][1]) if result else float("nan")
        except (LookupError, TypeError, ValueError):
            raise RuntimeError(f"{self._url}: expected Prometheus's answer, received {str(told)[:100]}") from None
        return None if value != value else value  # NaN: no observations


def _reason(error: HTTPError) -> Any:
    try:
        return json.load(error).get("error", "")
    except (ValueError, AttributeError):
        return error.reason
