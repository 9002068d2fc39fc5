"""Files and folders that appear whole or not at all, and their digests."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .cli import BadInput

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")
"""What the names of archives that are unpacked end in."""


@contextmanager
def atomic_folder(path: Path, marker: str) -> Iterator[Path]:
    """A folder to write into, which takes the name `path` only when the block ends well.

    Parents are made (kfp.local does not make them). An earlier output at `path` is replaced; a failure leaves it
    as it was.

    Args:
        path: Where the folder is to appear.
        marker: A file that every such output holds. A folder without it is somebody else's and is never replaced.

    Raises:
        BadInput: `path` is a file, or a folder with other things in it.
    """
    check_output(path, marker)
    partial = _beside(path)
    partial.mkdir(parents=True)
    try:
        yield partial
        move_into_place(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def move_into_place(folder: Path, path: Path) -> None:
    """Give a finished folder its name on the same disk; what had that name goes."""
    if not path.exists():
        folder.rename(path)
        return
    old = _beside(path)
    path.rename(old)
    folder.rename(path)
    shutil.rmtree(old) if old.is_dir() else old.unlink()


def check_output(path: Path, marker: str) -> None:
    """Refuse what `atomic_folder` would refuse, before long work begins."""
    if path.exists() and not (path / marker).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise BadInput(
            f"{path}: expected a new folder or an earlier output of this step, received something else; name another"
        )


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A file name to write to, which takes the name `path` only when the block ends well."""
    partial = _beside(path)
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path | None, text: str) -> None:
    """Write a text file whole, or nothing where no path is given."""
    if path is not None:
        with atomic_file(path) as partial:
            partial.write_text(text, encoding="utf-8")


def write_json(path: Path | None, content: Any, indent: int | None = None, allow_nan: bool = False) -> None:
    """Write a JSON file whole, or nothing where no path is given."""
    write_text(path, json.dumps(content, indent=indent, allow_nan=allow_nan) + "\n")


def _beside(path: Path) -> Path:
    path = path.resolve()  # `..` and `.` have no name of their own
    return path.with_name(f".{path.name}.partial-{uuid.uuid4().hex[:8]}")


def without_suffix(name: str) -> str:
    """The name of an archive without what tells its kind; any other name as it is."""
    return next((name[: -len(suffix)] for suffix in ARCHIVES if name.lower().endswith(suffix)), name)


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder, links followed, as sorted paths relative to it."""
    found = (Path(place, name) for place, _, names in os.walk(folder, followlinks=True) for name in names)
    return sorted(path.relative_to(folder) for path in found if path.is_file())


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file, in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_folder(folder: Path) -> str:
    """SHA-256 of a folder: of the lines `<sha256>  <path>` of its files, sorted by path, as `sha256sum` prints them."""
    return sha256_of_listing({path: sha256_of_file(folder / path) for path in files_below(folder)})


def sha256_of_listing(digests: Mapping[Path, str]) -> str:
    """SHA-256 of a folder, from those of its files by their paths in it."""
    lines = [f"{digest}  {path.as_posix()}\n" for path, digest in sorted(digests.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
