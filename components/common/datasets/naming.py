"""The names that people give to splits and classes, and those that systems leave in folders."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SPLITS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
}
"""The splits by what people call them, in lower case."""
CLUTTER = ("__MACOSX", "Thumbs.db", "desktop.ini")
"""What systems leave in folders, beside names that start with a dot."""


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is none of a data set's, and is ignored silently."""
    return name.startswith(".") or name in CLUTTER


def visible(folder: "Path | os.DirEntry[str]") -> "list[os.DirEntry[str]]":
    """Entries of a folder by name, without what systems leave there."""
    return sorted((entry for entry in os.scandir(folder) if not is_clutter(entry.name)), key=lambda entry: entry.name)


def folders_in(folder: Path) -> list[str]:
    """Names of the folders in a folder, without what systems leave there."""
    return [entry.name for entry in visible(folder) if entry.is_dir()]


def in_order(names: Iterable[str]) -> list[str]:
    """Class names as they are numbered: numbers by value, then the others by letter."""
    return sorted(names, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))


def as_text(value: Any) -> str:
    """A value of a column, or the name of a class, as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
