"""Canary analysis by a real Prometheus, which scrapes two real model servers as it would two revisions' pods."""

import json
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress

import numpy as np
import pytest
from onnx import TensorProto
from onnx.helper import make_node as node

from tests.conftest import PROJECT, outside_aws
from tests.onnx_models import Network
from tests.prometheus import RealPrometheus
from tests.serving import wait_until
from trainyard.components.common.artifacts.model import Card, Input, Onnx
from trainyard.components.serve.analysis import PROMOTED, ROLLED_BACK, Criteria, judge
from trainyard.components.serve.kserve.prometheus import PrometheusTraffic

PROMETHEUS = shutil.which("prometheus")
pytestmark = pytest.mark.skipif(not PROMETHEUS, reason="NO REAL PROMETHEUS IS TESTED: prometheus is not installed")
PODS = {"old": "mnist-old-deployment-6f7c9d8b5f-abcde", "new": "mnist-new-deployment-7d4b8c6f9d-fghij"}
WHITE, BLACK = 255, 0


@pytest.fixture(scope="module")
def fragile(tmp_path_factory):
    """A model folder whose network fails for white images: a pixel is the row of a table that has one row."""
    folder = tmp_path_factory.mktemp("fragile")
    network = Network(np.zeros((2, 28, 28, 1), np.uint8), np.array([0, 1]), filters=1)
    network.weights = np.zeros((1, 10), np.float32)
    nodes = [
        node("ReduceMax", ["input"], ["brightest"], axes=[1, 2, 3], keepdims=0),
        node("Cast", ["brightest"], ["row"], to=TensorProto.INT64),
        node("Gather", ["weights", "row"], ["logits"]),
    ]
    network.write(folder / "model.onnx", nodes, [("input", TensorProto.FLOAT, ["images", 1, 28, 28])], "logits")
    how = Onnx(input="input", layout="NCHW", range=(0, 255), answers="logits")
    shape, classes = Input(shape=(28, 28, 1)), list("0123456789")
    Card(architecture="fragile", input=shape, classes=classes, parameters=10, onnx=how).write(folder)
    return folder


class Pod:
    """A model server with the predictor image's command."""

    def __init__(self, model):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        command = [sys.executable, "-m", "trainyard.components.serve.predictor", "--model", model]
        options = ["--model-name", "mnist", "--host", "127.0.0.1", "--port", str(port), "--drain", "0"]
        self.process = subprocess.Popen([*command, *options], cwd=PROJECT, env=outside_aws(), stderr=subprocess.DEVNULL)

    def ready(self):
        with suppress(OSError):
            return urllib.request.urlopen(f"http://{self.address}/v2/health/ready", timeout=5).status == 200

    def asked(self, count, pixel=BLACK):
        """Ask so many times; how many answers were server errors."""
        body = json.dumps({"instances": [[[[pixel]] * 28] * 28]}).encode()
        failed = 0
        for _ in range(count):
            try:
                urllib.request.urlopen(f"http://{self.address}/v1/models/mnist:predict", body, timeout=20).read()
            except urllib.error.HTTPError as error:
                failed += error.code >= 500
        return failed

    def end(self):
        self.process.terminate()
        self.process.wait(20)


@pytest.fixture
def cluster(fragile, tmp_path):
    """Pods of the stable version, which has been asked for long, and of a canary; and the Prometheus that knows both.

    A PodMonitor of the Prometheus operator adds the labels `namespace`, `pod`, `container` and `endpoint`.
    """
    with ExitStack() as stack:
        pods = {}
        for name in PODS:
            pods[name] = Pod(fragile)
            stack.callback(pods[name].end)
        wait_until(lambda: all(pod.ready() for pod in pods.values()), 60)
        assert pods["old"].asked(50) == 0
        added = {"namespace": "vision", "container": "kserve-container", "endpoint": "http"}
        targets = [(pods[name].address, {**added, "pod": pod}) for name, pod in PODS.items()]
        prometheus = RealPrometheus(PROMETHEUS, tmp_path, targets)
        stack.callback(prometheus.end)
        wait_until(lambda: scraped(prometheus, "old") == 50, 20)
        yield prometheus, pods


def scraped(prometheus, name):
    """How many predictions Prometheus knows of."""
    return prometheus.value(f'sum(trainyard_requests_total{{pod="{PODS[name]}",handler="predict"}})')


@pytest.mark.parametrize(("failing", "decision"), [(0, PROMOTED), (3, ROLLED_BACK)])
def test_what_both_answered_since_the_canary_began_is_what_is_compared(cluster, failing, decision):
    """All of a canary's first requests count, which no scrape saw at zero; nothing of before counts."""
    prometheus, pods = cluster
    traffic = PrometheusTraffic(prometheus.url, "trainyard", "vision", "mnist-old", "mnist-new")
    assert pods["old"].asked(60) == 0
    assert pods["new"].asked(60) == 0
    assert pods["new"].asked(failing, WHITE) == failing
    wait_until(lambda: scraped(prometheus, "old") >= 110 and scraped(prometheus, "new") >= 60 + failing, 20)
    stable, canary = traffic.stable(), traffic.canary()
    assert (canary.requests, canary.errors) == (60 + failing, failing)
    assert (stable.requests, stable.errors) == (60, 0)
    assert canary.latency > 0
    assert stable.latency > 0
    assert judge(Criteria(60, 0.01, 1000, 60), stable, canary).decision == decision
