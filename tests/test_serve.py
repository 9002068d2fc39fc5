"""The serve step on this machine: real published versions, real server processes, real requests."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.serving import answers_of, ask, publish, seal, wait_until
from trainyard.components.common.datasets import open_dataset

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def images(dataset):
    return open_dataset(dataset).read("test").images[:20]


@pytest.fixture(scope="session")
def other_model(dataset, tmp_path_factory):
    """A model whose answers differ."""
    folder = tmp_path_factory.mktemp("trained") / "other"
    command = [
        sys.executable,
        "-m",
        "trainyard.components.train",
        "--dataset",
        dataset,
        "--model",
        folder,
        "--seed",
        "9",
    ]
    subprocess.run([*command, "--epochs", "2"], cwd=PROJECT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def evaluation(model, dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated") / "evaluation"
    command = [sys.executable, "-m", "trainyard.components.evaluate", "--dataset", dataset, "--model", model]
    subprocess.run([*command, "--evaluation", folder], cwd=PROJECT, check=True, capture_output=True)
    return folder


class Machine:
    """The servers of one TRAINYARD_HOME."""

    def __init__(self, step, home):
        self.home = home
        self.environment = {"TRAINYARD_HOME": str(home)}
        self._step = step

    def serve(self, uri, *options, env=None):
        arguments = ["serve", "--target", "process", "--model-uri", uri, "--model-name", "mnist", *options]
        return self._step(*arguments, env={**self.environment, **(env or {})})

    def command(self, *arguments):
        return self._step("serve", *arguments, env=self.environment)

    def state(self, name="mnist"):
        return json.loads((self.home / "serving" / name / "state.json").read_text())

    def folders(self, name="mnist"):
        return sorted(path.name for path in (self.home / "serving" / name / "versions").iterdir())


@pytest.fixture
def machine(step, tmp_path):
    machine = Machine(step, tmp_path / "home")
    yield machine
    machine.command("stop")


@pytest.fixture
def three(model, evaluation, tmp_path):
    """URI of version 3 of the model."""
    return publish(model, tmp_path / "published" / "3", 3, evaluation)


@pytest.fixture
def four(other_model, tmp_path):
    """URI of version 4, which answers otherwise."""
    return publish(other_model, tmp_path / "published" / "4", 4)


def last_line(done):
    return done.stderr.strip().splitlines()[-1]


def served_alike(url, model, images):
    status, answer = ask(url, {"instances": images.tolist()})
    return status == 200 and np.allclose(answer["predictions"], answers_of(model, images), atol=1e-5)


def test_a_published_version_becomes_a_live_endpoint(machine, store, bucket, model, evaluation, images, tmp_path):
    """From the object store to an answer, and the server outlives the step."""
    folder = tmp_path / "3"
    publish(model, folder, 3, evaluation)
    for path in folder.rglob("*"):
        if path.is_file():
            store.client.upload_file(str(path), bucket, f"digits/3/{path.relative_to(folder)}")
    done = machine.serve(f"s3://{bucket}/digits/3/", "--model-name", "digits", "--endpoint", tmp_path / "out" / "url")
    assert done.returncode == 0, done.stderr
    url = done.stdout.strip()
    assert (tmp_path / "out" / "url").read_text() == url
    assert url.endswith("/v1/models/digits:predict")
    assert "answers 5 known examples as at evaluation" in done.stderr
    assert served_alike(url, model, images)
    status, answer = ask(url.removesuffix(":predict"))
    assert status == 200
    assert [(one["version"], one["state"]) for one in answer["model_version_status"]] == [("3", "AVAILABLE")]
    environment = Path(f"/proc/{machine.state('digits')['pid']}/environ")
    assert not environment.exists() or b"AWS_SECRET" not in environment.read_bytes()


def test_an_object_store_without_the_manifest_has_no_such_version(machine, store, bucket, model):
    store.client.upload_file(str(model / "model.json"), bucket, "digits/3/model.json")
    done = machine.serve(f"s3://{bucket}/digits/3/")
    assert done.returncode == 2
    assert "manifest.json" in last_line(done)
    assert "Traceback" not in done.stderr


def test_versions_are_swapped_without_a_failed_request(machine, three, four, model, other_model, images):
    """Clients ask all the time, one of them much at once, while versions come and go: no error, no half answer."""
    url = machine.serve(three).stdout.strip()
    pid = machine.state()["pid"]
    expected = [answers_of(folder, images[:1]) for folder in (model, other_model)]
    assert not np.allclose(*expected, atol=1e-3)
    host, _, path = url.removeprefix("http://").partition("/")
    failures, seen, ended = [], [], threading.Event()

    def client(count):
        body = json.dumps({"instances": images[:1].tolist() * count})
        connection = http.client.HTTPConnection(host, timeout=10)
        while not ended.is_set():
            try:
                connection.request("POST", f"/{path}", body)
                answer = connection.getresponse()
                predictions = json.loads(answer.read())["predictions"]
                fitting = [np.allclose(predictions, one, atol=1e-5) for one in expected]
                assert len(predictions) == count
                seen.append(fitting.index(True))
            except Exception as error:
                failures.append(repr(error))
                connection.close()

    clients = [threading.Thread(target=client, args=[count]) for count in (1, 1, 1, 500)]
    for one in clients:
        one.start()
    try:
        for uri in (four, three, four):
            done = machine.serve(uri)
            assert done.returncode == 0, done.stderr
            assert done.stdout.strip() == url
            time.sleep(0.2)
    finally:
        ended.set()
        for one in clients:
            one.join()
    assert failures == []
    assert set(seen) == {0, 1}
    assert len(seen) > 50
    assert served_alike(url, other_model, images)
    assert machine.state()["pid"] == pid
    assert [folder.partition("-")[0] for folder in machine.folders()] == ["4"]


def broken(folder, model, version):
    """A version that cannot be loaded though it is what was published."""
    publish(model, folder, version)
    (folder / "model.tflite").write_bytes(b"no model")
    seal(folder, version)


def damaged(folder, model, version):
    """A version whose content is not what the manifest says."""
    publish(model, folder, version)
    (folder / "model.tflite").write_bytes(b"changed later")


def unlike_its_evaluation(folder, model, version):
    """A version that answers otherwise than it did at evaluation."""
    image = np.zeros((28, 28, 1), int).tolist()
    answer = answers_of(model, np.zeros((1, 28, 28, 1), np.uint8)).argmax()
    example = {"index": 7, "instance": image, "label": "1", "prediction": str((answer + 1) % 10)}
    (folder / "evaluation").mkdir(parents=True)
    (folder / "evaluation" / "examples.json").write_text(json.dumps({"examples": [example]}))
    publish(model, folder, version)


FAILURES = [
    (broken, "version 4 cannot be loaded"),
    (damaged, "the published version is damaged"),
    (unlike_its_evaluation, "for test image 7 as at evaluation"),
]


@pytest.mark.parametrize(("make", "reason"), FAILURES)
def test_a_rollout_that_fails_leaves_the_service_as_it_was(machine, three, model, images, tmp_path, make, reason):
    url = machine.serve(three).stdout.strip()
    before = machine.state(), machine.folders()
    make(tmp_path / "bad", model, 4)
    done = machine.serve(tmp_path / "bad")
    assert done.returncode == 1
    assert reason in last_line(done)
    assert "Traceback" not in done.stderr
    assert (machine.state(), machine.folders()) == before
    assert served_alike(url, model, images)


@pytest.mark.parametrize(("make", "reason"), FAILURES)
def test_a_first_rollout_that_fails_leaves_no_service(machine, model, tmp_path, make, reason):
    make(tmp_path / "bad", model, 4)
    done = machine.serve(tmp_path / "bad")
    assert done.returncode == 1
    assert reason in last_line(done)
    assert "nothing is served here" in machine.command("status").stdout


@pytest.fixture
def slow(model, tmp_path):
    """A version that takes seconds to load, since it needs TensorFlow."""
    publish(model, tmp_path / "slow", 4)
    (tmp_path / "slow" / "model.tflite").unlink()
    seal(tmp_path / "slow", 4)
    return tmp_path / "slow"


@pytest.fixture
def rolling_out(machine, three, slow):
    """A step in the middle of replacing version 3 by one that takes seconds to load."""
    machine.serve(three)
    command = [sys.executable, "-m", "trainyard.components.serve", "--target", "process", "--model-name", "mnist"]
    command += ["--model-uri", slow]
    process = subprocess.Popen(command, cwd=PROJECT, env={**os.environ, **machine.environment}, stderr=subprocess.PIPE)
    wait_until(lambda: len(machine.state()["versions"]) == 2)
    return process


def test_a_step_ended_in_the_middle_leaves_the_service_as_it_was(machine, rolling_out, model, images):
    before = machine.state()
    rolling_out.send_signal(signal.SIGTERM)
    _, stderr = rolling_out.communicate(timeout=60)
    assert rolling_out.returncode == 143
    assert "Ended by SIGTERM" in stderr.decode().splitlines()[-1]
    assert machine.state() == {**before, "versions": before["versions"][:1]}
    assert [folder.partition("-")[0] for folder in machine.folders()] == ["3"]
    assert served_alike(f"{before['url']}/v1/models/mnist:predict", model, images)


def test_a_server_that_a_new_version_brings_down_is_started_again(machine, rolling_out, model, images):
    """As when the new version takes more memory than there is."""
    before = machine.state()
    os.kill(before["pid"], signal.SIGKILL)
    _, stderr = rolling_out.communicate(timeout=60)
    assert rolling_out.returncode == 1
    assert "the model server has ended" in stderr.decode().splitlines()[-1]
    after = machine.state()
    assert after["pid"] != before["pid"]
    assert after["url"] == before["url"]
    assert [(one["version"], one["percent"]) for one in after["versions"]] == [(3, 100)]
    assert served_alike(f"{after['url']}/v1/models/mnist:predict", model, images)


def test_what_a_killed_step_left_is_gone_after_the_next(machine, rolling_out, three, model, images):
    rolling_out.kill()
    rolling_out.communicate()
    done = machine.serve(three)
    assert done.returncode == 0, done.stderr
    assert [(one["version"], one["percent"]) for one in machine.state()["versions"]] == [(3, 100)]
    assert len(machine.folders()) == 1
    assert served_alike(done.stdout.strip(), model, images)


def test_a_model_folder_is_served_under_the_name_of_its_data_set(machine, model, images, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    card = json.loads((model / "model.json").read_text())
    card["dataset"]["name"] = "My Photos"
    (tmp_path / "model" / "model.json").write_text(json.dumps(card))
    done = machine.command("--target", "process", "--model-uri", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("/v1/models/my-photos:predict")
    assert served_alike(done.stdout.strip(), model, images)


def of_other_images(card):
    card["input"]["shape"] = [32, 32, 3]


def of_other_classes(card):
    card["classes"] = ["cat", *card["classes"][1:]]


def in_another_order(card):
    card["classes"].reverse()


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        (of_other_images, "expected input of 28 x 28 x 1 as the served version has, received 32 x 32 x 3"),
        (of_other_classes, "the classes of the served version, received them without 0 and with cat"),
        (in_another_order, "the classes of the served version, received the same in another order"),
    ],
)
def test_a_model_of_other_images_does_not_take_the_place_of_the_served_one(
    machine, three, model, tmp_path, change, differing
):
    """Unless that is what is meant."""
    machine.serve(three)
    before = machine.state(), machine.folders()
    shutil.copytree(model, tmp_path / "other")
    card = json.loads((model / "model.json").read_text())
    change(card)
    (tmp_path / "other" / "model.json").write_text(json.dumps(card))
    for told in ([], ["--canary-percent", "10"], ["--dry-run", "true"]):
        done = machine.serve(tmp_path / "other", *told)
        assert done.returncode == 2
        assert differing in last_line(done)
        assert last_line(done).endswith("pass another --model-name, or --replace-different true")
        assert (machine.state(), machine.folders()) == before


def test_a_model_of_other_images_takes_the_place_of_the_served_one_when_told(machine, three, model, tmp_path):
    machine.serve(three)
    shutil.copytree(model, tmp_path / "other")
    card = json.loads((model / "model.json").read_text())
    of_other_classes(card)
    (tmp_path / "other" / "model.json").write_text(json.dumps(card))
    done = machine.serve(tmp_path / "other", "--replace-different", "true")
    assert done.returncode == 0, done.stderr
    assert [folder.partition("-")[0] for folder in machine.folders()] == ["1"]


def test_a_model_that_litert_cannot_express_is_served_by_tensorflow(machine, model, images, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / "model.tflite").unlink()
    done = machine.serve(tmp_path / "model")
    assert done.returncode == 0, done.stderr
    assert "on TensorFlow" in done.stderr
    assert served_alike(done.stdout.strip(), model, images)


def test_a_model_trained_anew_in_the_same_folder_is_served_anew(machine, model, other_model, images, tmp_path):
    """A folder without a manifest is always version 1; what counts is its content."""
    shutil.copytree(model, tmp_path / "model")
    url = machine.serve(tmp_path / "model").stdout.strip()
    assert served_alike(url, model, images)
    shutil.rmtree(tmp_path / "model")
    shutil.copytree(other_model, tmp_path / "model")
    assert machine.serve(tmp_path / "model").stdout.strip() == url
    assert served_alike(url, other_model, images)
    assert len(machine.folders()) == 1


def test_a_taken_port_is_refused_in_words(machine, three):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = machine.serve(three, "--port", str(port))
    assert done.returncode == 2
    assert last_line(done).startswith(f"--port: expected a free port, received {port}")


def test_a_running_service_keeps_its_port(machine, three):
    url = machine.serve(three).stdout.strip()
    port = int(url.split(":")[2].partition("/")[0])
    assert machine.serve(three, "--port", str(port)).returncode == 0
    done = machine.serve(three, "--port", str(port + 1))
    assert done.returncode == 2
    assert f"served on port {port} already" in last_line(done)


def test_a_server_that_was_killed_is_started_again(machine, three, four, other_model, images):
    machine.serve(three)
    pid = machine.state()["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "STOPPED" in machine.command("status").stdout)
    done = machine.serve(four)
    assert done.returncode == 0, done.stderr
    assert machine.state()["pid"] != pid
    assert served_alike(done.stdout.strip(), other_model, images)


def test_stop_ends_the_server_and_leaves_nothing_but_the_rest(machine, three):
    url = machine.serve(three).stdout.strip()
    machine.serve(three, "--model-name", "second")
    table = machine.command("status").stdout
    assert "mnist" in table
    assert "second" in table
    assert "AVAILABLE" in table
    pid = machine.state()["pid"]
    assert machine.command("stop", "--model-name", "mnist").returncode == 0
    wait_until(lambda: not alive(pid))
    with pytest.raises(OSError, match="refused"):
        ask(url)
    assert not (machine.home / "serving" / "mnist").exists()
    assert "second" in machine.command("status").stdout
    assert machine.command("stop").returncode == 0
    assert "nothing is served here" in machine.command("status").stdout
    assert machine.command("stop", "--model-name", "mnist").returncode == 2


def test_stop_never_ends_a_process_that_has_the_number_of_a_server_long_gone(machine, three):
    machine.serve(three)
    state = machine.home / "serving" / "mnist" / "state.json"
    told = machine.state()
    os.kill(told["pid"], signal.SIGKILL)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
        state.write_text(json.dumps({**told, "pid": bystander.pid}))
        wait_until(lambda: not alive(told["pid"]))
        assert machine.command("stop").returncode == 0
        assert bystander.poll() is None
        bystander.stdin.close()


def test_a_server_ends_when_its_folder_is_gone(machine, three):
    machine.serve(three)
    pid = machine.state()["pid"]
    shutil.rmtree(machine.home)
    wait_until(lambda: not alive(pid))


def test_after_a_crash_an_endpoint_is_started_again_on_the_port_it_had(machine, three, dataset, model, images):
    url = machine.serve(three).stdout.strip()
    os.kill(machine.state()["pid"], signal.SIGKILL)
    asked = machine.command("predict", "--endpoint", url, "--data", dataset)
    assert asked.returncode == 1
    advice = last_line(asked).partition("check that the model is served, or ")[2]
    new_shell = {"PATH": "/usr/bin:/bin", **machine.environment}
    again = subprocess.run(["sh", "-c", advice], cwd=PROJECT, env=new_shell, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert last_line(again).endswith(url)
    assert served_alike(url, model, images)


def test_two_steps_at_once_end_with_one_server(machine, three, four):
    name = ["--model-name", "mnist"]
    commands = [
        [sys.executable, "-m", "trainyard.components.serve", "--target", "process", "--model-uri", uri, *name]
        for uri in (three, four)
    ]
    environment = {**os.environ, **machine.environment}
    running = [subprocess.Popen(one, cwd=PROJECT, env=environment, stdout=subprocess.PIPE) for one in commands]
    printed = {one.communicate(timeout=60)[0] for one in running}
    assert [one.returncode for one in running] == [0, 0]
    assert len(printed) == 1
    assert len(machine.folders()) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "--model-uri: expected the URI of a published model"),
        (["--target", "process", "--model-uri", "/no/such/model"], "/no/such/model"),
        (["--target", "process", "--model-uri", "gs://bucket/mnist/1/"], "gs://bucket/mnist/1/"),
        (["--action", "promote"], "--model-name: expected the name of a model, received none; pass it"),
        (["--target", "process", "--action", "delete"], "--model-name: expected the name of a model"),
        (
            ["--model-uri", "s3://models/photos/"],
            "received none, and none in --model-uri 's3://models/photos/'",
        ),
        (["--target", "moon", "--model-uri", "s3://models/mnist/1/"], "--target: expected kserve, process or docker"),
        (["--target", "process", "--model-uri", "x", "--model-name", "../x"], "--model-name: expected letters"),
        (["--target", "process", "--model-uri", "x", "--port", "70000"], "--port: expected 0 to 65535"),
        (["--target", "process", "--model-uri", "x", "--timeout", "0"], "--timeout: expected"),
    ],
)
def test_bad_input_is_refused_in_one_plain_line(machine, options, reason):
    done = machine.command(*options)
    assert done.returncode == 2
    assert reason in last_line(done)
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def endpoint(model, tmp_path_factory):
    """A served model that the protocol's tests share; its predict URL."""
    home = tmp_path_factory.mktemp("home")
    command = [sys.executable, "-m", "trainyard.components.serve"]
    run = {"cwd": PROJECT, "env": {**os.environ, "TRAINYARD_HOME": str(home)}, "check": True, "capture_output": True}
    arguments = ["--target", "process", "--model-name", "mnist", "--model-uri", model]
    yield subprocess.run([*command, *arguments], text=True, **run).stdout.strip()
    subprocess.run([*command, "stop"], **run)


