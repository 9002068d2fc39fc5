"""Unpacking of .tar, .tar.gz, .tgz and .zip archives that nobody vouches for."""

import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Protocol

from components.common.cli import BadInput

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".zip")
_CHUNK = 1 << 20
_DEFLATE_LIMIT = 1032  # no byte of a deflate stream becomes more than so many
_UNUSABLE = (IsADirectoryError, NotADirectoryError, FileExistsError, ValueError)  # names that collide, or hold a NUL


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""
        ...


def is_archive(name: str) -> bool:
    """Whether a file is an archive, by its name. Its content says nothing: a .npz is a zip, IDX files are gzip."""
    return name.lower().endswith(SUFFIXES)


def extract(name: str, stream: Readable, folder: Path) -> None:
    """Unpack an archive into an existing folder, and read the stream to its end.

    Memory stays flat, and a tar needs no space but that of its files; a zip is kept in a temporary file meanwhile.
    Only regular files and folders come out, without the archive's owners, modes and times. Links are refused: the
    outputs of a step are copied by tools that do not know them.

    Args:
        name: The archive's name, which tells its format.
        stream: Its bytes.
        folder: Where to put the files. After an error it holds some of them.

    Raises:
        BadInput: the archive is damaged, cut off or encrypted, or it reaches outside the folder.
        OSError: reading or writing failed.
    """
    try:
        if name.lower().endswith(".zip"):
            _extract_zip(stream, folder)
        elif name.lower().endswith(".tar"):
            _extract_tar(stream, folder)
        else:
            _extract_tar(_Gunzip(stream), folder)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from error
    except tarfile.FilterError as error:
        raise BadInput(f"{name}: a hostile archive, {error}; nothing of it was kept") from error
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BadInput(f"{name}: the archive is damaged or cut off ({error}); fetch or pack it anew") from error
    except _UNUSABLE as error:
        raise BadInput(f"{name}: the archive holds names that cannot be files ({error}); pack it anew") from error


class _StrictInfo(tarfile.TarInfo):
    """A tar header that is what it should be, or an error: tarfile takes a broken one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_StrictInfo":
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # the zero block that ends a tar
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _extract_tar(stream: Readable, folder: Path) -> None:
    # Small buffers: tarfile copies the rest of its buffer for every header it reads.
    with tarfile.open(
        mode="r|", fileobj=stream, bufsize=1 << 17, copybufsize=_CHUNK, tarinfo=_StrictInfo
    ) as archive:
        while member := archive.next():
            archive.members = []  # tarfile would remember every member
            if not (member.isfile() or member.isdir()):
                kind = "link" if member.issym() or member.islnk() else "device"
                raise BadInput(f"holds the {kind} {member.name!r}, expected files and folders only; {_REPACK}")
            if member.name.startswith("/"):
                raise BadInput(f"holds the absolute path {member.name!r}; {_REPACK}")
            archive.extract(member, folder, set_attrs=False, filter="data")
    while stream.read(_CHUNK):  # what follows is checked too
        pass
