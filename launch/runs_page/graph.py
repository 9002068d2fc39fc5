"""A run's steps as a drawing: one below the other, those that do not wait for each other side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

WIDTH, HEIGHT, ACROSS, DOWN, BEND = 168, 46, 24, 30, 22
"""Of a step and of the space around it, in pixels."""


@dataclass(frozen=True)
class Node:
    """A step: its name, a word or two on how it went, its state, and its upper left corner."""

    name: str
    note: str
    state: str
    x: float
    y: float


@dataclass(frozen=True)
class Drawing:
    """Size in pixels, steps, and lines as SVG paths."""

    width: float
    height: float
    nodes: list[Node]
    lines: list[str]


def draw(steps: dict[str, tuple[str, str]], edges: Iterable[list[str]]) -> Drawing:
    """Draw a graph.

    Args:
        steps: By name, state and note; those that only the edges name have not run.
        edges: Pairs of names, which step follows which.
    """
    known = [(before, after) for before, after in edges]
    names = list(dict.fromkeys([*steps, *(name for edge in known for name in edge)]))
    layers = _layers(names, known)
    widest = max(map(len, layers), default=1)
    places = {}
    for row, layer in enumerate(layers):
        left = (widest - len(layer)) * (WIDTH + ACROSS) / 2
        for column, name in enumerate(layer):
            places[name] = (1 + left + column * (WIDTH + ACROSS), 1 + row * (HEIGHT + DOWN))
    nodes = [
        Node(name, steps[name][1] if name in steps else "not run", steps[name][0] if name in steps else "", *place)
        for name, place in places.items()
    ]
    row_of = {name: row for row, layer in enumerate(layers) for name in layer}
    lines = [_line(places[before], places[after], row_of[after] - row_of[before] > 1) for before, after in known]
    width = widest * (WIDTH + ACROSS) - ACROSS + 2 + BEND
    return Drawing(width, len(layers) * (HEIGHT + DOWN) - DOWN + 2, nodes, lines)


def _layers(names: list[str], edges: list[tuple[str, str]]) -> list[list[str]]:
    """The steps by the longest way that leads to them."""
    rows = dict.fromkeys(names, 0)
    for _ in names:  # at most that many steps follow each other
        for before, after in edges:
            rows[after] = max(rows[after], rows[before] + 1)
    return [[name for name in names if rows[name] == row] for row in sorted(set(rows.values()))]


def _line(start: tuple[float, float], end: tuple[float, float], around: bool) -> str:
    """From the lower edge of a step to the upper edge of the next, or around what is between them."""
    (x, y), (to_x, to_y) = start, end
    if around:
        x, y, to_x, to_y = x + WIDTH, y + HEIGHT / 2, to_x + WIDTH, to_y + HEIGHT / 2
        bend = max(x, to_x) + BEND
        return f"M{x:g} {y:g}C{bend:g} {y:g} {bend:g} {to_y:g} {to_x:g} {to_y:g}"
    x, y, to_x = x + WIDTH / 2, y + HEIGHT, to_x + WIDTH / 2
    middle = (y + to_y) / 2
    return f"M{x:g} {y:g}C{x:g} {middle:g} {to_x:g} {middle:g} {to_x:g} {to_y:g}"
