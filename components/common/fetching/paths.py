"""Files and folders of this machine as sources."""

import os
from functools import partial
from pathlib import Path

from ..cli import BadInput, shown
from .streams import ListedFile, OpenFile


def open_path(path: Path) -> OpenFile:
    """Open a file of this machine."""
    return OpenFile(path.name, path.stat().st_size, path.open("rb", buffering=0))


def list_folder(folder: Path) -> list[ListedFile]:
    """The files below a folder of this machine.

    Raises:
        BadInput: there are links in it to nothing, to folders, or out of it, or folders that cannot be read.
    """
    inside = os.path.realpath(folder)
    listed = []
    for place, folders, files in os.walk(folder, onerror=_refuse):
        for name in (*folders, *files):
            if os.path.islink(path := os.path.join(place, name)):  # noqa: PTH114, PTH118 # Paths would take twice the time
                _check_link(path, inside)
        for name in files:
            if os.path.isfile(path := os.path.join(place, name)):  # noqa: PTH113, PTH118
                listed.append((os.path.relpath(path, folder), os.stat(path).st_size))  # noqa: PTH116
    return [ListedFile(path, size, partial(open_path, folder / path)) for path, size in sorted(listed)]


def _refuse(error: OSError) -> None:
    raise BadInput(
        f"--source: {shown(str(error.filename))} cannot be read ({error.strerror}); change its permissions or remove it"
    ) from error


def _check_link(link: str, inside: str) -> None:
    target = Path(link).resolve()
    if target.is_file() and target.is_relative_to(inside):
        return
    received = "a folder" if target.is_dir() else "nothing" if not target.exists() else "what is not below the source"
    raise BadInput(f"--source: expected files, received {shown(link)}, a link to {received}; replace or remove it")
