"""How cost grows: with the images to train on, with the parameters of the network, with the images in a request."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.load import images_body, seconds_to_answer
from benchmarks.measure import tell
from trainyard.components.common.artifacts.model import Card

IMAGES = (6_000, 60_000, 600_000)
UNITS = (128, 1280, 12_800)
"""Of the hidden layer: some 100,000 parameters, ten and a hundred times as many."""
IMAGES_A_REQUEST = (1, 4, 16, 64, 256, 1024)


def growth(bench: Bench) -> dict[str, Any]:
    """How cost grows with images to train on, parameters of the network and images in a request; measured once each."""
    return {"images": _images(bench), "parameters": _parameters(bench), "request": _request(bench)}


def _images(bench: Bench) -> list[dict[str, float]]:
    """Train for one epoch, whole process."""
    taken = []
    for count in IMAGES:
        folder, model = bench.grown(count), bench.fresh("ours-model")
        cost = bench.ours("train", "--dataset", folder, "--epochs", "1", "--model", model)
        taken.append({"images": count, "train": cost["wall"], "train memory": cost["peak"]})
        tell("images", taken[-1])
        shutil.rmtree(folder)
    return taken


def _parameters(bench: Bench) -> list[dict[str, float]]:
    """Train for one epoch of 6,000 images, export and serve a network with a hidden layer of so many units."""
    folder = bench.grown(6_000)
    image = images_body(bench.images.images[:1])
    taken = []
    for units in UNITS:
        model = bench.fresh("ours-model")
        options = ["--epochs", "1", "--model-config", json.dumps(_dense(units)), "--model", model]
        cost = bench.ours("train", "--dataset", folder, *options)
        where = ["--bucket", "growth", "--model-name", f"bench-{time.time_ns()}", "--version", "1"]
        exported = bench.ours("export", "--model", model, *where, environment=bench.store)
        with bench.served(model) as served:
            answer = seconds_to_answer(served.url, image)
            taken.append(
                {
                    "parameters": Card.read(model).parameters,
                    "train": cost["wall"],
                    "train memory": cost["peak"],
                    "size": _megabytes(model),
                    "export": exported["wall"],
                    "start": served.start,
                    "server memory": served.memory,
                    "answer": 1000 * answer,
                }
            )
        tell("parameters", taken[-1])
    return taken


def _request(bench: Bench) -> list[dict[str, float]]:
    """Send the dense network's server requests of so many images over HTTP, one after another."""
    taken = []
    with bench.served(bench.model) as served:
        for count in IMAGES_A_REQUEST:
            seconds = seconds_to_answer(served.url, images_body(bench.images.images[:count]))
            numbers = {"answer": 1000 * seconds, "rate": count / seconds, "server memory": served.memory}
            taken.append({"images a request": count, **numbers})
            tell("request", taken[-1])
    return taken


def _dense(units: int) -> dict[str, Any]:
    """A network with one hidden layer, as Keras writes its configuration."""

    def layer(kind: str, **config: Any) -> dict[str, Any]:
        return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}

    layers = [
        layer("InputLayer", batch_shape=[None, 28, 28, 1], dtype="float32", name="image"),
        layer("Flatten", name="flatten"),
        layer("Dense", name="hidden", units=units, activation="relu"),
        layer("Dense", name="classes", units=10, activation="softmax"),
    ]
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "dense", "layers": layers}}


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
