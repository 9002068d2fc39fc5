"""Whether a new version can take the place of the one that is served: clients go on to send the same images to it, and
to read the same classes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..common.artifacts.model import CARD, Card
from ..common.artifacts.published import Source
from ..common.cli import BadInput

MOST_SHOWN = 8
"""Classes that a message names."""


def card_at(source: Source) -> Card:
    """The card of a version, without the rest of it.

    Raises:
        BadInput, OSError: there is none, or it cannot be read.
    """
    with tempfile.TemporaryDirectory() as scratch:
        source.fetch(CARD, Path(scratch) / CARD)
        return Card.read(Path(scratch))


def check(name: str, served: Card, new: Card) -> None:
    """Refuse a version with another input shape or other classes than the one that is served.

    Raises:
        BadInput: it has.
    """
    if served.input.shape != new.input.shape:
        differing = f"input of {_shape(served)} as the served version has, received {_shape(new)}"
    elif served.classes != new.classes:
        differing = f"the classes of the served version, {_differing(served.classes, new.classes)}"
    else:
        return
    raise BadInput(f"{name}: expected {differing}; pass another --model-name, or --replace-different true")


def _shape(card: Card) -> str:
    return " x ".join(map(str, card.input.shape))


def _differing(served: list[str], new: list[str]) -> str:
    """How two lists of classes differ, in words."""
    if sorted(served) == sorted(new):
        return "received the same in another order"
    missing, added = _listed(set(served) - set(new)), _listed(set(new) - set(served))
    return "received them " + " and ".join(
        part for part in (f"without {missing}" if missing else "", f"with {added}" if added else "") if part
    )


def _listed(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:MOST_SHOWN])
    return f"{shown}, ..." if len(names) > MOST_SHOWN else shown
