"""What is measured: each row sets its work up, then measures our way beside the plain one (`reference`), in turns."""

import contextlib
import functools
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load import first_answer, images_body, requests_a_second
from benchmarks.measure import ROOT, in_turns, process
from components.common.datasets import open_dataset

PYTHON = sys.executable
MB = 10**6


@dataclass(frozen=True)
class Bench:
    """What all rows share: a scratch folder, MNIST as TFDS prepares it, the store's environment, the repeats."""

    scratch: Path
    dataset: Path
    archive: Path
    store: dict[str, str]
    repeats: int

    def ours(self, step: str, *options: str | Path) -> dict[str, float]:
        """One of our steps as a process."""
        return asdict(process([PYTHON, "-m", f"components.{step}", *options], self.store))

    def plain(self, step: str, *options: str | Path) -> dict[str, float]:
        """The plain variant of a step as a process."""
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", **self.store}
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


def train(bench: Bench) -> dict[str, Any]:
    """Train the dense network, 5 epochs, batch 128, on the whole of MNIST: whole process."""
    return in_turns(
        {
            "ours": lambda: bench.ours("train", "--dataset", bench.dataset, "--model", bench.fresh("ours-model")),
            "plain": lambda: bench.plain("train", "--dataset", bench.dataset, "--model", bench.fresh("plain-model")),
        },
        bench.repeats,
    )


def evaluate(bench: Bench) -> dict[str, Any]:
    """Evaluate it on the 10,000 test images, ours with report, plots and all outputs: whole process."""
    plain_model = bench.fresh("plain-model")
    bench.plain("train", "--dataset", bench.dataset, "--model", plain_model, "--epochs", "1")
    return in_turns(
        {
            "ours": lambda: bench.ours(
                "evaluate",
                "--dataset",
                bench.dataset,
                "--model",
                bench.model,
                "--evaluation",
                bench.fresh("evaluation"),
            ),
            "plain": lambda: bench.plain("evaluate", "--dataset", bench.dataset, "--model", plain_model),
        },
        bench.repeats,
    )


def steps(bench: Bench) -> dict[str, Any]:
    """The steps of a run, sum of wall times: our five by `pipeline.py run`, the plain four one by one."""

    def ours() -> dict[str, float]:
        started = time.perf_counter()
        runs = bench.scratch / "runs"
        environment = {**bench.store, "TRAINYARD_HOME": str(bench.scratch / "home")}
        process([PYTHON, "pipeline.py", "run", "--data", bench.archive, "--runs", runs], environment)
        whole = time.perf_counter() - started
        summary = json.loads((runs / "latest" / "summary.json").read_text())
        return {
            **summary["steps"],
            "sum": sum(summary["steps"].values()),
            "around": whole - sum(summary["steps"].values()),
        }

    def plain() -> dict[str, float]:
        data, model = bench.fresh("plain-data"), bench.fresh("plain-model")
        with serving_files(bench.archive.parent) as url:
            taken = {"download": bench.plain("download", "--url", f"{url}/{bench.archive.name}", "--dataset", data)}
        taken["train"] = bench.plain("train", "--dataset", data, "--model", model)
        taken["evaluate"] = bench.plain("evaluate", "--dataset", data, "--model", model)
        prefix = f"plain-{time.time_ns()}/1"
        taken["export"] = bench.plain("export", "--model", model, "--bucket", "bench", "--prefix", prefix)
        walls = {name: cost["wall"] for name, cost in taken.items()}
        return {**walls, "sum": sum(walls.values())}

    try:
        return in_turns({"ours": ours, "plain": plain}, bench.repeats)
    finally:
        environment = {**os.environ, "TRAINYARD_HOME": str(bench.scratch / "home")}
        subprocess.run([PYTHON, "-m", "components.serve", "stop"], cwd=ROOT, env=environment, check=True)


def server(bench: Bench) -> dict[str, Any]:
    """The model server: start to first answer (s), memory (MiB), answers a second (8 connections, one image each)."""
    image = images_body(open_dataset(bench.dataset).read("test").images[:1])

    def measured(command: list[str], port: int, environment: dict[str, str]) -> dict[str, float]:
        url = f"http://127.0.0.1:{port}/v1/models/mnist:predict"
        started = time.perf_counter()
        log = (bench.scratch / "server.log").open("w")
        child = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=log)
        try:
            first_answer(url, image, time.monotonic() + 120)
            start = time.perf_counter() - started
            rate = requests_a_second(url, image)
            memory = sum(_resident(pid) for pid in _family(child.pid))
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(30)
        return {"start": start, "memory": memory, "rate": rate}

    def ours() -> dict[str, float]:
        port = _free_port()
        home = bench.fresh("server-home")
        environment = {**os.environ, "TRAINYARD_HOME": str(home)}
        started = time.perf_counter()
        options = ["--target", "process", "--model-uri", str(bench.model), "--port", str(port)]
        subprocess.run(
            [PYTHON, "-m", "components.serve", *options], cwd=ROOT, env=environment, check=True, capture_output=True
        )
        url = f"http://127.0.0.1:{port}/v1/models/mnist:predict"
        first_answer(url, image, time.monotonic() + 60)
        start = time.perf_counter() - started
        rate = requests_a_second(url, image)
        pid = json.loads((home / "serving" / "mnist" / "state.json").read_text())["pid"]
        memory = _resident(pid)
        subprocess.run([PYTHON, "-m", "components.serve", "stop"], cwd=ROOT, env=environment, check=True)
        return {"start": start, "memory": memory, "rate": rate}

    def plain() -> dict[str, float]:
        port = _free_port()
        interpreter = os.environ["TRAINYARD_KSERVE_PYTHON"]
        command = [interpreter, "-m", "benchmarks.reference", "serve", "--model", str(bench.model), "--port", str(port)]
        return measured(command, port, {"TF_CPP_MIN_LOG_LEVEL": "2"})

    variants = {"ours": ours, "plain": plain} if "TRAINYARD_KSERVE_PYTHON" in os.environ else {"ours": ours}
    return in_turns(variants, bench.repeats)


