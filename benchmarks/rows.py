"""What is measured: each row sets its work up, then measures our way beside the plain one (`reference`), in turns."""

import contextlib
import functools
import http.server
import json
import os
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.bench import PYTHON, Bench, free_port
from benchmarks.distance import away
from benchmarks.growth import growth
from benchmarks.load import first_answer, images_body, under_load
from benchmarks.measure import ROOT, in_turns, memory, process
from trainyard.components.common.artifacts.model import Card, Input
from trainyard.components.common.parallel import in_parallel
from trainyard.components.common.store import s3

MB = 10**6
BUCKET = "trainyard-bench"
SECONDS_AWAY = 0.01


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


def _train_photos(bench: Bench, architecture: str, side: int) -> dict[str, Any]:
    """Both ways with one network, size, batch and number of epochs, and without random changes of the images."""
    network = ("--architecture", architecture)
    recipe = ("--epochs", "3", "--batch-size", "128", "--schedule", "constant", "--augmentation", "none")

    def ours() -> dict[str, float]:
        size = ("--image-size", str(side))
        model = bench.fresh("ours-photos")
        return bench.ours("train", "--dataset", bench.photos, *network, *size, *recipe, "--model", model)

    def plain() -> dict[str, float]:
        model = bench.fresh("plain-photos")
        return bench.plain("train-photos", "--dataset", bench.photos, *network, "--side", str(side), "--model", model)

    return in_turns({"ours": ours, "plain": plain}, min(bench.repeats, 3))


def photos_dense(bench: Bench) -> dict[str, Any]:
    """Train dense on 2,000 JPEGs of 380 x 480 brought to 96 x 96, 3 epochs, against image_dataset_from_directory."""
    return _train_photos(bench, "dense", 96)


def photos_small(bench: Bench) -> dict[str, Any]:
    """Train cnn on the same photos brought to 64 x 64."""
    return _train_photos(bench, "cnn", 64)


def photos_large(bench: Bench) -> dict[str, Any]:
    """Train cnn on the same photos brought to 224 x 224."""
    return _train_photos(bench, "cnn", 224)


def photos_evaluate(bench: Bench) -> dict[str, Any]:
    """Evaluate dense on 2,000 such photos brought to 96 x 96, ours with report and all outputs: whole process."""
    model, plain_model = bench.fresh("photos-model"), bench.fresh("plain-photos")
    chosen = ("--architecture", "dense", "--image-size", "96", "--epochs", "1")
    bench.ours("train", "--dataset", bench.photos, *chosen, "--model", model)
    options = ("--architecture", "dense", "--side", "96", "--epochs", "1")
    bench.plain("train-photos", "--dataset", bench.photos, *options, "--model", plain_model)

    def ours() -> dict[str, float]:
        evaluation = bench.fresh("photos-evaluation")
        return bench.ours("evaluate", "--dataset", bench.photos, "--model", model, "--evaluation", evaluation)

    def plain() -> dict[str, float]:
        data = ("--dataset", bench.photos, "--side", "96")
        return bench.plain("evaluate-photos", *data, "--model", plain_model)

    return in_turns({"ours": ours, "plain": plain}, bench.repeats)


def steps(bench: Bench) -> dict[str, Any]:
    """The steps of a run, sum of wall times: our five by `pipeline.py run`, the plain four one by one."""

    def ours() -> dict[str, float]:
        started = time.perf_counter()
        runs = bench.scratch / "runs"
        environment = {**bench.store, "TRAINYARD_HOME": str(bench.home)}
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
        where = ["--bucket", BUCKET, "--prefix", f"plain-{time.time_ns()}/1"]
        taken["export"] = bench.plain("export", "--model", model, *where, environment=bench.store)
        walls = {name: cost["wall"] for name, cost in taken.items()}
        return {**walls, "sum": sum(walls.values())}

    try:
        return in_turns({"ours": ours, "plain": plain}, bench.repeats)
    finally:
        bench.stop_servers()


