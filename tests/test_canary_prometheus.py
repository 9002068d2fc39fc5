"""Canary analysis by a real Prometheus, which scrapes real model servers as it would the pods of two versions."""

import json
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from typing import ClassVar

import numpy as np
import pytest
from onnx import TensorProto
from onnx.helper import make_node as node

from tests.conftest import PROJECT, outside_aws
from tests.kubernetes_api import DEPLOYMENTS, ROUTES
from tests.onnx_models import Network
from tests.prometheus import RealPrometheus
from tests.serving import wait_until
from tests.standard import Standard
from trainyard.components.common.artifacts.model import Card, Input, Onnx
from trainyard.components.serve.analysis import PROMOTED, ROLLED_BACK, Criteria, judge
from trainyard.components.serve.kserve.prometheus import PrometheusTraffic

PROMETHEUS = shutil.which("prometheus")
pytestmark = pytest.mark.skipif(not PROMETHEUS, reason="NO REAL PROMETHEUS IS TESTED: prometheus is not installed")
PODS = {"old": "mnist-old-deployment-6f7c9d8b5f-abcde", "new": "mnist-new-deployment-7d4b8c6f9d-fghij"}
WHITE, BLACK = 255, 0


def table(folder, rows):
    """A model folder of a network that looks the brightest pixel up in a table of so many rows, and fails beyond it."""
    network = Network(np.zeros((2, 28, 28, 1), np.uint8), np.array([0, 1]), filters=1)
    network.weights = np.zeros((rows, 10), np.float32)
    nodes = [
        node("ReduceMax", ["input"], ["brightest"], axes=[1, 2, 3], keepdims=0),
        node("Cast", ["brightest"], ["row"], to=TensorProto.INT64),
        node("Gather", ["weights", "row"], ["logits"]),
    ]
    network.write(folder / "model.onnx", nodes, [("input", TensorProto.FLOAT, ["images", 1, 28, 28])], "logits")
    how = Onnx(input="input", layout="NCHW", range=(0, 255), answers="logits")
    shape, classes = Input(shape=(28, 28, 1)), list("0123456789")
    Card(architecture="table", input=shape, classes=classes, parameters=10 * rows, onnx=how).write(folder)
    return folder


@pytest.fixture(scope="module")
def fragile(tmp_path_factory):
    """A model folder whose network fails for white images."""
    return table(tmp_path_factory.mktemp("fragile"), rows=1)


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A model folder whose network answers any image, with the same as the fragile one."""
    return table(tmp_path_factory.mktemp("sound"), rows=256)


class Pod:
    """A model server with the predictor image's command."""

    ports: ClassVar = set()
    """All that were given out: a server that is still starting has not taken its own yet."""

    def __init__(self, model):
        port = 0
        while port in {0, *self.ports}:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
        self.ports.add(port)
        self.address = f"127.0.0.1:{port}"
        command = [sys.executable, "-m", "trainyard.components.serve.predictor", "--model", model]
        options = ["--model-name", "mnist", "--host", "127.0.0.1", "--port", str(port), "--drain", "0"]
        self.process = subprocess.Popen([*command, *options], cwd=PROJECT, env=outside_aws(), stderr=subprocess.DEVNULL)

    def ready(self):
        with suppress(OSError):
            return urllib.request.urlopen(f"http://{self.address}/v2/health/ready", timeout=5).status == 200

    def asked(self, count, pixel=BLACK):
        """Ask so many times; how many answers were server errors."""
        asked = {"instances": [[[[pixel]] * 28] * 28]}
        return sum(self.answer("/v1/models/mnist:predict", asked)[0] >= 500 for _ in range(count))

    def answer(self, path, asked):
        """Status and body of what it answers."""
        try:
            with urllib.request.urlopen(f"http://{self.address}{path}", json.dumps(asked).encode(), timeout=20) as one:
                return one.status, json.load(one)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

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
    return prometheus.value(f'sum(trainyard_requests_total{{pod="{PODS[name]}",handler="predict"}})') or 0


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


