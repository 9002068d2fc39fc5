"""Prove that the model which answers is the one that was evaluated: send the examples that travelled with it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..common.artifacts.evaluation import EXAMPLES, AnsweredExample, AnsweredExamples
from ..common.artifacts.model import CARD, Card, read_card
from ..common.artifacts.published import EVALUATION_FOLDER, StorePrefix
from .client import PredictionClient

MOST_DIFFERENCE = 0.01
"""Between a probability at evaluation and one that is served. Other kernels or hardware stay far below."""


class WrongAnswer(RuntimeError):
    """The endpoint answers otherwise than the model did at evaluation."""


@dataclass(frozen=True)
class KnownExamples:
    """A model's examples.

    Attributes:
        classes: Names of the classes, in the order of the probabilities.
        examples: Images and what the model answered, as evaluate writes them.
        onnx: Whether the model is in ONNX, and not a SavedModel.
    """

    classes: list[str]
    examples: list[AnsweredExample]
    onnx: bool = False


def in_folder(model: Path) -> KnownExamples | None:
    """The examples in a model folder; None when there are none."""
    answered = AnsweredExamples.read(model / EVALUATION_FOLDER)
    if answered is None:
        return None
    card = Card.read(model)
    return KnownExamples(card.classes, answered.examples, card.onnx is not None)


def published(uri: str) -> KnownExamples | None:
    """The examples of a published model; None when there are none.

    Args:
        uri: s3://bucket/name/version/; behind any other URI there are no examples of ours.

    Raises:
        PermissionError, ConnectionError: the store cannot be read.
    """
    if not uri.startswith("s3://"):
        return None
    store = StorePrefix(uri)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / EVALUATION_FOLDER).mkdir()
        try:
            for path in (f"{EVALUATION_FOLDER}/{EXAMPLES}", CARD):
                store.fetch(path, folder / path)
        except FileNotFoundError:
            return None
        return in_folder(folder)


def check(endpoint: PredictionClient, model: Path) -> str:
    """Compare the answers for the examples of a model folder, see `compare`.

    A model folder without an evaluation (served by hand) gets one blank image, to see that it answers at all.
    """
    known = in_folder(model)
    if known:
        return compare(endpoint, known)
    height, width, channels = read_card(model).input.shape
    endpoint.predict([[[[0] * channels] * width] * height])
    return "answers (no examples travelled with the model)"


def compare(endpoint: PredictionClient, known: KnownExamples) -> str:
    """Send examples and compare labels and probabilities with those that the model gave at evaluation.

    Returns:
        What was seen, in words.

    Raises:
        WrongAnswer: they differ.
        EndpointError: it did not answer.
    """
    answers = endpoint.predict([example.instance for example in known.examples])
    for example, probabilities in zip(known.examples, answers, strict=True):
        where = f"for test image {example.index}"
        if None in probabilities:  # how JSON tells what is no number
            raise WrongAnswer(f"expected probabilities {where}, received {probabilities}")
        label = known.classes[probabilities.index(max(probabilities))]
        if label != example.prediction:
            raise WrongAnswer(
                f"expected {example.prediction!r} {where} as at evaluation, "
                f"received {label!r}; evaluate and publish the model again"
            )
        pairs = zip(probabilities, example.probabilities or probabilities, strict=True)
        if (apart := max(abs(served - then) for served, then in pairs)) > MOST_DIFFERENCE:
            raise WrongAnswer(
                f"expected the probabilities of the evaluation {where}, received some that are {apart:.3f} apart; "
                "another model answers"
            )
    return f"answers {len(known.examples)} known examples as at evaluation"
