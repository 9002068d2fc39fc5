"""The commands that the documents show and the messages name: they exist, and take the options that are shown."""

import json
import os
import re
import shutil
import signal
import subprocess

import pytest

from tests.conftest import PROJECT
from tests.documented_commands import of_pages, of_texts, wrong

NEW = {"resize"}
"""Names of components that a page makes as it goes."""


def faults(shown, shortened=False):
    """{command: where it stands, and what is wrong}."""
    told = {one.text: f"{one.where}: {found}" for one in shown if (found := wrong(one.text, shortened))}
    return {text: fault for text, fault in told.items() if not any(f"no command {name!r}" in fault for name in NEW)}


def test_every_command_of_the_documents_exists_and_takes_its_options():
    shown = of_pages()
    assert len(shown) > 100
    assert {"README.md", "docs/images.md", "docs/components/serve.md"} <= {one.where for one in shown}
    assert faults(shown) == {}


def test_every_command_that_a_message_or_a_help_text_names_exists():
    shown = of_texts()
    assert len(shown) > 50
    assert faults(shown, shortened=True) == {}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("trainyard tarin --model m", "no command 'tarin'"),
        ("trainyard train --modle m", "No such option"),
        ("trainyard run --runner moon", "is none of"),
        ("trainyard evaluate --dataset d --evaluation e", "--model is missing"),
        ("trainyard serve predict --photo x", "No such option"),
        ("make biuld", "no target biuld"),
        ("make run DATE=x", "no variable DATE"),
        ('make run ARGS="--epoch 3"', "No such option"),
        ("python -m examples.compare_models run --networks cnn", "does not have --networks"),
        ("python examples/none.py", "does not exist"),
        ("kubctl get pods", "no program"),
    ],
)
def test_a_command_that_does_not_work_is_found(command, words):
    assert words in wrong(command)


@pytest.mark.parametrize(
    "command",
    [
        "trainyard serve --target process --model-uri s3://models/mnist/4/ --canary-percent 10 --analyze 10m",
        "make build push REGISTRY=registry.example.com/ml VERSION=1.2.0  # all of them",
        'make run DATA=photos.tar.gz ARGS="--cache --epochs 3"',
        ".venv/bin/python -m examples.compare_models run --architectures dense,cnn",
    ],
)
def test_one_that_works_is_accepted(command):
    assert wrong(command) == ""


def test_a_new_shell_finds_the_programs_of_the_pages_by_the_line_that_they_begin_with():
    (line,) = re.findall(r"^    (export PATH=.*)$", (PROJECT / "docs" / "README.md").read_text(), re.MULTILINE)
    for program in ("trainyard", "python", "pip"):
        script = f"{line}\ncommand -v {program}"
        found = subprocess.run(
            ["bash", "-c", script], cwd=PROJECT, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True
        )
        assert found.stdout.strip() == str(PROJECT / ".venv" / "bin" / program)


@pytest.fixture
def clone(tmp_path):
    """Runs lines in a clone as a new shell would; its .venv is ours, which its make must not renew."""
    folder, programs = tmp_path / "trainyard", tmp_path / "bin"
    subprocess.run(["git", "clone", "--quiet", PROJECT, folder], check=True)
    (folder / ".venv").symlink_to(PROJECT / ".venv")
    programs.mkdir()
    old = " ".join(f"--old-file=.venv/{stamp}" for stamp in ("made", "run", "test"))
    (programs / "make").write_text(f'#!/bin/sh\nexec {shutil.which("make")} {old} "$@"\n')
    (programs / "make").chmod(0o755)
    environment = {"PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)}

    def run(lines):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", lines], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    yield folder, run
    run("make stop")


def test_the_lines_of_the_readme_work_as_they_stand_each_time_from_a_new_shell(clone):
    folder, shell = clone
    readme = (PROJECT / "README.md").read_text()
    (by_hand,) = re.findall(r"\n\n((?: {4}.*\n)*? {4}source .*\n(?: {4}.*\n)*)\n", readme)
    assert by_hand.count("trainyard ") == 4
    assert "make predict" in shell('make run DATA=examples/data/digits.npz ARGS="--epochs 20 --batch-size 32"')
    assert ":predict" in shell(by_hand)
    assert "digits" in shell("make runs")
    assert " %\n" in shell("make predict INDEX=7")
    for file in (folder / ".trainyard").glob("*/**/s*.json"):  # as a restart of the machine ends them
        if file.name in ("state.json", "server.json"):
            os.kill(json.loads(file.read_text())["pid"], signal.SIGKILL)
    advice = re.search(r"or (\S*trainyard serve start)$", shell("make predict || true"), re.MULTILINE)
    shell(advice[1])
    shell("make start")
    assert " %\n" in shell("make predict INDEX=7")
