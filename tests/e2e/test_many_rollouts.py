"""One rollout after another while clients never stop; E2E_ROUNDS is the number of rounds (docs/serving.md)."""

import os
import time
from collections import defaultdict

import pytest

from tests.e2e.conftest import succeeded

ROUNDS = int(os.environ.get("E2E_ROUNDS", "1"))


@pytest.mark.parametrize("mode", ["service", "knative"], ids=["Standard", "Knative"])
def test_no_request_fails_in_any_round(request, mode):
    """Each round is two updates, a canary that is rolled back, and one that is promoted."""
    service = request.getfixturevalue(mode)
    old, new = service.published.uris
    seconds = defaultdict(list)

    def timed(kind, *options, uri=""):
        began = time.monotonic()
        succeeded(service.serve(*options, uri=uri))
        seconds[kind].append(round(time.monotonic() - began))

    timed("first", uri=old)
    with service.asked() as clients:
        for _ in range(ROUNDS):
            timed("update", uri=new)
            timed("update", uri=old)
            timed("canary", "--canary-percent", 0, uri=new)
            timed("rollback", "--action", "rollback")
            timed("canary", "--canary-percent", 0, uri=new)
            timed("promotion", "--action", "promote")
            old, new = new, old
    sent = [(seen.way, seen.sent, len(seen.failures)) for seen in clients]
    print(dict(seconds), sent)  # noqa: T201
    assert [seen.failures for seen in clients] == [[]] * len(clients)
