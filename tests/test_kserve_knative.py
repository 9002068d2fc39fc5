"""Rollouts in Knative mode: which model gets requests, look by look, under Knative's own rules of traffic."""

import copy
from itertools import groupby

import pytest

from tests.knative import Knative
from tests.kserve_status import OLD, PROBABILITIES, last_line

WRONG = [0.9, 0.1]
HOST, TAGGED = "mnist.vision.example.com", "latest-mnist-predictor.vision.example.com"


@pytest.fixture
def cluster(api):
    """The controllers."""
    api.controller = Knative(api)
    return api.controller


@pytest.fixture
def stable(serve_on_cluster, api, cluster):
    """The specification of a service that has been rolled out with OLD."""
    done = serve_on_cluster("--deployment-mode", "Knative", uri=OLD)
    assert done.returncode == 0, done.stderr
    return copy.deepcopy(api.service("mnist")["spec"])


@pytest.fixture
def serve(serve_on_cluster, endpoint):
    """The step, whose smoke test goes through an ingress."""
    return lambda *options, uri="": serve_on_cluster("--route", endpoint.url, "--timeout", "20", *options, uri=uri)


def spec_of(api):
    return api.service("mnist")["spec"]


def hosts(endpoint):
    """The hosts that were asked for, one after another."""
    return [host for host, _ in groupby(host for host, _ in endpoint.asked)]


def test_an_update_gets_requests_when_it_has_proved_itself(serve, api, cluster, stable, published, endpoint):
    uri = published(4)
    done = serve(uri=uri)
    assert done.returncode == 0, done.stderr
    assert hosts(endpoint) == [TAGGED, HOST]
    assert [share for share in cluster.shares if share not in ({OLD: 100}, {uri: 100}, {})] == []
    assert spec_of(api)["predictor"]["model"]["storageUri"] == uri
    assert "canaryTrafficPercent" not in spec_of(api)["predictor"]


def test_an_update_that_answers_wrongly_gets_no_request(serve, api, cluster, stable, published, endpoint):
    endpoint.answers = [WRONG]
    uri = published(4)
    done = serve(uri=uri)
    assert done.returncode == 1
    assert last_line(done).endswith(f"; rolled back to {OLD}")
    assert all(uri not in share for share in cluster.shares)
    assert spec_of(api) == stable
    assert [one["uri"] for one in cluster.revisions] == [OLD, uri, OLD]


def test_an_update_that_goes_direct_gets_requests_when_it_is_ready(serve, cluster, stable, published, endpoint):
    done = serve("--direct", "true", uri=published(4))
    assert done.returncode == 0, done.stderr
    assert "rolled out without a test before it gets requests, since --direct is set" in done.stderr
    assert hosts(endpoint) == [HOST]


def test_a_canary_gets_its_share_when_it_has_proved_itself_and_is_promoted(
    serve, api, cluster, stable, published, endpoint
):
    uri = published(4)
    done = serve("--canary-percent", "10", uri=uri)
    assert done.returncode == 0, done.stderr
    assert set(hosts(endpoint)) == {TAGGED}
    assert cluster.shares[-1] == {uri: 10, OLD: 90}
    assert api.service("mnist")["metadata"]["annotations"]["serving.kserve.io/enable-tag-routing"] == "true"
    status = serve("--action", "status").stdout.splitlines()[2:]
    assert [line.split()[:3] for line in status] == [["r-2", "10", "%"], ["r-1", "90", "%"]]
    assert status[1].endswith(OLD)

    done = serve("--action", "promote")
    assert done.returncode == 0, done.stderr
    assert hosts(endpoint)[-1] == HOST
    assert cluster.shares[-1] == {uri: 100}
    assert "canaryTrafficPercent" not in spec_of(api)["predictor"]


@pytest.mark.parametrize(("failed", "left", "code"), [(0, 4, 0), (30, 3, 1)])
def test_an_analyzed_canary_is_promoted_or_rolled_back_by_what_prometheus_tells(
    serve, cluster, stable, published, endpoint, prometheus, failed, left, code
):
    prometheus.values = {
        ('"r-2(', 'code=~"5.."'): failed,
        ('"r-2(', "histogram_quantile"): 0.012,
        ('"r-1(', "histogram_quantile"): 0.010,
        ('"r-2(',): 300,
        ('"r-1(',): 2700,
    }
    uri = published(4)
    done = serve("--canary-percent", "10", "--analyze", "1s", "--prometheus", prometheus.url, uri=uri)
    assert done.returncode == code, done.stderr
    assert cluster.shares[-1] == {{3: OLD, 4: uri}[left]: 100}
    decision = "rolled back: error rate 10.00% > 1.00%" if failed else "promoted: error rate 0.00%, latency ratio 1.20"
    assert f"canary {decision} (canary: 300 requests" in done.stderr


