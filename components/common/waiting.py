"""Wait for what another process, a server or a cluster is doing."""

import time
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import TypeVar

Result = TypeVar("Result")


def wait_for(look: Callable[[], Result], deadline: float, pauses: Iterable[float] = repeat(0.02)) -> Result:
    """Look again and again until there is a result.

    Args:
        look: Returns the result, or something false as long as there is none.
        deadline: When to give up, in `time.monotonic()` seconds; what is past still gets one look.
        pauses: Seconds between the looks.

    Returns:
        What the last look returned: something false when the time is up.
    """
    for pause in pauses:
        if (result := look()) or time.monotonic() > deadline:
            return result
        time.sleep(pause)
    return look()