@pytest.mark.parametrize(
    ("form", "key"),
    [
        (lambda images: {"instances": images}, "predictions"),
        (lambda images: {"instances": [{"image": image} for image in images]}, "predictions"),
        (lambda images: {"inputs": images}, "outputs"),
        (lambda images: {"inputs": {"image": images}}, "outputs"),
        (lambda images: {"instances": images, "signature_name": "serving_default"}, "predictions"),
    ],
)
def test_rows_and_columns_are_answered_as_tensorflow_serving_does(endpoint, model, images, form, key):
    for url in (endpoint, endpoint.replace(":predict", "/versions/1:predict")):
        status, answer = ask(url, form(images.tolist()))
        assert status == 200
        assert list(answer) == [key]
        assert np.allclose(answer[key], answers_of(model, images), atol=1e-5)


def image(value=0, shape=(28, 28, 1)):
    return np.full(shape, value).tolist()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "JSON Parse error"),
        (b'{"instances": [', "JSON Parse error"),
        ([1], "Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": [image()], "inputs": [image()]}, "only one of 'inputs' or 'instances'"),
        ({"instances": image()[0][0][0]}, "'instances' to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        ({"instances": [{"picture": image()}]}, "keys must be equal to: image"),
        ({"instances": [image(), {"image": image()}]}, "got object at item 1"),
        ({"inputs": {"picture": [image()]}}, "Missing named input: image"),
        ({"instances": [image(shape=(28, 28))]}, "received shape [1,28,28]"),
        ({"instances": [image(shape=(8, 8, 1))]}, "expected numbers of shape [-1,28,28,1]"),
        ({"instances": [image(), image()[1:]]}, "lists of different lengths"),
        ({"instances": [image("1")]}, "not of expected type: float"),
        ({"instances": [image(None)]}, "not of expected type: float"),
        ({"instances": [image()], "signature_name": "other"}, '"other" not found in signature def'),
        ({"instances": [image()], "signature_name": 3}, "'signature_name' key must be a string"),
    ],
)
def test_a_request_that_is_none_gets_400_and_the_reason(endpoint, body, text):
    status, answer = ask(endpoint, raw=body) if isinstance(body, bytes) else ask(endpoint, body)
    assert status == 400
    assert list(answer) == ["error"]
    assert text in answer["error"]


