"""Which tars are shards of a WebDataset: what belongs together by name is an image and what is told of it."""

import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

from .image_folders import ENDINGS


def record_key(name: str) -> tuple[str, str]:
    """The name of a record, and the ending of one of its files: both lie on either side of the first full stop."""
    path = PurePosixPath(name)
    stem, _, ending = path.name.partition(".")
    return str(path.parent / stem), ending.lower()


def is_shard(path: Path) -> bool:
    """Whether a tar holds records, by the first of them."""
    with path.open("rb") as file:
        return begins_with_record(file) is True


def begins_with_record(file: IO[bytes]) -> bool | None:
    """Whether the first record of a tar holds an image and another file; None: the tar breaks off before that shows."""
    first, kinds = "", set()
    try:
        with tarfile.open(mode="r:", fileobj=file) as archive:
            for member in filter(tarfile.TarInfo.isfile, archive):
                key, ending = record_key(member.name)
                first = first or key
                if key != first:
                    return False
                kinds.add(f".{ending}".endswith(ENDINGS))
                if len(kinds) > 1:
                    return True
    except (tarfile.TarError, OSError, ValueError):
        return None
    return False
