"""Prove that the model which answers is the one that was evaluated: send the examples that travelled with it."""

from __future__ import annotations

import json
from pathlib import Path

from components.common.models import read_card
from components.serve.client import Endpoint

EXAMPLES = Path("evaluation", "examples.json")


class WrongAnswer(RuntimeError):
    """The endpoint answers otherwise than the model did at evaluation."""


def check(endpoint: Endpoint, model: Path) -> str:
    """Send the examples of a version and compare the labels with those that the model gave at evaluation.

    A model folder without an evaluation (served by hand) gets one blank image, to see that it answers at all.

    Args:
        endpoint: What answers.
        model: The version's folder.

    Returns:
        What was seen, in words.

    Raises:
        WrongAnswer: a label differs.
        EndpointError: it did not answer.
    """
    card = read_card(model)
    if not (model / EXAMPLES).is_file():
        height, width, channels = card["input"]["shape"]
        endpoint.predict([[[[0] * channels] * width] * height])
        return "answers (no examples travelled with the model)"
    examples = json.loads((model / EXAMPLES).read_text())["examples"]
    answers = endpoint.predict([example["instance"] for example in examples])
    for example, probabilities in zip(examples, answers, strict=True):
        if None in probabilities:  # how JSON tells what is no number
            raise WrongAnswer(f"expected probabilities for test image {example['index']}, received {probabilities}")
        label = card["classes"][probabilities.index(max(probabilities))]
        if label != example["prediction"]:
            raise WrongAnswer(
                f"expected {example['prediction']!r} for test image {example['index']} as at evaluation, "
                f"received {label!r}; evaluate and publish the model again"
            )
    return f"answers {len(examples)} known examples as at evaluation"
