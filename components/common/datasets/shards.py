"""Which tars are shards of a WebDataset: what belongs together by name is an image and what is told of it."""

import json
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO

from .image_folders import ENDINGS

CLASS = ".cls"
LABELS = ("cls", "label", "class", "class_name", "label_name")
"""What a label may be called in a record's `.json`."""
MOST_TEXT = 1 << 16
"""Bytes of a label's file that are read."""


def record_key(name: str) -> tuple[str, str]:
    """The name of a record, and the ending of one of its files: both lie on either side of the first full stop."""
    path = PurePosixPath(name)
    stem, _, ending = path.name.partition(".")
    return str(path.parent / stem), ending.lower()


def is_shard(path: Path) -> bool:
    """Whether a tar holds records, by the first of them."""
    with path.open("rb") as file:
        return begins_with_record(file) is True


def begins_with_record(file: IO[bytes], labelled: bool = False) -> bool | None:
    """Whether the first record of a tar holds an image and another file; None: the tar breaks off before that shows.

    Args:
        file: The tar, or its beginning.
        labelled: Whether the other file must be a label.
    """
    first, kinds = "", set()
    try:
        with tarfile.open(mode="r:", fileobj=file) as archive:
            for member in filter(tarfile.TarInfo.isfile, archive):
                key, ending = record_key(member.name)
                first = first or key
                if key != first:
                    return False
                is_image = f".{ending}".endswith(ENDINGS)
                content = archive.extractfile(member)
                if is_image or not labelled or (content and label_in(ending, content.read(MOST_TEXT))):
                    kinds.add(is_image)
                if len(kinds) > 1:
                    return True
    except (tarfile.TarError, OSError, ValueError):
        return None
    return False


def label_in(ending: str, content: bytes) -> str:
    """What a file of a record says of its class, as text; empty where it says nothing."""
    if f".{ending}".endswith(CLASS):
        return content.decode("utf-8", "replace").strip()
    if ending == "json":
        try:
            told = json.loads(content)
        except (ValueError, RecursionError):
            return ""
        if isinstance(told, dict):
            return next((str(told[name]) for name in LABELS if isinstance(told.get(name), str | int)), "")
    return ""
