"""Files and folders that appear whole or not at all, and their digests."""

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .cli import BadInput, shown

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".zip")
"""What the names of archives that are unpacked end in."""
DOWNLOAD = "download.json"
"""The file in which download tells what it fetched into a folder."""


@contextmanager
def atomic_folder(path: Path, marker: str) -> Iterator[Path]:
    """A folder to write into, which takes the name `path` only when the block ends well.

    Parents are made (kfp.local does not make them). An earlier output at `path` is replaced; a failure leaves it
    as it was. What killed processes left of the same output is removed.

    Args:
        path: Where the folder is to appear.
        marker: A file that every such output holds. A folder without it is somebody else's and is never replaced.

    Raises:
        BadInput: `path` is a link, a file, or a folder with other things in it, or nothing can be written there.
    """
    check_output(path, marker)
    with _partial(path, Path.mkdir) as partial:
        yield partial
        move_into_place(partial, path)


def check_place(path: Path, folder: bool) -> None:
    """Refuse a place where no output can appear, or where it would replace what no step wrote.

    Args:
        path: Where a file or folder is to appear.
        folder: Whether it is a folder.

    Raises:
        BadInput: it is a symbolic link, or of the other kind; or what is above it is no folder or cannot be written.
    """
    try:
        if path.is_symlink():
            raise BadInput(f"{path}: expected a new or earlier output, received a symbolic link; pass another path")
        if path.exists() and not (path.is_dir() if folder else path.is_file()):
            raise BadInput(
                f"{path}: expected a {'folder' if folder else 'file'}, received something else; pass another path"
            )
        if not path.resolve().name:
            raise BadInput(
                f"{path}: expected a new {'folder' if folder else 'file'} or an earlier output; pass another path"
            )
        above = next(place for place in path.absolute().parents if os.path.lexists(place))
        if not above.is_dir():
            raise BadInput(f"{path}: expected a path in a folder, {above} is not a folder; pass another path")
        if not os.access(above, os.W_OK | os.X_OK):
            raise BadInput(f"{path}: expected a writable path, {above} is read-only; pass another path")
    except OSError as error:  # such as a name that is too long
        raise BadInput(f"{shown(path)}: expected a path for an output, received none ({error.strerror})") from error


def move_into_place(folder: Path, path: Path) -> None:
    """Give a finished folder its name on the same disk; what had that name goes."""
    if not path.exists():
        folder.rename(path)
        return
    old = _beside(path)
    path.rename(old)
    folder.rename(path)
    _remove(old)


def check_output(path: Path, marker: str) -> None:
    """Refuse what `atomic_folder` would refuse, before long work begins."""
    check_place(path, folder=True)
    if path.exists() and not (path / marker).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise BadInput(
            f"{path}: expected a new folder or an earlier output of this step, received something else; pass another"
            " path"
        )


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A file name to write to, which takes the name `path` only when the block ends well."""
    check_place(path, folder=False)
    with _partial(path, Path.touch) as partial:
        yield partial
        partial.replace(path)


def write_text(path: Path | None, text: str) -> None:
    """Write a text file whole, or nothing where no path is given."""
    if path is not None:
        with atomic_file(path) as partial:
            partial.write_text(text, encoding="utf-8")


def write_json(path: Path | None, content: Any, indent: int | None = None, allow_nan: bool = False) -> None:
    """Write a JSON file whole, or nothing where no path is given."""
    write_text(path, json.dumps(content, indent=indent, allow_nan=allow_nan) + "\n")


@contextmanager
def _partial(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A file or folder beside `path`, removed in the end if it is still there.

    It is locked, by which others tell it from what a killed process left; that is removed first.
    """
    partial = _beside(path)
    partial.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    new = partial.with_name(f".new-{uuid.uuid4().hex}")  # no leftover for others before it is locked
    make(new)
    with _lock(new):
        try:
            new.rename(partial)
            yield partial
        finally:
            _remove(new)
            _remove(partial)


def _remove_leftovers(path: Path) -> None:
    """Remove what runs for the same output left that were killed."""
    for beside in path.resolve().parent.iterdir():
        if beside.name.startswith(_prefix(path)):
            with _lock(beside) as held_by_nobody:
                if held_by_nobody:
                    _remove(beside)


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Lock a file or folder; whether that worked: others may hold it, or its file system has no locks."""
    handle = None
    try:
        handle = os.open(path, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked = True
    except OSError:
        locked = False
    try:
        yield locked
    finally:
        if handle is not None:
            os.close(handle)


def _remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.resolve().with_name(f"{_prefix(path)}{uuid.uuid4().hex[:8]}")


def _prefix(path: Path) -> str:
    return f".{path.resolve().name}.partial-"  # `..` and `.` have no name of their own


def without_suffix(name: str) -> str:
    """The name of an archive without what tells its kind; any other name as it is."""
    return next((name[: -len(suffix)] for suffix in ARCHIVES if name.lower().endswith(suffix)), name)


def copy_folder(source: Path, target: Path) -> None:
    """Copy the files of a folder into another; links as what they point to."""
    for path in files_below(source):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, target / path)


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder, links followed, as sorted paths relative to it."""
    # of strings as far as it goes: a Path costs as much as a small file
    root = os.path.join(folder, "")  # noqa: PTH118
    found = (f"{place}/{name}" for place, _, names in os.walk(root, followlinks=True) for name in names)
    below = [path[len(root) :].lstrip("/").split("/") for path in found if os.path.isfile(path)]  # noqa: PTH113
    return [Path("/".join(parts)) for parts in sorted(below)]


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file, in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_folder(folder: Path) -> str:
    """SHA-256 of a folder: of the lines `<sha256>  <path>` of its files, sorted by path, as `sha256sum` prints them."""
    return sha256_of_listing({path: sha256_of_file(folder / path) for path in files_below(folder)})


def _parts(one: tuple[Path, str]) -> tuple[str, ...]:
    return one[0].parts


def sha256_of_listing(digests: Mapping[Path, str]) -> str:
    """SHA-256 of a folder, from those of its files by their paths in it."""
    lines = [f"{digest}  {path.as_posix()}\n" for path, digest in sorted(digests.items(), key=_parts)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
