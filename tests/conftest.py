"""What the tests share: a real object store, and steps run as real processes."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import pytest

from tests.kserve_models import kserve_package
from tests.kserve_status import PROBABILITIES
from tests.kubernetes_api import kubernetes_api
from tests.made_up import made_up_card
from tests.prometheus import Prometheus
from trainyard.components.common.store import s3
from trainyard.launch.engine import engine
from trainyard.launch.store import start_store, stop_store

PROJECT = Path(__file__).parent.parent

# A shell without job control starts what it puts in the background with SIGINT ignored, and a process
# hands that on to those it starts: the steps would not hear the interrupt that a test sends.
signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class RunningStore:
    environment: dict[str, str]
    client: object


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A running object store: `.environment` for processes, `.client` for the test itself."""
    home = tmp_path_factory.mktemp("home")
    environment = start_store(home).environment
    yield RunningStore(environment, s3.client(environment))
    stop_store(home)


@pytest.fixture
def bucket(store):
    """A bucket of the test's own."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    store.client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def start_step(store):
    """Start a step as a process and go on: `start_step("export", "--model", folder, ...)`."""

    def start(*args, env=None):
        return subprocess.Popen(
            [sys.executable, "-m", f"trainyard.components.{args[0]}", *map(str, args[1:])],
            cwd=PROJECT,
            env=outside_aws() | store.environment | (env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def step(start_step):
    """Run a step as a process: `step("export", "--model", folder, ...)`."""

    def run(*args, env=None, timeout=45):
        with start_step(*args, env=env) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk]).returncode:
        pytest.skip("a small disk takes root and mount")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture(scope="session")
def builder(tmp_path_factory):
    """A container engine that builds images; without one the test is skipped."""
    empty = tmp_path_factory.mktemp("empty")
    (empty / "Dockerfile").write_text("FROM scratch\nLABEL empty=true\n")
    try:
        engine("build", "--quiet", str(empty))
    except Exception as error:
        pytest.skip(f"NO IMAGE IS TESTED: {error}")


@pytest.fixture(scope="session")
def digits():
    """The small set of real digits that the project ships."""
    return PROJECT / "examples" / "data" / "digits.npz"


@pytest.fixture(scope="session")
def dataset(digits, tmp_path_factory):
    """A data set folder, as download writes it."""
    folder = tmp_path_factory.mktemp("dataset")
    shutil.copy(digits, folder)
    return folder


@pytest.fixture(scope="session")
def model(dataset, tmp_path_factory):
    """A model folder that the real train step wrote; about 97 % accurate."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    command = [sys.executable, "-m", "trainyard.components.train", "--dataset", dataset, "--model", folder]
    subprocess.run([*command, "--epochs", "20", "--batch-size", "32"], cwd=PROJECT, check=True, capture_output=True)
    return folder


@pytest.fixture(autouse=True)
def new_credentials(monkeypatch):
    """boto3's default session keeps the credentials that it saw first, of another test."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


def outside_aws():
    """This environment without a store of its own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_") or name == "AWS_CA_BUNDLE"}


@pytest.fixture(scope="session")
def kserve_models(pytestconfig):
    """A function from an InferenceService to what KServe's own models say against it."""
    return kserve_package(pytestconfig.cache.mkdir("kserve"))


@pytest.fixture
def api(request):
    """A double of the Kubernetes API. It refuses what KServe's models forbid, where these can be fetched."""
    with kubernetes_api() as running:
        with contextlib.suppress(pytest.skip.Exception):
            running.mistakes = request.getfixturevalue("kserve_models")
        yield running


@pytest.fixture
def serve_on_cluster(step, api, tmp_path):
    """Run the serve step against that double: `serve_on_cluster("--action", "promote", uri="")`, for `mnist`."""
    kubeconfig = api.kubeconfig(tmp_path / "kubeconfig")

    def run(*options, uri="s3://models/mnist/4/", env=None, timeout=45):
        named = ["--model-uri", uri] if uri else ["--model-name", "mnist"]
        return step("serve", *named, *options, env={"KUBECONFIG": str(kubeconfig), **(env or {})}, timeout=timeout)

    return run


@pytest.fixture
def prometheus():
    """A double of Prometheus."""
    double = Prometheus()
    yield double
    double.end()


@pytest.fixture
def published(store, bucket):
    """Publish what the smoke test reads of a version; its URI."""

    def publish(version, **card):
        prefix = f"mnist/{version}/"
        example = {"index": 7, "instance": [[[0]]], "label": "1", "prediction": "1", "probabilities": PROBABILITIES}
        files = {"model.json": made_up_card().as_json() | card, "evaluation/examples.json": {"examples": [example]}}
        for path, content in files.items():
            store.client.put_object(Bucket=bucket, Key=prefix + path, Body=json.dumps(content).encode())
        return f"s3://{bucket}/{prefix}"

    return publish


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for localhost that signed itself, with its key."""
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    options = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    command = ["openssl", *options.split(), "-keyout", "-", "-out", "-"]
    path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    return path


@pytest.fixture
def endpoint():
    """A model server: `.answers` are its probabilities, one after another, `.asked` the hosts it was asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            server.asked.append((self.headers["Host"], self.path))
            answer = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
            status, body = (200, {"predictions": [answer]}) if isinstance(answer, list) else (answer, {"error": "busy"})
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers, server.asked = [PROBABILITIES], []
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
