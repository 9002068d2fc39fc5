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
            if _is_final(error) or time.monotonic() > deadline:
                raise
        return ""

    return wait_for(seen, math.inf, pauses())


def _is_final(error: Exception) -> bool:
    """Whether the model refuses the request, rather than the way to it being closed as yet."""
    status = getattr(error, "status", 0)
    return 400 <= status < 500 and status not in (404, 408, 429)
