"""Knative mode: a revision gets requests when it has proved itself, and a rejected one never again."""

import pytest

from tests.e2e.conftest import succeeded


@pytest.fixture
def revisions(service):
    """The service in Knative mode, with version 1 in place."""
    if not service.cluster.knative:
        pytest.skip("the cluster has no Knative Serving")
    service.mode = "Knative"
    service.apply(1)
    return service


def test_an_update_fails_no_request(revisions):
    """Both revisions answer in turn, and none fails."""
    with revisions.asked() as clients:
        revisions.apply(2)
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    assert all(set(seen.answers) == {"v1", "v2"} for seen in clients), clients


def test_a_canary_is_promoted(revisions):
    """The share, then everything."""
    succeeded(revisions.serve("--canary-percent", 10, uri=revisions.published.uris[1]))
    with revisions.asked() as clients:
        succeeded(revisions.serve("--action", "promote"))
    assert [seen.failures for seen in clients] == [[]] * len(clients)


def test_a_rejected_model_gets_nothing_from_a_later_rollout_that_fails(revisions):
    """After a rollback, an update that cannot succeed leaves all requests with the stable model."""
    succeeded(revisions.serve("--canary-percent", 10, uri=revisions.published.uris[1]))
    succeeded(revisions.serve("--action", "rollback"))
    missing = revisions.published.uris[0].replace("/digits/1/", "/digits/99/")
    with revisions.asked() as clients:
        done = revisions.serve("--smoke-test", "false", "--timeout", 300, uri=missing)
    assert done.returncode, "a model that is not there was rolled out"
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    assert [set(seen.answers) for seen in clients] == [{"v1"}] * len(clients)
