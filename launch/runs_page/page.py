"""What the page of the runs shows, gathered from their records and from what their steps wrote."""

from __future__ import annotations

import base64
import hashlib
import json
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urljoin

from ...components.common.artifacts.evaluation import Evaluation
from ...components.common.artifacts.model import Card
from ...components.common.cli import BadInput
from ...components.common.files import write_text
from ...components.common.progress import columns
from ..records import DONE, FAILED, REUSED, RUNNING, SUCCEEDED, RunRecord, StepRecord, newest_first
from .graph import Drawing, draw

FOLDER = Path(__file__).parent
PAGE = "index.html"
METRICS = ("accuracy", "loss", "balanced_accuracy", "macro_f1", "roc_auc", "calibration_error")
T = TypeVar("T")
OUTPUTS = {"model_uri": "Model", "endpoint": "Endpoint"}
"""Output parameters that are shown, and what they are called."""


@dataclass(frozen=True)
class Link:
    """A file of a run, or an address: its name and where it is."""

    name: str
    address: str


class Run:
    """A run as the page shows it."""

    def __init__(self, runs: Path, record: RunRecord) -> None:
        self.record = record
        self._folder = runs / record.run

    @property
    def name(self) -> str:
        return self.record.run

    @property
    def started(self) -> datetime:
        return datetime.fromisoformat(self.record.started).astimezone()

    @property
    def seconds(self) -> float | None:
        """Wall time; None: it has not ended."""
        if not self.record.ended:
            return None
        return (datetime.fromisoformat(self.record.ended) - datetime.fromisoformat(self.record.started)).total_seconds()

    @property
    def cpu_seconds(self) -> float | None:
        """Of all steps; None: not known of any."""
        known = [step.cpu_seconds for step in self.record.steps if step.cpu_seconds is not None]
        return sum(known) if known else None

    @property
    def error(self) -> str:
        """Last line of the first step that failed."""
        failed = next((step for step in self.record.steps if step.state == FAILED), None)
        return f"{failed.name}: {failed.last_line}" if failed and self.record.status == FAILED else ""

    @property
    def graph(self) -> Drawing:
        """Its steps; those of a loop as one, whose state is the least good one."""
        states: dict[str, tuple[str, str]] = {}
        for name, steps in self._by_task.items():
            worst = next((one.state for one in steps if one.state not in DONE), steps[-1].state)
            seconds = sum(one.seconds or 0 for one in steps)
            times = f"{len(steps)} × " if len(steps) > 1 else ""
            states[name] = worst, worst if worst in (RUNNING, REUSED) else f"{times}{worst}, {seconds:.1f} s"
        return draw(states, self.record.edges)

    @property
    def _by_task(self) -> dict[str, list[StepRecord]]:
        found: dict[str, list[StepRecord]] = {}
        last = {step.name: step for step in self.record.steps}  # of several tries the last
        for step in last.values():
            found.setdefault(step.name.rpartition("/")[2], []).append(step)
        return found

    @cached_property
    def evaluations(self) -> dict[str, Evaluation]:
        """What evaluate wrote, by step."""
        return dict(self._outputs("evaluation", Evaluation.read))

    @cached_property
    def cards(self) -> dict[str, Card]:
        """The model cards, by step."""
        return dict(self._outputs("model", Card.read))

    def _outputs(self, name: str, read: Callable[[Path], T]) -> Iterator[tuple[str, T]]:
        """An output of each step that has written one."""
        for step in dict.fromkeys(step.name for step in self.record.steps):
            with suppress(BadInput):
                yield step, read(self._folder / step / name)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """By name; where several models were evaluated, each with its step."""
        several = len(self.evaluations) > 1
        return {
            f"{metric} ({step})" if several else metric: value
            for step, evaluation in self.evaluations.items()
            for metric in METRICS
            if (value := getattr(evaluation, metric)) is not None
        }

    @property
    def facts(self) -> dict[str, str]:
        """What went in and what came out."""
        found = {}
        for step, card in self.cards.items():
            suffix = f" ({step})" if len(self.cards) > 1 else ""
            if card.dataset:
                found["Data set"] = card.dataset.name
                found["Data digest"] = card.dataset.sha256 or ""
            found[f"Network{suffix}"] = card.architecture
        for step, evaluation in self.evaluations.items():
            suffix = f" ({step})" if len(self.evaluations) > 1 else ""
            found[f"Model digest{suffix}"] = evaluation.model_sha256
        for output, name in OUTPUTS.items():
            for one in self.record.steps:
                if (file := self._folder / one.name / output).is_file():
                    found[name] = file.read_text()
        return {name: value for name, value in found.items() if value}

    @property
    def links(self) -> list[Link]:
        """Its report, model card and folder, and the page of its endpoint."""
        found = []
        for name, path, steps in (
            ("Report", "evaluation/report.html", self.evaluations),
            ("Model card", "model/README.md", self.cards),
        ):
            for step in steps:
                if (self._folder / step / path).is_file():
                    shown = f"{name} ({step})" if len(steps) > 1 else name
                    found.append(Link(shown, self._address(f"{step}/{path}")))
        if (endpoint := self.facts.get("Endpoint", "")).startswith("http"):
            found.append(Link("Endpoint", urljoin(endpoint, "/")))
        return [*found, Link("Files", self._address(""))]

    def log(self, step: StepRecord) -> str:
        """Address of a step's log; empty where there is none."""
        return self._address(step.log) if (self._folder / step.log).is_file() else ""

    def _address(self, path: str) -> str:
        return quote(f"{self.name}/{path}")

    @property
    def compared(self) -> dict[str, dict[str, Any]]:
        """What the page compares: by group and name."""
        resources = {
            f"{name}, seconds": sum(one.seconds or 0 for one in steps) for name, steps in self._by_task.items()
        }
        memory = {
            f"{name}, peak MB": round(max(one.peak_memory or 0 for one in steps) / 1e6) or ""
            for name, steps in self._by_task.items()
        }
        return {
            "Metrics": self.metrics,
            "Result": {"State": self.record.status, **self.facts},
            "Parameters": {name: _text(value) for name, value in sorted(self.record.parameters.items())},
            "Time and memory": {name: value for name, value in sorted({**resources, **memory}.items()) if value},
        }

    @property
    def parameters(self) -> dict[str, str]:
        """Those that are not empty."""
        return {name: text for name, value in sorted(self.record.parameters.items()) if (text := _text(value))}


