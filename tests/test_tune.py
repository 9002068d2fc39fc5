"""The example that tunes: trials with the real train step, resumed after a kill, and compiled for a cluster."""

import json
import signal
import subprocess
import sys
import time

import pytest
import yaml

from examples.tune import Tuning, finished, render
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


TRIAL = """
import json, os, sys, time
loss, folder = float(sys.argv[1]), sys.argv[2]
for epoch in (1, 2, 3):
    print(f"train     epoch {epoch}/3  loss 1.0000  validation loss {loss:.4f}", file=sys.stderr, flush=True)
    time.sleep(0.5 if loss > 0.5 else 0.05)
os.makedirs(folder)
card = {"architecture": "dense", "parameters": 1, "input": {"shape": [8, 8, 1]}, "classes": ["a", "b"]}
epoch = {"epoch": 3, "learning_rate": loss, "seconds": 1, "loss": 1, "accuracy": 0.5, "validation_loss": loss}
card["history"] = [epoch]
json.dump(card, open(f"{folder}/model.json", "w"))
"""


class QuickTuning(Tuning):
    """A search whose trials learn nothing: each tells three epochs, with its learning rate as validation loss."""

    def _training(self, chosen, model):
        command = [sys.executable, "-c", TRIAL, str(chosen["learning_rate"]), str(model)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_a_trial_whose_epochs_are_worse_than_the_others_is_ended_early(tmp_path):
    rates = [0.1, 0.2, 0.3, 0.4, 0.9]
    tuning = QuickTuning(tmp_path, tmp_path / "data", {"learning_rate": rates}, {})
    study = tuning.study()
    for rate in rates:
        study.enqueue_trial({"learning_rate": rate})
    study = tuning.run(5, 0)
    assert [trial.state.name for trial in study.trials] == [*["COMPLETE"] * 4, "PRUNED"]
    assert study.best_params == {"learning_rate": 0.1}
    assert not (tuning.place({"learning_rate": 0.9}) / "model.json").exists()
    assert len(finished(study)) == 5
    assert render(study).count("ended early") >= 1


def test_a_trial_that_the_time_ended_is_tried_first_by_the_next_run(tmp_path):
    tuning = QuickTuning(tmp_path, tmp_path / "data", {"learning_rate": [0.7, 0.8, 0.9]}, {})
    study = tuning.run(1, 0.0005)
    assert finished(study) == []
    [begun] = [trial.params for trial in study.trials]
    study = tuning.run(1, 0)
    assert [trial.params for trial in finished(study)] == [begun]


def test_a_time_in_which_no_trial_is_completed_is_told(dataset, tmp_path):
    search = ["--trials", 5, "--minutes", 0.001, "--space", SPACE, "--epochs", 500, "--validation-split", 0.2]
    done = tune("run", "--data", dataset, *search, tmp_path)
    assert done.returncode == 1, done.stderr
    assert "--minutes: no trial was completed in this time; run again to resume" in done.stderr.splitlines()[-1]
    assert list(tmp_path.glob("trials/.*.checkpoint.npz"))
