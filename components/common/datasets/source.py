"""Where a data set comes from, as download tells it, and what it is called after that."""

import json
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from ..files import DOWNLOAD, without_suffix


def download_of(folder: Path) -> dict[str, Any]:
    """What download wrote about the data set in a folder; nothing where it comes from elsewhere."""
    try:
        told = json.loads((folder / DOWNLOAD).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    return {key: readable(value) if isinstance(value, str) else value for key, value in told.items()}


def readable(name: str) -> str:
    """A name that can be written as UTF-8: what a file system has that is none becomes a question mark."""
    return name.encode("utf-8", "replace").decode()


def source_of(folder: Path) -> str:
    """What to call a folder in messages: where download fetched it from, if it did."""
    return download_of(folder).get("source") or str(folder)


def name_of(folder: Path) -> str:
    """Name of a data set that has none of its own, for people: that of its source or its folder."""
    return name_from(download_of(folder).get("source", "")) or readable(folder.resolve().name)


def name_from(source: str) -> str:
    """The name that ends a path or URI, without what tells an archive; empty where there is none."""
    if "://" in source:
        try:
            address = urlsplit(source)
        except ValueError:  # what fetches it says so, without the password that may be in it
            return ""
        source = unquote(address.path).strip("/") or address.netloc
    return without_suffix(PurePosixPath(source).name)