class Page:
    """All runs of a folder, the newest first."""

    def __init__(self, runs: Path) -> None:
        self.runs = [Run(runs, record) for record in newest_first(runs)]

    @property
    def numbers(self) -> list[tuple[str, str, str]]:
        """The head of the page."""
        states = [run.record.status for run in self.runs]
        best = max((run for run in self.runs if "accuracy" in run.metrics), key=_accuracy, default=None)
        found = [
            ("Runs", f"{len(states):,}", f"since {self.runs[-1].started:%d %B %Y}" if self.runs else ""),
            ("Succeeded", f"{states.count(SUCCEEDED):,}", ""),
            ("Failed", f"{states.count(FAILED):,}", ""),
        ]
        if best:
            found.append(
                ("Highest accuracy", f"{100 * best.metrics['accuracy']:.2f} %", best.facts.get("Data set", ""))
            )
        return found

    @property
    def pair(self) -> list[int]:
        """Places of the two runs that are compared at first: the newest with metrics, the older one first."""
        measured = sorted(range(len(self.runs)), key=lambda place: not self.runs[place].metrics)
        return sorted(measured[:2], reverse=True)

    @property
    def data(self) -> str:
        """What the page compares, as JSON that can stand in a script element."""
        told = [{"run": run.name, "groups": run.compared} for run in self.runs]
        return json.dumps(told).replace("<", "\\u003c")


def write(runs: Path) -> None:
    """Write the page of the runs in a folder."""
    from ...components.common.report.templates import environment

    jinja = environment(FOLDER)
    script = (FOLDER / "runs.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = {"script": script, "script_digest": digest, "own_style": (FOLDER / "runs.css").read_text(encoding="utf-8")}
    write_text(runs / PAGE, jinja.get_template("runs.html.jinja").render(page=Page(runs), **own))


def tell(runs: Path, count: int, in_browser: bool) -> str:
    """The newest runs in a folder as a table, and where their page is.

    Args:
        in_browser: Whether to open it.

    Raises:
        BadInput: there is no run in the folder.
    """
    page = Page(runs)
    if not page.runs:
        raise BadInput(f"--runs: expected a folder with runs, received {runs}; make run starts one")
    write(runs)
    address = (runs / PAGE).resolve().as_uri()
    if in_browser:
        webbrowser.open(address)
    rows = [
        (
            run.name,
            run.record.status,
            f"{run.metrics['accuracy']:.4f}" if "accuracy" in run.metrics else "",
            "" if run.seconds is None else f"{run.seconds:.0f} s",
            run.error or run.facts.get("Model", ""),
        )
        for run in page.runs[:count]
    ]
    return f"{columns([('RUN', 'STATE', 'ACCURACY', 'TIME', 'MODEL OR ERROR'), *rows])}\n\n{address}"


def _accuracy(run: Run) -> float:
    return run.metrics["accuracy"]


def _text(value: Any) -> str:
    if value in (None, "", {}, []):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