def download(bench: Bench) -> dict[str, Any]:
    """Download an archive of 1 GB over HTTP and unpack it, against `curl | tar`."""
    archive = _one_gigabyte_archive(bench)
    with serving_files(archive.parent) as url:
        source = f"{url}/{archive.name}"

        def curl() -> dict[str, float]:
            folder = bench.fresh("curl")
            folder.mkdir()
            cost = process(["bash", "-c", f"set -o pipefail; curl -s {source} | tar xz -C {folder}"])
            return {"wall": cost.wall, "cpu": cost.cpu}  # the peak would be the shell's

        return in_turns(
            {
                "ours": lambda: bench.ours("download", "--source", source, "--dataset", bench.fresh("data")),
                "plain": curl,
            },
            bench.repeats,
        )


def export(bench: Bench) -> dict[str, Any]:
    """Export a model folder of 2,000 small files, against one upload after another."""
    return _export(bench, {f"assets/{index:04d}": 10_000 for index in range(2000)})


def export_large(bench: Bench) -> dict[str, Any]:
    """Export a model folder with one file of 1 GB, against one upload after another."""
    return _export(bench, {"variables/variables.data-00000-of-00001": 1000 * MB})


def _export(bench: Bench, files: dict[str, int]) -> dict[str, Any]:
    folder = bench.fresh("to-export")
    random = np.random.default_rng(0)
    for name, size in {"saved_model.pb": 30_000, **files}.items():
        path = folder / "1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.bytes(size))
    (folder / "model.json").write_text("{}")

    def ours() -> dict[str, float]:
        name = f"bench-{time.time_ns()}"
        return bench.ours("export", "--model", folder, "--bucket", "bench", "--model-name", name, "--version", "1")

    def plain() -> dict[str, float]:
        prefix = f"bench-{time.time_ns()}/1"
        return bench.plain("export", "--model", folder, "--bucket", "bench", "--prefix", prefix)

    return in_turns({"ours": ours, "plain": plain}, min(bench.repeats, 3))


def growth(bench: Bench) -> dict[str, Any]:
    """How cost grows: train with the data set (x1, x10, x100 of 6,000 images), a prediction with its images."""
    split = open_dataset(bench.dataset).read("train")
    taken: dict[str, Any] = {"train": {}, "request": {}}
    for times in (1, 10, 100):
        count = 6000 * times
        picked = np.arange(count) % len(split.labels)
        folder = bench.fresh("grown")
        folder.mkdir()
        arrays = {"x_train": split.images[picked], "y_train": split.labels[picked]}
        np.savez(folder / "grown.npz", **arrays, x_test=split.images[:100], y_test=split.labels[:100])
        cost = bench.ours("train", "--dataset", folder, "--epochs", "1", "--model", bench.fresh("ours-model"))
        taken["train"][str(count)] = cost
        shutil.rmtree(folder)
    from components.common.models import load_classifier

    classifier = load_classifier(bench.model)
    for count in (1, 4, 16, 64, 256, 1024):
        images = split.images[:count]
        classifier.predict(images)
        started = time.perf_counter()
        for _ in range(20):
            classifier.predict(images)
        taken["request"][str(count)] = {"seconds": (time.perf_counter() - started) / 20}
    return taken


ROWS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "train": train,
    "evaluate": evaluate,
    "steps": steps,
    "server": server,
    "download": download,
    "export": export,
    "export-large": export_large,
    "growth": growth,
}


@contextlib.contextmanager
def serving_files(folder: Path) -> Iterator[str]:
    """A folder over HTTP on loopback."""
    handler = functools.partial(_Quiet, directory=str(folder))
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{served.server_port}"
    finally:
        served.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def _one_gigabyte_archive(bench: Bench) -> Path:
    """A .tar.gz of 1 GB: 1,000 files, half of each random, half empty space, so that there is something to unpack."""
    archive = bench.scratch / "archive" / "gigabyte.tar.gz"
    if not archive.exists():
        archive.parent.mkdir()
        content = bench.scratch / "content"
        random = np.random.default_rng(0)
        content.mkdir()
        for index in range(1000):
            (content / f"{index:04d}.bin").write_bytes(random.bytes(MB) + bytes(MB))
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            tar.add(content, arcname="content")
        shutil.rmtree(content)
    return archive


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _resident(pid: int) -> float:
    """Memory of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in _family(int(child)))]
