"""The readers of data sets and the parsers of the model server, fuzzed with hypothesis."""

import http.client
import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.conftest import PROJECT
from tests.small_data_sets import LAYOUTS, write_damaged
from trainyard.components.common.cli import LONGEST_LINE, BadInput
from trainyard.components.common.datasets import open_dataset

DAMAGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12)


@pytest.fixture
def fuzz(pytestconfig):
    """Call a function with many random arguments: `fuzz(function, brief=100, full=2000, name=strategy)`."""

    def run(function, brief, full, **strategies):
        examples = brief if pytestconfig.getoption("brief") else full
        rules = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        seed(pytestconfig.getoption("seed"))(rules(given(**strategies)(function)))()

    return run


def test_a_damaged_data_set_is_read_or_refused_in_one_line(tmp_path, fuzz, note):
    def read(layout, which, damages, kept):
        folder = tmp_path / "data"
        write_damaged(folder, layout, which, damages, kept)
        try:
            dataset = open_dataset(folder)
            for split in dataset.counts:
                dataset.read(split)
            outcome = "read"
        except BadInput as error:
            outcome = "refused in one line" if len(str(error)) < LONGEST_LINE else "refused at length"
        note(f"damaged data sets of the layout {layout}", outcome)

    fuzz(
        read,
        brief=200,
        full=3000,
        layout=st.sampled_from(sorted(LAYOUTS)),
        which=st.floats(0, 1, exclude_max=True),
        damages=DAMAGES,
        kept=st.one_of(st.just(1.0), st.floats(0, 1)),
    )


@pytest.fixture
def server(model, tmp_path):
    """Host and port of a model server of the digits."""
    command = [sys.executable, "-m", "trainyard.components.serve"]
    run = {"cwd": PROJECT, "env": {**os.environ, "TRAINYARD_HOME": str(tmp_path / "home")}, "check": True}
    options = ["--target", "process", "--model-name", "mnist", "--model-uri", model, "--no-ui"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, **run)
    host, _, port = done.stdout.removeprefix("http://").partition("/")[0].partition(":")
    yield host, int(port)
    subprocess.run([*command, "stop"], capture_output=True, **run)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["image", "UINT8", "FP32", "BYTES", "b64", [1, 28, 28, 1], [-1, 2**62, 28], 10**400, 1e39]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["instances", "inputs", "data", "shape", "datatype", "name", "b64"]), inner),
    ),
    max_leaves=12,
)
BODIES = st.one_of(
    st.binary(max_size=200),
    VALUES.map(lambda value: json.dumps(value).encode()),
    VALUES.map(lambda value: json.dumps({"instances": value}).encode()),
    st.fixed_dictionaries({"name": VALUES, "shape": VALUES, "datatype": VALUES, "data": VALUES}).map(
        lambda tensor: json.dumps({"inputs": [tensor]}).encode()
    ),
)
PATHS = ["/v1/models/mnist:predict", "/v1/models/mnist:classify", "/v2/models/mnist/infer", "/v2/models/mnist", "/..;/"]
HEADERS = st.dictionaries(
    st.sampled_from(["Content-Type", "Content-Encoding", "Inference-Header-Content-Length", "Origin", "Expect"]),
    st.sampled_from(["application/json", "gzip", "-1", "9" * 30, "http://evil.example", "100-continue", "identity"]),
    max_size=2,
)
TORN = [
    b"",
    b"\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET " + b"/" * 70_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    b"POST /v1/models/mnist:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
    b"POST /v1/models/mnist:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/models/mnist:predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
]


def test_no_request_makes_the_model_server_fail(server, fuzz, note):
    host, port = server
    right = json.dumps({"instances": np.zeros((1, 28, 28, 1)).tolist()}).encode()

    def ask(path, body, headers):
        connection = http.client.HTTPConnection(host, port, timeout=20)
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    def attack(path, body, headers, torn):
        if torn:
            with socket.create_connection((host, port), timeout=20) as connection:
                connection.sendall(torn)
            note("attacks on the model server", "torn off")
            return
        status = ask(path, body, headers)
        assert status < 500, (status, path, body, headers)
        note("attacks on the model server", f"{status}")

    torn = st.one_of(st.none(), st.none(), st.none(), st.sampled_from(TORN))
    fuzz(attack, brief=150, full=2000, path=st.sampled_from(PATHS), body=BODIES, headers=HEADERS, torn=torn)
    assert ask(PATHS[0], right, {}) == 200
