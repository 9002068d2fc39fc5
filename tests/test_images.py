"""The images: built for real, run as a strict cluster runs them, pushed, and loaded elsewhere."""

import hashlib
import io
import json
import os
import re
import shutil
import socket
import socketserver
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pytest
import yaml

from tests.conftest import PROJECT, outside_aws
from tests.kubernetes_api import kubernetes_api
from tests.onnx_models import MEAN, STD, Network
from tests.serving import answers_of, ask, publish, wait_until
from tests.test_kserve import FIRST
from trainyard.components.common.cli import BadInput
from trainyard.components.common.datasets import open_dataset
from trainyard.launch.containers import steps_as_containers
from trainyard.launch.engine import engine, failure

STEPS = ("download", "validate", "train", "evaluate", "export", "serve")
UID = 65532
STRICT = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", f"{UID}:{UID}"]


@pytest.fixture(scope="session")
def built(builder, tmp_path_factory):
    """The folder that names the images of a release, which have been built."""
    dist = tmp_path_factory.mktemp("images") / "dist"
    done = images("build", "--version", "test", "--dist", dist)
    if "base image" in done.stderr:
        pytest.skip(f"NO IMAGE IS TESTED: {done.stderr}")
    assert done.returncode == 0, done.stderr
    yield dist
    tagged = engine("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    engine("rmi", "--force", *(name for name in tagged if name.endswith((":test", ":test-tf", ":test-onnx"))))


@pytest.fixture(scope="session")
def names(built):
    """Name of each image."""
    return json.loads((built / "images.json").read_text())


@pytest.fixture
def closed_network(built):
    """A network of the engine without a way out: its name, and a function that lets a URL of this machine into it."""
    name = f"trainyard-test-{os.getpid()}"
    engine("network", "create", "--internal", name)
    gateway = engine("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", name)

    class PassOn(socketserver.StreamRequestHandler):
        def handle(self):
            with socket.create_connection(self.server.target) as target:
                ways = [(self.request, target), (target, self.request)]
                threads = [threading.Thread(target=pass_on, args=way, daemon=True) for way in ways]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

    with ExitStack() as stack:

        def let_in(url):
            parts = urlsplit(url)
            server = stack.enter_context(socketserver.ThreadingTCPServer((gateway, 0), PassOn))
            server.daemon_threads = True
            server.target = parts.hostname, parts.port
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            return f"{parts.scheme}://{gateway}:{server.server_address[1]}"

        yield name, let_in
    engine("network", "rm", name)


def pass_on(source, target):
    with suppress(OSError):
        while received := source.recv(65536):
            target.sendall(received)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def strictly(names, store, closed_network, tmp_path):
    """Run a step as a strict cluster would: `strictly("train", "--dataset", ..., reads=[...], network="none")`.

    Without another word there is no network but the object store's.
    """
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    outputs.chmod(0o777)
    name, let_in = closed_network
    reached = {**store.environment, "AWS_ENDPOINT_URL": let_in(store.environment["AWS_ENDPOINT_URL"])}

    def run(step, *options, image=None, reads=(), network=name, env=None):
        variables = {**(reached if network == name else {}), **(env or {})}
        command = ["run", "--rm", *STRICT, "--tmpfs", "/tmp", "--network", network, "-v", f"{outputs}:/outputs"]
        command += [part for path in reads for part in ("-v", f"{path}:{path}:ro")]
        command += [part for name, value in variables.items() for part in ("-e", f"{name}={value}")]
        return docker(
            *command, image or names[step], "python3", "-m", f"trainyard.components.{step}", *map(str, options)
        )

    run.outputs = outputs
    yield run
    engine("run", "--rm", "-v", f"{outputs}:/outputs", names["export"], "sh", "-c", "rm -rf /outputs/*")


def docker(*arguments):
    return subprocess.run(
        [os.environ.get("DOCKER") or "docker", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


def images(*arguments, env=None):
    return subprocess.run(
        [sys.executable, "-m", "trainyard.launch.images", *map(str, arguments)],
        cwd=PROJECT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
    )


def configuration(name):
    return json.loads(engine("image", "inspect", name))[0]


def layers(name):
    return configuration(name)["RootFS"]["Layers"]


def sources(folder):
    """A copy of what the images are built from."""
    copy = folder / "copy"
    for path in ("components", "launch"):
        shutil.copytree(PROJECT / path, copy / path)
    for file in (".dockerignore", "__init__.py"):
        shutil.copy(PROJECT / file, copy)
    return copy


def last_line(done):
    return done.stderr.strip().splitlines()[-1]


def test_an_image_has_no_entrypoint_no_root_and_says_where_it_comes_from(names):
    for step, name in names.items():
        about = configuration(name)["Config"]
        assert not about["Entrypoint"], step
        assert about["User"] == f"{UID}:{UID}", step
        assert about["Labels"]["org.opencontainers.image.version"] == "test"
        assert about["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
        revision = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True).stdout
        assert about["Labels"].get("org.opencontainers.image.revision", "") == revision.strip()


def test_no_image_holds_credentials_a_pip_cache_tests_or_a_certificate(names):
    look = "ls -d /root/.cache/pip /etc/pip.conf /run/secrets /build /opt/venv/lib/*/site-packages/*/tests; env"
    for step, name in names.items():
        found = docker("run", "--rm", "--user", "0", name, "sh", "-c", look).stdout
        assert not [line for line in found.splitlines() if line.startswith("/")], step
        assert "AWS_" not in found
        assert "PIP_" not in found


def test_an_image_adds_no_file_that_gives_rights(names):
    """Debian's own, which its base image brings, do nothing under `no-new-privileges`."""
    debians = {"chage", "chfn", "chsh", "expiry", "gpasswd", "mount", "newgrp", "passwd", "su", "umount", "unix_chkpwd"}
    for step, name in names.items():
        found = docker("run", "--rm", "--user", "0", name, "find", "/", "-xdev", "-type", "f", "-perm", "/6000").stdout
        assert {path for path in found.split() if not path.startswith("/usr/")} == set(), step
        assert {path.rpartition("/")[2] for path in found.split()} <= debians, step


def test_no_image_holds_a_secret(names):
    keys = "BEGIN [A-Z ]*PRIVATE KEY|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|https?://[^/ @]+:[^/ @]+@"
    look = f"grep -rIlE '{keys}' /app /etc /root /home /tmp; true"
    for step, name in names.items():
        assert docker("run", "--rm", "--user", "0", name, "sh", "-c", look).stdout == "", step
        assert not re.search(keys, docker("history", "--no-trunc", name).stdout), step


def test_the_templates_of_the_report_are_compiled_in_the_image(names):
    common, report = (f"/app/trainyard/components/{step}/report" for step in ("common", "evaluate"))
    look = f"ls {common}/*.jinja {report}/*.jinja | wc -l; find {report} -name '*.code' -readable | wc -l"
    templates, compiled = docker("run", "--rm", names["evaluate"], "sh", "-c", look).stdout.split()
    assert int(compiled) == int(templates) > 0


def test_only_train_carries_tensorflow(names):
    look = "import importlib.util as util; print(util.find_spec('tensorflow') is not None)"
    carries = {step: docker("run", "--rm", name, "python3", "-c", look).stdout.strip() for step, name in names.items()}
    assert carries.pop("train") == "True"
    assert set(carries.values()) == {"False"}


def test_what_steps_share_is_the_same_layer(names):
    models = ("train", "evaluate", "predictor")
    assert len({tuple(layers(names[name])[:2]) for name in ("download", "export", "serve", *models)}) == 1
    assert len({tuple(layers(names[name])[:3]) for name in models}) == 1


def test_a_changed_line_changes_one_layer(names, tmp_path):
    copy = sources(tmp_path)
    with (copy / "components/train/__main__.py").open("a") as file:
        file.write("# changed\n")
    engine("build", "-q", "-f", f"{copy}/components/train/Dockerfile", "-t", "trainyard-changed:test", str(copy))
    before, after = layers(names["train"]), layers("trainyard-changed:test")
    assert [old == new for old, new in zip(before, after, strict=True)].count(False) == 1


def test_the_whole_pipeline_runs_in_containers(built, names, digits, tmp_path):
    home = tmp_path / "home"
    environment = {**outside_aws(), "TRAINYARD_HOME": str(home)}
    command = [sys.executable, "pipeline.py", "run", "--runner", "docker", "--images", built / "images.json"]
    command += ["--data", digits, "--runs", tmp_path / "runs", "--epochs", "20", "--batch-size", "32"]
    try:
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        summary = json.loads((tmp_path / "runs/latest/summary.json").read_text())
        assert summary["status"] == "succeeded"
        assert summary["accuracy"] > 0.9
        assert list(summary["steps"]) == list(STEPS)
    finally:
        for module in ("trainyard.components.serve", "trainyard.launch.store"):
            subprocess.run([sys.executable, "-m", module, "stop"], cwd=PROJECT, env=environment, check=True)


def test_networks_are_compared_in_containers_and_the_best_is_served(built, names, digits, tmp_path):
    """The exit handler, a few lines of Python, runs in an image of ours too: nothing is pulled."""
    environment = {**outside_aws(), "TRAINYARD_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "examples.compare_models", "run", "--runner", "docker"]
    command += ["--images", built / "images.json", "--architectures", "dense,cnn", "--epochs", "1"]
    try:
        done = subprocess.run(
            [*command, "--data", digits, "--runs", tmp_path / "runs"],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "is the best of 2 by accuracy" in done.stdout
        assert "run ended: SUCCEEDED" in done.stderr
        endpoint = (tmp_path / "runs/latest/serve/endpoint").read_text()
        with urllib.request.urlopen(endpoint.removesuffix(":predict"), timeout=30) as answer:
            assert json.load(answer)["model_version_status"][0]["state"] == "AVAILABLE"
    finally:
        for module in ("trainyard.components.serve", "trainyard.launch.store"):
            subprocess.run([sys.executable, "-m", module, "stop"], cwd=PROJECT, env=environment, check=True)


@pytest.mark.parametrize("example", ["two_steps", "fan_out"])
def test_the_small_examples_run_in_containers(names, example, tmp_path):
    command = [sys.executable, "-m", f"examples.{example}", "run", "--runner", "docker", "--image", names["select"]]
    done = subprocess.run(
        [*command, "--runs", tmp_path], cwd=PROJECT, env=outside_aws(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout in ("the first step was here, and so was the second\n", "11\n")


def test_only_the_serve_step_reaches_the_engine_and_not_what_is_called_like_it(built, tmp_path):
    from kfp import dsl

    look = "mkdir -p $(dirname $0) && { test -e /var/run/docker.sock && echo reached || echo not; } >$0"

    @dsl.container_component
    def serve(socket: dsl.OutputPath(str)):
        return dsl.ContainerSpec("python:3.11-slim", ["sh", "-c", look], [socket])

    @dsl.pipeline(name="named-alike")
    def named_alike():
        serve()

    (tmp_path / "home").mkdir()
    with steps_as_containers(tmp_path / "runs", {"serve": "python:3.11-slim"}, tmp_path / "home") as run:
        named_alike()
    assert (run.folder / "serve" / "socket").read_text().strip() == "not"


def test_a_failed_step_in_a_container_is_told_in_its_own_words(built, names, tmp_path):
    broken = tmp_path / "broken.npz"
    broken.write_text("no numbers")
    environment = {**outside_aws(), "TRAINYARD_HOME": str(tmp_path / "home")}
    command = [sys.executable, "pipeline.py", "run", "--runner", "docker", "--images", built / "images.json"]
    try:
        done = subprocess.run(
            [*command, "--data", broken, "--runs", tmp_path / "runs"],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert last_line(done).startswith("step download failed (exit code 2): "), done.stderr
    finally:
        subprocess.run(
            [sys.executable, "-m", "trainyard.launch.store", "stop"], cwd=PROJECT, env=environment, check=True
        )


def test_every_step_does_its_job_as_a_strict_cluster_runs_it(strictly, closed_network, store, bucket, digits, tmp_path):
    store.client.upload_file(str(digits), bucket, "digits.npz")
    out = "/outputs"
    done = strictly("download", "--source", f"s3://{bucket}/digits.npz", "--dataset", f"{out}/dataset")
    assert done.returncode == 0, done.stderr
    candidates = []
    for name, epochs in (("a", 1), ("b", 9)):
        model, evaluation = ["--model", f"{out}/model-{name}"], ["--evaluation", f"{out}/evaluation-{name}"]
        done = strictly("train", "--dataset", f"{out}/dataset", *model, "--epochs", epochs, network="none")
        assert done.returncode == 0, done.stderr
        done = strictly("evaluate", "--dataset", f"{out}/dataset", *model, *evaluation, network="none")
        assert done.returncode == 0, done.stderr
        candidates += [f"--model-{name}", model[1], f"--evaluation-{name}", evaluation[1]]
    best = ["--model", f"{out}/model", "--evaluation", f"{out}/evaluation"]
    done = strictly("select", *candidates, *best, network="none")
    assert done.returncode == 0, done.stderr
    published = [*best, "--bucket", bucket]
    done = strictly("export", *published, "--model-uri", f"{out}/model_uri")
    assert done.returncode == 0, done.stderr
    uri = (strictly.outputs / "model_uri").read_text()
    assert uri == f"s3://{bucket}/digits/1/"
    with kubernetes_api() as api:
        api.script = FIRST
        kubeconfig = api.kubeconfig(tmp_path / "kubeconfig")
        kubeconfig.write_text(kubeconfig.read_text().replace(api.url, closed_network[1](api.url)))
        kubeconfig.chmod(0o644)
        options = ["--model-uri", "s3://models/mnist/4/", "--smoke-test", "false", "--endpoint", f"{out}/endpoint"]
        done = strictly("serve", *options, reads=[kubeconfig], env={"KUBECONFIG": str(kubeconfig)})
    assert done.returncode == 0, done.stderr
    assert (strictly.outputs / "endpoint").read_text().startswith("http")


def test_those_steps_had_no_other_network(closed_network, names):
    """What the network of containers reaches, the closed one does not."""
    elsewhere = engine("run", "--detach", names["export"], "python3", "-m", "http.server", "8000")
    try:
        address = json.loads(engine("inspect", elsewhere))[0]["NetworkSettings"]["IPAddress"]
        look = f"import urllib.request as url; url.urlopen('http://{address}:8000/', timeout=2)"
        wait_until(lambda: docker("run", "--rm", names["export"], "python3", "-c", look).returncode == 0)
        done = docker("run", "--rm", "--network", closed_network[0], names["export"], "python3", "-c", look)
        assert "URLError" in last_line(done)
    finally:
        engine("rm", "--force", elsewhere)


def test_the_model_server_is_a_custom_runtime_for_kserve(names, model):
    """It serves what is mounted at /mnt/models, and ends in good order when it is told to."""
    subprocess.run(["chmod", "-R", "a+rX", model.parent], check=True)
    image = np.zeros((1, 28, 28, 1)).tolist()
    port = free_port()
    command = ["run", "--detach", *STRICT, "--tmpfs", "/tmp", "--network", "host", "-v", f"{model}:/mnt/models:ro"]
    serve = ["python3", "-m", "trainyard.components.serve.predictor", "--model-name", "digits", "--port", str(port)]
    container = engine(*command, names["predictor"], *serve)
    try:
        url = f"http://127.0.0.1:{port}/v1/models/digits"
        wait_for(f"http://127.0.0.1:{port}/v2/models/digits/ready")
        request = urllib.request.Request(f"{url}:predict", json.dumps({"instances": image}).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert len(json.load(answer)["predictions"][0]) == 10
        engine("stop", "--time", "20", container)
        assert json.loads(engine("inspect", container))[0]["State"]["ExitCode"] in (0, 143)
    finally:
        engine("rm", "--force", container)


def test_a_model_server_in_docker_takes_a_new_version_without_a_failed_request(step, names, model, tmp_path):
    newer = tmp_path / "newer"
    shutil.copytree(model, newer)
    card = json.loads((newer / "model.json").read_text())
    (newer / "model.json").write_text(json.dumps({**card, "name": "newer"}))
    environment = {"TRAINYARD_HOME": str(tmp_path / "home")}
    serve = ["serve", "--target", "docker", "--image", names["predictor"], "--model-name", "swapped", "--model-uri"]
    try:
        done = step(*serve, model, env=environment)
        assert done.returncode == 0, done.stderr
        url = done.stdout.strip()
        (server,) = engine("ps", "--quiet", "--filter", f"ancestor={names['predictor']}").split()
        about = json.loads(engine("inspect", server))[0]["HostConfig"]
        assert about["ReadonlyRootfs"]
        assert about["CapDrop"] == ["ALL"]

        failed, over = [], threading.Event()
        asking = threading.Thread(target=ask_until, args=(url, over, failed))
        asking.start()
        swapped = step(*serve, newer, env=environment)
        over.set()
        asking.join()
        assert swapped.returncode == 0, swapped.stderr
        assert swapped.stdout.strip() == url
        assert failed == []

        other = step("serve", "--target", "process", "--model-name", "swapped", "--model-uri", model, env=environment)
        assert other.returncode == 2
        assert "stop --model-name swapped" in last_line(other)
    finally:
        stopped = step("serve", "stop", env=environment)
    assert stopped.returncode == 0, stopped.stderr
    assert not engine("ps", "--all", "--quiet", "--filter", f"ancestor={names['predictor']}")


@pytest.fixture(scope="session")
def tensorflow_serving(names, tmp_path_factory):
    """An image with TensorFlow Serving's interface, see tests/tensorflow_serving.py."""
    folder = tmp_path_factory.mktemp("tensorflow_serving")
    shutil.copy(PROJECT / "tests/tensorflow_serving.py", folder / "server.py")
    recipe = f'FROM {names["train"]}\nCOPY server.py /\nENTRYPOINT ["python3", "/server.py"]\n'
    (folder / "Dockerfile").write_text(recipe)
    engine("build", "--quiet", "-t", "tensorflow-serving:test", str(folder))
    return "tensorflow-serving:test"


def test_tensorflow_serving_holds_the_model_and_takes_a_new_version_without_a_failed_request(
    step, names, model, tensorflow_serving, tmp_path
):
    """Canary, promotion and the way back when a version fails are those of our own server."""
    uris = {number: publish(model, tmp_path / str(number), number) for number in (3, 4)}
    environment = {"TRAINYARD_HOME": str(tmp_path / "home")}
    images = ["--image", names["predictor"], "--server-image", tensorflow_serving]

    def serve(*options, images=images):
        return step("serve", "--target", "docker", *images, "--model-name", "held", *options, env=environment)

    def holding():
        return engine("ps", "--quiet", "--filter", f"ancestor={tensorflow_serving}").split()

    try:
        done = serve("--model-uri", uris[3])
        assert done.returncode == 0, done.stderr
        assert "on TensorFlow Serving" in done.stderr
        url = done.stdout.strip()
        (first,) = holding()
        about = json.loads(engine("inspect", first))[0]
        (mounted,) = about["Mounts"]
        assert (mounted["Destination"], mounted["RW"]) == ("/models/held/3", False)
        assert "MODEL_NAME=held" in about["Config"]["Env"]
        assert list(about["HostConfig"]["PortBindings"]) == ["8501/tcp"]
        assert about["HostConfig"]["ReadonlyRootfs"]
        assert about["HostConfig"]["CapDrop"] == ["ALL"]
        images_sent = np.random.default_rng(7).integers(0, 256, (5, 28, 28, 1)).astype(np.float32)
        status, answer = ask(url, {"instances": images_sent.tolist()})
        assert status == 200
        assert np.allclose(answer["predictions"], answers_of(model, images_sent), atol=1e-4)

        failed, over = [], threading.Event()
        asking = threading.Thread(target=ask_until, args=(url, over, failed))
        asking.start()
        canary = serve("--model-uri", uris[4], "--canary-percent", "50")
        assert canary.returncode == 0, canary.stderr
        assert {version_that_answers(url) for _ in range(40)} == {"3", "4"}
        assert len(holding()) == 2
        promoted = serve("--action", "promote")
        over.set()
        asking.join()
        assert promoted.returncode == 0, promoted.stderr
        assert failed == []
        (second,) = holding()
        assert second != first

        broken = serve(
            "--model-uri", uris[3], images=["--image", names["predictor"], "--server-image", names["export"]]
        )
        assert broken.returncode == 1
        assert "the model server ended" in last_line(broken)
        assert holding() == [second]
        engine("stop", "--time", "1", second)
        status, answer = ask(url, {"instances": images_sent.tolist()})
        assert status == 503
        assert "check that the model is served" in answer["error"]
        done = serve("--model-uri", uris[4])
        assert done.returncode == 0, done.stderr
        assert version_that_answers(url) == "4"
    finally:
        stopped = step("serve", "stop", env=environment)
    assert stopped.returncode == 0, stopped.stderr
    assert not engine("ps", "--all", "--quiet", "--filter", f"label=trainyard.service={tmp_path}/home/serving/held")


@pytest.mark.parametrize("target", ["process", "kserve"])
def test_another_server_is_for_docker_alone(step, model, target):
    done = step("serve", "--target", target, "--server-image", "tensorflow/serving:2.19.1", "--model-uri", model)
    assert done.returncode == 2
    assert f"expected --target docker with it, received {target}" in last_line(done)


def test_a_run_with_processes_refuses_another_server_before_it_begins(tmp_path):
    command = [sys.executable, "pipeline.py", "run", "--server-image", "tensorflow/serving:2.19.1", "--runs", tmp_path]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected --runner docker with it" in last_line(done)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "image", "environment", "text"),
    [
        ("--image", "localhost:1/nothing:1", {}, "--image: expected the image of a model server"),
        ("--server-image", "localhost:1/nothing:1", {}, "--server-image: expected the image of a model server"),
        ("--image", "", {"DOCKER_HOST": "unix:///nowhere.sock"}, "start Docker, or use --target process"),
    ],
)
def test_a_model_server_that_docker_cannot_start_leaves_nothing(
    built, step, model, tmp_path, option, image, environment, text
):
    options = ["--target", "docker", option, image, "--model-name", "nothing", "--model-uri", model]
    done = step("serve", *options, env={"TRAINYARD_HOME": str(tmp_path), **environment})
    assert done.returncode in (1, 2)
    assert text in last_line(done)
    assert not (tmp_path / "serving" / "nothing").exists()


def ask_until(url, over, failed):
    body = json.dumps({"instances": np.zeros((1, 28, 28, 1)).tolist()}).encode()
    while not over.is_set():
        try:
            urllib.request.urlopen(urllib.request.Request(url, body), timeout=30).close()
        except OSError as error:
            failed.append(error)


def version_that_answers(url):
    body = json.dumps({"instances": np.zeros((1, 28, 28, 1)).tolist()}).encode()
    with urllib.request.urlopen(urllib.request.Request(url, body), timeout=30) as answer:
        return answer.headers["Model-Version"]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(url):
    for _ in range(200):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"{url} does not answer")


def test_a_lean_image_says_which_image_to_take_instead(strictly, names, model, dataset, tmp_path):
    without = tmp_path / "model"
    shutil.copytree(model, without)
    (without / "model.tflite").unlink()
    for path in (without, dataset):
        subprocess.run(["chmod", "-R", "a+rX", path.parent], check=True)
    options = ["--dataset", dataset, "--model", without, "--evaluation", "/outputs/evaluation"]
    done = strictly("evaluate", *options, reads=[without, dataset], network="none")
    assert done.returncode == 2
    assert "-tf" in last_line(done)
    assert images("build", "--step", "evaluate-tf", "--version", "test", "--dist", tmp_path / "dist").returncode == 0
    image = json.loads((tmp_path / "dist/images.json").read_text())["evaluate-tf"]
    assert layers(image)[:4] == layers(names["train"])[:4]
    done = strictly("evaluate", *options, image=image, reads=[without, dataset], network="none")
    assert done.returncode == 0, done.stderr
    done = strictly("download", "--source", "tfds://mnist", "--dataset", "/outputs/dataset", network="none")
    assert done.returncode == 2
    assert "-tf" in last_line(done)


def test_a_model_in_onnx_is_evaluated_predicted_and_served_without_a_network(strictly, dataset, tmp_path):
    """In the images that hold ONNX Runtime, which lean ones name."""
    for name in ("evaluate-onnx", "predict-onnx", "predictor-onnx"):
        done = images("build", "--step", name, "--version", "test", "--dist", tmp_path / "dist")
        assert done.returncode == 0, done.stderr
    names = json.loads((tmp_path / "dist/images.json").read_text())
    train, test = (open_dataset(dataset).read(split) for split in ("train", "test"))
    network = Network(train.images, train.labels)
    network.save(tmp_path / "net.onnx")
    model = tmp_path / "model"
    command = [sys.executable, "-m", "trainyard", "import-model", tmp_path / "net.onnx", "--model", model]
    description = ["--classes", ",".join("0123456789"), "--range", "0,1", "--mean", str(MEAN), "--std", str(STD)]
    subprocess.run([*command, *description], cwd=PROJECT, check=True, capture_output=True)
    for path in (model, dataset):
        subprocess.run(["chmod", "-R", "a+rX", path.parent], check=True)
    where = {"reads": [model, dataset], "network": "none"}
    options = ["--dataset", dataset, "--model", model, "--evaluation", "/outputs/evaluation"]
    done = strictly("evaluate", *options, **where)
    assert done.returncode == 2
    assert "-onnx" in last_line(done)
    done = strictly("evaluate", *options, image=names["evaluate-onnx"], **where)
    assert done.returncode == 0, done.stderr
    options = ["--source", dataset, "--model", model, "--evaluation", "/outputs/evaluation"]
    done = strictly("predict", *options, "--predictions", "/outputs/predictions", image=names["predict-onnx"], **where)
    assert done.returncode == 0, done.stderr
    right = network.probabilities(test.images).argmax(1) == test.labels
    summary = json.loads((strictly.outputs / "predictions/summary.json").read_text())
    assert summary["scores"]["accuracy"] == pytest.approx(right.mean())
    command = ["run", "--detach", *STRICT, "--tmpfs", "/tmp", "--network", "none", "-v", f"{model}:/mnt/models:ro"]
    server = engine(*command, names["predictor-onnx"], "python3", "-m", "trainyard.components.serve.predictor")
    body = json.dumps({"instances": test.images[:2].tolist()})
    ask_it = "import sys, urllib.request as url; print(url.urlopen(sys.argv[1], sys.argv[2].encode()).read().decode())"
    asked = ["exec", server, "python3", "-c", ask_it, "http://127.0.0.1:8080/v1/models/model:predict", body]
    try:
        wait_until(lambda: docker(*asked).returncode == 0, 60)
        answers = json.loads(docker(*asked).stdout)["predictions"]
        assert np.abs(np.array(answers) - network.probabilities(test.images[:2])).max() < 1e-4
    finally:
        engine("rm", "--force", server)


def test_what_comes_as_source_alone_is_built_with_what_the_lock_names(built, tmp_path):
    """An installer that fetched the newest setuptools for it would run what no hash was checked of."""
    tools = next(entry for entry in entries_of("components/download/requirements-tf.lock") if "setuptools==" in entry)
    version = re.match(r"setuptools==[\d.]+", tools)[0]
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", tmp_path, version], check=True)
    setup = b"from setuptools import setup; setup(name='source-alone', version='1')"
    with tarfile.open(tmp_path / "source-alone-1.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("source-alone-1/setup.py")
        member.size = len(setup)
        archive.addfile(member, io.BytesIO(setup))
    digest = hashlib.sha256((tmp_path / "source-alone-1.tar.gz").read_bytes()).hexdigest()
    alone = f"source-alone==1 --hash=sha256:{digest}\n"
    shutil.copy(PROJECT / "launch/layer.py", tmp_path)
    install = "mkdir /build && cp /here/lock /build && python3 /here/layer.py /build/lock && ls /layer/lib/*/*"
    command = ["run", "--rm", "--network", "none", "-v", f"{tmp_path}:/here:ro", "-e", "PIP_NO_INDEX=1"]
    for lock, built_it in ((alone, False), (f"{alone}{tools}\n", True)):
        (tmp_path / "lock").write_text(lock)
        done = docker(*command, "-e", "PIP_FIND_LINKS=/here", "python:3.11-slim", "sh", "-c", install)
        assert (done.returncode == 0) == built_it, done.stderr
        assert ("source_alone-1.dist-info" in done.stdout) == built_it


def entries_of(lock):
    return re.split(r"\n(?=\S)", (PROJECT / lock).read_text())


@pytest.mark.skipif(not shutil.which("buildah"), reason="NO REPRODUCIBLE BUILD IS TESTED: buildah is not installed")
@pytest.mark.parametrize("name", ["export", "select"])
def test_a_commit_built_twice_gives_the_same_digest(built, name, tmp_path):
    subprocess.run(["buildah", "pull", "-q", "docker-daemon:python:3.11-slim"], check=True, capture_output=True)
    from trainyard.launch.images import pip_secrets

    copy = sources(tmp_path)

    def digest(image):
        command = ["buildah", "build", "-q", "--isolation", "chroot", "--no-cache", "--timestamp", "1700000000"]
        command += [*secrets, "--build-arg", "BASE=docker.io/library/python:3.11-slim", "-t", image]
        command += ["-f", f"components/{name}/Dockerfile", "."]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        inspect = ["buildah", "inspect", "--type", "image", "--format", "{{.FromImageDigest}}", image]
        return subprocess.run(inspect, check=True, capture_output=True, text=True).stdout.strip()

    with pip_secrets() as secrets, ThreadPoolExecutor() as pool:
        first, second = pool.map(digest, ("trainyard-first", "trainyard-second"))
    assert first.startswith("sha256:")
    assert first == second


@contextmanager
def registry_in(folder, **more):
    """A registry on this machine, with its address."""
    if not shutil.which("docker-registry"):
        pytest.skip("NO PUSH IS TESTED: docker-registry is not installed")
    address = f"127.0.0.1:{free_port()}"
    storage = {"filesystem": {"rootdirectory": str(folder / "storage")}}
    configured = {"version": 0.1, "log": {"level": "error"}, "storage": storage, "http": {"addr": address}, **more}
    (folder / "registry.yml").write_text(yaml.safe_dump(configured))
    command = ["docker-registry", "serve", folder / "registry.yml"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(f"http://{address}/")
        yield address.replace("127.0.0.1", "localhost")
        process.terminate()


@pytest.fixture(scope="session")
def registry(tmp_path_factory):
    """A registry that takes whatever comes."""
    with registry_in(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="session")
def pushed(built, registry, tmp_path_factory):
    """The folder that pins two images to their digests in a registry."""
    dist = tmp_path_factory.mktemp("pushed") / "dist"
    named = ["--registry", f"{registry}/team", "--version", "test", "--dist", dist]
    for step in ("download", "train"):
        for action in ("build", "push"):
            done = images(action, "--step", step, *named)
            assert done.returncode == 0, done.stderr
    return dist


def test_a_push_pins_the_component_to_what_the_registry_has(pushed, registry):
    pinned = yaml.safe_load((pushed / "components/download/component.yaml").read_text())
    name = pinned["implementation"]["container"]["image"]
    assert name == json.loads((pushed / "images.json").read_text())["download"]
    repository, _, digest = name.partition("@")
    request = urllib.request.Request(
        f"http://{registry}/v2/{repository.partition('/')[2]}/manifests/test",
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
    )
    with urllib.request.urlopen(request) as answer:
        assert answer.headers["Docker-Content-Digest"] == digest
    original = yaml.safe_load((PROJECT / "components/download/component.yaml").read_text())
    original["implementation"]["container"]["image"] = name
    assert pinned == original


def test_a_pinned_component_can_be_had_by_its_digest_alone(pushed):
    name = json.loads((pushed / "images.json").read_text())["download"]
    engine("rmi", "--force", name)
    engine("pull", "--quiet", name)
    assert "--source" in engine("run", "--rm", name, "python3", "-m", "trainyard.components.download", "--help")


def test_the_pipeline_compiles_pinned_to_digests(pushed, tmp_path):
    compiled = tmp_path / "pipeline.yaml"
    command = [sys.executable, "pipeline.py", "compile", "--images", pushed / "images.json", compiled]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    executors = next(yaml.safe_load_all(compiled.read_text()))["deploymentSpec"]["executors"]
    for step, name in json.loads((pushed / "images.json").read_text()).items():
        assert executors[f"exec-{step}"]["container"]["image"] == name


@pytest.fixture
def url(pushed):
    """Where the pinned component.yaml files can be had."""
    handler = partial(SimpleHTTPRequestHandler, directory=pushed)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/components"
        server.shutdown()


@pytest.mark.parametrize("way", ["package", "package in containers", "url"])
def test_another_teams_pipeline_runs_with_our_components(way, url, pushed, store, bucket, digits, tmp_path):
    store.client.upload_file(str(digits), bucket, "digits.npz")
    options = {
        "package": [],
        "package in containers": ["--images", pushed / "images.json"],
        "url": ["--components", url],
    }
    command = [sys.executable, "-m", "examples.reuse", "run", *options[way], "--runs", tmp_path]
    done = subprocess.run(
        [*command, "--source", f"s3://{bucket}/digits.npz"],
        cwd=PROJECT,
        env=outside_aws() | store.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "of the training images after epoch 5" in done.stdout


@pytest.mark.parametrize("way", ["package", "folder", "url"])
def test_another_teams_pipeline_compiles_with_pinned_components(way, url, pushed, tmp_path):
    compiled = tmp_path / "reuse.yaml"
    options = {
        "package": ["--images", pushed / "images.json"],
        "folder": ["--components", pushed / "components"],
        "url": ["--components", url],
    }
    command = [sys.executable, "-m", "examples.reuse", "compile", *options[way], compiled]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
    executors = yaml.safe_load(compiled.read_text())["deploymentSpec"]["executors"]
    for step, name in json.loads((pushed / "images.json").read_text()).items():
        assert executors[f"exec-{step}"]["container"]["image"] == name


@pytest.mark.skipif(not shutil.which("skopeo"), reason="NO BUNDLE IS TESTED: skopeo is not installed")
def test_a_bundle_brings_a_release_to_another_registry_with_the_same_digests(pushed, registry, tmp_path):
    archive, dist = tmp_path / "release.tar", tmp_path / "dist"

    def bundle(*arguments):
        command = [sys.executable, "-m", "trainyard.launch.bundle", *map(str, arguments)]
        return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)

    done = bundle("pack", "--images", pushed / "images.json", "--version", "1.0", archive)
    assert done.returncode == 0, done.stderr
    done = bundle("load", archive, "--registry", f"{registry}/site", "--dist", dist)
    assert done.returncode == 0, done.stderr
    before, after = (json.loads((folder / "images.json").read_text()) for folder in (pushed, dist))
    assert after == {name: reference.replace("/team/", "/site/") for name, reference in before.items()}
    for step, name in after.items():
        assert f"image: {name}" in (dist / f"components/{step}/component.yaml").read_text()
        assert name in (dist / "pipeline.yaml").read_text()
        assert name.partition("@")[2] in engine("pull", name)

    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "opened", filter="data")
    with (tmp_path / "opened/images/download/manifest.json").open("a") as manifest:
        manifest.write(" ")
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "opened", arcname=".")
    done = bundle("load", archive, "--registry", f"{registry}/other", "--dist", dist)
    assert done.returncode == 2
    assert "the bundle is damaged" in last_line(done)


@pytest.mark.parametrize(
    ("arguments", "environment", "text"),
    [
        (["build"], {"DOCKER_HOST": "unix:///nowhere.sock"}, "no container engine answers"),
        (["build"], {"DOCKER": "/nowhere/docker"}, "install Docker Engine"),
        (["build", "--base", "localhost:1/nothing:1"], {}, "name one with BASE="),
        (["push", "--registry", "localhost:1/team", "--version", "never-built"], {}, "make build first"),
        (["push"], {}, "make push REGISTRY="),
    ],
)
def test_what_is_missing_is_told_in_one_line(built, arguments, environment, text, tmp_path):
    done = images(arguments[0], "--dist", tmp_path, *arguments[1:], env=environment)
    assert done.returncode in (1, 2)
    assert text in last_line(done)
    assert "Traceback" not in done.stderr


def test_a_registry_that_is_down_is_told_in_one_line(built, tmp_path):
    named = ["--step", "export", "--registry", "localhost:1/team", "--version", "test", "--dist", tmp_path]
    assert images("build", *named).returncode == 0
    done = images("push", *named)
    assert done.returncode == 1
    assert "the registry does not answer" in last_line(done)


def test_a_registry_that_refuses_is_told_in_one_line(built, tmp_path):
    accounts = {"htpasswd": {"realm": "test", "path": str(tmp_path / "accounts")}}
    with registry_in(tmp_path, auth=accounts) as address:
        named = ["--step", "export", "--registry", address, "--version", "test", "--dist", tmp_path]
        assert images("build", *named).returncode == 0
        done = images("push", *named)
    assert done.returncode == 2
    assert "log in (docker login REGISTRY)" in last_line(done)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to become somebody who may not use the engine")
def test_a_socket_that_may_not_be_used_is_told_in_one_line(built):
    client = os.environ.get("DOCKER") or "docker"
    done = subprocess.run([client, "ps"], user=65534, group=65534, extra_groups=[], capture_output=True, text=True)
    assert done.returncode
    told = failure([client, "ps"], done.stderr)
    assert isinstance(told, BadInput)
    assert "no permission on the engine's socket" in str(told)


def test_one_option_asks_for_a_gpu_for_training(tmp_path):
    compiled = tmp_path / "pipeline.yaml"
    command = [sys.executable, "pipeline.py", "compile", "--gpus", "1"]
    subprocess.run([*command, "--gpu-node", "pool=gpu", compiled], cwd=PROJECT, check=True, capture_output=True)
    pipeline, platform = yaml.safe_load_all(compiled.read_text())
    executors = pipeline["deploymentSpec"]["executors"]
    assert executors["exec-train"]["container"]["resources"]["accelerator"]["resourceType"] == "nvidia.com/gpu"
    asking = [name for name, executor in executors.items() if "accelerator" in executor["container"]["resources"]]
    assert asking == ["exec-train"]
    pod = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]
    assert pod["nodeSelector"] == {"labels": {"pool": "gpu"}}
    assert pod["tolerations"] == [{"effect": "NoSchedule", "key": "nvidia.com/gpu", "operator": "Exists"}]
    done = subprocess.run([*command, "--gpu-node", "gpu", compiled], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected KEY=VALUE" in last_line(done)
