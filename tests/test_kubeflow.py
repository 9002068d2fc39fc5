"""Kubeflow Pipelines from the command line: real processes and kfp's real client against a double of the API."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from tests.conftest import PROJECT, outside_aws
from tests.kfp_api import PAGE, STEPS, STORE, Fault, Frame, kfp_backend, pod_of, something_else

GOLDEN = PROJECT / "tests" / "golden" / "pods"
IMAGES = PROJECT / "tests" / "golden" / "images.json"
SOURCE = ("--source", "s3://data/digits.npz", "--images", IMAGES)
LOGS = {
    "export": "I1124 10:00:00.000000 1 launcher_v2.go:90] input ComponentSpec\n"
    "export    s3://models/digits/3/  7 files, 2.1 MB, accuracy 0.9741\n"
    'time="2026-11-24T10:00:00Z" level=info msg="sub-process exited"\n',
    "serve": "serve     digits: ready\nhttp://digits.vision.example.com/v1/models/digits:predict\n",
}


@pytest.fixture
def backend():
    with kfp_backend() as running:
        yield running


@pytest.fixture
def start(tmp_path):
    """Start `trainyard ...` as a process of a user who has signed in nowhere, and go on."""

    def started(*args, env=None):
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # leads to `trainyard`
        home = {"HOME": str(tmp_path), "KUBECONFIG": str(tmp_path / "none"), "COLUMNS": "200", "PATH": path}
        kept = {name: value for name, value in outside_aws().items() if not name.startswith("KF_PIPELINES_")}
        kept.pop("SSL_CERT_FILE", None)
        return subprocess.Popen(
            [sys.executable, "-m", "trainyard", *map(str, args)],
            cwd=tmp_path,
            env=kept | home | (env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return started


@pytest.fixture
def trainyard(start):
    """Run `trainyard ...` as such a process."""

    def run(*args, env=None, timeout=60):
        with start(*args, env=env) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except BaseException:
                process.kill()
                raise
        assert "Traceback" not in stderr
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    return run


def last_line(done):
    return done.stderr.splitlines()[-1]


def steps(*states):
    return dict(zip(STEPS, states, strict=False))


@pytest.mark.parametrize("command", [("submit",), ("schedule", "create", "--name", "nightly", "--every", "6h")])
def test_images_that_no_cluster_can_pull_are_told_before_anything_is_sent(backend, trainyard, tmp_path, command):
    at = ("--host", backend.url, "--source", "s3://data/digits.npz")
    none = trainyard(*command, *at)
    assert none.returncode == 2
    assert "expected an image of each step, received none of download, validate, train" in last_line(none)
    images = json.loads(IMAGES.read_text())
    (tmp_path / "images.json").write_text(json.dumps({**images, "train": "trainyard-train:dev"}))
    assert not backend.requests
    local = trainyard(*command, *at, "--images", tmp_path / "images.json")
    assert local.returncode == 0, local.stderr
    assert "warning: no registry in the image of train: only nodes that it was loaded into have it" in local.stderr
    (tmp_path / "images.json").write_text(json.dumps({**images, "train": "vision/trainyard-train:1.2.0"}))
    on_docker_hub = ("--images", tmp_path / "images.json", "--epochs", 7)
    for given in (("--epochs", 8), on_docker_hub):
        assert "warning" not in trainyard(*command, *SOURCE, "--host", backend.url, *given).stderr


def test_submit_starts_a_run_and_prints_its_id_and_how_to_follow_it(backend, trainyard):
    options = ("--epochs", 7, "--run-service-account", "default-editor")
    done = trainyard("submit", "--host", backend.url, *SOURCE, *options)
    assert done.returncode == 0, done.stderr
    (run,) = backend.runs.values()
    assert done.stdout == f"{run['run_id']}\n"
    assert last_line(done).endswith(f"trainyard follow {run['run_id']} --host {backend.url}")
    given = run["runtime_config"]["parameters"]
    assert given == {"source": "s3://data/digits.npz", "epochs": 7}
    assert run["service_account"] == "default-editor"
    assert "components" in run["pipeline_spec"]["pipeline_spec"]
    (experiment,) = backend.experiments.values()
    assert experiment["display_name"] == "trainyard"


@pytest.mark.parametrize("behind_ui", [False, True], ids=["API server", "UI"])
def test_a_wait_tells_each_change_with_seconds_and_ends_in_the_results(backend, trainyard, behind_ui):
    backend.behind_ui = behind_ui
    backend.logs = LOGS
    backend.script = [
        Frame("PENDING"),
        Frame("RUNNING", steps("RUNNING")),
        Frame("RUNNING", steps("SUCCEEDED", "RUNNING")),
        Frame("SUCCEEDED", steps(*5 * ["SUCCEEDED"])),
    ]
    done = trainyard("submit", "--host", backend.url, *SOURCE, "--wait")
    assert done.returncode == 0, done.stderr
    told = re.findall(r"^(\w+) +(running|succeeded)\b.*\d+ s", done.stderr, re.MULTILINE)
    assert told == [
        ("download", "running"),
        ("download", "succeeded"),
        ("train", "running"),
        ("train", "succeeded"),
        ("evaluate", "succeeded"),
        ("export", "succeeded"),
        ("serve", "succeeded"),
        ("run", "succeeded"),
    ]
    assert done.stdout.splitlines()[1:] == [
        "accuracy  0.9741",
        "model     s3://models/digits/3/",
        "endpoint  http://digits.vision.example.com/v1/models/digits:predict",
    ]


def test_a_failed_run_ends_with_the_step_its_last_line_and_where_the_log_is(backend, trainyard):
    refusal = "--source: expected a data set, received an empty archive; check s3://data/digits.npz"
    backend.logs = {"download": f"download  0 files\n{refusal}\nF1124 10:00:00.000000 1 main.go:57] exit status 2\n"}
    backend.script = [Frame("RUNNING", steps("RUNNING")), Frame("FAILED", steps("FAILED"))]
    done = trainyard(
        "submit", "--host", backend.url, *SOURCE, "--wait", "--ui", "https://kubeflow.example.com/pipeline"
    )
    assert done.returncode == 1
    (run,) = backend.runs
    assert last_line(done) == f"run {run} failed in step download: {refusal}"
    assert f"log: kubectl logs -n kubeflow {pod_of('download')} -c main" in done.stderr
    assert f"https://kubeflow.example.com/pipeline/#/runs/details/{run}" in done.stderr


def test_a_link_is_shown_only_where_a_ui_shows_the_page(backend, trainyard):
    assert "/#/runs" not in trainyard("submit", "--host", backend.url, *SOURCE).stderr
    backend.behind_ui = True
    done = trainyard("submit", "--host", f"{backend.url}/#/experiments", *SOURCE, "--another")
    assert f"{backend.url}/#/runs/details/{done.stdout.strip()}" in done.stderr


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        (PAGE, 200, "received a web page"),
        (PAGE, 404, "received a web page (404)"),
        ("{}", 200, "received '{}'"),
        ("[]", 200, "received '[]'"),
        ('{"status": "ok"}', 200, """received '{"status": "ok"}'"""),
        ("OK", 200, "received 'OK'"),
        ('{"message": "no Route matched with those values"}', 404, "expected a Kubeflow Pipelines API"),
        (STORE, 403, "received the answer of an object store (403)"),
        ("Client sent an HTTP request to an HTTPS server.\n", 400, "put https:// before it"),
        ("\x89PNG\xff", 200, "expected a Kubeflow Pipelines API"),
    ],
)
def test_a_host_that_is_something_else_is_told_in_one_line(trainyard, text, status, words):
    with something_else(text, status) as url:
        done = trainyard("submit", "--host", url, *SOURCE, "--wait", timeout=15)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("host", "code", "words"),
    [
        ("http://127.0.0.1:9", 1, "nothing answers there"),
        ("http://no-such-host.invalid", 1, "nothing answers there"),
        ("cluster", 2, "expected a URL"),
        ("http://ada:do-not-show@127.0.0.1:9", 2, "without user and password"),
    ],
)
def test_a_host_without_an_api_is_told_in_one_line(trainyard, host, code, words):
    done = trainyard("follow", "r1", "--host", host, timeout=15)
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == 1
    assert words in done.stderr
    assert "do-not-show" not in done.stderr


def test_a_server_that_never_answers_is_given_up_within_15_seconds(trainyard):
    with something_else("") as url:
        done = trainyard("runs", "--host", url, timeout=15)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "received no answer in time" in done.stderr


def test_an_own_certificate_authority_is_known_by_option_or_environment(certificate, trainyard):
    with kfp_backend(certificate) as backend:
        unknown = trainyard("runs", "--host", backend.url)
        assert unknown.returncode == 2
        assert "self-signed certificate" in last_line(unknown)
        assert "--ca-file" in last_line(unknown)
        assert trainyard("runs", "--host", backend.url, "--ca-file", certificate).returncode == 0
        known = {"KF_PIPELINES_CA_FILE": str(certificate), "KF_PIPELINES_ENDPOINT": backend.url}
        assert trainyard("runs", env=known).returncode == 0
        plain = trainyard("runs", "--host", backend.url.replace("https", "http"))
        assert plain.returncode in (1, 2)
        assert len(plain.stderr.splitlines()) == 1


def test_https_to_a_plain_server_is_told(backend, trainyard):
    done = trainyard("runs", "--host", backend.url.replace("http", "https"))
    assert done.returncode == 2
    assert "put http:// before it" in last_line(done)


@pytest.mark.parametrize("how", ["token file", "token", "cookie file", "cookie", "service account"])
def test_users_sign_in_as_they_do_elsewhere_and_no_secret_is_printed(backend, trainyard, tmp_path, how):
    secret = "do-not-show" if "cookie" not in how else "authservice_session=do-not-show"
    backend.users = {secret: {"team-a"}}
    path = tmp_path / "secret"
    path.write_text(f"{secret}\n")
    options, env = {
        "token file": (["--token-file", path], {}),
        "token": ([], {"KF_PIPELINES_TOKEN": secret}),
        "cookie file": (["--cookie-file", path], {}),
        "cookie": ([], {"KF_PIPELINES_COOKIE": secret}),
        "service account": ([], {"KF_PIPELINES_SA_TOKEN_PATH": str(path)}),
    }[how]
    done = trainyard("runs", "--host", backend.url, *options, env=env)
    assert (done.returncode, done.stdout) == (0, "no runs\n"), done.stderr
    backend.users = {"another": set()}
    refused = trainyard("runs", "--host", backend.url, *options, env=env)
    assert refused.returncode == 2
    assert "401" in last_line(refused)
    assert "--token-file" in last_line(refused)
    assert "do-not-show" not in done.stdout + done.stderr + refused.stderr


def test_a_secret_that_cannot_be_sent_is_refused_unseen(backend, trainyard):
    done = trainyard("runs", "--host", backend.url, env={"KF_PIPELINES_TOKEN": "do-not\nshow"})
    assert done.returncode == 2
    assert last_line(done).startswith("KF_PIPELINES_TOKEN: expected a token of one line")
    assert "do-not" not in done.stderr


@pytest.mark.parametrize(("how", "words"), [("redirect", "redirect to /dex/auth;"), ("page", "a web page")])
def test_a_login_page_is_told_as_such(backend, trainyard, how, words):
    backend.faults = [Fault("healthz", how)]
    done = trainyard("runs", "--host", backend.url)
    assert done.returncode == 2
    assert words in last_line(done)
    assert "sign in" in last_line(done)
    assert "do-not-show" not in done.stderr


def test_where_there_are_several_users_the_namespace_of_the_runs_is_asked_for(backend, trainyard, tmp_path):
    backend.multi_user = True
    backend.users = {"ada": {"team-a"}}
    signed_in = {"KF_PIPELINES_TOKEN": "ada", "KF_PIPELINES_ENDPOINT": backend.url}
    missing = trainyard("submit", *SOURCE, "--namespace", "vision", env=signed_in)
    assert missing.returncode == 2
    assert last_line(missing).startswith("--kfp-namespace: expected the namespace of your Kubeflow profile")
    assert not backend.runs
    other = trainyard("submit", *SOURCE, "--kfp-namespace", "team-b", env=signed_in)
    assert other.returncode == 2
    assert "not authorized" in last_line(other)
    done = trainyard("submit", *SOURCE, "--namespace", "vision", "--kfp-namespace", "team-a", env=signed_in)
    assert done.returncode == 0, done.stderr
    (experiment,) = backend.experiments.values()
    (run,) = backend.runs.values()
    assert experiment["namespace"] == "team-a"
    serve = run["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]["serve"]["inputs"]["parameters"]
    assert serve["namespace"]["runtimeValue"]["constant"] == "vision"
    kept = tmp_path / ".config" / "kfp" / "context.json"  # as kfp.Client().set_user_namespace leaves it
    kept.parent.mkdir(parents=True)
    kept.write_text('{"namespace": "team-a"}')
    assert run["run_id"] in trainyard("runs", env=signed_in).stdout


@pytest.mark.parametrize(
    ("option", "value"), [("--model-name", "2024"), ("--deployment-mode", "Raw"), ("--learning-rate", "-1")]
)
def test_what_a_step_would_refuse_is_not_sent(backend, trainyard, option, value):
    done = trainyard("submit", "--host", backend.url, *SOURCE, option, value)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{option}: expected ")
    assert not backend.requests


@pytest.mark.parametrize(("status", "code"), [(400, 2), (403, 2), (429, 1), (500, 1), (503, 1)])
def test_what_the_api_refuses_is_told_in_its_own_words(backend, trainyard, status, code):
    backend.faults = [Fault("POST /apis/v2beta1/runs", status, "the quota of team-a is used up")]
    done = trainyard("submit", "--host", backend.url, *SOURCE)
    assert done.returncode == code
    assert "the quota of team-a is used up" in last_line(done)
    assert "InvalidInputError" not in done.stderr
    assert not backend.runs


def test_submitting_again_after_a_lost_answer_starts_no_second_run(backend, trainyard):
    backend.script = [Frame("RUNNING", steps("RUNNING"))]
    backend.faults = [Fault("POST /apis/v2beta1/runs", "carry out and drop")]
    done = trainyard("submit", "--host", backend.url, *SOURCE)
    assert done.returncode == 0, done.stderr
    (run,) = backend.runs
    assert done.stdout == f"{run}\n"
    again = trainyard("submit", "--host", backend.url, *SOURCE)
    assert again.stdout == f"{run}\n"
    assert "following it" in again.stderr
    assert len(backend.runs) == 1
    assert trainyard("submit", "--host", backend.url, *SOURCE, "--seed", 1).stdout != again.stdout
    assert trainyard("submit", "--host", backend.url, *SOURCE, "--another").returncode == 0
    assert len(backend.runs) == 3


def test_a_submission_that_got_lost_says_that_it_can_be_repeated(backend, trainyard):
    backend.faults = [Fault("POST /apis/v2beta1/runs", "drop")]
    done = trainyard("submit", "--host", backend.url, *SOURCE)
    assert done.returncode == 1
    assert "Submit again" in last_line(done)
    assert trainyard("submit", "--host", backend.url, *SOURCE).returncode == 0
    assert len(backend.runs) == 1


def test_a_wait_outlasts_an_api_that_is_away(backend, trainyard):
    looks = "GET /apis/v2beta1/runs/"
    backend.script = [Frame("RUNNING", steps("RUNNING")), Frame("SUCCEEDED", steps("SUCCEEDED"))]
    backend.faults = [
        Fault(looks, 503, "no healthy upstream", times=2),
        Fault(looks, "drop", times=2),
        Fault(looks, 429, "slow down"),
        Fault(looks, "page", times=2),
    ]
    done = trainyard("submit", "--host", backend.url, *SOURCE, "--wait")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the run continues, trying again") == 1
    assert done.stderr.count("the API answers again after") == 1
    assert "WARNING" not in done.stderr
    assert "Retry" not in done.stderr


def test_a_wait_that_is_signed_out_says_that_the_run_goes_on(backend, trainyard):
    backend.script = [Frame("RUNNING", steps("RUNNING"))]
    backend.faults = [Fault("GET /apis/v2beta1/runs/", 401, "the token has expired", times=99)]
    done = trainyard("submit", "--host", backend.url, *SOURCE, "--wait")
    assert done.returncode == 1
    assert "the token has expired" in last_line(done)
    assert f"the run continues: trainyard follow {done.stdout.strip()}" in last_line(done)


def test_a_token_that_is_renewed_in_its_file_is_taken_up(backend, start, tmp_path):
    token = tmp_path / "token"
    token.write_text("first")
    backend.users = {"first": set()}
    backend.script = [Frame("RUNNING", steps("RUNNING"))]
    with start("submit", "--host", backend.url, "--token-file", token, *SOURCE, "--wait") as process:
        wait_for(lambda: any("/runs/" in path for _, path, _ in backend.requests))
        token.write_text("second")
        with backend.lock:
            backend.users = {"first": set(), "second": set()}
        wait_for(lambda: backend.requests[-1][2].get("authorization") == "Bearer second")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def wait_for(condition, seconds=30):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_ends_the_wait_does_not_end_the_run_and_says_so(backend, start, sent, code):
    backend.script = [Frame("RUNNING", steps("RUNNING"))]
    with start("submit", "--host", backend.url, *SOURCE, "--wait") as process:
        wait_for(lambda: any("/runs/" in path for _, path, _ in backend.requests))
        time.sleep(0.5)
        process.send_signal(sent)
        stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == code
    follow = f"trainyard follow {stdout.strip()} --host {backend.url}"
    assert stderr.splitlines()[-1].endswith(f"the run continues: {follow}")
    assert not any(path.endswith(":terminate") for _, path, _ in backend.requests)


def test_a_wait_ends_after_its_time_and_the_run_goes_on(backend, trainyard):
    backend.script = [Frame("RUNNING", steps("RUNNING"))]
    done = trainyard("submit", "--host", backend.url, *SOURCE, "--wait", "--wait-timeout", 2)
    assert done.returncode == 1
    assert "no end after 2 s; the run continues: trainyard follow" in last_line(done)


def test_a_run_can_be_followed_again_by_its_id_or_link(backend, trainyard):
    backend.logs = LOGS
    run = trainyard("submit", "--host", backend.url, *SOURCE).stdout.strip()
    done = trainyard("follow", f"http://ui/#/runs/details/{run}", "--host", backend.url)
    assert done.returncode == 0, done.stderr
    assert "model     s3://models/digits/3/" in done.stdout
    nothing = trainyard("follow", uuid.uuid4(), "--host", backend.url)
    assert nothing.returncode == 2
    assert "not found" in last_line(nothing)


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_what_a_step_waits_for_is_told_after_a_minute(backend, trainyard, tmp_path, golden):
    """The golden files hold what a Kubernetes API says of such pods, or the workflow of pods that cannot be."""
    told = json.loads(golden.read_text())
    backend.script = [Frame("RUNNING", steps("SUCCEEDED", "RUNNING"), age=90)]
    run = trainyard("submit", "--host", backend.url, *SOURCE).stdout.strip()
    for pod in told["pods"]:
        pod["metadata"]["labels"]["pipeline/runid"] = run
    backend.pods, backend.nodes = told["pods"], told["nodes"]
    kubeconfig = {"KUBECONFIG": str(backend.kubeconfig(tmp_path / "kubeconfig"))}
    done = trainyard("follow", run, "--host", backend.url, "--wait-timeout", 3, env=kubeconfig)
    assert re.findall(r"^train +waits: (.*)$", done.stderr, re.MULTILINE) == [told["reason"]]


def test_without_a_kubeconfig_it_is_said_once_that_the_pods_cannot_be_seen(backend, trainyard):
    backend.script = [Frame("RUNNING", steps("SUCCEEDED", "RUNNING"), age=90)]
    done = trainyard("submit", "--host", backend.url, *SOURCE, "--wait", "--wait-timeout", 3)
    assert done.stderr.count("the pods cannot be read from here (there is no kubeconfig)") == 1


def test_where_the_api_has_no_log_the_cluster_has_it(backend, trainyard, tmp_path):
    backend.script = [Frame("FAILED", steps("SUCCEEDED", "FAILED"))]
    run = trainyard("submit", "--host", backend.url, *SOURCE).stdout.strip()
    annotations = {"workflows.argoproj.io/node-name": "trainyard-x7k2p.root.train.executor(1)"}
    metadata = {"name": "train-pod", "labels": {"pipeline/runid": run}, "annotations": annotations}
    backend.pods = [{"metadata": metadata, "status": {}}]
    backend.pod_logs = {"train-pod": "train     epoch 1/5\n--epochs: the loss is NaN; lower --learning-rate\n"}
    kubeconfig = {"KUBECONFIG": str(backend.kubeconfig(tmp_path / "kubeconfig"))}
    done = trainyard("follow", run, "--host", backend.url, env=kubeconfig)
    assert last_line(done).endswith("failed in step train: --epochs: the loss is NaN; lower --learning-rate")


def test_runs_are_listed_with_their_metrics(backend, trainyard):
    backend.logs = LOGS
    first = trainyard("submit", "--host", backend.url, *SOURCE).stdout.strip()
    trainyard("follow", first, "--host", backend.url)
    backend.script = [Frame("FAILED", steps("SUCCEEDED", "FAILED"))]
    second = trainyard("submit", "--host", backend.url, *SOURCE).stdout.strip()
    trainyard("follow", second, "--host", backend.url)
    listed = trainyard("runs", "--host", backend.url, "--experiment", "trainyard")
    assert listed.returncode == 0, listed.stderr
    header, newest, oldest = listed.stdout.splitlines()
    assert header.split() == ["RUN", "NAME", "STATE", "STARTED", "TOOK", "ACCURACY", "RESULT"]
    assert newest.startswith(second)
    assert newest.endswith("failed in train")
    assert oldest.startswith(first)
    assert oldest.split()[-2:] == ["0.9741", "s3://models/digits/3/"]
    assert len(trainyard("runs", "--host", backend.url, "--count", 1).stdout.splitlines()) == 2
    nowhere = trainyard("runs", "--host", backend.url, "--experiment", "nothing")
    assert nowhere.returncode == 2
    assert "no experiment 'nothing'" in last_line(nowhere)


def test_a_run_is_terminated_and_retried(backend, trainyard):
    backend.script = [Frame("RUNNING", steps("SUCCEEDED", "RUNNING"))]
    run = trainyard("submit", "--host", backend.url, *SOURCE).stdout.strip()
    early = trainyard("retry", run, "--host", backend.url)
    assert early.returncode == 2
    assert "must be Failed/Error to retry" in last_line(early)
    assert trainyard("terminate", run, "--host", backend.url).returncode == 0
    ended = trainyard("follow", run, "--host", backend.url)
    assert ended.returncode == 1
    assert last_line(ended).startswith(f"run {run} was terminated")
    late = trainyard("terminate", run, "--host", backend.url)
    assert late.returncode == 2
    backend.script = [Frame("SUCCEEDED", steps(*5 * ["SUCCEEDED"]))]
    retried = trainyard("retry", run, "--host", backend.url, "--wait")
    assert retried.returncode == 0, retried.stderr


def test_a_schedule_is_created_listed_paused_resumed_and_deleted(backend, trainyard):
    at = ("--host", backend.url)
    created = trainyard("schedule", "create", *at, *SOURCE, "--name", "nightly", "--cron", "30 6 * * 1-5")
    assert created.returncode == 0, created.stderr
    (schedule,) = backend.schedules.values()
    assert created.stdout == f"{schedule['recurring_run_id']}\n"
    assert schedule["trigger"] == {"cron_schedule": {"cron": "0 30 6 * * 1-5"}}  # KFP's first field is seconds
    assert schedule["max_concurrency"] == "1"
    assert schedule["no_catchup"] is True
    twice = trainyard("schedule", "create", *at, *SOURCE, "--name", "nightly", "--every", "6h")
    assert twice.returncode == 2
    assert "has a schedule 'nightly' already" in last_line(twice)
    trainyard("schedule", "create", *at, *SOURCE, "--name", "often", "--every", "90m")
    assert list(backend.schedules.values())[1]["trigger"] == {"periodic_schedule": {"interval_second": "5400"}}
    assert trainyard("schedule", "pause", "nightly", *at).returncode == 0
    listed = trainyard("schedule", "list", *at).stdout
    assert re.search(r"^nightly +DISABLED +cron 0 30 6 \* \* 1-5 ", listed, re.MULTILINE)
    assert re.search(r"^often +ENABLED +every 1:30:00 ", listed, re.MULTILINE)
    assert trainyard("schedule", "resume", schedule["recurring_run_id"], *at).returncode == 0
    assert schedule["status"] == "ENABLED"
    assert trainyard("schedule", "delete", "often", *at).returncode == 0
    assert list(backend.schedules) == [schedule["recurring_run_id"]]
    gone = trainyard("schedule", "pause", "often", *at)
    assert gone.returncode == 2
    assert "'often', which is none" in last_line(gone)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "expected it or --every, received neither"),
        (("--cron", "0 6 * * *", "--every", "6h"), "received both"),
        (("--cron", "6 o'clock"), "expected 5 fields"),
        (("--every", "soon"), "expected a number with s, m, h or d"),
        (("--every", "0h"), "expected a number with s, m, h or d"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused_before_anything_is_sent(backend, trainyard, options, words):
    done = trainyard("schedule", "create", "--host", backend.url, *SOURCE, "--name", "nightly", *options)
    assert done.returncode == 2
    assert words in last_line(done)
    assert not backend.requests


def test_the_double_satisfies_kfps_own_client(backend, monkeypatch, tmp_path):
    """What kfp.Client makes of it: the double speaks the real API, not that of these commands."""
    import kfp
    from kfp.client import Client

    monkeypatch.setattr(Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    from trainyard import pipeline

    client = kfp.Client(host=backend.url)
    started = client.create_run_from_pipeline_func(pipeline.build(), {"source": "s3://data/x.npz"}, experiment_name="e")
    assert client.wait_for_run_completion(started.run_id, 30, sleep_duration=1).state == "SUCCEEDED"
    assert [run.run_id for run in client.list_runs().runs] == [started.run_id]
    names = {task.display_name for task in client.get_run(started.run_id).run_details.task_details}
    assert names >= {"root", "root-driver", "train", "train-driver", "executor"}
    with pytest.raises(Exception, match="not optional"):
        client.create_run_from_pipeline_func(pipeline.build(), {}, experiment_name="e")


def test_the_line_of_the_real_step_holds_the_results(step, bucket, dataset, model, tmp_path):
    """The results are read from the log of export, which is never taken from the cache."""
    from trainyard.launch.kubeflow.logs import PUBLISHED

    evaluation = tmp_path / "evaluation"
    assert step("evaluate", "--dataset", dataset, "--model", model, "--evaluation", evaluation).returncode == 0
    published = step(
        "export", "--model", model, "--evaluation", evaluation, "--bucket", bucket, "--model-name", "digits"
    )
    uri, accuracy = re.match(PUBLISHED, published.stderr.splitlines()[-1]).groups()
    assert uri == f"s3://{bucket}/digits/1/"
    told = json.loads((evaluation / "evaluation.json").read_text())
    assert float(accuracy) == pytest.approx(told["accuracy"], abs=1e-4)
