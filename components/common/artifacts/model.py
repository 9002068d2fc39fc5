"""A model folder: the names of its files, and its card."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cli import BadInput
from ..files import files_below, sha256_of_file, sha256_of_listing, write_json
from . import schema

CARD = "model.json"
SAVED_MODEL = "1"
SAVED_MODEL_FILE = "1/saved_model.pb"
KERAS_MODEL = "model.keras"
LITERT_MODEL = "model.tflite"
ONNX_MODEL = "model.onnx"
WEIGHTS = (SAVED_MODEL_FILE, ONNX_MODEL)
"""The files of which a model folder holds one: what a server loads."""
README = "README.md"
_WEIGHTS = "model.weights.h5"
PIXELS = (0, 255)
"""Least and greatest value of a pixel, as clients send it."""


@dataclass(frozen=True, kw_only=True)
class About:
    """What only the people behind a model know of it; empty: not said."""

    intended_use: str = ""
    limitations: str = ""
    owner: str = ""
    licence: str = ""


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """The data set that a model was trained on.

    Attributes:
        name: Of the data set.
        layout: Such as `npz`, see docs/artifacts.md.
        source: Where download fetched it from; None: not known.
        sha256: Of what download fetched; None: not known.
        train_examples: Images in its training split.
        test_examples: Images in its test split.
        skipped: Damaged images that were left out.
        train_counts: Images of each class that the model learned from or was validated on.
    """

    name: str
    layout: str
    source: str | None
    sha256: str | None
    train_examples: int
    test_examples: int
    skipped: int = 0
    train_counts: list[int]


@dataclass(frozen=True, kw_only=True)
class Input:
    """The images that a model takes.

    Attributes:
        shape: Height, width, channels.
        range: Least and greatest value of a pixel.
        resized: Whether they were brought to this size, whatever their proportions.
    """

    shape: tuple[int, int, int]
    range: tuple[int, int] = field(default_factory=lambda: PIXELS)
    resized: bool = False


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one pass over the training split gave.

    Attributes:
        epoch: Its number, 1 or more.
        loss: Mean cross-entropy while learning, in nats.
        accuracy: Share of right answers while learning, 0 to 1.
        seconds: How long it took.
        learning_rate: At its end.
        validation_loss: Of the validation split; None: there is none.
        validation_accuracy: Of the validation split; None: there is none.
    """

    epoch: int
    loss: float
    accuracy: float
    seconds: float
    learning_rate: float
    validation_loss: float | None = None
    validation_accuracy: float | None = None


@dataclass(frozen=True, kw_only=True)
class LiteRT:
    """Whether the model is there for LiteRT as well: the largest difference of its probabilities, or why it is not."""

    written: bool
    max_difference: float | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Onnx:
    """How `model.onnx` takes images and gives answers: what its file does not tell.

    Pixels of 0 to 255 are brought to `range`, then `mean` is taken off and `std` divides what is left.

    Attributes:
        input: Name of its input.
        layout: `NCHW`, `NHWC`, or `flat`: all numbers of an image in a row, as NHWC has them.
        range: What 0 and 255 become.
        mean: Of each channel, after that; empty: 0.
        std: Standard deviation of each channel; empty: 1.
        answers: `logits` or `probabilities`.
        output: Name of the output with them; empty: the first of shape images x classes.
        opset: Version of the operators of the standard domain that it is written in; 0: not known.
    """

    input: str
    layout: str = "NCHW"
    range: tuple[float, float] = (0.0, 1.0)
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    answers: str = "logits"
    output: str = ""
    opset: int = 0


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is known of a model. JSON: `model.json`, see docs/artifacts.md.

    Attributes:
        architecture: Name of the network.
        about: What people say of it.
        choices: What train chose by the data and why, a line each.
        hyperparameters: By name; a network or model that it began with is among them.
        dataset: What it was trained on; None: not known.
        input: The images that it takes.
        classes: Their names, in the order of the probabilities.
        history: Its epochs.
        libraries: Versions by name.
        parameters: How many numbers its weights are.
        litert: Of `model.tflite`; None: not known.
        onnx: Of `model.onnx`; None: there is none.
    """

    architecture: str
    about: About = field(default_factory=About)
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    choices: list[str] = field(default_factory=list)
    dataset: TrainedOn | None = None
    input: Input
    classes: list[str]
    history: list[Epoch] = field(default_factory=list)
    libraries: dict[str, Any] = field(default_factory=dict)
    parameters: int
    litert: LiteRT | None = None
    onnx: Onnx | None = None

    @classmethod
    def read(cls, folder: Path) -> Card:
        """The card in a folder.

        Raises:
            BadInput: there is none, or it lacks something.
        """
        try:
            content = (folder / CARD).read_bytes()
        except OSError:
            raise BadInput(f"{folder}: expected a readable card {CARD}, received none; train the model again") from None
        return schema.parse(
            cls,
            content,
            folder / CARD,
            lambda wrong: BadInput(
                f"{folder}: expected a card {CARD} with architecture, parameters, input and classes, received another "
                f"({wrong}); train the model again"
            ),
        )

    def write(self, folder: Path) -> None:
        """Write the card into a folder."""
        write_json(folder / CARD, self.as_json(), indent=2, allow_nan=True)  # a validation loss may be no number

    def as_json(self) -> dict[str, Any]:
        """The content of `model.json`."""
        return {"format": schema.FORMAT, **schema.as_json(self)}


def read_card(model: Path) -> Card:
    """The card of a model folder that can be served.

    Raises:
        BadInput: it is no model folder of ours.
    """
    if not any((model / file).is_file() for file in WEIGHTS):
        received = "a folder without" if model.is_dir() else "a file" if model.exists() else "nothing at that path"
        raise BadInput(
            f"{model}: expected a model folder with {' or '.join(WEIGHTS)}, received {received}; "
            "pass the folder that train or import-model wrote"
        )
    return Card.read(model)


def sha256_of_model(model: Path, beside: Collection[str] = ()) -> str:
    """SHA-256 that tells a model from any other: of its files, without what differs between equal trainings.

    The Keras file holds the time of saving, of which its weights alone count here; TensorFlow orders a SavedModel at
    random, which does not count where the Keras file that it was made from is there; the card tells how long each epoch
    took. In all else it is `sha256_of_folder`.

    Args:
        model: Model folder, or a file with a model.
        beside: What lies in the folder and is no part of the model.
    """
    if model.is_file():
        return sha256_of_file(model)
    weights = _sha256_of_weights(model / KERAS_MODEL)
    digests = {}
    for path in files_below(model):
        if path.parts[0] in beside:
            continue
        if path == Path(CARD):
            digests[path] = _sha256_without_times(model / path)
        elif weights and path == Path(KERAS_MODEL):
            digests[path] = weights
        elif not (weights and path.parts[0] == SAVED_MODEL):
            digests[path] = sha256_of_file(model / path)
    return sha256_of_listing(digests)


def _sha256_of_weights(keras_file: Path) -> str:
    """Of the weights in a `.keras` file; empty where it is none."""
    try:
        with zipfile.ZipFile(keras_file) as archive:
            return hashlib.sha256(archive.read(_WEIGHTS)).hexdigest()
    except (OSError, KeyError, zipfile.BadZipFile):
        return ""


def _sha256_without_times(card: Path) -> str:
    """Of a card without the seconds of its epochs."""
    try:
        content = json.loads(card.read_bytes())
        content["history"] = [{**epoch, "seconds": 0} for epoch in content.get("history", [])]
    except (ValueError, TypeError, AttributeError):  # it is none of ours
        return sha256_of_file(card)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
