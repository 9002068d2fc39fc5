"""What the versions of a model server on this machine answered, by its own metrics."""

from __future__ import annotations

import re
from collections import defaultdict
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from ..analysis import Traffic, quantile

_SAMPLE = re.compile(r"trainyard_request(?:s_total|_seconds_bucket)\{(?P<labels>[^}]*)\} (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
PREDICTIONS = ("predict", "infer")
Counts = dict[tuple[str, str, str], float]
"""By version, then `code` or `le`, then its value."""


class ServerTraffic:
    """See `TrafficSource`."""

    def __init__(self, base: str, stable: int, canary: int) -> None:
        """Args:
        base: URL of the server.
        stable: Number of the version before the canary.
        canary: That of the canary.
        """
        self._url = f"{base}/metrics"
        self._stable, self._canary = str(stable), str(canary)
        self._before = self._counts()

    def stable(self) -> Traffic:
        """See `TrafficSource`."""
        return self._of(self._stable)

    def canary(self) -> Traffic:
        """See `TrafficSource`."""
        return self._of(self._canary)

    def _of(self, version: str) -> Traffic:
        codes: dict[str, float] = {}
        buckets: dict[float, float] = {}
        for (number, kind, value), count in self._counts().items():
            if number == version:
                grown = count - self._before.get((number, kind, value), 0)
                if kind == "code":
                    codes[value] = grown
                else:
                    buckets[float(value)] = grown
        errors = sum(count for code, count in codes.items() if code.startswith("5"))
        return Traffic(int(sum(codes.values())), int(errors), quantile(buckets))

    def _counts(self) -> Counts:
        try:
            with build_opener(ProxyHandler({})).open(self._url, timeout=10) as answer:
                text = answer.read().decode()
        except (URLError, OSError) as error:
            raise ConnectionError(f"{self._url}: does not answer ({getattr(error, 'reason', error)})") from None
        counts: Counts = defaultdict(float)
        for sample in _SAMPLE.finditer(text):
            labels = dict(_LABEL.findall(sample["labels"]))
            if labels["handler"] in PREDICTIONS:
                kind = "code" if "code" in labels else "le"
                counts[labels["version"], kind, labels[kind]] += float(sample["value"])
        return counts