class Nodes:
    """Runs a pod for each Deployment that KServe makes, has Prometheus scrape them, and sends each its share.

    Attributes:
        models: Model folders by URI.
    """

    def __init__(self, api, models, folder):
        self.models, self._kserve, self._api = models, Standard(api), api
        self._pods, self._changing = {}, threading.Lock()
        self.prometheus = RealPrometheus(PROMETHEUS, folder, [])
        api.controller, api.behind, api.rights = self._look, self._forwarded, ["create services/proxy"]

    def _look(self, service):
        status = self._kserve(service)
        sources = {
            name: one["spec"]["template"]["metadata"]["annotations"]
            for (plural, _, name), one in self._api.objects.items()
            if plural == DEPLOYMENTS
        }
        uris = {name: next(iter(annotations.values())) for name, annotations in sources.items()}
        with self._changing:
            if uris != {name: uri for name, (uri, _) in self._pods.items()}:
                self._run(uris)
        return status

    def _run(self, uris):
        ended = [pod for name, (uri, pod) in self._pods.items() if uris.get(name) != uri]
        kept = {name: one for name, one in self._pods.items() if one[1] not in ended}
        new = {name: (uri, Pod(self.models[uri])) for name, uri in uris.items() if name not in kept}
        self._pods = kept | new
        wait_until(lambda: all(pod.ready() for _, pod in new.values()), 60)
        added = {"namespace": "vision", "container": "kserve-container", "endpoint": "http"}
        names = {name: f"{name}-{int(pod.address[10:]):x}-abcde" for name, (_, pod) in self._pods.items()}
        self.prometheus.scrape([(self._pods[name][1].address, {**added, "pod": pod}) for name, pod in names.items()])
        for pod in ended:
            pod.end()

    def _forwarded(self, service, path, body):
        with self._changing:
            _, pod = self._pods[service]
        return pod.answer(path, body)

    def ask_as_routed(self):
        """Ask once for each percent that the route gives to a Deployment; every fifth image is white."""
        route = self._api.objects[ROUTES, "vision", "mnist"]["spec"]["rules"][0]["backendRefs"]
        for backend in route:
            for turn in range(backend["weight"] // 10):
                with self._changing:
                    known = self._pods.get(backend["name"])
                with suppress(OSError):  # a pod may end meanwhile
                    if known:
                        known[1].asked(1, WHITE if turn % 5 == 4 else BLACK)

    def end(self):
        for _, pod in self._pods.values():
            pod.end()
        self.prometheus.end()


@pytest.fixture
def nodes(api, tmp_path):
    running = Nodes(api, {}, tmp_path)
    yield running
    running.end()


@pytest.fixture
def released(store, bucket, nodes):
    """Publish a model folder with what the smoke test reads of it; its URI."""

    def publish(number, model):
        shares = [0.1] * 10
        answered = {"index": 7, "instance": [[[0]] * 28] * 28, "label": "0", "prediction": "0", "probabilities": shares}
        files = {
            "model.json": (model / "model.json").read_text(),
            "evaluation/examples.json": json.dumps({"examples": [answered]}),
        }
        for path, content in files.items():
            store.client.put_object(Bucket=bucket, Key=f"mnist/{number}/{path}", Body=content.encode())
        uri = f"s3://{bucket}/mnist/{number}/"
        nodes.models[uri] = model
        return uri

    return publish


@pytest.mark.parametrize("good", [True, False])
def test_serve_promotes_a_good_canary_and_rolls_a_bad_one_back(
    serve_on_cluster, nodes, released, sound, fragile, tmp_path, good
):
    """From command to verdict: the servers' own metrics, by way of Prometheus, decide who gets all requests."""
    stable, canary = released(3, sound), released(4, sound if good else fragile)
    options = ("--image", "registry.example.com/trainyard-predictor:1.0.0-onnx")
    done = serve_on_cluster(*options, uri=stable)
    assert done.returncode == 0, done.stderr
    ended = threading.Event()

    def ask():
        while not ended.wait(0.02):
            nodes.ask_as_routed()

    client = threading.Thread(target=ask)
    client.start()
    try:
        done = serve_on_cluster(
            *options,
            *("--canary-percent", "50", "--analyze", "6s", "--prometheus", nodes.prometheus.url),
            *("--max-error-rate", "0.05", "--max-latency-ratio", "1000", "--min-requests", "20"),
            *("--verdict", tmp_path / "verdict"),
            uri=canary,
            timeout=150,  # a promotion changes the Deployments one after another, each with a pod that starts
        )
    finally:
        ended.set()
        client.join()
    assert done.returncode == (0 if good else 1), done.stderr
    assert (tmp_path / "verdict").read_text() == (PROMOTED if good else ROLLED_BACK)
    told = "canary promoted: error rate 0.00%" if good else "canary rolled back: error rate "
    assert told in done.stderr, done.stderr
    status = serve_on_cluster("--action", "status", uri="").stdout
    assert status.splitlines()[-1].endswith(canary if good else stable), status
