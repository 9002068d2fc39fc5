"""The page on which a model is tried in a browser: static files, and what they need to know of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...common.artifacts.evaluation import EVALUATION, AnsweredExamples, Evaluation
from ...common.artifacts.published import EVALUATION_FOLDER
from .worker import LoadedVersion

STATIC = Path(__file__).with_name("static")
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def file(name: str) -> tuple[bytes, str]:
    """Content and type of one of the page's files.

    Raises:
        KeyError: there is none of that name.
    """
    path = {path.name: path for path in STATIC.iterdir()}[name]
    return path.read_bytes(), TYPES[path.suffix]


def description(name: str, main: LoadedVersion, shares: list[tuple[LoadedVersion, int]]) -> dict[str, Any]:
    """What the page is to know.

    Args:
        name: Of the model.
        main: The version whose card and examples are shown.
        shares: The versions that answer and their shares in percent.
    """
    folder = main.folder / EVALUATION_FOLDER
    evaluation = Evaluation.read(folder) if (folder / EVALUATION).is_file() else None
    answered = AnsweredExamples.read(folder)
    return {
        "name": name,
        "versions": [{"version": version.wanted.version, "percent": percent} for version, percent in shares],
        "backend": main.backend,
        "card": main.card.as_json(),
        "accuracy": evaluation.accuracy if evaluation else None,
        "test_examples": evaluation.examples if evaluation else None,
        "examples": [{"instance": one.instance, "label": one.label} for one in (answered.examples if answered else [])],
    }
