"""What the rows share: the data, the stores, and our steps and the plain ones as whole processes."""

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.load import first_answer, images_body
from benchmarks.measure import ROOT, memory, process
from benchmarks.photos import write_photos
from trainyard.components.common.datasets import Split, open_dataset
from trainyard.launch.store import start_store, stop_store

PYTHON = sys.executable


@dataclass(frozen=True)
class Served:
    """A model server that answers: its URL for predictions, seconds to its first answer, its process."""

    url: str
    start: float
    pid: int

    @property
    def memory(self) -> float:
        """Its memory now, in MiB."""
        return memory(self.pid)


@dataclass(frozen=True)
class Bench:
    """One run of the benchmarks.

    Attributes:
        scratch: A folder for everything.
        archive: MNIST as TFDS prepares it, as .tar.gz.
        dataset: The same, unpacked.
        other_store: AWS variables of a store that the caller named; empty: none.
        repeats: How often each variant is measured.
    """

    scratch: Path
    archive: Path
    dataset: Path
    other_store: dict[str, str]
    repeats: int

    @property
    def home(self) -> Path:
        """The folder of the servers that are started here."""
        return self.scratch / "home"

    @functools.cached_property
    def store(self) -> dict[str, str]:
        """AWS variables of the embedded store, which is started when it is first asked for."""
        return start_store(self.home).environment

    def close(self) -> None:
        """Stop the embedded store, if it was started."""
        stop_store(self.home)

    def ours(self, step: str, *options: str | Path, environment: dict[str, str] | None = None) -> dict[str, float]:
        """One of our steps as a process."""
        return asdict(process([PYTHON, "-m", f"trainyard.components.{step}", *options], environment))

    def plain(self, step: str, *options: str | Path, environment: dict[str, str] | None = None) -> dict[str, float]:
        """The plain variant of a step as a process."""
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", **(environment or {})}
        return asdict(process([PYTHON, "-m", "benchmarks.reference", step, *options], quiet))

    def fresh(self, name: str) -> Path:
        """A path in the scratch folder where nothing is."""
        path = self.scratch / name
        shutil.rmtree(path, ignore_errors=True)
        return path

    @functools.cached_property
    def model(self) -> Path:
        """The dense network, trained by our step."""
        self.ours("train", "--dataset", self.dataset, "--model", self.scratch / "model")
        return self.scratch / "model"

    @functools.cached_property
    def photos(self) -> Path:
        """Made-up JPEGs of 380 x 480 pixels (height x width): 2,000 to learn from and 2,000 for the test."""
        return write_photos(self.scratch / "photos", {"train": 2000, "test": 2000}, (380, 480))

    @functools.cached_property
    def images(self) -> Split:
        """The training split of MNIST."""
        return open_dataset(self.dataset).read("train")

    def grown(self, count: int) -> Path:
        """A data set folder of so many images to train on: those of MNIST, again and again."""
        folder = self.fresh("grown")
        folder.mkdir()
        picked = np.arange(count) % len(self.images.labels)
        np.savez(
            folder / "grown.npz",
            x_train=self.images.images[picked],
            y_train=self.images.labels[picked],
            x_test=self.images.images[:100],
            y_test=self.images.labels[:100],
        )
        return folder

    @contextmanager
    def served(self, model: Path) -> Iterator[Served]:
        """A model folder behind our server."""
        port, home = free_port(), self.fresh("server-home")
        environment = {**os.environ, "TRAINYARD_HOME": str(home)}
        serve = [PYTHON, "-m", "trainyard.components.serve"]
        options = ["--target", "process", "--model-name", "mnist", "--model-uri", str(model), "--port", str(port)]
        url = f"http://127.0.0.1:{port}/v1/models/mnist:predict"
        started = time.perf_counter()
        try:
            _run([*serve, *options], environment)
            first_answer(url, images_body(self.images.images[:1]), time.monotonic() + 60)
            start = time.perf_counter() - started
            pid = json.loads((home / "serving" / "mnist" / "state.json").read_text())["pid"]
            yield Served(url, start, pid)
        finally:
            _run([*serve, "stop"], environment)

    def stop_servers(self) -> None:
        """Stop the model servers that whole runs left behind."""
        _run([PYTHON, "-m", "trainyard.components.serve", "stop"], {**os.environ, "TRAINYARD_HOME": str(self.home)})


def _run(command: Sequence[str], environment: dict[str, str]) -> None:
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
