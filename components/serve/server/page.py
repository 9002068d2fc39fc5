"""The page on which a model is tried in a browser: static files, and what they need to know of the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..known_examples import EXAMPLES
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


def description(name: str, shares: list[tuple[LoadedVersion, int]]) -> dict[str, Any]:
    """What the page is to know.

    Args:
        name: Of the model.
        shares: The versions that answer and their shares in percent, at least one; the card and the examples are those
            of the version with the largest share.
    """
    main, _ = max(shares, key=lambda share: share[1])
    evaluation = _read(main.folder / EXAMPLES.with_name("evaluation.json"))
    examples = _read(main.folder / EXAMPLES).get("examples", [])
    return {
        "name": name,
        "versions": [{"version": version.wanted.version, "percent": percent} for version, percent in shares],
        "backend": main.backend,
        "card": main.card,
        "accuracy": evaluation.get("accuracy"),
        "test_examples": evaluation.get("examples"),
        "examples": [{"instance": one["instance"], "label": one["label"]} for one in examples],
    }


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}
