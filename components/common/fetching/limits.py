"""What a data set from elsewhere may be: so many bytes and files, with names that every file system takes."""

import errno
import re
import shutil
from pathlib import Path

from ..cli import BadInput, shown

MAX_BYTES = 200 * 10**9
MAX_FILES = 5_000_000
_MAX_PATH = 1024  # bytes, as S3 has it
_MAX_NAME = 255  # bytes, as file systems have it
_MAX_DEPTH = 64
_UNFIT = re.compile("[\0-\x08\n-\x1f\x7f-\x9f]")  # control characters but the tab
_MAC_ICON = "Icon\r"  # macOS puts it into folders that have a picture
_LARGE = 10**7  # bytes from which on the free space of the disk is looked at first


class Room:
    """What is left of the limits for what goes into a folder.

    Args:
        folder: Where the files are put.
        max_bytes: Size of all of them together.
        max_files: Number of files and folders.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._bytes = 0
        self._files = 0

    def admit(self, name: str, size: int) -> str:
        """Count a file or folder before it is written.

        Args:
            name: Its path below the folder, with `/` between its parts.
            size: Its bytes.

        Returns:
            The path to write it to, below the folder.

        Raises:
            BadInput: the name is none for a file below the folder, or a limit is exceeded.
            OSError: the disk has less space left than a large file needs.
        """
        path = _checked(name)
        self._files += 1
        if self._files > self._max_files:
            raise BadInput(f"expected at most {self._max_files:,} files and folders, received more; raise --max-files")
        self.take(size)
        return path

    def take(self, size: int) -> None:
        """Count bytes before they are written; see `admit`."""
        self._bytes += size
        if self._bytes > self._max_bytes:
            raise BadInput(
                f"expected at most {self._max_bytes:,} bytes, received {self._bytes:,} or more; raise --max-bytes"
            )
        if size >= _LARGE and size > (free := shutil.disk_usage(self._folder).free):
            raise OSError(errno.ENOSPC, f"{size:,} bytes to write, {free:,} bytes free on the disk", str(self._folder))


def _checked(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\\" in name:
        raise _refused("names below the root", name)
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        raise _refused("names in UTF-8", name) from None
    if any(_UNFIT.search(part) and part != _MAC_ICON for part in parts):
        raise _refused("names without control characters", name)
    if len(parts) > _MAX_DEPTH:
        raise _refused(f"at most {_MAX_DEPTH} folders in each other", name)
    if max(sizes, default=0) > _MAX_NAME or sum(sizes) + len(sizes) > _MAX_PATH:
        raise _refused(f"names of at most {_MAX_NAME} bytes and paths of at most {_MAX_PATH}", name)
    return "/".join(parts)


def _refused(expected: str, name: str) -> BadInput:
    return BadInput(f"expected {expected}, received {shown(name)}; rename it")
