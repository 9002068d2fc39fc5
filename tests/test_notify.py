"""The notify step: a real webhook gets what it posts, and a pipeline has it as its exit handler."""

import json
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

import trainyard
from tests.conftest import PROJECT, outside_aws

STATUS = {
    "state": "FAILED",
    "pipelineJobResourceName": "projects/p/locations/l/pipelineJobs/nightly-7",
    "error": {"code": 9, "message": "step train failed:\n no such data set"},
}


@contextmanager
def webhook(*answers):
    """A receiver: `.received` are the bodies, `.url` is secret; it answers so, one after another, then 200."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            server.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(waiting.pop(0) if waiting else 200)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    waiting = list(answers)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.received, server.url = [], f"http://127.0.0.1:{server.server_port}/services/s3cret"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def test_a_webhook_is_told_how_the_run_ended(step, tmp_path):
    with webhook() as server:
        options = [
            "--status",
            json.dumps(STATUS),
            "--text",
            "https://kubeflow/run/7",
            "--message",
            tmp_path / "message",
        ]
        done = step("notify", *options, env={"NOTIFY_WEBHOOK_URL": server.url})
    assert done.returncode == 0, done.stderr
    text = "nightly-7 failed: step train failed: no such data set. https://kubeflow/run/7"
    error = "step train failed: no such data set"
    assert server.received == [{"text": text, "run": "nightly-7", "state": "FAILED", "error": error}]
    assert (tmp_path / "message").read_text() == text
    assert "s3cret" not in done.stderr


def test_a_busy_webhook_is_asked_again(step):
    with webhook(503, 429) as server:
        status = json.dumps({"state": "SUCCEEDED"})
        done = step("notify", "--run", "nightly", "--status", status, env={"NOTIFY_WEBHOOK_URL": server.url})
    assert done.returncode == 0, done.stderr
    assert [one["text"] for one in server.received] == ["nightly succeeded"] * 3


def test_a_webhook_that_redirects_has_not_taken_the_message(step):
    """Followed, the post would become a GET without it, and succeed."""
    with webhook(302) as server:
        done = step("notify", "--run", "nightly", env={"NOTIFY_WEBHOOK_URL": server.url})
    assert done.returncode == 2
    assert "expected a webhook that takes JSON, received 302 from 127.0.0.1; check the URL" in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize("url", ["", "hooks.example.com/s3cret", "{server}"])
def test_a_url_that_is_none_is_told_without_it(step, url):
    with webhook(404) as server:
        done = step("notify", env={"NOTIFY_WEBHOOK_URL": url.format(server=server.url)})
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("NOTIFY_WEBHOOK_URL: expected ")
    assert "s3cret" not in done.stderr


def test_in_a_pipeline_it_is_an_exit_handler_that_gets_the_status():
    from google.protobuf.json_format import MessageToDict
    from kfp import dsl

    notify, download = trainyard.load("notify"), trainyard.load("download")

    @dsl.pipeline(name="noticed")
    def noticed() -> None:
        with dsl.ExitHandler(notify(run="nightly")):
            download(source="s3://datasets/digits.npz")

    spec = MessageToDict(noticed.pipeline_spec)
    task = spec["root"]["dag"]["tasks"]["notify"]
    assert task["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert task["inputs"]["parameters"]["status"] == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}


def test_the_example_takes_the_url_from_a_secret(tmp_path):
    command = [sys.executable, "-m", "examples.compare_models", "compile", "--notify-secret", "webhook", "it.yaml"]
    environment = outside_aws() | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    spec, platform = yaml.safe_load_all((tmp_path / "it.yaml").read_text())
    assert "exec-notify" in spec["deploymentSpec"]["executors"]
    assert "exec-announce" not in spec["deploymentSpec"]["executors"]
    [secret] = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-notify"]["secretAsEnv"]
    assert secret["secretName"] == "webhook"
    assert secret["keyToEnv"] == [{"envVar": "NOTIFY_WEBHOOK_URL", "secretKey": "url"}]
