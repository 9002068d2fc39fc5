"""Progress of long work: a bar on a terminal, a line now and then in a log."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import click

from components.common.cli import say

SECONDS_BETWEEN_LINES = 5.0


class Advance(Protocol):
    """Tells progress that so many more bytes are done."""

    def __call__(self, count: int) -> None: ...


@contextmanager
def transfer(step_name: str, total: int | None) -> Iterator[Advance]:
    """Show the progress of a transfer of `total` bytes (None: not known), and a closing line with size and rate."""
    started = last = time.monotonic()
    done = 0
    terminal = sys.stderr.isatty()
    counting = threading.Lock()  # several threads may advance

    def line() -> str:
        rate = f"{readable_size(done / max(time.monotonic() - started, 1e-3))}/s"
        if not total:
            return f"{readable_size(done)}  {rate}"
        return f"{readable_size(done, like=total)} / {readable_size(total)}  {min(100, 100 * done // total)} %  {rate}"

    def advance(count: int) -> None:
        nonlocal done, last
        with counting:
            done += count
            now = time.monotonic()
            if now - last < (0.1 if terminal else SECONDS_BETWEEN_LINES):
                return
            last = now
        if terminal:
            filled = int(24 * done / total) if total else 0
            click.echo(f"\r\033[K{step_name:<9} {'█' * filled}{'░' * (24 - filled)}  {line()}", err=True, nl=False)
        else:
            say(step_name, line())

    try:
        yield advance
    finally:
        if terminal:
            click.echo("\r\033[K", err=True, nl=False)
    say(step_name, line())


def readable_size(count: float, like: float = 0) -> str:
    """A number of bytes for people, in decimal units; `like`: without the unit, in that of this number."""
    gigabytes = max(count, like) >= 1e9
    number = f"{count / 1e9:.2f}" if gigabytes else f"{count / 1e6:.1f}"
    return number if like else f"{number} {'GB' if gigabytes else 'MB'}"


def counted(files: int) -> str:
    """A number of files for people."""
    return f"{files:,} file{'' if files == 1 else 's'}"
