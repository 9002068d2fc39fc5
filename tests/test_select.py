"""The select step, and the example pipeline that finds the best of several networks with it."""

import json
import re
import shutil
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

from examples import compare_models
from tests.conftest import PROJECT, outside_aws
from tests.test_contract import STEPS
from trainyard.components.common.artifacts.model import read_card


@pytest.fixture(scope="module")
def candidates(dataset, model, tmp_path_factory):
    """Three evaluated models: a good one, one that learned for one epoch, and one that missed its gate."""
    folder = tmp_path_factory.mktemp("candidates")
    shutil.copytree(model, folder / "good")
    run("train", "--dataset", dataset, "--model", folder / "poor", "--epochs", 1)
    run("train", "--dataset", dataset, "--model", folder / "failed", "--epochs", 1, "--seed", 1)
    for name, gate in (("good", 0), ("poor", 0), ("failed", 0.99)):
        options = ("--dataset", dataset, "--model", folder / name, "--min-accuracy", gate)
        run("evaluate", *options, "--evaluation", folder / f"{name}-evaluation")
    return folder


def run(step, *options):
    command = [sys.executable, "-m", f"trainyard.components.{step}", *map(str, options)]
    return subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True)


def pair(candidates, a, b):
    sides = {"model-a": a, "evaluation-a": f"{a}-evaluation", "model-b": b, "evaluation-b": f"{b}-evaluation"}
    return [part for name, value in sides.items() for part in (f"--{name}", candidates / value)]


def outputs(folder):
    return ["--model", folder / "model", "--evaluation", folder / "evaluation", "--winner", folder / "winner"]


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "loss"])
@pytest.mark.parametrize("order", [("good", "poor"), ("poor", "good")])
def test_the_better_model_is_handed_on_whole_with_its_evaluation(step, candidates, tmp_path, metric, order):
    done = step("select", *pair(candidates, *order), "--metric", metric, *outputs(tmp_path))
    assert done.returncode == 0, done.stderr
    for path in (candidates / "good").rglob("*"):
        if path.is_file():
            assert (tmp_path / "model" / path.relative_to(candidates / "good")).read_bytes() == path.read_bytes()
    evaluation = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert evaluation == json.loads((candidates / "good-evaluation" / "evaluation.json").read_text())
    assert (tmp_path / "winner").read_text() == "dense"


def test_one_after_another_they_find_the_best_of_many_with_one_table(step, candidates, tmp_path):
    done = step("select", *pair(candidates, "poor", "failed"), *outputs(tmp_path / "first"))
    assert done.returncode == 0, done.stderr
    sides = ["--model-a", tmp_path / "first" / "model", "--evaluation-a", tmp_path / "first" / "evaluation"]
    sides += ["--model-b", candidates / "good", "--evaluation-b", candidates / "good-evaluation"]
    done = step("select", *sides, *outputs(tmp_path / "second"), "--comparison", tmp_path / "table.md")
    assert done.returncode == 0, done.stderr
    compared = json.loads((tmp_path / "second" / "evaluation" / "comparison.json").read_text())["candidates"]
    assert [one["passed"] for one in compared] == [True, True, False]
    assert compared[0]["accuracy"] > compared[1]["accuracy"]
    table = (tmp_path / "table.md").read_text()
    assert "the best of 3 by accuracy" in table
    assert [float(row) for row in re.findall(r"\| (0\.\d{4}) \| 0\.\d{4} \| \d", table)] == [
        round(one["accuracy"], 4) for one in compared
    ]