def server(bench: Bench) -> dict[str, Any]:
    """The model server: start (s), memory (MiB), answers a second, p99 and cost with 8 connections, one image each."""
    image = images_body(bench.images.images[:1])

    def ours() -> dict[str, float]:
        with bench.served(bench.model) as served:
            loaded = under_load(served.url, image, served.pid)
            return {"start": served.start, "memory": served.memory, **loaded}

    def plain() -> dict[str, float]:
        port = free_port()
        url = f"http://127.0.0.1:{port}/v1/models/mnist:predict"
        interpreter = os.environ["TRAINYARD_KSERVE_PYTHON"]
        command = [interpreter, "-m", "benchmarks.reference", "serve", "--model", str(bench.model), "--port", str(port)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
        started = time.perf_counter()
        with (bench.scratch / "server.log").open("w") as log:
            child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        try:
            first_answer(url, image, time.monotonic() + 120)
            start = time.perf_counter() - started
            loaded = under_load(url, image, child.pid)
            return {"start": start, "memory": memory(child.pid), **loaded}
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(30)

    if "TRAINYARD_KSERVE_PYTHON" in os.environ:
        return in_turns({"ours": ours, "plain": plain}, bench.repeats)
    click.echo("  without the plain variant: TRAINYARD_KSERVE_PYTHON names no interpreter with kserve", err=True)
    return in_turns({"ours": ours}, bench.repeats)


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


def download_objects(bench: Bench) -> dict[str, Any]:
    """Download 5,000 objects of 1 kB, as a data set of images is in a bucket, against one after another."""
    store = bench.other_store or bench.store
    client = s3.client(store)
    s3.ensure_bucket(client, BUCKET)
    random = np.random.default_rng(0)
    in_parallel(
        lambda index: client.put_object(Bucket=BUCKET, Key=f"images/{index:04d}.png", Body=random.bytes(1_000)),
        range(5_000),
    )

    def ours() -> dict[str, float]:
        source = ["--source", f"s3://{BUCKET}/images/"]
        return bench.ours("download", *source, "--dataset", bench.fresh("data"), environment=store)

    def plain() -> dict[str, float]:
        source = ["--bucket", BUCKET, "--prefix", "images/"]
        return bench.plain("download-objects", *source, "--dataset", bench.fresh("data"), environment=store)

    return _at(bench, store, {"ours": ours, "plain": plain})


def export(bench: Bench) -> dict[str, Any]:
    """Export a model folder of 2,000 small files to the embedded store, against one upload after another."""
    return _export(bench, _small_files(2000), bench.store)


def export_away(bench: Bench) -> dict[str, Any]:
    """Export 500 small files to a store whose answers take 10 ms longer, against one upload after another."""
    store = bench.other_store or bench.store
    with away(store["AWS_ENDPOINT_URL"], SECONDS_AWAY) as url:
        return _export(bench, _small_files(500), {**store, "AWS_ENDPOINT_URL": url})


def export_other(bench: Bench) -> dict[str, Any]:
    """Export a model folder of 2,000 small files to the store that AWS_ENDPOINT_URL names."""
    return _export(bench, _small_files(2000), bench.other_store)


def export_large(bench: Bench) -> dict[str, Any]:
    """Export a model folder with one file of 1 GB, against one upload after another."""
    return _export(bench, {"variables/variables.data-00000-of-00001": 1000 * MB}, bench.store)


def _small_files(count: int) -> dict[str, int]:
    return {f"assets/{index:04d}": 10_000 for index in range(count)}


def _export(bench: Bench, files: dict[str, int], store: dict[str, str]) -> dict[str, Any]:
    folder = bench.fresh("to-export")
    random = np.random.default_rng(0)
    for name, size in {"saved_model.pb": 30_000, **files}.items():
        path = folder / "1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.bytes(size))
    Card(architecture="random", input=Input(shape=(28, 28, 1)), classes=["0", "1"], parameters=1).write(folder)

    def ours() -> dict[str, float]:
        where = ["--bucket", BUCKET, "--model-name", f"bench-{time.time_ns()}", "--version", "1"]
        return bench.ours("export", "--model", folder, *where, environment=store)

    def plain() -> dict[str, float]:
        where = ["--bucket", BUCKET, "--prefix", f"bench-{time.time_ns()}/1"]
        return bench.plain("export", "--model", folder, *where, environment=store)

    return _at(bench, store, {"ours": ours, "plain": plain})


def _at(bench: Bench, store: dict[str, str], ways: dict[str, Callable[[], dict[str, float]]]) -> dict[str, Any]:
    """Measure ways to use a store; one that is not ours is left without what they put there."""
    try:
        return {**in_turns(ways, min(bench.repeats, 3)), "store": _name(bench, store)}
    finally:
        if bench.other_store:
            _empty(store)


def _name(bench: Bench, store: dict[str, str]) -> str:
    """What a store calls itself."""
    if not bench.other_store or store is bench.store:
        return "the embedded store"
    answer = s3.client(store).list_buckets()["ResponseMetadata"]["HTTPHeaders"]
    return answer.get("server", "a store that does not tell its name").partition(" ")[0]


def _empty(store: dict[str, str]) -> None:
    """Remove what was exported to a store that is not ours."""
    client = s3.client(store)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        if keys := [{"Key": item["Key"]} for item in page.get("Contents", [])]:
            client.delete_objects(Bucket=BUCKET, Delete={"Objects": keys})


def gpu(bench: Bench) -> dict[str, Any]:
    """Images a second in training, first epoch left out, on the GPU and on the processor of one machine."""
    check = "import sys, tensorflow as tf; sys.exit(not tf.config.list_physical_devices('GPU'))"
    try:
        process([PYTHON, "-c", check])
    except RuntimeError as error:
        raise click.UsageError("gpu: expected a GPU that TensorFlow sees, received none; `make bench GPU=1`") from error

    def rate(architecture: str, hidden: bool) -> dict[str, float]:
        model = bench.fresh("gpu-model")
        options = ["--architecture", architecture, "--epochs", "3", "--model", model]
        environment = {"CUDA_VISIBLE_DEVICES": ""} if hidden else {}
        cost = bench.ours("train", "--dataset", bench.dataset, *options, environment=environment)
        card = Card.read(model)
        assert card.dataset is not None
        seconds = min(epoch.seconds for epoch in card.history[1:])
        return {"rate": card.dataset.train_examples / seconds, "wall": cost["wall"]}

    return {
        architecture: in_turns(
            {
                "gpu": functools.partial(rate, architecture, False),
                "processor": functools.partial(rate, architecture, True),
            },
            repeats=1,
        )
        for architecture in ("dense", "cnn", "resnet18")
    }


ROWS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "train": train,
    "evaluate": evaluate,
    "photos-dense": photos_dense,
    "photos-small": photos_small,
    "photos-large": photos_large,
    "photos-evaluate": photos_evaluate,
    "steps": steps,
    "server": server,
    "download": download,
    "download-objects": download_objects,
    "export": export,
    "export-away": export_away,
    "export-other": export_other,
    "export-large": export_large,
    "growth": growth,
    "gpu": gpu,
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
