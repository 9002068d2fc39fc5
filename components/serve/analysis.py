"""Canary analysis: compare the requests that canary and stable version answered, and decide between them.

The figures come from where the versions are served: the model server's own metrics on this machine, a Prometheus on a
cluster. A server error (5xx) is an error; a request that was refused as malformed is the client's. Latency is the 95th
percentile of the time from a request to its answer, as Prometheus's `histogram_quantile` estimates it.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from ..common.cli import BadInput

PROMOTED, ROLLED_BACK, TOO_FEW = "promoted", "rolled back", "too few requests"
"""What an analysis ends in."""
QUANTILE = 0.95
SECONDS_BETWEEN_LOOKS = 5.0


@dataclass(frozen=True)
class Criteria:
    """When a canary is promoted.

    Attributes:
        seconds: How long the versions are compared.
        max_error_rate: Largest share of requests that the canary may fail, 0 to 1.
        max_latency_ratio: Largest latency of the canary in multiples of the stable version's.
        min_requests: Requests that the canary must have answered.
    """

    seconds: float
    max_error_rate: float = 0.01
    max_latency_ratio: float = 1.5
    min_requests: int = 100

    def __post_init__(self) -> None:
        if not 0 <= self.max_error_rate <= 1:
            raise BadInput(f"--max-error-rate: expected 0 to 1, received {self.max_error_rate}; choose another")
        if not self.max_latency_ratio > 0:
            raise BadInput(f"--max-latency-ratio: expected more than 0, received {self.max_latency_ratio}; e.g. 1.5")
        if self.min_requests < 1:
            raise BadInput(f"--min-requests: expected at least 1, received {self.min_requests}; choose another")


def criteria(duration: str, max_error_rate: float, max_latency_ratio: float, min_requests: int) -> Criteria | None:
    """The criteria in the step's options; None: `duration` is empty.

    Raises:
        BadInput: one of them is out of range.
    """
    if not duration:
        Criteria(1, max_error_rate, max_latency_ratio, min_requests)
        return None
    match = re.fullmatch(r"([1-9]\d{0,5})(s|m|h)", duration)
    if not match:
        raise BadInput(f"--analyze: expected a duration such as 90s, 10m or 1h, received {duration!r}; choose another")
    seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
    return Criteria(seconds, max_error_rate, max_latency_ratio, min_requests)


@dataclass(frozen=True)
class Traffic:
    """What a version answered.

    Attributes:
        requests: For predictions.
        errors: How many of them ended with a server error.
        latency: 95th percentile in seconds; None: unknown.
    """

    requests: int
    errors: int
    latency: float | None

    @property
    def error_rate(self) -> float:
        """0 to 1; 0 without requests."""
        return self.errors / self.requests if self.requests else 0.0

    def __str__(self) -> str:
        latency = "unknown" if self.latency is None else f"{1000 * self.latency:.1f} ms"
        return f"{self.requests} requests, {self.error_rate:.2%} errors, p95 {latency}"


class TrafficSource(Protocol):
    """Tells what the two versions have answered since it was made."""

    def stable(self) -> Traffic:
        """Of the version before the canary.

        Raises:
            ConnectionError, RuntimeError: it cannot be told.
        """

    def canary(self) -> Traffic:
        """Of the canary; raises as `stable`."""


@dataclass(frozen=True)
class Verdict:
    """What an analysis came to.

    Attributes:
        decision: PROMOTED, ROLLED_BACK or TOO_FEW.
        reason: Why, in words.
        stable: What the stable version answered.
        canary: What the canary answered.
    """

    decision: str
    reason: str
    stable: Traffic
    canary: Traffic

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.decision}: {self.reason} (canary: {self.canary}; stable version: {self.stable})"


def judge(rules: Criteria, stable: Traffic, canary: Traffic) -> Verdict:
    """Decide by what both have answered."""
    if canary.requests < rules.min_requests:
        return Verdict(TOO_FEW, f"{canary.requests} of {rules.min_requests} requests", stable, canary)
    if canary.error_rate > rules.max_error_rate:
        reason = f"error rate {canary.error_rate:.2%} > {rules.max_error_rate:.2%}"
        return Verdict(ROLLED_BACK, reason, stable, canary)
    if not stable.latency or canary.latency is None:
        if stable.requests:
            return Verdict(TOO_FEW, "latency unknown", stable, canary)
        return Verdict(PROMOTED, f"error rate {canary.error_rate:.2%}; nothing to compare latency with", stable, canary)
    ratio = canary.latency / stable.latency
    told = f"error rate {canary.error_rate:.2%}, latency ratio {ratio:.2f}"
    if ratio > rules.max_latency_ratio:
        return Verdict(ROLLED_BACK, f"latency ratio {ratio:.2f} > {rules.max_latency_ratio:g}", stable, canary)
    return Verdict(PROMOTED, told, stable, canary)


def analyze(rules: Criteria, source: TrafficSource) -> Verdict:
    """Watch both versions for the time that the criteria give; a canary with too many errors ends it at once."""
    deadline = time.monotonic() + rules.seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, SECONDS_BETWEEN_LOOKS))
        canary = source.canary()
        if canary.requests >= rules.min_requests and canary.error_rate > rules.max_error_rate:
            break
    return judge(rules, source.stable(), source.canary())


def quantile(buckets: Mapping[float, float], share: float = QUANTILE) -> float | None:
    """A quantile of a histogram, as Prometheus's `histogram_quantile` estimates it.

    Args:
        buckets: Observations of at most each upper bound; the last bound is infinite.
        share: 0 to 1.

    Returns:
        Linear between the bounds of the bucket that it falls into, the last finite bound at most; None: no
        observations.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0
    if not total:
        return None
    rank, lower, below = share * total, 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (rank - below) / ((buckets[bound] - below) or 1)
        lower, below = bound, buckets[bound]
    return lower
