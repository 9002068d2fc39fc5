"""The smoke test on a cluster: known examples, asked of the version that is rolled out until the answers are right."""

from __future__ import annotations

import math
import time

from ...common.waiting import wait_for
from .. import known_examples
from ..client import EndpointError, PredictionClient
from ..known_examples import KnownExamples, WrongAnswer
from .cluster import pauses

SECONDS_TO_SETTLE = 10.0
"""How long pods that are going may still answer for the old model."""
STEADY, SECONDS_BETWEEN_ANSWERS = 5, 0.2
"""Right answers in a row that show a way to be open: the servers of a gateway learn of it one after another."""


def examples(uri: str) -> KnownExamples | None:
    """The examples that were published with a model; None when there are none.

    Raises:
        RuntimeError: the store cannot be read.
    """
    try:
        return known_examples.published(uri)
    except OSError as error:
        raise RuntimeError(
            f"{error}; the smoke test needs the examples at {uri}evaluation/, or pass --smoke-test false"
        ) from error


def prove(answers: PredictionClient, known: KnownExamples, patience: float, deadline: float) -> str:
    """Send the known examples until the answers are right; ways to a new pod may take a while to open.

    Args:
        answers: The version.
        patience: Seconds that answers may be wrong.
        deadline: Until when it has to answer, in `time.monotonic()` seconds.

    Returns:
        What was seen, in words.

    Raises:
        WrongAnswer: it answers otherwise than at evaluation.
        EndpointError, ConnectionError: it does not answer, or refuses.
    """
    wrong_since = math.inf

    def seen() -> str:
        nonlocal wrong_since
        try:
            return known_examples.compare(answers, known)
        except WrongAnswer:
            wrong_since = min(wrong_since, time.monotonic())
            if time.monotonic() - wrong_since > patience:
                raise
        except (EndpointError, ConnectionError) as error:
            if is_final(error) or time.monotonic() > deadline:
                raise
        return ""

    return wait_for(seen, math.inf, pauses())


def prove_steadily(answers: PredictionClient, known: KnownExamples, patience: float, deadline: float) -> str:
    """`prove`, until so many right answers have come in a row that the way to the version is open for good."""
    while True:
        seen = prove(answers, known, patience, deadline)
        try:
            for _ in range(STEADY - 1):
                time.sleep(SECONDS_BETWEEN_ANSWERS)
                known_examples.compare(answers, known)
            return seen
        except (WrongAnswer, EndpointError, ConnectionError):
            if time.monotonic() > deadline:
                raise


def is_final(error: Exception) -> bool:
    """Whether somebody refuses the request or answers something else, rather than the way being closed as yet."""
    status = getattr(error, "status", 0)  # 0: no answer
    return 0 < status < 500 and status not in (404, 408, 429)