def test_a_model_that_missed_its_gate_loses_to_one_that_passed(step, candidates, dataset, tmp_path):
    """Even to one that is less accurate: the gate of this one was lower."""
    failing = candidates / "failing-good-evaluation"
    if not failing.exists():
        options = ("--dataset", dataset, "--model", candidates / "good", "--min-accuracy", 1)
        run("evaluate", *options, "--evaluation", failing)
    sides = ["--model-a", candidates / "good", "--evaluation-a", failing]
    sides += ["--model-b", candidates / "poor", "--evaluation-b", candidates / "poor-evaluation"]
    done = step("select", *sides, *outputs(tmp_path))
    assert done.returncode == 0, done.stderr
    assert read_card(tmp_path / "model").hyperparameters["epochs"] == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--metric", "beauty"], "expected one of accuracy, macro_f1, loss, received 'beauty'"),
        (["--evaluation-b", "good-evaluation"], "evaluate"),
        (["--model-b", "nowhere"], "expected a model folder with 1/saved_model.pb"),
        (["--evaluation-a", "nowhere"], "expected an evaluation folder with evaluation.json"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(step, candidates, tmp_path, options, words):
    value = candidates / options[1] if options[0] != "--metric" else options[1]
    done = step("select", *pair(candidates, "good", "poor"), *outputs(tmp_path), options[0], value)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_of_an_older_release_is_told(step, candidates, tmp_path):
    older = tmp_path / "older"
    shutil.copytree(candidates / "poor-evaluation", older)
    told = json.loads((older / "evaluation.json").read_text())
    del told["macro_f1"]
    (older / "evaluation.json").write_text(json.dumps(told))
    done = step("select", *pair(candidates, "good", "poor"), *outputs(tmp_path / "out"), "--evaluation-b", older)
    assert done.returncode == 2
    assert "train and evaluate the model again" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kept", "received"), [(360, "360 examples for dense and others"), (300, "and 300 for dense")])
def test_models_that_answered_other_images_are_not_compared(step, candidates, digits, tmp_path, kept, received):
    """Also where these are as many."""
    arrays = dict(np.load(digits))
    order = np.random.default_rng(1).permutation(360)[:kept]
    (tmp_path / "other").mkdir()
    np.savez(tmp_path / "other" / "digits.npz", **arrays | {name: arrays[name][order] for name in ("x_test", "y_test")})
    run(
        "evaluate",
        "--dataset",
        tmp_path / "other",
        "--model",
        candidates / "poor",
        "--evaluation",
        tmp_path / "on-other",
    )
    sides = [*pair(candidates, "good", "poor"), "--evaluation-b", tmp_path / "on-other"]
    done = step("select", *sides, *outputs(tmp_path / "out"))
    assert done.returncode == 2
    assert received in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--architectures", "dense, dense,"], "expected at least two networks, received 'dense, dense,'"),
        (["--runner", "docker", "--images", "five.json"], "expected an image of select as well"),
        (["--runner", "docker", "--images", "none.json"], "make build writes it"),
        (["--architectures", "dense,perceptron"], "received 'perceptron'"),
        (["--metric", "beauty"], "expected one of accuracy, macro_f1, loss, received 'beauty'"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused_before_anything_is_trained(options, words, digits, home, tmp_path):
    (tmp_path / "five.json").write_text(json.dumps(dict.fromkeys(set(STEPS) - {"select"}, "image")))
    done = compare("run", "--data", digits, *options, environment=home, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def home(tmp_path):
    """Variables of a user whose store and endpoints are ended afterwards."""
    environment = outside_aws() | {"TRAINYARD_HOME": str(tmp_path / "state"), "PYTHONPATH": str(PROJECT)}
    yield environment
    for module in ("trainyard.components.serve", "trainyard.launch.store"):
        subprocess.run([sys.executable, "-m", module, "stop"], cwd=tmp_path, env=environment, check=True)


def compare(*options, environment, cwd):
    command = [sys.executable, "-m", "examples.compare_models", *map(str, options)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def folders_of_images(digits, tmp_path_factory):
    """A data set as a team has it: a folder of PNGs for each class, 40 to learn from and 15 to test."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("images") / "figures"
    arrays = np.load(digits)
    for split, count in (("train", 40), ("test", 15)):
        for digit in (0, 3, 7):
            place = folder / split / f"figure-{digit}"
            place.mkdir(parents=True)
            for index, image in enumerate(arrays[f"x_{split}"][arrays[f"y_{split}"] == digit][:count]):
                Image.fromarray(image).save(place / f"{index:02d}.png")
    return folder


def test_several_networks_are_compared_and_only_the_best_is_served(folders_of_images, home, tmp_path):
    options = ("--data", folders_of_images, "--architectures", "dense,cnn", "--epochs", 10)
    done = compare("run", *options, environment=home, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "is the best of 2 by accuracy" in done.stdout
    assert "run ended: SUCCEEDED" in done.stderr
    run = tmp_path / "runs" / "latest"
    winner = (run / "select" / "winner").read_text()
    endpoint = (run / "serve" / "endpoint").read_text()
    with urllib.request.urlopen(f"{endpoint.removesuffix(':predict')}/metadata", timeout=30) as answer:
        card = json.load(answer)["metadata"]["card"]
    assert card["architecture"] == winner
    assert [line.split()[0] for line in done.stdout.splitlines() if line] == [
        *("NETWORK", winner, *({"dense", "cnn"} - {winner})),
        *("best", "model", "endpoint", "stop"),
    ]
    assert "s3://models/figures/1/" in done.stdout
    assert endpoint in done.stdout
    assert card["classes"] == ["figure-0", "figure-3", "figure-7"]


def test_the_exit_handler_tells_of_a_run_that_failed(home, tmp_path):
    (tmp_path / "broken.npz").write_text("no numbers")
    options = ("--data", tmp_path / "broken.npz", "--architectures", "dense,cnn", "--epochs", 1)
    done = compare("run", *options, environment=home, cwd=tmp_path)
    assert done.returncode == 2
    assert "run ended: FAILED" in done.stderr
    assert "expected a data set, received text" in done.stderr.splitlines()[-1]


def test_it_compiles_for_a_cluster_with_a_branch_for_each_network(tmp_path):
    import yaml

    images = {name: f"registry.example.com/{name}" for name in compare_models.STEPS}
    (tmp_path / "images.json").write_text(json.dumps(images))
    options = ("compile", "--architectures", "dense,cnn,squeezenet,resnet18", "--images", tmp_path / "images.json")
    environment = outside_aws() | {"PYTHONPATH": str(PROJECT)}
    done = compare(*options, "--s3-secret", "keys", tmp_path / "compare.yaml", environment=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    spec, platform = yaml.safe_load_all((tmp_path / "compare.yaml").read_text())
    executors = spec["deploymentSpec"]["executors"]
    assert {one["container"]["image"] for one in executors.values()} == set(images.values())
    keyed = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert {name.split("-")[1] for name in keyed} == {"download", "train", "evaluate", "export", "serve"}
    assert {secret["secretName"] for one in keyed.values() for secret in one["secretAsEnv"]} == {"keys"}
    inner = next(part["dag"]["tasks"] for name, part in spec["components"].items() if "exit-handler" in name)
    assert {name for name in inner if name.startswith("train")} == {"train", "train-2", "train-3", "train-4"}
    assert sum(name.startswith("select") for name in inner) == 3
    for name, task in inner.items():
        args = " ".join(spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]["args"])
        asked = set(re.findall(r"\$\.inputs\.parameters\['(\w+)'\]", args))
        assert asked == set(task["inputs"].get("parameters", {})), name
    assert all(inner[name].get("dependentTasks", []) == ["download"] for name in inner if name.startswith("train"))
