"""Canaries: asked by themselves, sharing the requests, promoted and taken back."""

import time
from collections import Counter

import pytest

from tests.e2e.conftest import last_line, succeeded
from tests.e2e.reach import wait_until


def weights(service) -> list[int]:
    """The weights in the service's HTTPRoute, of which there are two where KServe splits the requests."""
    route = service.cluster.get("httproute", service.name, service.namespace) or {"spec": {"rules": []}}
    backends = [rule.get("backendRefs") or [] for rule in route["spec"]["rules"]]
    return [backend.get("weight", 1) for backend in max(backends, key=len, default=[])]


def shares(service, seconds: float) -> Counter:
    """How often each version answers through the Gateway."""
    with service.asked() as clients:
        time.sleep(seconds)
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    return clients[-1].answers


@pytest.fixture
def split(service):
    """A service with version 2 as a canary of 10 percent, on a cluster that splits requests by weight."""
    if not service.cluster.gateway:
        pytest.skip("no Gateway API: requests to a Standard service cannot be split")
    service.apply(1)
    done = service.serve("--canary-percent", 10, uri=service.published.uris[1])
    if done.returncode and ("HTTPRoute" in last_line(done) or "weight" in last_line(done)):
        pytest.skip(f"this KServe splits no requests in Standard mode: {last_line(done)}")
    succeeded(done)
    if len(weights(service)) < 2:
        pytest.skip("this KServe splits no requests in Standard mode: its HTTPRoute has one backend")
    return service


def test_a_canary_of_ten_percent_gets_ten_percent(split):
    """Of some hundred requests about a tenth is answered by the canary."""
    answers = shares(split, seconds=20)
    assert set(answers) == {"v1", "v2"}
    assert 0.03 < answers["v2"] / answers.total() < 0.2, answers


def test_a_canary_of_no_percent_is_asked_by_itself_and_by_nobody_else(service):
    """It proves itself at its own address, while the earlier version goes on with all requests."""
    service.apply(1)
    with service.asked() as clients:
        succeeded(service.serve("--canary-percent", 0, uri=service.published.uris[1]))
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    assert [set(seen.answers) for seen in clients] == [{"v1"}] * len(clients)


def test_a_rollback_ends_the_canary_and_fails_no_request(service):
    """What it leaves is the service as it was before."""
    service.apply(1)
    succeeded(service.serve("--canary-percent", 0, uri=service.published.uris[1]))
    with service.asked() as clients:
        succeeded(service.serve("--action", "rollback"))
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    assert [set(seen.answers) for seen in clients] == [{"v1"}] * len(clients)
    wait_until(lambda: len(service.cluster.listed("deployments", service.namespace)) == 1)


def test_a_promotion_fails_no_request_and_keeps_the_names(service):
    """The address inside the cluster, which clients have written down, answers before, during and after."""
    service.apply(1)
    succeeded(service.serve("--canary-percent", 0, uri=service.published.uris[1]))
    with service.asked() as clients:
        succeeded(service.serve("--action", "promote"))
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    with service.asked() as clients:
        time.sleep(1)
    assert [set(seen.answers) for seen in clients] == [{"v2"}] * len(clients)


def test_a_version_that_was_promoted_before_can_be_a_canary_again(service):
    """Back and forth between two models."""
    service.apply(1)
    for uri in (service.published.uris[1], service.published.uris[0], service.published.uris[1]):
        succeeded(service.serve("--canary-percent", 0, uri=uri))
        succeeded(service.serve("--action", "promote"))
    assert service.uri() == service.published.uris[1]


def test_a_share_that_cannot_be_given_is_refused(service):
    """Where no HTTPRoute carries the weights a canary would get nothing, whatever its status says."""
    service.apply(1)
    done = service.serve("--canary-percent", 10, uri=service.published.uris[1])
    if done.returncode == 0 and len(weights(service)) > 1:
        pytest.skip("this KServe splits requests by weight")
    assert done.returncode == 2, done.stderr
    assert service.uri() == service.published.uris[0]
    assert not service.object()["spec"].get("canary")


def test_no_autoscaler_is_left_after_a_canary(service):
    """KServe leaves the canary's HorizontalPodAutoscaler behind."""
    service.apply(1)
    succeeded(service.serve("--canary-percent", 0, uri=service.published.uris[1]))
    done = succeeded(service.serve("--action", "rollback"))
    left = [one["metadata"]["name"] for one in service.cluster.listed("hpa", service.namespace)]
    assert left == ["digits-predictor"] or all(name in done.stderr for name in left if name != "digits-predictor"), left
