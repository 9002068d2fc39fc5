"""Files and folders of this machine as sources."""

from functools import partial
from pathlib import Path

from ..cli import BadInput
from ..files import files_below
from .streams import ListedFile, OpenFile


def open_path(path: Path) -> OpenFile:
    """Open a file of this machine."""
    return OpenFile(path.name, path.stat().st_size, path.open("rb", buffering=0))


def list_folder(folder: Path) -> list[ListedFile]:
    """The files below a folder of this machine.

    Raises:
        BadInput: there are links to nothing, or to folders, in it.
    """
    if link := min((path for path in folder.rglob("*") if path.is_symlink() and not path.is_file()), default=None):
        received = "a folder" if link.is_dir() else "nothing"
        raise BadInput(f"--source: expected files, received {str(link)!r}, a link to {received}; replace or remove it")
    paths = files_below(folder)
    return [
        ListedFile(path.as_posix(), (folder / path).stat().st_size, partial(open_path, folder / path)) for path in paths
    ]
