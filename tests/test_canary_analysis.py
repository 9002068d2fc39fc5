"""Canary analysis: a canary is promoted or rolled back by what it and the stable version answer meanwhile."""

import json
import math
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.serving import publish
from trainyard.components.common.cli import BadInput
from trainyard.components.serve.analysis import (
    PROMOTED,
    ROLLED_BACK,
    TOO_FEW,
    Criteria,
    Traffic,
    criteria,
    judge,
    quantile,
)
from trainyard.components.serve.kserve.prometheus import PrometheusTraffic

PROJECT = Path(__file__).parent.parent
RULES = Criteria(60, max_error_rate=0.01, max_latency_ratio=1.5, min_requests=100)
GOOD = Traffic(1000, 0, 0.010)


@pytest.mark.parametrize(
    ("stable", "canary", "decision", "words"),
    [
        (GOOD, Traffic(100, 1, 0.015), PROMOTED, "error rate 1.00%, latency ratio 1.50"),
        (GOOD, Traffic(100, 2, 0.001), ROLLED_BACK, "error rate 2.00% > 1.00%"),
        (GOOD, Traffic(100, 0, 0.016), ROLLED_BACK, "latency ratio 1.60 > 1.5"),
        (GOOD, Traffic(99, 99, 9.0), TOO_FEW, "99 of 100 requests"),
        (GOOD, Traffic(0, 0, None), TOO_FEW, "0 of 100 requests"),
        (GOOD, Traffic(100, 0, None), TOO_FEW, "latency unknown"),
        (Traffic(0, 0, None), Traffic(100, 0, 0.5), PROMOTED, "nothing to compare latency with"),
    ],
)
def test_the_decision_follows_from_what_both_answered(stable, canary, decision, words):
    verdict = judge(RULES, stable, canary)
    assert (verdict.decision, words in verdict.reason) == (decision, True)
    assert f"canary: {canary.requests} requests" in str(verdict)


def test_a_quantile_of_a_histogram_is_that_of_prometheus():
    assert quantile({0.1: 50, 0.2: 100, math.inf: 100}, 0.95) == pytest.approx(0.19)
    assert quantile({0.1: 100, math.inf: 100}, 0.5) == pytest.approx(0.05)
    assert quantile({0.1: 10, math.inf: 100}, 0.95) == 0.1
    assert quantile({0.1: 0, math.inf: 0}) is None
    assert quantile({}) is None


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h", 3600)])
def test_a_duration_is_read_with_its_unit(text, seconds):
    assert criteria(text, 0.01, 1.5, 100).seconds == seconds


@pytest.mark.parametrize(
    "options", [("10", 0, 1, 1), ("0m", 0, 1, 1), ("1d", 0, 1, 1), ("", 2, 1, 1), ("", 0, 0, 1), ("", 0, 1, 0)]
)
def test_what_no_analysis_can_follow_is_refused(options):
    with pytest.raises(BadInput, match=r"--(analyze|max-error-rate|max-latency-ratio|min-requests): expected"):
        criteria(*options)


# On this machine


@pytest.fixture(scope="module")
def versions(model, tmp_path_factory):
    """URIs of versions 1 to 3 of the same model."""
    folder = tmp_path_factory.mktemp("published")
    return {number: publish(model, folder / str(number), number) for number in (1, 2, 3)}


class Machine:
    """The service `mnist` of one TRAINYARD_HOME, and a client that asks it all the time."""

    def __init__(self, home, step):
        self._home, self._step = home, step
        self.base = ""

    def apply(self, uri, *options, env=None):
        environment = {"TRAINYARD_HOME": str(self._home), **(env or {})}
        done = self._step(
            *("serve", "--target", "process", "--model-name", "mnist", "--model-uri", uri, *options), env=environment
        )
        self.base = done.stdout.partition("/v1")[0] or self.base
        return done

    def served(self):
        """{version: share of the requests}."""
        state = json.loads((self._home / "serving" / "mnist" / "state.json").read_text())
        return {one["version"]: one["percent"] for one in state["versions"] if one["percent"]}

    def asking(self):
        """Ask for predictions in the background until the returned function is called."""
        ended = threading.Event()
        body = json.dumps({"instances": [[[[0]] * 28] * 28]}).encode()

        def ask():
            while not ended.is_set():
                urllib.request.urlopen(f"{self.base}/v1/models/mnist:predict", body, timeout=10).read()
                time.sleep(0.005)

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()

        def end():
            ended.set()
            for thread in threads:
                thread.join()

        return end


