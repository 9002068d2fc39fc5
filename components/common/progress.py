"""Progress of long work: a bar on a terminal, a line now and then in a log."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import click

from .cli import say

SECONDS_BETWEEN_LINES = 5.0
BAR = 24
"""Characters."""
TOLD = 3
"""Names that a line tells."""


class Advance(Protocol):
    """Tells progress that so many more bytes are done."""

    def __call__(self, count: int) -> None: ...


class Progress:
    """Tells how far a step is: lines that stay; between them a bar on a terminal, or a line now and then in a log."""

    def __init__(self, step_name: str, seconds_between_lines: float = SECONDS_BETWEEN_LINES) -> None:
        self._step_name = step_name
        self._terminal = sys.stderr.isatty()
        self._pause = 0.1 if self._terminal else seconds_between_lines
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        """A line that stays, in place of the bar."""
        self._last = time.monotonic()
        say(self._step_name, text)

    def show(self, share: float, text: Callable[[], str]) -> None:
        """How far it is, if it is time to tell; `share`: 0 to 1, of what is to be done."""
        now = time.monotonic()
        if now - self._last < self._pause:
            return
        self._last = now
        if self._terminal:
            filled = int(BAR * min(1, share))
            bar = "█" * filled + "░" * (BAR - filled)
            click.echo(f"\r\033[K{self._step_name:<9} {bar}  {text()}", err=True, nl=False)
        else:
            say(self._step_name, text())

    def clear(self) -> None:
        """Take the bar away."""
        self._last = time.monotonic()
        if self._terminal:
            click.echo("\r\033[K", err=True, nl=False)


@contextmanager
def transfer(step_name: str, total: int | None) -> Iterator[Advance]:
    """Show the progress of a transfer of `total` bytes (None: not known), and a closing line with size and rate."""
    started = time.monotonic()
    done = 0
    progress = Progress(step_name)
    counting = threading.Lock()  # several threads may advance

    def line() -> str:
        rate = f"{readable_size(done / max(time.monotonic() - started, 1e-3))}/s"
        if not total:
            return f"{readable_size(done)}  {rate}"
        return f"{readable_size(done, like=total)} / {readable_size(total)}  {min(100, 100 * done // total)} %  {rate}"

    def advance(count: int) -> None:
        nonlocal done
        with counting:
            done += count
            progress.show(done / total if total else 0, line)

    try:
        yield advance
    finally:
        progress.clear()
    progress.say(line())


def readable_size(count: float, like: float = 0) -> str:
    """A number of bytes for people, in decimal units; `like`: without the unit, in that of this number."""
    gigabytes = max(count, like) >= 1e9
    number = f"{count / 1e9:.2f}" if gigabytes else f"{count / 1e6:.1f}"
    return number if like else f"{number} {'GB' if gigabytes else 'MB'}"


def counted(count: int, noun: str = "file") -> str:
    """A number with its noun, for people."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def some_of(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - TOLD:,} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more


def readable_shape(shape: Iterable[object]) -> str:
    """A shape for people: 28 x 28 x 1."""
    return " x ".join(map(str, shape))


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows under each other in columns of one width."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
