"""Many small transfers at a time."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")


def in_parallel(action: Callable[[Item], None], items: Iterable[Item], threads: int = 12) -> None:
    """Do something with every item, some at a time; the first failure is raised and stops what has not begun."""
    with ThreadPoolExecutor(threads) as pool:
        try:
            for done in as_completed([pool.submit(action, item) for item in items]):
                done.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
