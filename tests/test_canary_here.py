"""Canaries on this machine: the actions of the serve step on real servers, as they are on a cluster."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.serving import answers_of, ask, publish, seal, wait_until
from trainyard.components.common.datasets import open_dataset

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def images(dataset):
    return open_dataset(dataset).read("test").images[:20]


@pytest.fixture(scope="module")
def other(dataset, tmp_path_factory):
    """A model whose answers differ."""
    folder = tmp_path_factory.mktemp("trained") / "model"
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
    subprocess.run([*command, "--epochs", "1"], cwd=PROJECT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def published(model, other, tmp_path_factory):
    """URIs of version 3, and of 4 and 5, which answer otherwise."""
    folder = tmp_path_factory.mktemp("published")
    return {number: publish(one, folder / str(number), number) for number, one in ((3, model), (4, other), (5, other))}


class Machine:
    """The service `mnist` of one TRAINYARD_HOME."""

    def __init__(self, step, home):
        self.home = home
        self._step = step

    def act(self, *options):
        environment = {"TRAINYARD_HOME": str(self.home)}
        return self._step("serve", "--target", "process", "--model-name", "mnist", *options, env=environment)

    def apply(self, uri, *options):
        return self.act("--model-uri", uri, *options)

    def done(self, *options):
        done = self.act(*options)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def served(self):
        """{version: share of the requests} as the server tells it."""
        state = json.loads((self.home / "serving" / "mnist" / "state.json").read_text())
        return {one["version"]: one["percent"] for one in state["versions"]}


@pytest.fixture
def machine(step, tmp_path):
    machine = Machine(step, tmp_path / "home")
    yield machine
    machine.act("--action", "delete")


def last_line(done):
    return done.stderr.strip().splitlines()[-1]


def asked(url, image, count):
    """How many of the requests each version has answered."""
    parts = urlsplit(url)
    connection, seen = HTTPConnection(parts.netloc, timeout=20), Counter()
    for _ in range(count):
        connection.request("POST", parts.path, json.dumps({"instances": image.tolist()}))
        answer = connection.getresponse()
        answer.read()
        seen[int(answer.headers["Model-Version"])] += answer.status == 200
    connection.close()
    return seen


def test_a_shadow_is_asked_the_same_and_its_disagreements_are_kept(machine, published, model, other, images):
    url = machine.done("--model-uri", published[3])
    assert machine.done("--model-uri", published[4], "--canary-percent", "0", "--shadow", "true") == url
    assert asked(url, images, 5) == {3: 5}
    base = url.partition("/v1")[0]

    def compared():
        with urllib.request.urlopen(f"{base}/metrics") as answer:
            found = re.findall(
                r'trainyard_shadow_images_total\{result="(\w+)",version="4"\} (\S+)', answer.read().decode()
            )
        return {result: int(float(count)) for result, count in found}

    wait_until(lambda: sum(compared().values()) == 5 * len(images))
    ours, theirs = answers_of(model, images), answers_of(other, images)
    differing = np.flatnonzero(ours.argmax(1) != theirs.argmax(1))
    assert len(differing)
    assert compared()["disagree"] == 5 * len(differing)
    kept = machine.home / "serving" / "mnist" / "disagreements-4.jsonl"
    wait_until(lambda: kept.is_file() and len(kept.read_text().splitlines()) == 5 * len(differing))
    for index, line in zip(differing, kept.read_text().splitlines(), strict=False):
        told = json.loads(line)
        assert np.array_equal(told["instance"], images[index])
        assert (told["answer"]["version"], told["shadow"]["version"]) == (3, 4)
        assert np.allclose(told["answer"]["probabilities"], ours[index], atol=1e-5)
        assert told["shadow"]["label"] == str(theirs[index].argmax())
    assert machine.done("--action", "promote") == url
    assert machine.served() == {4: 100}
    before = compared()
    assert asked(url, images[:1], 5) == {4: 5}
    assert compared() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--shadow", "true"), "--shadow: expected --action apply with --canary-percent 0"),
        (("--shadow", "true", "--canary-percent", "10"), "--shadow: expected --action apply with --canary-percent 0"),
        (("--shadow", "true", "--target", "kserve"), "--shadow: expected --target process or docker"),
    ],
)
def test_a_shadow_that_cannot_be_is_refused(machine, options, words):
    done = machine.act("--model-uri", "s3://models/mnist/4/", *options)
    assert done.returncode == 2
    assert words in last_line(done)


def test_a_canary_gets_its_share_then_all_or_nothing(machine, published, model, other, images):
    """Two rounds on one server: a canary that is rolled back, and one that is promoted. No request fails meanwhile."""
    url = machine.done("--model-uri", published[3])
    failures, ended = [], threading.Event()

    def client():
        while not ended.is_set():
            status, answer = ask(url, {"instances": images[:1].tolist()})
            if status != 200:
                failures.append(answer)

    asking = threading.Thread(target=client)
    asking.start()
    try:
        assert machine.done("--model-uri", published[4], "--canary-percent", "30") == url
        assert machine.served() == {3: 70, 4: 30}
        seen = asked(url, images[:1], 1000)
        assert seen.total() == 1000
        assert 200 < seen[4] < 400  # six standard deviations around 300
        for version, folder in ((3, model), (4, other)):
            status, answer = ask(url.replace(":predict", f"/versions/{version}:predict"), {"inputs": images.tolist()})
            assert status == 200
            assert np.allclose(answer["outputs"], answers_of(folder, images), atol=1e-5)
        assert machine.done("--action", "rollback") == url
        assert machine.served() == {3: 100}
        assert asked(url, images[:1], 50) == {3: 50}
        machine.done("--model-uri", published[4], "--canary-percent", "0")
        assert machine.served() == {3: 100, 4: 0}
        assert asked(url, images[:1], 50) == {3: 50}
        assert asked(url.replace(":predict", "/versions/4:predict"), images[:1], 5) == {4: 5}
        machine.done("--model-uri", published[4], "--canary-percent", "60")
        assert machine.served() == {3: 40, 4: 60}
        assert machine.done("--action", "promote") == url
        assert machine.served() == {4: 100}
        assert asked(url, images[:1], 50) == {4: 50}
    finally:
        ended.set()
        asking.join()
    assert failures == []


def test_a_canary_is_promoted_in_the_same_step_once_it_has_proved_itself(machine, published, images):
    url = machine.done("--model-uri", published[3])
    done = machine.apply(published[4], "--canary-percent", "10", "--auto-promote", "true")
    assert done.returncode == 0, done.stderr
    assert "version 4 with 10 % of the requests" in done.stderr
    assert machine.served() == {4: 100}
    assert asked(url, images[:1], 20) == {4: 20}
    again = machine.apply(published[4], "--canary-percent", "10", "--auto-promote", "true")
    assert again.returncode == 0, again.stderr
    assert machine.served() == {4: 100}


def test_another_canary_takes_the_place_of_the_first(machine, published):
    machine.done("--model-uri", published[3])
    machine.done("--model-uri", published[4], "--canary-percent", "20")
    machine.done("--model-uri", published[5], "--canary-percent", "25")
    assert machine.served() == {3: 75, 5: 25}
    machine.done("--model-uri", published[4])
    assert machine.served() == {4: 100}


@pytest.fixture
def wrong(other, tmp_path):
    """A version that answers otherwise than it did at evaluation."""
    answer = int(answers_of(other, np.zeros((1, 28, 28, 1), np.uint8)).argmax())
    blank = np.zeros((28, 28, 1), int).tolist()
    example = {"index": 7, "instance": blank, "label": "1", "prediction": str((answer + 1) % 10)}
    publish(other, tmp_path / "wrong", 6)
    (tmp_path / "wrong" / "evaluation").mkdir()
    (tmp_path / "wrong" / "evaluation" / "examples.json").write_text(json.dumps({"examples": [example]}))
    seal(tmp_path / "wrong", 6)
    return tmp_path / "wrong"


def test_a_canary_that_answers_wrongly_never_gets_a_request(machine, published, wrong):
    machine.done("--model-uri", published[3])
    machine.done("--model-uri", published[4], "--canary-percent", "20")
    for options in (["--canary-percent", "50"], ["--canary-percent", "50", "--auto-promote", "true"], []):
        done = machine.apply(wrong, *options)
        assert done.returncode == 1
        assert "for test image 7 as at evaluation" in last_line(done)
        assert machine.served() == {3: 80, 4: 20}
    machine.done("--model-uri", wrong, "--smoke-test", "false")
    assert machine.served() == {6: 100}


def test_a_canary_survives_the_death_of_its_server(machine, published, images):
    machine.done("--model-uri", published[3])
    machine.done("--model-uri", published[4], "--canary-percent", "20")
    state = json.loads((machine.home / "serving" / "mnist" / "state.json").read_text())
    os.kill(state["pid"], signal.SIGKILL)
    wait_until(lambda: "STOPPED" in machine.done("--action", "status"))
    url = machine.done("--action", "promote")
    assert machine.served() == {4: 100}
    assert asked(url, images[:1], 5) == {4: 5}


def test_what_is_asked_of_a_service_that_is_not_there_is_the_callers_mistake(machine, published):
    for options, text in (
        (["--action", "promote"], "expected a model that is served here, received 'mnist'"),
        (["--action", "rollback"], "expected a model that is served here, received 'mnist'"),
        (["--action", "status"], "expected a model that is served here, received 'mnist'"),
        (["--model-uri", published[3], "--canary-percent", "10"], "--canary-percent: expected a served version"),
        (["--model-uri", ""], "--model-uri: expected the URI of a published model"),
    ):
        done = machine.act(*options)
        assert done.returncode == 2, done.stderr
        assert text in last_line(done)
        assert "Traceback" not in done.stderr
    machine.done("--model-uri", published[3])
    for action in ("promote", "rollback"):
        done = machine.act("--action", action)
        assert done.returncode == 2
        assert "expected a canary of mnist to promote or roll back, received version 3 alone" in last_line(done)


def test_delete_leaves_nothing_and_may_be_tried_again(machine, published):
    url = machine.done("--model-uri", published[3])
    assert machine.done("--action", "delete") == ""
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url)
    assert not (machine.home / "serving" / "mnist").exists()
    done = machine.act("--action", "delete")
    assert done.returncode == 0
    assert "nothing is served under this name" in last_line(done)


def test_what_is_served_is_written_for_the_next_step(machine, published, tmp_path):
    machine.done("--model-uri", published[3])
    begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    outputs = {name: tmp_path / "outputs" / name for name in ("endpoint", "revision", "status", "summary")}
    options = [text for name, path in outputs.items() for text in (f"--{name}", path)]
    url = machine.done("--model-uri", published[4], "--canary-percent", "10", *options)
    written = {name: path.read_text() for name, path in outputs.items()}
    assert written["endpoint"] == url
    assert written["revision"] == "4"
    status = json.loads(written["status"])
    assert (status["name"], status["where"], status["endpoint"]) == ("mnist", "this machine", url)
    assert [(one["revision"], one["percent"], one["state"]) for one in status["serving"]] == [
        ("4", 10, "AVAILABLE"),
        ("3", 90, "AVAILABLE"),
    ]
    assert [Path(one["uri"]).name for one in status["serving"]] == ["4", "3"]
    newest, stable = (one["since"] for one in status["serving"])
    assert stable <= begun <= newest
    assert url in written["summary"]
    assert "| 4 | 10 % |" in written["summary"]
    table = machine.done("--action", "status")
    assert re.search(r"^4 +10 % +AVAILABLE", table, re.MULTILINE)
    assert re.search(r"^3 +90 % +AVAILABLE", table, re.MULTILINE)


def test_a_dry_run_tells_and_changes_nothing(machine, published):
    done = machine.apply(published[3], "--dry-run", "true")
    assert done.returncode == 0, done.stderr
    assert "version 3 with 100 % of the requests" in done.stdout
    assert not (machine.home / "serving" / "mnist").exists()
    machine.done("--model-uri", published[3])
    told = machine.done("--model-uri", published[4], "--canary-percent", "10", "--dry-run", "true")
    assert "version 3 with 90 % of the requests, version 4 with 10 % of the requests" in told
    assert machine.served() == {3: 100}
