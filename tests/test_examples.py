"""The small examples: run with processes, and compiled for a cluster. In containers: test_images."""

import subprocess
import sys

import pytest
import yaml

from tests.conftest import PROJECT, outside_aws

RESULTS = {"two_steps": "the first step was here, and so was the second\n", "fan_out": "11\n"}


def example(name, *options, cwd):
    return subprocess.run(
        [sys.executable, "-m", f"examples.{name}", *map(str, options)],
        cwd=cwd,
        env=outside_aws() | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("name", RESULTS)
def test_it_runs_with_processes_and_prints_its_result(name, tmp_path):
    done = example(name, "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == RESULTS[name]
    assert ("run ended: SUCCEEDED" in done.stderr) == (name == "fan_out")


@pytest.mark.parametrize("name", RESULTS)
def test_it_compiles_with_the_image_that_was_named(name, tmp_path):
    done = example(name, "compile", "--image", "registry.example.com/python@sha256:1", "it.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    executors = yaml.safe_load((tmp_path / "it.yaml").read_text())["deploymentSpec"]["executors"]
    assert {one["container"]["image"] for one in executors.values()} == {"registry.example.com/python@sha256:1"}


def test_two_steps_are_in_order_and_several_side_by_side(tmp_path):
    for name in RESULTS:
        assert example(name, "compile", f"{name}.yaml", cwd=tmp_path).returncode == 0
    two, fan = (yaml.safe_load((tmp_path / f"{name}.yaml").read_text()) for name in RESULTS)
    tasks = two["root"]["dag"]["tasks"]
    assert tasks["second"]["dependentTasks"] == ["first"]
    inner = next(part["dag"]["tasks"] for name, part in fan["components"].items() if "exit-handler" in name)
    assert all("dependentTasks" not in inner[name] for name in ("count", "count-2", "count-3"))
    assert sorted(inner["add"]["dependentTasks"]) == ["count", "count-2", "count-3"]
    assert fan["root"]["dag"]["tasks"]["announce"]["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"


@pytest.mark.parametrize("name", [*RESULTS, "compare_models", "batch_predict", "pytorch_step", "tune"])
def test_alone_it_tells_what_can_be_done(name, tmp_path):
    done = example(name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "compile" in done.stdout
    assert "run" in done.stdout


def test_another_teams_step_stands_between_download_and_evaluate(tmp_path):
    """The step of PyTorch, with an image of its own; select gets both models."""
    options = ["--pytorch-image", "registry.example.com/torch:1", "it.yaml"]
    done = example("pytorch_step", "compile", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    spec = next(yaml.safe_load_all((tmp_path / "it.yaml").read_text()))
    tasks = spec["root"]["dag"]["tasks"]
    assert tasks["train-pytorch"]["dependentTasks"] == ["download"]
    container = spec["deploymentSpec"]["executors"]["exec-train-pytorch"]["container"]
    assert container["image"] == "registry.example.com/torch:1"
    assert "torch.onnx.export" in container["command"][-1]
    assert sorted(tasks["select"]["dependentTasks"]) == ["evaluate", "evaluate-2", "train", "train-pytorch"]
