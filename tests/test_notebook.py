"""The example notebook, executed from top to bottom."""

import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import PROJECT

NOTEBOOK = PROJECT / "examples" / "mnist.ipynb"


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """The notebook after a run in a folder of its own, with a store of its own."""
    monkeypatch.setenv("TRAINYARD_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("KFP_HOST", raising=False)
    monkeypatch.syspath_prepend(str(PROJECT))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # the notebook looks for the repository above its folder; here that is named
    folder = tmp_path / "notebook"
    folder.mkdir()
    notebook.cells[1].source = notebook.cells[1].source.replace("Path.cwd(), *", f"Path({str(PROJECT)!r}), *")
    try:
        NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(folder)}}).execute()
        yield notebook
    finally:
        for module in ("components.serve", "launch.store"):
            subprocess.run([sys.executable, "-m", module, "stop"], cwd=PROJECT, check=True)


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


def test_it_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") and not cell.get("execution_count") for cell in notebook.cells)
