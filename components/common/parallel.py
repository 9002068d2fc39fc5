"""Several things at a time."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")


def in_parallel(action: Callable[[Item], None], items: Iterable[Item], threads: int = 12) -> None:
    """Do something with every item, some at a time; the first failure is raised and stops what has not begun."""
    from concurrent.futures import ThreadPoolExecutor, as_completed

    with ThreadPoolExecutor(threads) as pool:
        try:
            for done in as_completed([pool.submit(action, item) for item in items]):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def processors() -> int:
    """Processors this process may use: a container's CPU quota, rounded up, where one is set; else its affinity."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(allowed, -(-int(quota) // int(period))))
    except (OSError, ValueError):  # no cgroup v2, or no limit ("max")
        return allowed
