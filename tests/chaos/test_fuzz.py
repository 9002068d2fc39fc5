"""The readers of data sets and the parsers of the model server, fuzzed with hypothesis."""

import http.client
import io
import json
import os
import shutil
import socket
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import PROJECT
from trainyard.components.common.cli import LONGEST_LINE, BadInput
from trainyard.components.common.datasets import open_dataset

PIXELS = np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8)
DAMAGES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=12)


@pytest.fixture
def fuzz(pytestconfig):
    """Call a function with many random arguments: `fuzz(function, brief=100, full=2000, name=strategy)`."""

    def run(function, brief, full, **strategies):
        examples = brief if pytestconfig.getoption("brief") else full
        rules = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        seed(pytestconfig.getoption("seed"))(rules(given(**strategies)(function)))()

    return run


def image(kind, pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def arrays(**named):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **named)
    return buffer.getvalue()


def layouts():
    """Small data sets as files, by the name of their layout."""
    labels = bytes([0, 1])
    both = np.frombuffer(labels, np.uint8)
    idx = {
        f"{split}-{kind}-ubyte": content
        for split in ("train", "t10k")
        for kind, content in (
            ("images-idx3", struct.pack(">IIII", 2051, 2, 8, 8) + PIXELS.tobytes()),
            ("labels-idx1", struct.pack(">II", 2049, 2) + labels),
        )
    }
    folders = {
        f"{split}/{label}/{number}.{kind.lower()}": image(kind, PIXELS[label])
        for split in ("train", "test")
        for label in (0, 1)
        for number, kind in enumerate(("PNG", "JPEG", "BMP", "GIF"))
    }
    table = {f"{number}.png": image("PNG", PIXELS[number % 2]) for number in range(4)}
    rows = "".join(f"{number}.png,{'ab'[number % 2]}\n" for number in range(4))
    return {
        "npz": {"digits.npz": arrays(x_train=PIXELS, y_train=both, x_test=PIXELS, y_test=both)},
        "idx": idx,
        "folders": folders,
        "table": {**table, "labels.csv": f"file_name,label\n{rows}".encode()},
    }


LAYOUTS = layouts()


def damaged(content, damages, kept):
    content = bytearray(content)
    for place, value in damages:
        if content:
            content[int(place * len(content))] = value
    return bytes(content[: int(kept * len(content))])


def test_a_damaged_data_set_is_read_or_refused_in_one_line(tmp_path, fuzz, note):
    def read(layout, which, damages, kept):
        folder = tmp_path / "data"
        shutil.rmtree(folder, ignore_errors=True)
        names = sorted(LAYOUTS[layout])
        hit = names[int(which * len(names))]
        for name, content in LAYOUTS[layout].items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(damaged(content, damages, kept) if name == hit else content)
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
