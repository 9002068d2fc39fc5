"""What can be said against the options before there is a model or an image."""

from __future__ import annotations

import re

from ..common.cli import BadInput
from ..common.datasets import ON_CORRUPT
from ..common.fetching.fetch import check_scheme


def check_options(model: str, source: str, shard: str, top_k: int, on_corrupt: str, max_errors: int) -> None:
    """Raise BadInput for options that nothing can come of."""
    if "://" in model and not model.startswith("s3://"):
        raise BadInput(f"--model: expected s3://bucket/name/[version/] or a model folder, received {model!r}")
    check_scheme(source)
    shard_of(shard)
    if top_k < 1:
        raise BadInput(f"--top-k: expected 1 or more, received {top_k}")
    if on_corrupt not in ON_CORRUPT:
        raise BadInput(f"--on-corrupt: expected {' or '.join(ON_CORRUPT)}, received {on_corrupt!r}; choose one of them")
    if max_errors < -1:
        raise BadInput(f"--max-errors: expected 0 or more, or -1 for no limit, received {max_errors}")


def shard_of(shard: str) -> tuple[int, int]:
    """Number and count in `2/8`; empty: the whole, 1 of 1.

    Raises:
        BadInput: it is no share.
    """
    told = re.fullmatch(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", shard or "1/1")
    if not told or int(told[1]) > int(told[2]):
        raise BadInput(f"--shard: expected NUMBER/COUNT from 1/8 to 8/8, received {shard!r}")
    return int(told[1]), int(told[2])
