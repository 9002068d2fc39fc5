"""The model server over HTTP: the Open Inference Protocol, metrics, batches, and clients that ask too much."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.serving import answers_of, ask, wait_until
from trainyard.components.common.artifacts import published
from trainyard.components.common.datasets import open_dataset
from trainyard.components.serve.here.service import ServiceFolder, WantedVersion
from trainyard.components.serve.server.access import Access
from trainyard.components.serve.server.http_api import application
from trainyard.components.serve.server.limits import MOST_PREDICTIONS, Limits
from trainyard.components.serve.server.served import ServedModel

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def images(dataset):
    return open_dataset(dataset).read("test").images[:20]


@pytest.fixture(scope="module")
def base(model, tmp_path_factory):
    """Address of a server of the digits, as version 1 of `mnist`."""
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "trainyard.components.serve"]
    run = {"cwd": PROJECT, "env": {**os.environ, "TRAINYARD_HOME": str(home)}, "check": True, "capture_output": True}
    options = ["--target", "process", "--model-name", "mnist", "--model-uri", model, "--no-ui"]
    done = subprocess.run([*command, *options], text=True, **run)
    yield done.stdout.partition("/v1")[0]
    subprocess.run([*command, "stop"], **run)


def tensor(images, datatype="UINT8", **more):
    return {"name": "image", "shape": list(images.shape), "datatype": datatype, "data": images.ravel().tolist(), **more}


def test_health_and_metadata_are_told_as_the_protocol_has_them(base):
    assert ask(f"{base}/v2/health/live") == (200, {"live": True})
    assert ask(f"{base}/v2/health/ready") == (200, {"ready": True})
    status, server = ask(f"{base}/v2")
    assert status == 200
    assert server == {"name": "trainyard", "version": "2", "extensions": ["binary_tensor_data", "classification"]}
    for path in ("", "/versions/1"):
        assert ask(f"{base}/v2/models/mnist{path}/ready") == (200, {"name": "mnist", "ready": True})
        assert ask(f"{base}/v2/models/mnist{path}") == (
            200,
            {
                "name": "mnist",
                "versions": ["1"],
                "platform": "litert",
                "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 28, 28, 1]}],
                "outputs": [{"name": "output_0", "datatype": "FP32", "shape": [-1, 10]}],
            },
        )


@pytest.mark.parametrize("path", ["", "/versions/1"])
@pytest.mark.parametrize(
    "make",
    [
        tensor,
        lambda images: tensor(images.astype(float), "FP32"),
        lambda images: tensor(images, data=images.tolist()),
        lambda images: tensor(images, parameters={"content_type": "np"}),
    ],
    ids=["bytes", "floats", "nested", "parameters"],
)
def test_an_inference_is_answered_with_the_models_own_numbers(base, model, images, path, make):
    request = {"id": "forty-two", "inputs": [make(images)], "outputs": [{"name": "output_0"}]}
    status, answer = ask(f"{base}/v2/models/mnist{path}/infer", request)
    assert status == 200
    (output,) = answer.pop("outputs")
    assert answer == {"id": "forty-two", "model_name": "mnist", "model_version": "1"}
    data = np.array(output.pop("data"))
    assert output == {"name": "output_0", "datatype": "FP32", "shape": [20, 10]}
    assert data.shape == (200,)
    assert np.allclose(data.reshape(20, 10), answers_of(model, images), atol=1e-5)


def test_an_inference_without_an_id_gets_none(base, images):
    status, answer = ask(f"{base}/v2/models/mnist/infer", {"inputs": [tensor(images)]})
    assert status == 200
    assert "id" not in answer


BLANK = np.zeros((1, 28, 28, 1), int)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{", "expected JSON"),
        ([], "expected a JSON object"),
        ({}, "inputs: expected a list of one tensor"),
        ({"inputs": []}, "inputs: expected a list of one tensor"),
        ({"inputs": [tensor(BLANK), tensor(BLANK)]}, "inputs: expected a list of one tensor"),
        ({"inputs": [tensor(BLANK, name="picture")]}, "expected the tensor image, received 'picture'"),
        ({"inputs": [tensor(BLANK, "BYTES")]}, "expected datatype FP32 or UINT8, received 'BYTES'"),
        ({"inputs": [tensor(BLANK, shape=None)]}, "expected shape as a list of integers"),
        ({"inputs": [tensor(BLANK, shape=[1, 784])]}, "expected shape [-1, 28, 28, 1], received [1, 784]"),
        ({"inputs": [tensor(BLANK, shape=[0, 28, 28, 1])]}, "expected shape [-1, 28, 28, 1]"),
        ({"inputs": [tensor(BLANK, data=None)]}, "expected data as a JSON array"),
        ({"inputs": [tensor(BLANK, data=[0] * 783)]}, "or flat, received [783]"),
        ({"inputs": [tensor(BLANK, data=[[0], [0, 1]])]}, "lists of different lengths"),
        ({"inputs": [tensor(BLANK, data=["0"] * 784)]}, "expected data of datatype UINT8"),
        ({"inputs": [tensor(BLANK, data=[0.5] * 784)]}, "expected integers from 0 to 255"),
        ({"inputs": [tensor(BLANK, data=[256] * 784)]}, "expected integers from 0 to 255"),
        ({"inputs": [tensor(BLANK)], "outputs": [{"name": "other"}]}, "outputs: expected output_0"),
        ({"inputs": [tensor(BLANK)], "outputs": "all"}, "outputs: expected a list"),
        ({"inputs": [tensor(BLANK)], "id": 42}, "id: expected a string"),
    ],
)
def test_an_inference_that_is_none_gets_400_and_the_reason(base, body, text):
    url = f"{base}/v2/models/mnist/infer"
    status, answer = ask(url, raw=body) if isinstance(body, bytes) else ask(url, body)
    assert status == 400
    assert list(answer) == ["error"]
    assert text in answer["error"]


def test_models_versions_and_paths_that_are_not_there_get_404_and_the_reason(base):
    body = {"inputs": [tensor(BLANK)]}
    for path in ("other", "mnist/versions/9"):
        for end, request in (("", None), ("/infer", body)):
            status, answer = ask(f"{base}/v2/models/{path}{end}", request)
            assert status == 404
            assert "expected a model that is loaded" in answer["error"]
        status, answer = ask(f"{base}/v2/models/{path}/ready")
        assert (status, answer["ready"]) == (404, False)
    assert ask(f"{base}/v2/models/mnist/explain")[0] == 404
    assert ask(f"{base}/v2/models/mnist/infer")[0] == 405


def test_the_answer_tells_which_version_gave_it(base, images):
    body = json.dumps({"instances": images[:1].tolist()}).encode()
    with urllib.request.urlopen(f"{base}/v1/models/mnist:predict", body) as answer:
        assert answer.headers["Model-Version"] == "1"


def metrics(base):
    """The numbers of the server by their name and labels."""
    with urllib.request.urlopen(f"{base}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        lines = answer.read().decode().splitlines()
    assert all(re.match(r'#|[a-z_]+(\{([a-z_]+="[^"]*",?)*\})? [-+.\deE]+$', line) for line in lines)
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines) if name[0] != "#"}


def test_prometheus_learns_what_was_asked_and_how_it_went(base, images):
    before = metrics(base)
    for _ in range(3):
        ask(f"{base}/v1/models/mnist:predict", {"instances": images.tolist()})
    ask(f"{base}/v1/models/mnist:predict", {"instances": []})
    ask(f"{base}/v2/models/mnist/infer", {"inputs": [tensor(images)]})
    ask(f"{base}/no/such/path")
    after = metrics(base)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown['trainyard_requests_total{code="200",handler="predict",version="1"}'] == 3
    assert grown['trainyard_requests_total{code="400",handler="predict",version="1"}'] == 1
    assert grown['trainyard_requests_total{code="200",handler="infer",version="1"}'] == 1
    assert grown['trainyard_requests_total{code="404",handler="none",version=""}'] == 1
    assert grown['trainyard_request_seconds_count{handler="predict",version="1"}'] == 4
    assert grown['trainyard_request_seconds_bucket{handler="predict",le="+Inf",version="1"}'] == 4
    assert grown["trainyard_batch_images_count"] == 4
    assert grown["trainyard_batch_images_sum"] == 80
    assert after["trainyard_requests_in_flight"] == 1  # the one that asks
    version = 'trainyard_version_percent{backend="LiteRT",model="mnist",state="AVAILABLE",version="1"}'
    assert after[version] == 100
    assert after["process_resident_memory_bytes"] > 0


def test_requests_at_once_are_answered_together_and_each_gets_its_own(base, model, images):
    """Also beside requests that are none, and with several images in one."""
    expected = answers_of(model, images)
    before = metrics(base)

    def client(number):
        rows = np.random.default_rng(number).integers(0, 20, 1 + number % 3)
        for _ in range(15):
            status, answer = ask(f"{base}/v1/models/mnist:predict", {"instances": images[rows].tolist()})
            assert status == 200
            assert np.allclose(answer["predictions"], expected[rows], atol=1e-5)
            assert ask(f"{base}/v1/models/mnist:predict", {"instances": [1]})[0] == 400
        return 15

    with ThreadPoolExecutor(16) as pool:
        answered = sum(pool.map(client, range(16)))
    grown = {name: value - before.get(name, 0) for name, value in metrics(base).items()}
    assert 0 < grown["trainyard_batch_images_count"] <= answered


class Server:
    """Where a server listens."""

    def __init__(self, base):
        self.base = base
        host, _, port = base.removeprefix("http://").partition(":")
        self._address = host, int(port)

    def connect(self):
        return socket.create_connection(self._address, timeout=20)


@pytest.fixture
def server(base):
    return Server(base)


@pytest.fixture
def impatient(model, tmp_path):
    """A server that gives its clients a second to send a request."""
    service = ServiceFolder(tmp_path / "mnist")
    version = published.find(str(model))
    service.versions.mkdir(parents=True)
    published.fetch(version, service.versions / version.folder_name)
    service.want([WantedVersion(1, "", version.folder_name, 100)])
    command = [sys.executable, "-m", "trainyard.components.serve.server", service.folder, "--patience", "1"]
    with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL):
        wait_until(lambda: service.state() and service.state().versions[0].state == "AVAILABLE")
        yield Server(service.state().url)
        service.want_none()


def post(length):
    """The head of a prediction."""
    return f"POST /v1/models/mnist:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


def answer_on(connection):
    """Status, headers and JSON of the next answer."""
    answer = HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.headers, json.load(answer)


def test_a_client_too_slow_with_its_request_is_let_go(impatient):
    """Whether it sends nothing, a part of the headers, a part of the body, or stops in a second request."""
    silent, half, body, second = (impatient.connect() for _ in range(4))
    half.sendall(b"POST /v1/models/mnist:predict HTTP/1.1\r\nHos")
    body.sendall(post(1000) + b"{")
    second.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer_on(second)[0] == 200
    second.sendall(b"GET /v2/hea")
    assert silent.recv(1) == half.recv(1) == second.recv(1) == b""
    status, _, content = answer_on(body)
    assert status == 408
    assert content["error"] == "expected the whole body within 1 seconds, received 1 bytes"
    assert body.recv(1) == b""
    assert ask(f"{impatient.base}/v2/health/ready")[0] == 200
    for one in (silent, half, body, second):
        one.close()


@pytest.mark.parametrize("place", ["one header", "many headers", "the path", "a trailer"])
def test_headers_without_end_are_refused(server, place):
    begin, more = {
        "one header": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", b"a" * 2**16),
        "many headers": (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X: a\r\n" * 2**14),
        "the path": (b"GET /", b"a" * 2**16),
        "a trailer": (post(0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked") + b"0\r\nX: ", b"a" * 2**16),
    }[place]
    with server.connect() as connection:
        connection.sendall(begin)
        received = b""
        with suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(more)
        with suppress(ConnectionError):
            while piece := connection.recv(2**16):
                received += piece
    assert received == b"" or b" 431 " in received or b" 400 " in received  # reset, where it still had to be read
    assert ask(f"{server.base}/v2/health/ready")[0] == 200


def test_a_version_of_thousands_of_digits_is_not_found(server):
    for path in (f"/v1/models/mnist/versions/{'9' * 5000}", f"/v2/models/mnist/versions/{'9' * 5000}"):
        assert ask(server.base + path)[0] in (400, 404)


def test_a_body_announced_too_large_is_refused_before_it_is_sent(server):
    with server.connect() as connection:
        connection.sendall(post(10**12))
        assert answer_on(connection)[0] == 413


def test_a_flood_is_refused_in_good_order_and_what_was_admitted_is_answered(server, model, images):
    """As many predictions as are let in hang in their bodies: one more gets 503, health is told, then all end well."""
    content = json.dumps({"instances": images[:1].tolist()}).encode()
    waiting = [server.connect() for _ in range(MOST_PREDICTIONS)]
    for one in waiting:
        one.sendall(post(len(content)) + content[:10])
    wait_until(lambda: metrics(server.base)["trainyard_requests_in_flight"] > MOST_PREDICTIONS)
    with server.connect() as more:
        more.sendall(post(len(content)) + content)
        status, headers, refused = answer_on(more)
    assert (status, headers["Retry-After"]) == (503, "1")
    assert refused["error"] == f"busy with {MOST_PREDICTIONS} predictions; try again in a second"
    assert ask(f"{server.base}/v2/health/live")[0] == 200
    expected = answers_of(model, images[:1])
    for one in waiting:
        one.sendall(content[10:])
    for one in waiting:
        status, _, answered = answer_on(one)
        assert status == 200
        assert np.allclose(answered["predictions"], expected, atol=1e-5)
        one.close()
    assert metrics(server.base)["trainyard_requests_in_flight"] == 1


def test_a_client_that_leaves_takes_nobody_along(server, model, images):
    content = json.dumps({"instances": images.tolist()}).encode()
    for _ in range(20):
        for part in (content, content[:100]):
            with server.connect() as leaving:
                leaving.sendall(post(len(content)) + part)
        status, answer = ask(f"{server.base}/v1/models/mnist:predict", raw=content)
        assert status == 200
        assert np.allclose(answer["predictions"], answers_of(model, images), atol=1e-5)
    wait_until(lambda: metrics(server.base)["trainyard_requests_in_flight"] == 1)


def test_an_answer_comes_in_one_piece(server, images):
    """Its head and its body in one system call each would cost as much as all else."""
    content = json.dumps({"instances": images[:1].tolist()}).encode()
    with server.connect() as client:
        for _ in range(20):
            client.sendall(post(len(content)) + content)
            head, _, body = client.recv(2**16).partition(b"\r\n\r\n")
            assert b" 200 " in head
            assert len(json.loads(body)["predictions"][0]) == 10


def test_nothing_is_kept_of_unknown_paths(tmp_path):
    """urllib keeps the last URLs that it has read; each holds a megabyte that a large request has left."""
    served = ServedModel(ServiceFolder(tmp_path / "mnist"), "http://127.0.0.1")
    app = application(served, Limits(patience=1), Access)
    statuses = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        statuses.append(message.get("status"))

    async def ask_for(path):
        about = {"type": "http", "method": "GET", "scheme": "http", "server": ("127.0.0.1", 80), "headers": []}
        await app({**about, "path": path, "root_path": "", "query_string": b""}, receive, send)

    before = urlsplit.cache_info().misses
    asyncio.run(ask_for("/v1/unknown"))
    asyncio.run(ask_for("/unknown"))
    assert statuses[::2] == [400, 404]
    assert urlsplit.cache_info().misses == before