def test_unknown_models_versions_and_paths_are_told_apart(endpoint):
    base = endpoint.removesuffix(":predict")
    body = {"instances": [image()]}
    assert ask(endpoint.replace("mnist", "other"), body) == (
        404,
        {"error": "Servable not found for request: Latest(other)"},
    )
    assert ask(f"{base}/versions/9:predict", body) == (
        404,
        {"error": "Servable not found for request: Specific(mnist, 9)"},
    )
    assert ask(f"{base}/versions/9")[0] == 404
    assert ask(f"{base}/versions/9/metadata")[0] == 404
    assert ask(base.replace("mnist", "other"))[0] == 404
    assert ask(f"{base}:explain", body) == (400, {"error": "Malformed request: POST /v1/models/mnist:explain"})
    assert ask(endpoint) == (400, {"error": "Malformed request: GET /v1/models/mnist:predict"})
    assert ask(base.replace("/v1/models/mnist", "/other"))[0] == 404


def test_metadata_tells_the_signature_as_tensorflow_serving_does_and_the_card(endpoint, model):
    status, answer = ask(endpoint.replace(":predict", "/metadata"))
    assert status == 200
    assert answer["model_spec"] == {"name": "mnist", "signature_name": "", "version": "1"}
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    for kind, key, shape in (("inputs", "image", [-1, 28, 28, 1]), ("outputs", "output_0", [-1, 10])):
        tensor = signature[kind][key]
        assert tensor["dtype"] == "DT_FLOAT"
        assert [int(dimension["size"]) for dimension in tensor["tensor_shape"]["dim"]] == shape
    assert answer["metadata"]["card"] == json.loads((model / "model.json").read_text())


