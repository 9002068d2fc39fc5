"""The quick start: the pipeline on this machine, from a data set to a prediction, and its summary."""

import contextlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import click

from ..components.common.artifacts.evaluation import AnsweredExamples, Evaluation
from ..components.common.artifacts.model import Card
from ..components.common.cli import BadInput, last_line, runnable
from ..components.common.files import write_json
from ..components.common.state import state_folder
from . import store
from .containers import steps_as_containers
from .images import image_of
from .orchestrator import PipelineRun
from .processes import command_here, step_environment, steps_as_processes
from .seeding import seed
from .settings import Settings

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent

SUMMARY, REPORT = "summary.json", "report.html"
Build = Callable[[Settings], "GraphComponent"]


def run_here(
    build: Build,
    data: str,
    settings: Settings,
    runs: Path,
    cache: bool = False,
) -> None:
    """Run the quick start's pipeline, send one image to its endpoint, and tell how it went; see `run_pipeline`."""
    started = time.perf_counter()
    run = run_pipeline(build, data, settings, runs, cache)
    summary = _summarise(run, time.perf_counter() - started)
    write_json(run.folder / SUMMARY, summary, indent=2)
    click.echo(tell(summary))


def run_pipeline(
    build: Build,
    data: str,
    settings: Settings,
    runs: Path,
    cache: bool = False,
) -> PipelineRun:
    """Run a pipeline here, on a data set that is brought into the store first.

    Args:
        build: Makes the pipeline: any that takes `source` and has the setting `target`.
        data: See `seeding.seed`.
        settings: Parameters that were given; with `images` (of the steps and of the model server) the steps run in
            containers of these, without as processes.
        runs: Folder for the runs; `latest` in it points to the run, failed or not. A failed one gets a summary.json.
        cache: Whether outputs of earlier runs are taken, see `step_cache`.

    Raises:
        BadInput, RuntimeError: a step failed; its last line is part of the message.
    """
    home = state_folder()
    os.environ.update(store.environment(home))
    os.environ["TRAINYARD_HOME"] = str(home.resolve())  # the steps run in folders of their own
    seeded = seed(data, home)
    runs.mkdir(parents=True, exist_ok=True)
    here = {"target": "process"}
    steps: AbstractContextManager[PipelineRun] = steps_as_processes(runs, cache)
    if settings.images:
        here = {"target": "docker", "image": image_of("predictor", settings.images)}
        steps = steps_as_containers(runs, settings.images, home.resolve(), cache)
    chosen = replace(settings, values={**seeded.parameters, **settings.values, **here})
    return run_steps(build(chosen), {"source": seeded.source}, steps, runs)


def run_steps(
    pipeline: "GraphComponent", parameters: dict[str, Any], steps: AbstractContextManager[PipelineRun], runs: Path
) -> PipelineRun:
    """Run a pipeline here; see `run_pipeline`, which does more for those that go from a data set to an endpoint.

    Args:
        pipeline: Any.
        parameters: What it takes.
        steps: `steps_as_processes(runs)` or `steps_as_containers(runs, images)`.
        runs: Folder for the runs.

    Raises:
        BadInput, RuntimeError: a step failed; its last line is part of the message.
    """
    with steps as run, contextlib.redirect_stdout(io.StringIO()) as orchestrator, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*have no effect in the current local runner")  # such as a name
        try:
            pipeline(**parameters)
        except RuntimeError as error:
            if not run.failed:  # kfp itself failed, not a step
                raise RuntimeError(f"kfp could not run the pipeline: {error}") from error
        except BaseException:
            _close(run, runs, orchestrator.getvalue(), {"status": "interrupted"})
            raise
    failed = run.failed
    _close(run, runs, orchestrator.getvalue(), {"status": "failed", "error": failed.last_line} if failed else None)
    if failed:
        report = next(run.folder.glob("evaluate*/report"), None)
        shown = f"; the report is {shutil.copy(report, run.folder / REPORT)}" if report else ""
        kind = BadInput if failed.exit_code == 2 else RuntimeError
        raise kind(f"step {failed.name} failed (exit code {failed.exit_code}): {failed.last_line}{shown}")
    return run


def _close(run: PipelineRun, runs: Path, said: str, ending: dict[str, Any] | None) -> None:
    """Leave what a run ended in: what kfp said, the link `latest`, and for one that did not succeed its summary."""
    if not run.began:
        return
    run.folder.mkdir(parents=True, exist_ok=True)  # a step that fails at once leaves none
    (run.folder / "orchestrator.log").write_text(said)
    _point_latest(runs, run.folder)
    if ending:
        write_json(run.folder / SUMMARY, {**ending, **_steps(run)}, indent=2)


