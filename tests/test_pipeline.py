"""The pipeline: compiled for a cluster, sent to one, and run whole on this machine."""

import difflib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

from tests.conftest import PROJECT, outside_aws

GOLDEN = Path(__file__).parent / "golden" / "pipeline.yaml"


def pipeline(*args, cwd=PROJECT, env=None, timeout=240):
    return subprocess.run(
        [sys.executable, str(PROJECT / "pipeline.py"), *map(str, args)],
        cwd=cwd,
        env=outside_aws() | (env or {}),
        timeout=timeout,
        capture_output=True,
        text=True,
    )


def make(*args, cwd):
    """A target of the Makefile in another folder, with this Python in place of .venv."""
    command = ["make", "-f", str(PROJECT / "Makefile"), "-o", ".venv/run", f"RUN={sys.executable}", *args]
    environment = outside_aws() | {"PYTHONPATH": str(PROJECT)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    done = pipeline("compile", path)
    assert done.returncode == 0, done.stderr
    return path


def test_the_compiled_pipeline_is_the_golden_one(compiled):
    """TRAINYARD_REGENERATE=1 writes it anew, for a change that is meant; the difference shows in the review."""
    text = yaml.safe_dump_all(without_versions(part) for part in yaml.safe_load_all(compiled.read_text()))
    if os.environ.get("TRAINYARD_REGENERATE"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text)
    difference = difflib.unified_diff(GOLDEN.read_text().splitlines(), text.splitlines(), "golden", "compiled", n=1)
    assert "\n".join(difference) == ""  # pytest's own comparison of such trees can take minutes


def without_versions(document):
    return {key: value for key, value in document.items() if key != "sdkVersion"}


def test_every_placeholder_is_bound_and_none_is_left_for_a_backend_to_misread(compiled):
    text = compiled.read_text()
    assert "IfPresent" not in text
    assert "Concat" not in text
    spec = next(yaml.safe_load_all(text))
    tasks = spec["root"]["dag"]["tasks"]
    assert sorted(tasks) == ["download", "evaluate", "export", "serve", "train", "validate"]
    for name, task in tasks.items():
        args = " ".join(spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]["args"])
        asked = set(re.findall(r"\$\.inputs\.parameters\['(\w+)'\]", args))
        bound = set(task["inputs"].get("parameters", {}))
        assert asked == bound, name  # backend 2.17.0 fails on a default that the task did not pass
    assert [name for name in tasks if tasks[name]["cachingOptions"] == {}] == ["download", "export", "serve"]


def test_no_credential_is_in_the_compiled_pipeline_only_the_name_of_a_secret(tmp_path):
    environment = {"AWS_ACCESS_KEY_ID": "AKIAVISIBLE", "AWS_SECRET_ACCESS_KEY": "do-not-show"}
    done = pipeline("compile", tmp_path / "p.yaml", "--s3-secret", "store-of-team-a", env=environment)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "p.yaml").read_text()
    assert "store-of-team-a" in text
    assert "AKIAVISIBLE" not in text
    assert "do-not-show" not in text


def form(compiled):
    """The parameters that a run of a compiled pipeline asks for."""
    return next(yaml.safe_load_all(compiled.read_text()))["root"]["inputDefinitions"]["parameters"]


def test_the_form_of_a_run_asks_for_what_changes_from_run_to_run_and_for_nothing_of_a_place(compiled):
    asked = form(compiled)
    assert {"source", "architecture", "epochs", "thresholds", "version", "canary_percent"} <= set(asked)
    assert not {"namespace", "service_account", "memory_request", "bucket", "target", "port", "owner"} & set(asked)
    assert [name for name, one in asked.items() if not one.get("isOptional")] == ["source"]


def test_a_settings_file_binds_what_belongs_to_a_place_and_options_override_it(tmp_path):
    (tmp_path / "images.json").write_text('{"serve": "registry.example.com/serve@sha256:1"}')
    settings = tmp_path / "prod.yaml"
    settings.write_text(
        "namespace: vision\nservice-account: models\nepochs: 9\ngpus: 2\nimages: images.json\n"
        "labels: {team: vision}\nrun-parameters: [bucket]\n"
    )
    done = pipeline("compile", "--settings", settings, "--namespace", "staging", tmp_path / "p.yaml")
    assert done.returncode == 0, done.stderr
    spec = next(yaml.safe_load_all((tmp_path / "p.yaml").read_text()))
    serve = spec["root"]["dag"]["tasks"]["serve"]["inputs"]["parameters"]
    constants = {name: one["runtimeValue"]["constant"] for name, one in serve.items() if "runtimeValue" in one}
    assert constants["namespace"] == "staging"
    assert constants["service_account"] == "models"
    assert constants["labels"] == {"team": "vision"}
    assert form(tmp_path / "p.yaml")["epochs"]["defaultValue"] == 9
    assert form(tmp_path / "p.yaml")["bucket"]["defaultValue"] == "models"
    executors = spec["deploymentSpec"]["executors"]
    assert executors["exec-serve"]["container"]["image"] == "registry.example.com/serve@sha256:1"
    assert executors["exec-train"]["container"]["resources"]["accelerator"]["resourceCount"] == "2"
    assert "warning: no image given for download, validate, train, evaluate, export: a cluster" in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("service_acount: x", "unknown setting 'service_acount'; did you mean service_account?"),
        ("epochs: many", "epochs: 'many' is not a valid integer"),
        ("gpus: all", "gpus: expected a whole number, received 'all'"),
        ("- namespace", "expected a mapping of names to values"),
        ("a: b: c", "expected YAML in "),
        ("architecture: transformer", "--architecture: expected one of auto, dense, compact"),
        ("run_parameters: [names]", "expected a parameter of the steps, received 'names'; did you mean namespace?"),
    ],
)
def test_a_wrong_settings_file_is_refused_in_one_line(tmp_path, content, said):
    (tmp_path / "prod.yaml").write_text(content)
    done = pipeline("compile", "--settings", tmp_path / "prod.yaml", tmp_path / "p.yaml")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
    assert not (tmp_path / "p.yaml").exists()