def test_a_rejected_model_gets_nothing_from_a_later_update(serve, cluster, stable, published, endpoint):
    """After a rollback the rejected revision is the latest ready one, which gets all requests that no share holds."""
    rejected = published(4)
    assert serve("--canary-percent", "10", uri=rejected).returncode == 0
    assert serve("--action", "rollback").returncode == 0
    cluster.shares.clear()
    done = serve(uri=published(5))
    assert done.returncode == 0, done.stderr
    assert all(rejected not in share for share in cluster.shares)


def test_a_rejected_model_gets_nothing_from_a_later_update_that_fails(serve, cluster, stable, published, endpoint):
    rejected, broken = published(4), published(5)
    assert serve("--canary-percent", "10", uri=rejected).returncode == 0
    assert serve("--action", "rollback").returncode == 0
    cluster.shares.clear()
    cluster.broken = {broken}
    done = serve(uri=broken)
    assert done.returncode == 1
    assert "RevisionFailed" in last_line(done)
    assert last_line(done).endswith(f"; rolled back to {OLD}")
    assert {tuple(share.items()) for share in cluster.shares} == {((OLD, 100),)}


def test_an_update_over_an_open_canary_that_fails_leaves_all_to_the_stable_model(
    serve, cluster, stable, published, endpoint
):
    canary, broken = published(4), published(5)
    assert serve("--canary-percent", "10", uri=canary).returncode == 0
    cluster.broken = {broken}
    done = serve(uri=broken)
    assert done.returncode == 1
    assert last_line(done).endswith(f"; rolled back to {OLD}")
    assert cluster.shares[-1] == {OLD: 100}


def test_the_stable_model_is_named_by_its_revision_where_it_may_not_be_read(
    serve, api, cluster, stable, published, endpoint
):
    assert serve("--canary-percent", "10", uri=published(4)).returncode == 0
    api.objects = {key: one for key, one in api.objects.items() if key[0] != "revisions"}
    endpoint.answers = [WRONG]
    done = serve(uri=published(5))
    assert done.returncode == 1
    assert last_line(done).endswith("; rolled back to revision r-1")


def test_a_canary_is_rolled_back_even_when_it_never_became_ready(serve, api, cluster, stable):
    cluster.broken = {"s3://models/mnist/9/"}
    spec_of(api)["predictor"]["model"]["storageUri"] = "s3://models/mnist/9/"
    spec_of(api)["predictor"]["canaryTrafficPercent"] = 10
    done = serve("--action", "rollback")
    assert done.returncode == 0, done.stderr
    assert spec_of(api)["predictor"]["canaryTrafficPercent"] == 0
    assert cluster.shares[-1] == {OLD: 100}


def test_a_promotion_that_fails_ends_with_the_stable_model(serve, api, cluster, stable, published, endpoint):
    endpoint.answers = [PROBABILITIES, WRONG]
    done = serve("--canary-percent", "10", "--auto-promote", "true", uri=published(4))
    assert done.returncode == 1
    assert last_line(done).endswith(f"; rolled back to {OLD}")
    assert cluster.shares[-1] == {OLD: 100}
    assert spec_of(api) == stable


def test_an_update_leaves_alone_what_others_set(serve, api, stable):
    predictor = spec_of(api)["predictor"]
    predictor |= {"minReplicas": 2}
    predictor["model"]["resources"] = {"limits": {"cpu": "2"}}
    done = serve(uri="s3://models/mnist/4/")
    assert done.returncode == 0, done.stderr
    assert spec_of(api)["predictor"]["minReplicas"] == 2
    assert spec_of(api)["predictor"]["model"]["resources"] == {"limits": {"cpu": "2"}}
    assert not any("deployments" in path for _, path in api.requests[1:])


def test_scaled_to_zero_is_ready_and_wakes_for_the_smoke_test(serve, api, cluster, published, endpoint):
    endpoint.answers = [503, PROBABILITIES]
    done = serve("--deployment-mode", "Knative", "--min-replicas", "0", uri=published(4))
    assert done.returncode == 0, done.stderr
    assert spec_of(api)["predictor"]["minReplicas"] == 0
    assert endpoint.answers == [PROBABILITIES]