def _summarise(run: PipelineRun, seconds: float) -> dict[str, Any]:
    """Collect what the steps wrote, and send one test image to the endpoint."""
    folder = run.folder
    evaluation = Evaluation.read(folder / "evaluate/evaluation")
    card = Card.read(folder / "train/model")
    endpoint = (folder / "serve/endpoint").read_text()
    report = folder / REPORT
    report.write_bytes((folder / "evaluate/report").read_bytes())
    answered = AnsweredExamples.read(folder / "evaluate/evaluation")
    assert answered is not None
    example = answered.examples[0]
    request = folder / "request.json"  # for the curl line: the image that is shown
    request.write_text(json.dumps({"instances": [example.instance]}))
    prediction = _predict(folder, endpoint, example.index)
    return {
        "status": "succeeded",
        "run": folder.name,
        "accuracy": evaluation.accuracy,
        "loss": evaluation.loss,
        "passed": evaluation.passed,
        "guessing": evaluation.guessing,
        "architecture": card.architecture,
        "dataset": {**card.as_json()["dataset"], "test_examples": evaluation.examples},  # without damaged ones
        "model_uri": (folder / "export/model_uri").read_text(),
        "endpoint": endpoint,
        "page": _page(endpoint),
        "prediction": prediction,
        "picture": str(folder / "prediction.png"),
        "report": str(report),
        "request": str(request),
        **_steps(run),
        "seconds": round(seconds, 3),
    }


def _page(endpoint: str) -> str:
    """Address of the server's page for people; empty where it shows none."""
    root = urljoin(endpoint, "/")
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(root, timeout=5):
            return root
    except OSError:
        return ""


def _steps(run: PipelineRun) -> dict[str, Any]:
    return {"steps": {step.name: round(step.seconds, 3) for step in run.steps}}


def _predict(folder: Path, endpoint: str, index: int) -> dict[str, Any]:
    """Send a test image and return what the model saw; the step draws the picture in the terminal."""
    result = folder / "prediction.json"
    command = ["python3", "-m", "trainyard.components.serve", "predict", "--endpoint", endpoint, "--index", str(index)]
    command += ["--data", str(folder / "download/dataset"), "--picture", str(folder / "prediction.png")]
    click.echo(err=True)
    sys.stdout.flush()
    sent = subprocess.run(
        command_here([*command, "--result", str(result)]),
        check=False,
        env=step_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    if sent.returncode:
        raise RuntimeError(f"the endpoint is running, but the prediction failed: {last_line(sent.stderr)}")
    return json.loads(result.read_text())


def _point_latest(runs: Path, run: Path) -> None:
    link = runs / f".latest-{os.getpid()}"
    link.symlink_to(run.name)
    link.replace(runs / "latest")


def tell(summary: dict[str, Any]) -> str:
    """The summary for people."""
    dataset = summary["dataset"]
    prediction = summary["prediction"]
    picture, report, request = (
        Path(summary[name]).parent.with_name("latest") / Path(summary[name]).name
        for name in ("picture", "report", "request")
    )
    right = prediction["label"] == prediction["true_label"]
    took = "  ".join(f"{name} {seconds:.1f} s" for name, seconds in summary["steps"].items())
    rest = summary["seconds"] - sum(summary["steps"].values())
    verdict = click.style("right", fg="green") if right else click.style(f"it is {prediction['true_label']}", fg="red")
    accuracy = click.style(f"{summary['accuracy']:.2%}", bold=True)
    label = click.style(prediction["label"], bold=True)
    rows = {
        "accuracy": f"{accuracy} on {dataset['test_examples']:,} test images "
        f"({dataset['name']}, {dataset['train_examples']:,} training images; {summary['architecture']} network)",
        "caution": summary["guessing"] and f"no better than guessing: {summary['guessing']}",
        "prediction": f"{label} with {prediction['probability']:.1%}, {verdict}  {picture}",
        "report": str(report),
        "all runs": str(report.parent.with_name("index.html")),
        "model": summary["model_uri"],
        "endpoint": summary["endpoint"],
        "page": f"{summary['page']}  try it in a browser" if summary["page"] else "",
        "time": f"{took}  and {rest:.1f} s overhead",
    }
    latest = report.parent
    data = shlex.quote(str(latest / "download" / "dataset"))
    clone = Path("launch/laptop.py").is_file() and Path("Makefile").is_file()
    made = clone and latest.absolute().parents[1] == Path.cwd()  # by make, which finds the runs of its folder alone
    by_hand = f"trainyard serve predict --endpoint {summary['endpoint']} --data {data}"
    ahead = {
        "another image": "make predict, or make predict INDEX=7" if made else by_hand,
        "with curl": f"curl -d @{request} {summary['endpoint']}",
        "your images": "make run DATA=my-images.tar.gz" if made else "trainyard run --data my-images.tar.gz",
        "stop": "make stop" if made else "trainyard serve stop; trainyard store stop",
    }
    return f"\n{table({name: text for name, text in rows.items() if text})}\n\n{runnable(table(ahead))}\n"


def table(rows: dict[str, str]) -> str:
    """What a run ended in, for people: names and texts under each other."""
    width = max(map(len, rows)) + 2
    return "\n".join(f"  {click.style(name.ljust(width), dim=True)}{text}" for name, text in rows.items())