def test_a_body_that_is_too_large_is_refused_and_the_server_goes_on(endpoint, model, images):
    host, _, path = endpoint.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=30)
    connection.request("POST", f"/{path}", b" " * (64 * 2**20 + 1))
    answer = connection.getresponse()
    assert answer.status == 413
    assert "at most 67108864 bytes" in json.loads(answer.read())["error"]
    chunks = (b" " * 2**20 for _ in range(65))
    connection.request("POST", f"/{path}", chunks, encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    assert connection.getresponse().status == 413
    assert served_alike(endpoint, model, images)


def test_the_server_listens_on_this_machine_alone(endpoint):
    port = int(endpoint.split(":")[2].partition("/")[0])
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in addresses - {"127.0.0.1"}:
        with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
            socket.create_connection((address, port), timeout=2)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def bound(taken, port):
    """Whether a socket got the port, which its last owner may hold for a moment after its death."""
    with contextlib.suppress(OSError):
        taken.bind(("127.0.0.1", port))
        return True
    return False


def test_one_endpoint_that_cannot_be_started_keeps_no_other_from_starting(machine, three, model, images):
    machine.serve(three, "--model-name", "first")
    url = machine.serve(three, "--model-name", "second").stdout.strip()
    for name in ("first", "second"):
        pid = machine.state(name)["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: not alive(pid))
    port = int(machine.state("first")["url"].rpartition(":")[2])
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        wait_until(lambda: bound(taken, port))
        taken.listen()
        done = machine.command("start")
    assert done.returncode == 2
    assert f"first: port {port} is in use" in last_line(done)
    assert served_alike(url, model, images)
    again = machine.command("start")
    assert again.returncode == 0, again.stderr
    assert served_alike(f"http://127.0.0.1:{port}/v1/models/first:predict", model, images)
