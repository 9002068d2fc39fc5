"""Whom the model server of this machine answers: its own names and page, other sites only where they are allowed."""

import json
import os
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.serving import ask

PROJECT = Path(__file__).parent.parent
LAB = "https://lab.example.com"


class Service:
    """The service `mnist` of one TRAINYARD_HOME."""

    def __init__(self, model, home):
        self._model, self._home = model, home
        self.port = 0

    def apply(self, *options):
        served = self._run("--target", "process", "--model-name", "mnist", "--model-uri", self._model, *options)
        self.port = int(served.partition("/v1")[0].rpartition(":")[2])

    def stop(self):
        self._run("stop")

    def _run(self, *options):
        command = [sys.executable, "-m", "trainyard.components.serve", *options]
        environment = {**os.environ, "TRAINYARD_HOME": str(self._home)}
        done = subprocess.run(command, cwd=PROJECT, env=environment, check=True, capture_output=True, text=True)
        return done.stdout

    def send(self, headers, path="/v1/models/mnist/metadata", method="GET", body=None):
        """Status, headers and body of the answer to a request with exactly these headers."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.putrequest(method, path, skip_host=True)
        for name, value in headers:
            connection.putheader(name, value.replace("PORT", str(self.port)))
        connection.putheader("Content-Length", str(len(body or b"")))
        connection.endheaders(body)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, answer.headers, content


@pytest.fixture(scope="module")
def service(model, tmp_path_factory):
    running = Service(model, tmp_path_factory.mktemp("home"))
    running.apply()
    yield running
    running.stop()


OWN = ("Host", "127.0.0.1:PORT")
BODY = json.dumps({"instances": [[[[0]] * 28] * 28]}).encode()


@pytest.mark.parametrize("host", ["127.0.0.1:PORT", "localhost:PORT", "LOCALHOST", "localhost.:PORT", "[::1]:PORT"])
def test_its_own_names_are_answered(service, host):
    assert service.send([("Host", host)])[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:PORT",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "localhost:80:evil",
        "[::1].evil.example",
    ],
)
def test_a_name_that_was_made_to_resolve_to_this_machine_is_refused(service, host):
    for path in ("/v1/models/mnist/metadata", "/", "/metrics", "/openapi.json", "/page/model.json"):
        status, _, content = service.send([("Host", host)], path)
        assert status == 403
        assert "expected Host 127.0.0.1, received" in json.loads(content)["error"]
    status, _, _ = service.send(
        [("Host", host), ("Content-Type", "text/plain")], "/v1/models/mnist:predict", "POST", BODY
    )
    assert status == 403


def test_a_request_with_two_hosts_is_malformed(service):
    for hosts in ([OWN, ("Host", "evil.example")], [("Host", "evil.example"), OWN]):
        assert service.send(hosts)[0] == 400


CROSS_SITE = {
    "a form or a script of another site": [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")],
    "another port of this machine": [("Origin", "http://localhost:3000"), ("Sec-Fetch-Site", "same-site")],
    "a sandboxed frame or a file": [("Origin", "null")],
    "a program with an origin that is no URL": [("Origin", "http://[evil")],
    "an image or a script in a page": [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")],
    "a frame in a page": [
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "iframe"),
    ],
}


@pytest.mark.parametrize("headers", CROSS_SITE.values(), ids=CROSS_SITE)
def test_what_a_browser_sends_for_another_site_is_refused(service, headers):
    for method, path, body in (("POST", "/v1/models/mnist:predict", BODY), ("GET", "/v1/models/mnist/metadata", None)):
        status, answered, content = service.send([OWN, *headers], path, method, body)
        assert status == 403
        assert "--cors-origin allows" in json.loads(content)["error"]
        assert "Access-Control-Allow-Origin" not in answered


def test_its_own_page_programs_and_links_to_the_page_are_answered(service):
    page = [OWN, ("Origin", "http://127.0.0.1:PORT"), ("Sec-Fetch-Site", "same-origin")]
    link = [
        OWN,
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
    ]
    assert service.send(page, "/v1/models/mnist:predict", "POST", BODY)[0] == 200
    assert service.send(link, "/")[0] == 200
    assert service.send([OWN], "/v1/models/mnist:predict", "POST", BODY)[0] == 200


def test_cors_origin_lets_the_pages_of_an_origin_read_the_answers_and_no_others(service):
    service.apply("--cors-origin", f"{LAB}, http://localhost:3000")
    lab = [OWN, ("Origin", LAB), ("Sec-Fetch-Site", "cross-site")]
    status, headers, _ = service.send(
        [*lab, ("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "content-type")],
        "/v1/models/mnist:predict",
        "OPTIONS",
    )
    assert status == 200
    assert headers["Access-Control-Allow-Origin"] == LAB
    assert "content-type" in headers["Access-Control-Allow-Headers"].lower()
    status, headers, _ = service.send(lab, "/v1/models/mnist:predict", "POST", BODY)
    assert status == 200
    assert headers["Access-Control-Allow-Origin"] == LAB
    assert "Model-Version" in headers["Access-Control-Expose-Headers"]
    assert "Origin" in headers["Vary"]
    assert service.send([OWN, ("Origin", "https://evil.example")])[0] == 403
    service.apply("--cors-origin", "*")
    assert service.send([OWN, ("Origin", "https://evil.example")])[1]["Access-Control-Allow-Origin"] == "*"
    service.apply()
    assert service.send(lab)[0] == 403


def test_allow_host_adds_a_name(service):
    service.apply("--allow-host", "models.lab.example.com")
    assert service.send([("Host", "models.lab.example.com")])[0] == 200
    assert service.send([("Host", "other.lab.example.com")])[0] == 403
    assert ask(f"http://127.0.0.1:{service.port}/v2/health/ready")[0] == 200


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cors-origin", "https://lab.example.com/page"], "--cors-origin: expected origins such as"),
        (["--cors-origin", "lab.example.com"], "--cors-origin: expected origins such as"),
        (["--allow-host", "http://lab"], "--allow-host: expected host names"),
    ],
)
def test_what_is_no_origin_or_host_name_is_refused_before_anything_is_done(step, options, words):
    done = step("serve", "--target", "process", "--model-uri", "s3://models/mnist/1/", *options)
    assert done.returncode == 2
    assert done.stderr.startswith(words)
