"""The example notebook, executed from top to bottom."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import PROJECT
from tests.kfp_api import STEPS, Frame, kfp_backend

NOTEBOOK = PROJECT / "examples" / "mnist.ipynb"


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """The notebook after a run as Jupyter makes it, in a folder of its own: all it needs is the package."""
    for name in ("KFP_HOST", "TRAINYARD_HOME"):
        monkeypatch.delenv(name, raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    try:
        NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
        yield notebook
    finally:
        environment = {**os.environ, "TRAINYARD_HOME": str(tmp_path / ".trainyard")}
        for module in ("trainyard.components.serve", "trainyard.launch.store"):
            subprocess.run([sys.executable, "-m", module, "stop"], cwd=tmp_path, env=environment, check=True)


def test_the_notebook_runs_from_top_to_bottom_and_recognises_a_digit(executed):
    said = [
        "".join(output.get("text", "") for output in cell.get("outputs", []) if output.get("name") == "stdout")
        for cell in executed.cells
    ]
    assert any("accuracy 9" in text and "passed" in text for text in said)
    assert any("the model sees a" in text for text in said)
    assert any("KFP_HOST is not set" in text for text in said)
    shown = [output for cell in executed.cells for output in cell.get("outputs", []) if "data" in output]
    assert any("iframe" in output["data"].get("text/html", "") for output in shown)
    assert any("image/png" in output["data"] for output in shown)


def test_git_ignores_what_it_leaves_in_its_folder():
    left = [f"examples/{name}" for name in (".trainyard/env", "runs/latest", "dist/pipeline.yaml")]
    ignored = subprocess.run(["git", "check-ignore", *left], cwd=PROJECT, capture_output=True, text=True)
    assert ignored.stdout.split() == left


def test_it_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in notebook.cells)


def test_in_the_repository_it_shares_the_runs_and_servers_of_make(monkeypatch):
    monkeypatch.chdir(PROJECT / "examples")
    first = next(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code")
    exec(first, {})
    assert Path.cwd() == PROJECT


def test_its_last_part_sends_the_pipeline_to_a_cluster_and_follows_it(monkeypatch, capsys):
    cells = [cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    with kfp_backend() as backend:
        backend.script = [Frame("SUCCEEDED", dict.fromkeys(STEPS, "SUCCEEDED"))]
        monkeypatch.setenv("KFP_HOST", backend.url)
        monkeypatch.setenv("KFP_SOURCE", "s3://data/digits.npz")
        monkeypatch.setenv("KFP_IMAGES", str(PROJECT / "tests" / "golden" / "images.json"))
        names = {}
        for cell in (cells[0], next(cell for cell in cells if "KFP_HOST" in cell)):
            exec(cell, names)
        (run,) = backend.runs.values()
    assert run["runtime_config"]["parameters"] == {"source": "s3://data/digits.npz"}
    assert "succeeded" in capsys.readouterr().err
