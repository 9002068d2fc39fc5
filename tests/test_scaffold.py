"""`make component`: a new component that already runs, made in a copy of the repository."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.conftest import PROJECT
from trainyard.launch.engine import engine


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository that is the package `trainyard` by the name of its folder."""
    folder = tmp_path_factory.mktemp("copy") / "trainyard"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in filter(None, subprocess.run(listed, cwd=PROJECT, capture_output=True, text=True).stdout.split("\0")):
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, folder / name)
    return folder


def run(copy, *command):
    environment = {**os.environ, "PYTHONPATH": str(copy.parent)}
    return subprocess.run(list(map(str, command)), cwd=copy, env=environment, capture_output=True, text=True)


def make(copy, name):
    return run(copy, "make", "component", f"NAME={name}", f"RUN={sys.executable}", "--old-file", ".venv/run")


@pytest.fixture(scope="module")
def resize(copy):
    """That copy with a new component, resize."""
    done = make(copy, "resize")
    assert done.returncode == 0, done.stderr
    return copy


def test_a_new_component_passes_its_own_test_and_those_of_all_components(resize):
    tests = ["tests/test_resize.py", "tests/test_contract.py", "tests/test_locks.py"]
    chosen = "resize or current or agree or dockerfile or shared_options"
    done = run(resize, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests, "-k", chosen)
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout


def test_its_code_is_checked_like_all_code(resize):
    for check in (["check"], ["format", "--check"]):
        done = run(resize, sys.executable, "-m", "ruff", *check, "components/resize", "tests/test_resize.py")
        assert done.returncode == 0, done.stdout


def test_it_is_a_command_and_can_be_loaded_into_a_pipeline(resize, digits):
    done = run(resize, sys.executable, "-m", "trainyard", "resize", "--dataset", digits.parent)
    assert done.stderr.startswith("resize    3 files in ")
    program = """
import trainyard
from kfp import compiler, dsl

resize = trainyard.load("resize", registry="registry.example.com", version="1")

@dsl.pipeline(name="own")
def own():
    resize(dataset=dsl.importer("s3://bucket/data", dsl.Dataset).output)

compiler.Compiler().compile(own, "own.yaml")
"""
    done = run(resize, sys.executable, "-c", program)
    assert done.returncode == 0, done.stderr
    executors = yaml.safe_load((resize / "own.yaml").read_text())["deploymentSpec"]["executors"]
    assert executors["exec-resize"]["container"]["image"] == "registry.example.com/trainyard-resize:1"


def test_its_image_is_built_and_runs(builder, resize, digits, tmp_path):
    build = [sys.executable, "-m", "trainyard.launch.images", "build", "--step", "resize", "--version", "test"]
    done = run(resize, *build, "--dist", tmp_path)
    assert done.returncode == 0, done.stderr
    image = json.loads((tmp_path / "images.json").read_text())["resize"]
    try:
        command = ["python3", "-m", "trainyard.components.resize", "--dataset", "/data"]
        done = run(
            resize,
            os.environ.get("DOCKER") or "docker",
            "run",
            "--rm",
            "-v",
            f"{digits.parent}:/data:ro",
            image,
            *command,
        )
    finally:
        engine("rmi", "--force", image)
    assert done.stderr == "resize    3 files in /data\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "expected 2 to 31 lower-case letters and digits"),
        ("Re-size", "expected 2 to 31 lower-case letters and digits"),
        ("class", "expected 2 to 31 lower-case letters and digits"),
        ("train", "'train' is taken by a command"),
        ("compile", "'compile' is taken by a command"),
        ("predictor", "'predictor' is taken by a command, an image"),
        ("local", "'local' is taken by a command, an image or an extra"),
        ("common", "components/common exists"),
        ("gate", "tests/test_gate.py exists"),
    ],
)
def test_a_name_that_cannot_be_taken_is_refused_in_one_line_and_nothing_is_written(copy, name, message):
    before = sorted(path for path in copy.rglob("*") if "__pycache__" not in path.parts)
    done = make(copy, name)
    assert done.returncode == 2
    assert done.stderr.startswith("NAME: expected")
    assert message in done.stderr.splitlines()[0]
    assert sorted(path for path in copy.rglob("*") if "__pycache__" not in path.parts) == before
