"""kfp.local's orchestrator with steps as processes: the part of kfp 2.17 that this project reaches into."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trainyard
from trainyard.components.common.cli import BadInput
from trainyard.launch.laptop import run_steps
from trainyard.launch.processes import run_process, steps_as_processes

MODULE = """
import argparse, json, os, pathlib, sys
parser = argparse.ArgumentParser()
for name in ("words", "data", "copy", "out", "length", "executor-input"):
    parser.add_argument("--" + name)
a = parser.parse_args()
pathlib.Path(a.out or a.copy).parent.mkdir(parents=True, exist_ok=True)
if a.words == "fail":
    print("expected words, received fail; say something else", file=sys.stderr)
    sys.exit(2)
if a.out:
    pathlib.Path(a.out).mkdir()
    (pathlib.Path(a.out) / "text").write_text(a.words)
    outputs = json.loads(getattr(a, "executor_input"))["outputs"]
    artifact = outputs["artifacts"]["out"]["artifacts"][0]
    content = {"artifacts": {"out": {"artifacts": [{k: artifact[k] for k in ("name", "uri", "type")}]}}}
    pathlib.Path(outputs["outputFile"]).write_text(json.dumps(content))
else:
    text = (pathlib.Path(a.data) / "text").read_text()
    pathlib.Path(a.copy).write_text(text + os.environ["SIGN"])
"""

COMPONENT = """
name: {name}
inputs:
- {{name: {input}, type: {input_type}}}
outputs:
- {{name: {output}, type: {output_type}}}
implementation:
  container:
    image: never-pulled
    command: [python3, {module}]
    args: [--{input}, {{{placeholder}: {input}}}, --{output}, {{outputPath: {output}}}{rest}]
"""


@pytest.fixture
def two_steps(tmp_path):
    """A pipeline of two container components: one writes a folder, the other reads it and gives a text."""
    from kfp import dsl
    from kfp.components import load_component_from_text

    module = tmp_path / "python3-in-its-name.py"
    module.write_text(MODULE)
    write = load_component_from_text(
        COMPONENT.format(
            name="write",
            input="words",
            input_type="String",
            output="out",
            output_type="Dataset",
            placeholder="inputValue",
            module=module,
            rest=", --executor-input, {executorInput: null}",
        )
    )
    read = load_component_from_text(
        COMPONENT.format(
            name="read",
            input="data",
            input_type="Dataset",
            output="copy",
            output_type="String",
            placeholder="inputPath",
            module=module,
            rest="",
        )
    )

    @dsl.pipeline(name="two-steps")
    def pipeline(words: str = "hello") -> str:
        return read(data=write(words=words).outputs["out"]).outputs["copy"]

    return pipeline


def test_two_container_steps_run_as_processes_and_hand_over_a_folder_and_a_text(two_steps, tmp_path, monkeypatch):
    monkeypatch.setenv("SIGN", "!")
    with steps_as_processes(tmp_path / "runs") as run:
        task = two_steps(words="python3 and 'quotes' and\nlines")
    assert task.output == "python3 and 'quotes' and\nlines!"
    assert [(step.name, step.exit_code) for step in run.steps] == [("write", 0), ("read", 0)]
    assert all(step.seconds > 0 for step in run.steps)
    assert (run.folder / "write" / "out" / "text").is_file()


def test_a_step_that_fails_ends_the_run_and_its_last_line_is_kept(two_steps, tmp_path):
    with steps_as_processes(tmp_path / "runs") as run, pytest.raises(RuntimeError, match="FAILURE"):
        two_steps(words="fail")
    assert [(step.name, step.exit_code) for step in run.steps] == [("write", 2)]
    assert run.steps[0].last_line == "expected words, received fail; say something else"


def test_a_step_that_ends_before_it_wrote_anything_is_told_of_as_any_other(two_steps, tmp_path):
    """Where `python3 -m` has nothing to run, the cause is the message, not what is missing in the run's folder."""
    (tmp_path / "python3-in-its-name.py").unlink()
    runs = tmp_path / "runs"
    with pytest.raises(BadInput, match=r"step write failed \(exit code 2\): .*can't open file"):
        run_steps(two_steps, {"words": "hello"}, steps_as_processes(runs), runs)
    assert json.loads((runs / "latest" / "summary.json").read_text())["status"] == "failed"


