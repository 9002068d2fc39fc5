"""The model server as KServe runs it: it listens when it answers, and goes on for a while after SIGTERM."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from tests.conftest import PROJECT, outside_aws


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def start(model, port, *options, **environment):
    command = [sys.executable, "-m", "trainyard.components.serve.predictor", "--model", str(model), *options]
    where = ["--host", "127.0.0.1", "--port", str(port)]
    return subprocess.Popen(
        [*command, *where], cwd=PROJECT, env=outside_aws() | environment, stderr=subprocess.PIPE, text=True
    )


def get(port, path, body=None):
    """Status and JSON of an answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", body, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def wait_for_the_port(port, process):
    while process.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
    return pytest.fail(process.stderr.read())


def shape_of(model):
    return json.loads((model / "model.json").read_text())["input"]["shape"]


def test_an_open_port_means_an_answer_under_the_name_of_the_service(model, port):
    height, width, channels = shape_of(model)
    body = json.dumps({"instances": [[[[0] * channels] * width] * height]}).encode()
    process = start(model, port, INFERENCE_SERVICE_NAME="digits")
    try:
        wait_for_the_port(port, process)
        assert get(port, "/v1/models/digits:predict", body)[0] == 200
    finally:
        process.kill()
        process.communicate()


def test_after_sigterm_it_is_not_ready_and_still_answers_until_the_routes_have_followed(model, port):
    height, width, channels = shape_of(model)
    body = json.dumps({"instances": [[[[0] * channels] * width] * height]}).encode()
    process = start(model, port, "--drain", "3")
    try:
        wait_for_the_port(port, process)
        assert get(port, "/v2/health/ready") == (200, {"ready": True})
        process.send_signal(signal.SIGTERM)
        while get(port, "/v2/health/ready")[0] == 200:
            time.sleep(0.02)
        assert get(port, "/v1/models/model:predict", body)[0] == 200
        assert process.wait(timeout=30) in (0, 143)
    finally:
        process.kill()
        process.communicate()


def test_a_model_that_cannot_be_loaded_ends_it_with_the_reason(model, port, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    for content in [*broken.glob("*.tflite"), *broken.glob("*.keras"), *broken.glob("1/*.pb")]:
        content.write_bytes(b"no model")
    process = start(broken, port)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "expected a model, received one with" in stderr.splitlines()[-1]
