"""Measure whole processes: wall time, processor time, peak memory; medians with their spread."""

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Cost:
    """What a process and its children cost: wall and processor time in seconds, peak memory in MiB.

    Memory that they share counts for each of them.
    """

    wall: float
    cpu: float
    peak: float


def process(command: Sequence[str | os.PathLike[str]], environment: dict[str, str] | None = None) -> Cost:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed; the message holds what it wrote.
    """
    started = time.perf_counter()
    with subprocess.Popen(
        list(map(str, command)),
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as child:
        assert child.stdout is not None
        peak = _Peak(child.pid)
        output = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(
            f"{' '.join(map(str, command))}: exit code {child.returncode}\n{output.decode(errors='replace')}"
        )
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak.mebibytes)


class _Peak(threading.Thread):
    """Follows a process's peak memory. What `wait4` tells starts at the memory of the process that forked it."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.mebibytes = 0.0
        self._pid = pid
        self.start()

    def run(self) -> None:
        while now := memory(self._pid, "VmHWM"):
            self.mebibytes = max(self.mebibytes, now)
            time.sleep(0.01)


def memory(pid: int, kind: str = "VmRSS") -> float:
    """Memory of a process and its children, in MiB; 0: it has ended.

    Args:
        pid: The process.
        kind: VmRSS: now; VmHWM: at most, so far.
    """
    kibibytes = 0
    with suppress(OSError, StopIteration):  # one of them has ended
        for one in family(pid):
            lines = Path(f"/proc/{one}/status").read_text().splitlines()
            kibibytes += int(next(line for line in lines if line.startswith(f"{kind}:")).split()[1])
    return kibibytes / 1024


def processor_time(pid: int) -> float:
    """Seconds of processor time that a process has taken so far, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process, its children, and theirs."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def in_turns(variants: dict[str, Callable[[], dict[str, float]]], repeats: int) -> dict[str, dict[str, Any]]:
    """Measure variants side by side: one of each in turn, so that a slow minute of the machine hits all alike.

    Args:
        variants: Name to a call that gives named numbers (seconds, MiB, requests a second).
        repeats: How often each is measured; one round before that warms the file cache and does not count.

    Returns:
        Per variant and number: median, least, most, and the values.
    """
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    for turn in range(repeats + 1):
        for name, measure in variants.items():
            numbers = measure()
            tell(name, numbers)
            if turn:
                taken[name].append(numbers)
    return {name: {key: spread([row[key] for row in rows]) for key in rows[0]} for name, rows in taken.items()}


def tell(name: str, numbers: dict[str, float]) -> None:
    """Say what was just measured."""
    click.echo(f"  {name:<22} " + "  ".join(f"{key} {value:.2f}" for key, value in numbers.items()), err=True)


def spread(values: list[float]) -> dict[str, Any]:
    """Median, least and most of some values, and the values themselves."""
    rounded = [round(value, 4) for value in values]
    return {
        "median": round(statistics.median(values), 4),
        "least": min(rounded),
        "most": max(rounded),
        "values": rounded,
    }
