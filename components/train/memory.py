"""How much memory images take, and may take."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

from ..common.cli import BadInput

MEGABYTE = 1_000_000
COPIES = 2
"""Of images in memory at once: the array that was read, and TensorFlow's tensor of it."""


def bytes_in_memory(images: int, shape: tuple[int, int, int]) -> int:
    """What so many images of a shape take when they are held in memory."""
    return COPIES * images * math.prod(shape)


def budget_in_bytes(megabytes: int) -> int:
    """What images may take of the memory: as chosen, or half of what this process may still have.

    Raises:
        BadInput: below zero.
    """
    if megabytes < 0:
        raise BadInput(f"--memory-budget: expected megabytes, at least 0, received {megabytes}; 0 chooses by itself")
    return megabytes * MEGABYTE or available() // 2


def available(root: Path = Path("/")) -> int:
    """Bytes that this process may still take: what its container leaves, or the machine."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError):  # not Linux
        free = 1024 * _named_number(root / "proc/meminfo", "MemAvailable:")
    with suppress(OSError, ValueError):  # no cgroup v2, or no limit ("max")
        limit = int((root / "sys/fs/cgroup/memory.max").read_text())
        taken = _named_number(root / "sys/fs/cgroup/memory.stat", "anon")  # without files, which can be read again
        free = min(free, max(0, limit - taken))
    return free


def _named_number(path: Path, name: str) -> int:
    """The number behind a name, in a file with a name and a number on each line."""
    return next(int(line.split()[1]) for line in path.read_text().splitlines() if line.split()[0] == name)
