"""The example that tunes: trials with the real train step, resumed after a kill, and compiled for a cluster."""

import json
import signal
import subprocess
import sys
import time

import pytest
import yaml

from tests.conftest import PROJECT, outside_aws

pytest.importorskip("optuna")
SPACE = json.dumps({"batch_size": [32, 64], "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}})
COMMAND = [sys.executable, "-m", "examples.tune"]


def tune(*options, start=False):
    command = [*map(str, COMMAND), *map(str, options)]
    environment = outside_aws() | {"PYTHONPATH": str(PROJECT)}
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=PROJECT, env=environment, **pipes)
    if start:
        return process
    stdout, stderr = process.communicate(timeout=300)
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def options(folder, dataset, trials):
    fixed = ["--epochs", 3, "--validation-split", 0.2]
    return ["run", "--data", dataset, "--trials", trials, "--space", SPACE, *fixed, folder]


def test_a_killed_search_is_resumed_and_ends_in_the_best_parameters(dataset, tmp_path):
    process = tune(*options(tmp_path, dataset, 2), start=True)
    deadline = time.monotonic() + 120
    while not (found := list(tmp_path.glob("trials/.*.checkpoint.npz"))) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert found
    done = tune(*options(tmp_path, dataset, 2))
    assert done.returncode == 0, done.stderr
    best = json.loads((tmp_path / "best.json").read_text())
    assert best["trials"] == 2
    cards = [json.loads(path.read_text()) for path in tmp_path.glob("trials/*/model.json")]
    losses = [min(epoch["validation_loss"] for epoch in card["history"]) for card in cards]
    assert best["validation_loss"] == pytest.approx(min(losses))
    winner = cards[losses.index(min(losses))]["hyperparameters"]
    assert {name: winner[name] for name in ("batch_size", "learning_rate")} == {
        name: best["parameters"][name] for name in ("batch_size", "learning_rate")
    }
    report = (tmp_path / "report.html").read_text()
    assert f"{best['validation_loss']:.4f}" in report
    assert "<script" not in report
    assert "--learning-rate" in done.stdout


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ('{"speed": [1]}', "--space: expected parameters of train, received 'speed'"),
        ('{"learning_rate": {"low": 1}}', "--space: expected a list of values or"),
    ],
)
def test_a_space_that_is_none_is_told_in_one_line(dataset, tmp_path, space, words):
    done = tune("run", "--data", dataset, "--space", space, tmp_path / "tuned")
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]


def test_on_a_cluster_the_trials_stand_side_by_side_and_only_the_winner_meets_the_test_split(tmp_path):
    done = tune("compile", "--trials", 3, "--space", SPACE, tmp_path / "tune.yaml")
    assert done.returncode == 0, done.stderr
    tasks = next(yaml.safe_load_all((tmp_path / "tune.yaml").read_text()))["root"]["dag"]["tasks"]
    trains = [task for name, task in tasks.items() if name.startswith("train")]
    assert len(trains) == 3
    assert all(task["dependentTasks"] == ["download"] for task in trains)
    rates = {task["inputs"]["parameters"]["learning_rate"]["runtimeValue"]["constant"] for task in trains}
    assert len(rates) == 3
    splits = [
        task["inputs"]["parameters"]["split"]["runtimeValue"]["constant"]
        for name, task in tasks.items()
        if name.startswith("evaluate")
    ]
    assert sorted(splits) == ["test", "validation", "validation", "validation"]
