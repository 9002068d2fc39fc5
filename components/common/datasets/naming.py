"""The names that people give to splits and classes, and those that systems leave in folders."""

import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..cli import BadInput

SPLITS = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "tr": "train",
    "test": "test",
    "testing": "test",
    "tst": "test",
    "ts": "test",
    "eval": "test",
    "evaluation": "test",
    "holdout": "test",
    "hold-out": "test",
    "hold_out": "test",
    "validate": "validation",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}
"""The splits by what people call them, in lower case; `eval` is a test as with Hugging Face."""
SPLIT_NAME = re.compile(
    r"(\d+[ _.)-]+)?(?P<prefix>(.+[ _.-]|images?|imgs?|data))??"
    rf"(?P<split>{'|'.join(sorted(SPLITS, key=len, reverse=True))})"
    r"([ _.-]?(set|data|dataset|images?|imgs?|pictures|photos|split|folder|\d{4}))?"
    r"(?P<version>[ _.-]?(v?\d{1,3}|\(\d+\)))?"
)
"""A name that tells a split: `train`, `training_set`, `val2017`, `seg_train`, `imagesTr`, `01_train`, `train_v2`."""
CLUTTER = re.compile(
    r"\..*|__MACOSX|__pycache__|Thumbs\.db|ehthumbs\.db|desktop\.ini|Icon\r|lost\+found|@eaDir|@Recycle|#recycle|@tmp"
    r"|\$RECYCLE\.BIN|RECYCLER|System Volume Information|Network Trash Folder|Temporary Items|.*_\$folder\$",
    re.IGNORECASE,
)
"""Hidden and system files and folders."""


def splits_in(names: Iterable[str], where: str) -> dict[str, str]:
    """The names that tell a split, by the split.

    A prefix or a version is understood where several splits have the same, as `seg_train` and `seg_test`.

    Args:
        names: Of folders or arrays that stand side by side.
        where: What to call the place in messages.

    Raises:
        BadInput: two names tell the same split.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    for name in names:
        if told := SPLIT_NAME.fullmatch(name.lower().strip()):
            split = SPLITS[told["split"]]
            alike = found.setdefault((told["prefix"] or "", told["version"] or ""), {})
            if split in alike:
                raise BadInput(
                    f"{where}: expected one folder of the split {split}, received {alike[split]} and {name}; "
                    "move their images into one"
                )
            alike[split] = name
    several = [alike for around, alike in found.items() if around == ("", "") or len(alike) > 1]
    return next((alike for alike in several if "train" in alike), several[0] if several else {})


def tell_splits(names: Iterable[str]) -> bool:
    """Whether each of these names tells a split, whatever stands around it, and not all the same one."""
    told = [SPLIT_NAME.fullmatch(name.lower().strip()) for name in names]
    return all(told) and len({SPLITS[one["split"]] for one in told if one}) > 1


def class_name(name: str, where: Path) -> str:
    """The name of a class after that of a folder: one name, whichever Unicode form a system wrote it in, without the
    spaces around it that nobody sees.

    Raises:
        BadInput: its bytes are no UTF-8.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = name.encode("utf-8", "surrogateescape").decode("latin-1")
        raise BadInput(f"{where}: expected names in UTF-8, received {shown!r} in another encoding; rename it") from None
    return unicodedata.normalize("NFC", name).strip()


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is none of a data set's, and is ignored silently."""
    return CLUTTER.fullmatch(name) is not None


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
