"""Rollouts in Standard mode: a version proves itself beside the stable one, which keeps its names."""

import copy

import pytest

from tests.kserve_status import OLD, PROBABILITIES, last_line
from tests.kubernetes_api import AUTOSCALERS
from tests.standard import Standard

WRONG = [0.9, 0.1]


@pytest.fixture
def cluster(api):
    """The controllers of a KServe that splits requests."""
    api.controller = Standard(api)
    api.rights = ["create services/proxy"]
    return api.controller


@pytest.fixture
def stable(serve_on_cluster, api, cluster):
    """The specification of a service that has been rolled out with OLD."""
    done = serve_on_cluster(uri=OLD)
    assert done.returncode == 0, done.stderr
    return copy.deepcopy(api.service("mnist")["spec"])


@pytest.fixture
def asked(api):
    """The Services that were asked through the API; `asked.answers` is what they answer, one after another."""

    class Asked(list):
        answers = [PROBABILITIES]  # noqa: RUF012

    services = Asked()

    def behind(service, path, body):
        services.append(service)
        answer = services.answers.pop(0) if len(services.answers) > 1 else services.answers[0]
        return 200, {"predictions": [answer] * len(body["instances"])}

    api.behind = behind
    return services


def spec_of(api):
    return api.service("mnist")["spec"]


def autoscalers(api):
    return [name for plural, _, name in api.objects if plural == AUTOSCALERS]


def test_an_update_proves_itself_at_its_own_address_and_then_takes_over(
    serve_on_cluster, api, cluster, stable, published, asked
):
    uri = published(4)
    done = serve_on_cluster(uri=uri)
    assert done.returncode == 0, done.stderr
    canary, service = dict.fromkeys(asked)
    assert canary.startswith("mnist-v4-")
    assert service == "mnist-predictor"
    assert spec_of(api) == {
        "predictor": {**stable["predictor"], "model": {**stable["predictor"]["model"], "storageUri": uri}}
    }
    assert autoscalers(api) == []


def test_an_update_that_answers_wrongly_gets_no_request(serve_on_cluster, api, cluster, stable, published, asked):
    asked.answers = [WRONG]
    uri = published(4)
    done = serve_on_cluster("--timeout", "20", uri=uri)
    assert done.returncode == 1
    assert last_line(done).endswith(f"; rolled back to {OLD}")
    assert all(uri not in share for share in cluster.shares)
    assert spec_of(api) == stable


def test_an_update_goes_direct_where_the_cluster_has_no_canaries_and_that_is_told(
    serve_on_cluster, api, cluster, stable, published, asked
):
    api.knows_canaries = False
    done = serve_on_cluster(uri=published(4))
    assert done.returncode == 0, done.stderr
    assert "rolled out without a test before it gets requests, since expected a KServe with canaries" in done.stderr
    assert set(asked) == {"mnist-predictor"}


def test_a_canary_gets_its_share_and_is_promoted_under_the_stable_name(
    serve_on_cluster, api, cluster, stable, published, asked
):
    """While the stable Deployment changes, its canary has all requests."""
    uri = published(4)
    done = serve_on_cluster("--canary-percent", "10", uri=uri)
    assert done.returncode == 0, done.stderr
    assert cluster.shares[-1] == {OLD: 90, uri: 10}
    status = serve_on_cluster("--action", "status", uri="").stdout.splitlines()[2:]
    assert [line.split()[1] for line in status] == ["10", "90"]

    cluster.shares.clear()
    done = serve_on_cluster("--action", "promote", uri="")
    assert done.returncode == 0, done.stderr
    assert [share for share in cluster.shares if OLD in share and share[OLD] != 90] == []
    assert cluster.shares[-1] == {uri: 100}
    assert "name" not in spec_of(api)["predictor"]
    assert "canary" not in spec_of(api)
    assert autoscalers(api) == []


def test_an_analyzed_canary_is_promoted_by_what_prometheus_tells_of_its_deployment(
    serve_on_cluster, api, cluster, stable, published, asked, prometheus
):
    prometheus.values = {('code=~"5.."',): 0, ("histogram_quantile",): 0.01, ("sum(",): 500}
    uri = published(4)
    done = serve_on_cluster("--canary-percent", "10", "--analyze", "1s", "--prometheus", prometheus.url, uri=uri)
    assert done.returncode == 0, done.stderr
    assert cluster.shares[-1] == {uri: 100}
    assert {query.partition('pod=~"')[2].partition("(")[0][:9] for query in prometheus.queries[1:]} == {
        "mnist-pre",
        "mnist-v4-",
    }


def test_a_share_that_nothing_splits_is_taken_back(serve_on_cluster, api, cluster, stable, published, asked):
    cluster.splits = False
    done = serve_on_cluster("--canary-percent", "10", uri=published(4))
    assert done.returncode == 2
    assert "received 10, of which the canary gets 0" in last_line(done)
    assert last_line(done).endswith(f"; rolled back to {OLD}")
    assert spec_of(api) == stable


def test_a_version_that_was_promoted_before_can_be_a_canary_again(
    serve_on_cluster, api, cluster, stable, published, asked
):
    first, second = published(4), published(5)
    for uri in (first, second, first):
        options = ("--canary-percent", "0", "--auto-promote", "true")
        done = serve_on_cluster(*options, uri=uri)
        assert done.returncode == 0, done.stderr
    assert spec_of(api)["predictor"]["model"]["storageUri"] == first