@pytest.fixture
def machine(tmp_path, step):
    running = Machine(tmp_path, step)
    yield running
    step("serve", "stop", env={"TRAINYARD_HOME": str(tmp_path)})


CANARY = ("--canary-percent", "50", "--analyze", "4s", "--max-latency-ratio", "100", "--min-requests", "20")


def test_a_canary_that_answers_as_well_is_promoted_with_the_figures(machine, versions, tmp_path):
    assert machine.apply(versions[1]).returncode == 0
    end = machine.asking()
    try:
        outputs = (
            "--verdict",
            tmp_path / "verdict",
            "--status",
            tmp_path / "status",
            "--summary",
            tmp_path / "summary",
        )
        done = machine.apply(versions[2], *CANARY, *outputs)
    finally:
        end()
    assert done.returncode == 0, done.stderr
    assert "canary promoted: error rate 0.00%, latency ratio" in done.stderr
    assert machine.served() == {2: 100}
    assert (tmp_path / "verdict").read_text() == PROMOTED
    analysis = json.loads((tmp_path / "status").read_text())["analysis"]
    assert analysis["decision"] == PROMOTED
    assert analysis["canary"]["requests"] >= 20
    assert analysis["canary"]["latency"] > 0
    assert "Canary promoted" in (tmp_path / "summary").read_text()


def test_a_canary_nobody_asks_stays_and_the_step_says_so(machine, versions, tmp_path):
    assert machine.apply(versions[1]).returncode == 0
    done = machine.apply(versions[2], *CANARY, "--verdict", tmp_path / "verdict")
    assert done.returncode == 1
    assert "canary too few requests: 0 of 20 requests" in done.stderr.splitlines()[-1]
    assert (tmp_path / "verdict").read_text() == TOO_FEW
    assert machine.served() == {1: 50, 2: 50}


def test_a_canary_that_is_too_slow_is_rolled_back(machine, versions, tmp_path):
    """No canary can be a thousand times as fast as the stable version."""
    assert machine.apply(versions[1]).returncode == 0
    end = machine.asking()
    try:
        strict = [option if option != "100" else "0.001" for option in CANARY]
        done = machine.apply(versions[2], *strict, "--verdict", tmp_path / "verdict")
    finally:
        end()
    assert done.returncode == 1
    assert "canary rolled back: latency ratio" in done.stderr.splitlines()[-1]
    assert (tmp_path / "verdict").read_text() == ROLLED_BACK
    assert machine.served() == {1: 100}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--target", "process", "--analyze", "10m"),
            "--analyze: expected --action apply with --canary-percent 1 to 99",
        ),
        (("--target", "process", "--analyze", "10m", "--canary-percent", "0"), "--analyze: expected --action apply"),
        (("--analyze", "10m", "--canary-percent", "10"), "--prometheus: expected the URL of a Prometheus"),
        (("--prometheus", "http://user:secret@prometheus"), "--prometheus: expected a URL"),
        (("--prometheus-metrics", "nginx"), "--prometheus-metrics: expected trainyard or istio"),
    ],
)
def test_an_analysis_that_cannot_be_is_refused_before_anything_is_done(step, options, words):
    done = step("serve", "--model-uri", "s3://models/mnist/4/", *options)
    assert done.returncode == 2
    assert done.stderr.startswith(words)
    assert "secret" not in done.stderr


# On a cluster


@pytest.mark.parametrize(("metrics", "unit"), [("trainyard", 1), ("istio", 1000)])
def test_the_traffic_of_both_revisions_comes_from_prometheus(prometheus, metrics, unit):
    failed = 'code=~"5.."'
    prometheus.values = {
        ('"mnist-new', failed): 3,
        ('"mnist-new', "histogram_quantile"): 0.25 * unit,
        ('"mnist-new',): 200.4,
        ('"mnist-old', "histogram_quantile"): "NaN",
    }
    traffic = PrometheusTraffic(f"{prometheus.url}/", metrics, "vision", "mnist-old", "mnist-new")
    assert traffic.canary() == Traffic(200, 3, 0.25)
    assert traffic.stable() == Traffic(0, 0, None)
    assert all('"vision"' in query for query in prometheus.queries[1:])


def test_a_prometheus_that_refuses_or_is_not_there_is_told(prometheus):
    prometheus.values = {"refuse": 1}
    with pytest.raises(RuntimeError, match=r"refused a query \(400\): bad query"):
        PrometheusTraffic(prometheus.url, "trainyard", "vision", "old", "new")
    with pytest.raises(ConnectionError, match=r"no Prometheus answers .*check --prometheus"):
        PrometheusTraffic("http://127.0.0.1:9", "trainyard", "vision", "old", "new")
