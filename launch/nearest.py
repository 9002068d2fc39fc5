"""The known name that a mistyped one is nearest to."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of a message: `; did you mean cpu?`, or `otherwise` if none is near."""
    near = difflib.get_close_matches(str(name), list(known), 1)
    return f"; did you mean {near[0]}?" if near else otherwise
