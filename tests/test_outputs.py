"""Outputs: a place where none can appear is refused before work is done, and killed runs leave nothing for good."""

import signal
import subprocess
import sys

import pytest

from tests.made_up import made_up_card, made_up_evaluation
from trainyard.components.common.cli import BadInput
from trainyard.components.common.files import atomic_file, atomic_folder
from trainyard.components.common.options import Input, Output
from trainyard.launch.contract import steps
from trainyard.launch.contracts import command_of

OUTPUTS = [
    (step, param.opts[0]) for step in steps() for param in command_of(step).params if isinstance(param.type, Output)
]
HOLDER = """
import sys
from pathlib import Path
from trainyard.components.common.files import atomic_file, atomic_folder
output = Path(sys.argv[1])
with atomic_folder(output, "marker") if sys.argv[2] == "folder" else atomic_file(output) as partial:
    ((partial / "half") if partial.is_dir() else partial).write_text("written")
    print("held", flush=True)
    sys.stdin.read()
"""


def arguments(step, folder, **chosen):
    """A call of a step with all that is required, as far as its options tell."""
    words = []
    for param in command_of(step).params:
        value = chosen.get(param.opts[0])
        if value is None and param.required:
            output = isinstance(param.type, Output)
            value = (
                folder if isinstance(param.type, Input) else folder / param.name if output else "s3://models/mnist/1/"
            )
        words += [] if value is None else [param.opts[0], str(value)]
    return words


@pytest.fixture
def refused(tmp_path, capsys):
    """Call a step that must refuse it; the one line that it says."""

    def call(step, *more, **chosen):
        (tmp_path / "input").mkdir(exist_ok=True)
        with pytest.raises(SystemExit) as end:
            command_of(step).main([*arguments(step, tmp_path / "input", **chosen), *more])
        said = capsys.readouterr().err.strip()
        assert end.value.code == 2, said
        assert "\n" not in said
        assert len(said) < 500
        assert not list((tmp_path / "input").iterdir())
        return said

    return call


@pytest.mark.parametrize(("step", "option"), OUTPUTS)
def test_an_output_that_cannot_appear_is_refused_at_once(refused, tmp_path, step, option):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nothing")
    places = {
        "link": "a symbolic link",
        "dangling": "a symbolic link",
        "file/below": "is not a folder",
        "dangling/below": "is not a folder",
        "n" * 300: "name too long",
    }
    for place, words in places.items():
        said = refused(step, **{option: tmp_path / place})
        assert option in said
        assert words in said
    assert "is not a folder" in refused(step, **{option: "/dev/null/x"})
    assert "received something else" in refused(step, **{option: "/dev/null"})
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file", "input", "link"]


def test_two_outputs_at_one_place_are_refused(refused, tmp_path):
    said = refused("select", **{"--model": tmp_path / "out", "--evaluation": tmp_path / "out"})
    assert "--evaluation: expected a path of its own, received that of --model" in said


@pytest.mark.parametrize("given", ["{", "[]", "7", "null", "{}", '{"outputs": 1}', "[" * 100_000, '{"outputs": {}}'])
@pytest.mark.parametrize("step", sorted({step for step, _ in OUTPUTS}))
def test_an_executor_input_that_kfp_never_fills_in_is_refused_at_once(refused, step, given):
    if any("--executor-input" in param.opts for param in command_of(step).params):
        assert "--executor-input: expected the JSON object that KFP fills in" in refused(
            step, "--executor-input", given
        )


def evaluated(folder, name):
    """A model folder that nobody trained, and its evaluation."""
    model = folder / name
    (model / "1").mkdir(parents=True)
    (model / "1" / "saved_model.pb").write_bytes(name.encode() * 2_000_000)
    made_up_card(seed=name).write(model)
    evaluation = folder / f"{name}-evaluation"
    evaluation.mkdir()
    made_up_evaluation(model).write(evaluation)
    return model, evaluation


def test_select_says_plainly_that_the_disk_is_full(step, small_disk, tmp_path):
    (model_a, evaluation_a), (model_b, evaluation_b) = evaluated(tmp_path, "first"), evaluated(tmp_path, "other")
    inputs = [
        "--model-a",
        model_a,
        "--evaluation-a",
        evaluation_a,
        "--model-b",
        model_b,
        "--evaluation-b",
        evaluation_b,
    ]
    done = step("select", *inputs, "--model", small_disk / "model", "--evaluation", small_disk / "evaluation")
    assert done.returncode == 1
    assert done.stderr.strip().endswith("the disk is full; free some space, or write to another disk")
    assert len(done.stderr) < 300
    assert not list(small_disk.iterdir())


@pytest.fixture
def hold(tmp_path):
    """Start a process that is about to write an output."""
    started = []

    def start(kind):
        command = [sys.executable, "-c", HOLDER, str(tmp_path / "out"), kind]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_killed_runs_left_goes_with_the_next_run_of_the_same_output(hold, tmp_path, kind):
    for process in (hold(kind), hold(kind), hold(kind)):
        process.kill()
        process.wait()
    (tmp_path / ".other.partial-12345678").write_text("of another output")
    held = hold(kind)
    assert len(list(tmp_path.iterdir())) == 2
    with atomic_folder(tmp_path / "out", "marker") if kind == "folder" else atomic_file(tmp_path / "out") as partial:
        ((partial / "marker") if kind == "folder" else partial).write_text("whole")
        assert len(list(tmp_path.iterdir())) == 3  # of another output, the one held, and ours
    held.send_signal(signal.SIGKILL)
    held.wait()
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "out2"):
        raise ZeroDivisionError
    with atomic_folder(tmp_path / "out", "marker") if kind == "folder" else atomic_file(tmp_path / "out"):
        assert len(list(tmp_path.iterdir())) == 3  # of another output, the earlier one, and ours


def test_a_link_to_a_folder_is_no_output(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(BadInput, match="symbolic link"), atomic_folder(tmp_path / "link", "marker"):
        pass
    assert (tmp_path / "link").is_symlink()