@pytest.fixture
def team(tmp_path, monkeypatch):
    """Another team's folder, which is the current one; modules of its own in it may not get into our steps."""
    folder = tmp_path / "team"
    for name in ("components/__init__.py", "components/common.py", "pipeline.py", "trainyard_settings.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("raise ImportError('a module of the team')\n")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.filterwarnings("ignore:The default base_image")
def test_a_step_of_another_team_stands_between_ours_and_each_is_called_by_its_name(team, digits, tmp_path):
    from kfp import dsl

    @dsl.component(install_kfp_package=False)
    def python_of(dataset: dsl.Input[dsl.Dataset]) -> str:
        import pathlib
        import sys

        assert pathlib.Path(dataset.path, "digits.npz").is_file()
        return sys.executable

    download = trainyard.load("download")

    @dsl.pipeline(name="mixed")
    def mixed(first: str, second: str) -> str:
        python = python_of(dataset=download(source=first).outputs["dataset"])
        download(source=second).after(python)
        return python.output

    with trainyard.local.processes(tmp_path / "runs") as run:
        task = mixed(first=str(digits), second=str(digits))
    assert [(step.name, step.exit_code) for step in run.steps] == [("download", 0), ("python-of", 0), ("download-2", 0)]
    assert Path(task.output).samefile(sys.executable)

    runs = tmp_path / "failed"
    with pytest.raises(BadInput, match=r"step download-2 failed \(exit code 2\): .*/nowhere"):
        run_steps(mixed, {"first": str(digits), "second": "/nowhere"}, steps_as_processes(runs), runs)
    summary = json.loads((runs / "latest" / "summary.json").read_text())
    assert list(summary["steps"]) == ["download", "python-of", "download-2"]


def test_modules_of_the_current_folder_do_not_get_into_our_steps(team, digits, tmp_path):
    """Not even those that are named as one of Python's own."""
    from kfp import dsl

    (team / "random.py").write_text("raise ImportError('the random of the team')\n")
    download = trainyard.load("download")

    @dsl.pipeline(name="one")
    def one(source: str):
        download(source=source)

    with trainyard.local.processes(tmp_path / "runs") as run:
        one(source=str(digits))
    assert [(step.name, step.exit_code) for step in run.steps] == [("download", 0)]


def test_a_step_that_succeeds_when_it_is_tried_again_did_not_fail(tmp_path):
    from kfp import dsl

    @dsl.container_component
    def flaky(marker: str):
        return dsl.ContainerSpec("never-pulled", ["sh", "-c", 'rmdir "$0" && exit 1; true'], [marker])

    @dsl.pipeline(name="again")
    def again(marker: str):
        flaky(marker=marker).set_retry(1)

    (tmp_path / "marker").mkdir()
    runs = tmp_path / "runs"
    run = run_steps(again, {"marker": str(tmp_path / "marker")}, steps_as_processes(runs), runs)
    assert [(step.name, step.exit_code) for step in run.steps] == [("flaky", 1), ("flaky", 0)]


def test_a_step_of_a_loop_is_called_by_its_iteration_as_well(tmp_path):
    from kfp import dsl

    @dsl.container_component
    def check(word: str):
        return dsl.ContainerSpec("never-pulled", ["test"], [word, "=", "good"])

    @dsl.pipeline(name="loop")
    def loop():
        with dsl.ParallelFor(["good", "bad"]) as word:
            check(word=word)

    runs = tmp_path / "runs"
    with pytest.raises(RuntimeError, match=r"step for-loop-[0-9]-iteration-1/check failed \(exit code 1\)"):
        run_steps(loop, {}, steps_as_processes(runs), runs)
    assert (runs / "latest").resolve().parent == runs


def test_kfp_is_as_before_afterwards(tmp_path):
    from kfp.local import subprocess_task_handler, task_dispatcher

    def parts():
        return subprocess_task_handler.SubprocessTaskHandler, task_dispatcher.run_single_task_implementation

    before = parts()
    with steps_as_processes(tmp_path):
        assert not set(parts()) & set(before)
    assert parts() == before


def test_a_server_that_a_step_leaves_behind_does_not_hold_the_run(tmp_path):
    """The server inherits stderr and lives on; the step has ended, so the run goes on."""
    pid = tmp_path / "pid"
    server = "import time; time.sleep(60)"
    program = f"""
import subprocess, sys, pathlib
process = subprocess.Popen([sys.executable, "-c", {server!r}], start_new_session=True)
pathlib.Path({str(pid)!r}).write_text(str(process.pid))
print("server started", file=sys.stderr)
"""
    started = time.monotonic()
    try:
        ended = run_process([sys.executable, "-c", program], dict(os.environ))
        assert (ended.exit_code, ended.last_line) == (0, "server started")
        assert 0 < ended.cpu_seconds < 30
        assert ended.peak_memory > 2**20
        assert time.monotonic() - started < 30
    finally:
        os.kill(int(pid.read_text()), signal.SIGTERM)


def test_on_a_terminal_a_step_gets_a_terminal_too(tmp_path):
    """`script` gives the runner a terminal; the step in it then sees one as well, in a log it sees none."""
    root = Path(__file__).parent.parent
    inner = "import sys; print('terminal' if sys.stderr.isatty() else 'log', file=sys.stderr)"
    program = f"""
import os, sys
sys.path.insert(0, {str(root)!r})
from trainyard.launch.processes import run_process
ended = run_process([sys.executable, "-c", {inner!r}], dict(os.environ))
open(sys.argv[1], "w").write(ended.last_line)
"""
    file = tmp_path / "program.py"
    file.write_text(program)
    for name, spawn in (("terminal", pty.spawn), ("log", lambda command: subprocess.run(command, capture_output=True))):
        spawn([sys.executable, str(file), str(tmp_path / name)])
        assert (tmp_path / name).read_text() == name


BAR_AND_LINE = """
import sys, time
import click
from trainyard.components.common.cli import BadInput, command, say
from trainyard.components.common.progress import Progress

@command
def main():
    progress = Progress("step")
    time.sleep(0.15)
    progress.show(0.5, lambda: "half of it")
    say("step", "a line")
    time.sleep(0.15)
    progress.show(1, lambda: "all of it")
    raise BadInput("expected this")

main()
"""


def test_a_line_takes_the_place_of_a_progress_bar_on_a_terminal(tmp_path):
    """Also where the step speaks past its progress, and where it fails."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", BAR_AND_LINE], cwd=Path(trainyard.__file__).parent, stderr=theirs
    ) as process:
        os.close(theirs)
        process.wait(timeout=60)
    written = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "half of it" in written
    assert "all of it" in written
    screen = [line.rpartition("\r\033[K")[2] for line in written.strip().split("\r\n")]
    assert screen == ["step      a line", "expected this"]