def test_mistakes_of_several_steps_are_told_at_once(tmp_path):
    done = pipeline("run", "--epochs", "-1", "--version", "x", "--min-accuracy", "9", cwd=tmp_path)
    assert done.returncode == 2
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["--epochs", "--min-accuracy", "--version"]
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A place for one user's runs, store and endpoints; everything that runs there is ended afterwards.

    The pipeline is called from there and nothing says where its modules are: it has to know itself.
    """
    folder = tmp_path_factory.mktemp("laptop")
    environment = {"TRAINYARD_HOME": str(folder / "state"), "PYTHONPATH": ""}
    yield folder, environment
    for module in (["trainyard.components.serve"], ["trainyard.launch.store"]):
        stopped = subprocess.run(
            [sys.executable, "-m", *module, "stop"], cwd=PROJECT, env=outside_aws() | environment, capture_output=True
        )
        assert stopped.returncode == 0, stopped.stderr


@pytest.fixture(scope="module")
def first_run(home, digits):
    folder, environment = home
    done = pipeline(
        "run", "--data", digits, "--epochs", 20, "--batch-size", 32, "--min-accuracy", 0.9, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done, folder / "runs" / "latest", environment


def test_the_whole_pipeline_ends_in_a_live_endpoint_and_a_summary(first_run):
    done, run, _ = first_run
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "succeeded"
    assert summary["accuracy"] > 0.93
    assert summary["loss"] > 0
    assert summary["dataset"]["train_examples"] == 1437
    assert summary["dataset"]["test_examples"] == 360
    assert summary["dataset"]["name"] == "digits"
    assert summary["dataset"]["source"].startswith("s3://datasets/")
    assert re.fullmatch(r"[0-9a-f]{64}", summary["dataset"]["sha256"])
    assert summary["model_uri"] == "s3://models/digits/1/"
    assert summary["endpoint"].endswith("/v1/models/digits:predict")
    assert list(summary["steps"]) == ["download", "validate", "train", "evaluate", "export", "serve"]
    assert all(seconds > 0 for seconds in summary["steps"].values())
    assert set(summary["prediction"]) >= {"label", "probability", "true_label"}
    report = run / Path(summary["report"]).name
    assert "<html" in report.read_text()
    assert (run / "prediction.png").read_bytes().startswith(b"\x89PNG")
    sent = json.loads((run / "request.json").read_text())["instances"]
    answer = predict(summary["endpoint"], sent)[0]
    assert answer == pytest.approx(list(summary["prediction"]["probabilities"].values()))  # the image that was shown
    for told in (
        summary["endpoint"],
        summary["page"],
        summary["model_uri"],
        f"{summary['accuracy']:.2%}",
        f"trainyard serve predict --endpoint {summary['endpoint']}",
        "trainyard store stop",
    ):
        assert told in done.stdout
    assert "make " not in done.stdout  # away from the repository


def predict(endpoint, images):
    body = json.dumps({"instances": images}).encode()
    with urllib.request.urlopen(urllib.request.Request(endpoint, body), timeout=30) as answer:
        return json.load(answer)["predictions"]


def test_the_endpoint_answers_as_often_right_as_the_report_says(first_run):
    import numpy as np

    from trainyard.components.common.datasets import open_dataset

    _, run, _ = first_run
    summary = json.loads((run / "summary.json").read_text())
    split = open_dataset(run / "download" / "dataset").read("test")
    answers = np.array(predict(summary["endpoint"], split.images.tolist())).argmax(1)
    assert (answers == split.labels).mean() == pytest.approx(summary["accuracy"], abs=1e-9)


def test_a_second_run_goes_on_from_the_published_model_and_takes_its_place_behind_the_endpoint(first_run, digits, home):
    _, run, _ = first_run
    folder, environment = home
    first = json.loads((run / "summary.json").read_text())
    chosen = ("--epochs", 2, "--batch-size", 32, "--base-model", "s3://models/digits/")
    done = pipeline("run", "--data", digits, *chosen, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    assert "fine-tuning s3://models/digits/1/, all weights" in done.stderr
    second = json.loads((folder / "runs" / "latest" / "summary.json").read_text())
    assert second["model_uri"] == "s3://models/digits/2/"
    assert second["endpoint"] == first["endpoint"]
    with urllib.request.urlopen(second["endpoint"].removesuffix(":predict"), timeout=30) as answer:
        states = json.load(answer)["model_version_status"]
    assert [(state["version"], state["state"]) for state in states] == [("2", "AVAILABLE")]


def test_a_model_that_misses_the_gate_is_not_published_and_the_endpoint_stays(first_run, digits, home):
    folder, environment = home
    before = json.loads((folder / "runs" / "latest" / "summary.json").read_text())
    done = pipeline("run", "--data", digits, "--epochs", 1, "--min-accuracy", 0.999, cwd=folder, env=environment)
    assert done.returncode == 2
    assert re.search(r"step export failed .*0\.999", done.stderr.splitlines()[-1])
    report = done.stderr.splitlines()[-1].rpartition("the report is ")[2]
    assert "0.999" in (folder / report).read_text()
    summary = json.loads((folder / "runs" / "latest" / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert list(summary["steps"]) == ["download", "validate", "train", "evaluate", "export"]
    with urllib.request.urlopen(before["endpoint"].removesuffix(":predict"), timeout=30) as answer:
        assert answer.status == 200
    sent = make("predict", cwd=folder)
    assert sent.returncode == 0, sent.stderr
    assert sent.stderr == f"the latest run has no endpoint; this is that of runs/{before['run']}\n"
    assert "true label" in sent.stdout
    assert "test image 7\n" in make("predict", "INDEX=7", cwd=folder).stdout
    (folder / "mine").mkdir()
    shutil.copy(folder / "runs" / before["run"] / "prediction.png", folder / "mine" / "a digit.png")
    mine = make("predict", "IMAGE=mine/a digit.png", cwd=folder)
    assert mine.returncode == 0, mine.stderr
    assert "test image" not in mine.stdout


def test_an_interrupted_run_leaves_its_summary_and_is_the_latest(home, digits):
    folder, environment = home
    command = [sys.executable, "-m", "trainyard", "run", "--data", digits, "--epochs", "100000"]
    with subprocess.Popen(
        command, cwd=folder, env=outside_aws() | environment, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr:
            if "epoch 3/" in line:
                process.terminate()
                break
        process.communicate(timeout=60)
    assert process.returncode == 143
    summary = json.loads((folder / "runs" / "latest" / "summary.json").read_text())
    assert summary == {"status": "interrupted", "steps": summary["steps"]}
    assert list(summary["steps"]) == ["download", "validate"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--model-name", "Mein/Modell"),
        ("--bucket", "My_Bucket"),
        ("--version", "0"),
        ("--min-accuracy", "97"),
        ("--thresholds", '{"accuracy": "high"}'),
        ("--change-thresholds", '{"accuracy": 0}'),
        ("--epochs", "-1"),
        ("--seed", "-5"),
        ("--architecture", "transformer"),
        ("--canary-percent", "200"),
        ("--port", "99999"),
    ],
)
def test_what_a_step_would_refuse_is_refused_before_the_first_one_runs(tmp_path, digits, option, value):
    done = pipeline("run", "--data", digits, option, value, cwd=tmp_path, env={"TRAINYARD_HOME": str(tmp_path)})
    assert done.returncode == 2
    assert done.stderr.startswith(f"{option}: expected ")
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "nowhere.tar.gz"], "--data: 'nowhere.tar.gz' does not exist"),
        (["--data", "s3://nowhere/at/all.npz"], "step download failed"),
        (["--epochs", "none"], "Invalid value for '--epochs'"),
        (["--learning-rate", "nan"], "--learning-rate: expected a number above 0, received nan"),
        (["--min-accuracy", "nan"], "--min-accuracy: expected a number from 0 to 1, received nan"),
        (["--thresholds", '{"loss": NaN}'], "--thresholds: expected a number"),
    ],
)
def test_a_run_that_cannot_be_ends_with_one_plain_line(home, options, words):
    folder, environment = home
    done = pipeline("run", *options, cwd=folder, env=environment)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("goals", "said"),
    [
        (["bench"], "DATA: expected TFDS-prepared MNIST as .tar.gz, received none; make bench DATA=mnist.tar.gz"),
        (
            [".venv/made", "PYTHON=python3.99"],
            "PYTHON: expected 3.11 to 3.13, received python3.99, which is not here; make PYTHON=python3.12",
        ),
    ],
)
def test_make_says_in_one_plain_line_what_it_lacks(tmp_path, goals, said):
    done = make(*goals, cwd=tmp_path)
    assert done.returncode == 2
    first, last = done.stderr.splitlines()
    assert first == said
    assert last.startswith(("make: ***", "make[1]: ***"))  # the latter where make runs the tests
    assert not list(tmp_path.iterdir())


def test_a_port_that_the_endpoint_cannot_have_is_told_before_the_first_step(tmp_path, digits):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = pipeline("run", "--data", digits, "--port", port, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"--port: expected a free port, received {port}")
    assert not list(tmp_path.iterdir())
