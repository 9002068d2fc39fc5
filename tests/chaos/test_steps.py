"""Every step there is, killed at random moments, on a full disk and a slow one, and called with nonsense."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from tests.conftest import PROJECT, outside_aws
from tests.made_up import made_up_evaluation
from tests.model_registry_api import model_registry
from tests.serving import wait_until
from trainyard.components.common.files import files_below
from trainyard.components.common.options import Input, Output
from trainyard.launch.contract import steps
from trainyard.launch.contracts import command_of

STEPS = steps()
BLOCK_IO = Path("/sys/fs/cgroup/blkio")
STREAMS = {"tensorboard"}
"""Outputs that are read while they grow: they may lack what was still to come."""


@pytest.fixture
def known(store, bucket, dataset, digits, model, step, tmp_path):
    """What options of these names or types are given, whichever step has them."""
    evaluation = tmp_path / "evaluation-of-it"
    evaluation.mkdir()
    made_up_evaluation(model).write(evaluation)
    uri = tmp_path / "uri"
    done = step("export", "--model", model, "--evaluation", evaluation, "--bucket", bucket, "--model-uri", uri)
    assert done.returncode == 0, done.stderr
    options = {
        "Dataset": dataset,
        "Model": model,
        "--evaluation": evaluation,
        "--evaluation-a": evaluation,
        "--evaluation-b": evaluation,
        "--source": digits,
        "--bucket": bucket,
        "--model": uri.read_text(),
        "--model-uri": uri.read_text(),
        "--model-name": "chaos",
        "--target": "process",
        "--epochs": 2,
    }
    with model_registry() as registry:
        yield options | {"--registry": registry.url}


def call(step, known, folder):
    """A call of a step with all of its outputs below a folder."""
    words = []
    for param in command_of(step).params:
        option = param.opts[0]
        if isinstance(param.type, Output):
            value = folder / param.name
        elif isinstance(param.type, Input):
            value = known.get(param.type.kind, known.get(option)) if param.required else None
        else:
            value = known.get(option)
        assert value is not None or not param.required, f"{step} {option}: say here what to give it"
        words += [] if value is None else [option, value]
    return [step, *words]


def shape_of(folder):
    """Which outputs there are, with the names of the files in those that are folders, whatever numbers they have."""
    return {
        path.name: {re.sub(r"\d+", "1", str(name)) for name in files_below(path)} if path.is_dir() else None
        for path in folder.glob("[!.]*")
    }


@pytest.fixture
def home(tmp_path):
    """Where serve keeps its state; it is stopped in the end, and leaves no process."""
    yield tmp_path / "home"
    stop = [sys.executable, "-m", "trainyard.components.serve", "stop"]
    env = outside_aws() | {"TRAINYARD_HOME": str(tmp_path / "home")}
    subprocess.run(stop, cwd=PROJECT, env=env, capture_output=True)
    # a server that was just being started looks for its service, finds none, and ends
    processes = ["ps", "-ewwo", "args"]
    wait_until(lambda: str(tmp_path / "home") not in subprocess.run(processes, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_that_is_killed_leaves_whole_outputs_or_none_and_can_be_run_again(
    start_step, step, known, home, endpoint, tmp_path, chance, rounds, note, one_line, name
):
    env = {"TRAINYARD_HOME": str(home), "NOTIFY_WEBHOOK_URL": endpoint.url}
    began = time.monotonic()
    done = step(*call(name, known, tmp_path / "reference"), env=env, timeout=300)
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    whole = shape_of(tmp_path / "reference")
    out = tmp_path / "killed"
    for _ in rounds(brief=1, full=20):
        running = start_step(*call(name, known, out), env=env)
        time.sleep(chance.uniform(0.05, took * 1.05))
        running.send_signal(signal.SIGKILL)
        running.communicate()
        there = shape_of(out)
        assert there.keys() <= whole.keys()
        for output, shape in there.items():
            assert shape == whole[output] or (output in STREAMS and shape < whole[output])
        note(f"kills of {name}", "all outputs whole" if there == whole else "some whole" if there else "no output")
    done = step(*call(name, known, out), env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    assert shape_of(out) == whole
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("name", STEPS)
def test_a_step_on_a_full_disk_says_so_and_leaves_nothing(
    step, known, home, endpoint, small_disk, pytestconfig, note, one_line, name
):
    if pytestconfig.getoption("brief"):
        pytest.skip("brief")
    (small_disk / "filler").write_bytes(bytes((1 << 20) - 24_000))
    env = {"TRAINYARD_HOME": str(home), "NOTIFY_WEBHOOK_URL": endpoint.url}
    done = step(*call(name, known, small_disk / "out"), env=env, timeout=300)
    if done.returncode:
        assert "disk" in one_line(done), done.stderr
        assert not list((small_disk / "out").rglob(".*"))
    note("steps on a full disk", "told in one line" if done.returncode else "small enough to fit")


@pytest.fixture
def slow_disk(tmp_path):
    """A file system that writes 256 KiB in a second, and only then says that they are written."""
    disk, image, group = tmp_path / "slow", tmp_path / "slow.img", BLOCK_IO / f"trainyard-{os.getpid()}"
    if os.geteuid() or not (BLOCK_IO / "blkio.throttle.write_bps_device").exists():
        pytest.skip("a slow disk takes root and cgroup v1's blkio")
    disk.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop,sync", image, disk], check=True)
    device = disk.stat().st_dev
    group.mkdir()
    (group / "blkio.throttle.write_bps_device").write_text(f"{os.major(device)}:{os.minor(device)} {256 << 10}")
    (group / "cgroup.procs").write_text(str(os.getpid()))  # what it starts is in the group too
    yield disk
    (BLOCK_IO / "cgroup.procs").write_text(str(os.getpid()))
    subprocess.run(["umount", disk], check=True)
    group.rmdir()


@pytest.mark.parametrize("name", STEPS)
def test_a_step_on_a_slow_disk_is_killed_and_then_ends_as_on_any(
    start_step, step, slow_disk, known, home, endpoint, tmp_path, pytestconfig, chance, note, name
):
    """No limit of time takes a slow disk for a failure, and a kill in a write leaves nothing half-written."""
    if pytestconfig.getoption("brief"):
        pytest.skip("brief")
    env = {"TRAINYARD_HOME": str(home), "NOTIFY_WEBHOOK_URL": endpoint.url}
    done = step(*call(name, known, tmp_path / "reference"), env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    whole = shape_of(tmp_path / "reference")
    running = start_step(*call(name, known, slow_disk / "out"), env=env)
    time.sleep(chance.uniform(0.5, 8))
    running.send_signal(signal.SIGKILL)
    running.communicate()
    for output, shape in shape_of(slow_disk / "out").items():
        assert shape == whole[output] or (output in STREAMS and shape < whole[output])
    done = step(*call(name, known, slow_disk / "out"), env=env, timeout=300)
    assert done.returncode == 0, done.stderr
    assert shape_of(slow_disk / "out") == whole
    note("steps on a slow disk, killed once", "then all outputs whole")


NONSENSE = [
    "",
    " ",
    "-1",
    "0",
    "1e999",
    "nan",
    "٣",
    "9" * 400,
    "a" * 20_000,
    "\x1b[31m",
    "\udcff",
    "{}",
    "[1",
    "../..",
    "/",
]


@pytest.mark.parametrize("name", STEPS)
def test_a_step_called_with_nonsense_says_one_line(name, tmp_path, chance, rounds, note, capsys, monkeypatch):
    """In this process, with no network, no store, and inputs that are not there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "none")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    options = [param for param in command_of(name).params if isinstance(param, click.Option) and param.name != "debug"]
    for _ in rounds(brief=20, full=100):
        words = []
        for param in options:
            if param.required or chance.random() < 0.3:
                nothing = isinstance(param.type, Input | Output) or param.name in ("source", "model", "model_uri")
                value = str(tmp_path / "none") if nothing and chance.random() < 0.8 else chance.choice(NONSENSE)
                words += [param.opts[0]] if param.is_flag else [param.opts[0], value]
        with pytest.raises(SystemExit) as end:
            command_of(name).main([*words, "--model-uri", "/none"] if name == "serve" else words)
        said = capsys.readouterr().err
        assert end.value.code in (1, 2), (words, said)
        last = said.strip().split("\n")[-1]
        assert "Traceback" not in said, words
        assert "unexpected" not in last, (words, last)
        assert len(last) < 700, (words, last)
        assert "\x1b" not in said, (words, said)
        assert os.listdir(tmp_path) == [], words  # noqa: PTH208
        note("nonsensical calls of the steps", f"exit {end.value.code} in one line")
