"""Unpacking of tar and zip archives that nobody vouches for."""

import bz2
import errno
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, Self, cast

from ..cli import BadInput
from ..files import ARCHIVES

OTHERS = (".7z", ".rar", ".tar.zst", ".tar.lz4", ".tar.z")
"""Endings of archives that are not read."""
CHUNK = 1 << 17  # larger ones cost more in page faults than they save in calls
_GZIP = 16 + zlib.MAX_WBITS
_MOST_FOR_XZ = 256 * 2**20  # bytes of memory; `xz -9` asks for 65 MiB, a hostile file may for 4 GiB
_MOST_FROM_A_BYTE = 1100  # deflate makes at most 1,032 bytes of one; a "zip bomb" claims more
_REPACK = "pack the archive anew, links as the files they point to (tar --dereference --hard-dereference)"
_UNUSABLE = (IsADirectoryError, NotADirectoryError, FileExistsError, ValueError)  # names that collide, or hold a NUL


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""
        ...


class Writable(Protocol):
    """A file to write bytes to."""

    def write(self, data: bytes, /) -> object:
        """Write all of them."""
        ...


class Decompressor(Protocol):
    """What undoes a compression, as `bz2` and `lzma` have it: it keeps what it was given and has not undone yet."""

    @property
    def eof(self) -> bool:
        """Whether the end of the compressed data has come."""
        ...

    @property
    def needs_input(self) -> bool:
        """Whether it takes more before it gives more."""
        ...

    @property
    def unused_data(self) -> bytes:
        """What came after that end."""
        ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Up to `max_length` bytes of content."""
        ...


def is_archive(name: str) -> bool:
    """Whether a file is an archive, by its name. Its content says nothing: a .npz is a zip, IDX files are gzip."""
    return name.lower().endswith(ARCHIVES)


def copy(stream: Readable, file: Writable) -> None:
    """Write what is left of a stream to a file."""
    while chunk := stream.read(CHUNK):
        file.write(chunk)


def stays_inside(name: str) -> bool:
    """Whether a relative name, with `/` between its parts, cannot lead out of the folder it is put in."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name


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
            _extract_tar(_Decompressed(stream, _decompressor_for(name)), folder)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from error
    except tarfile.FilterError as error:
        raise BadInput(f"{name}: a hostile archive, {error}; nothing of it was kept") from error
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BadInput(f"{name}: the archive is damaged or cut off ({error}); fetch or pack it anew") from error
    except NotImplementedError as error:
        raise BadInput(f"{name}: expected a common compression, received another ({error}); {_REPACK}") from error
    except _UNUSABLE as error:
        raise BadInput(f"{name}: the archive holds names that cannot be files ({error}); pack it anew") from error


class _StrictHeader(tarfile.TarInfo):
    """A tar header that is what it should be, or an error: tarfile takes a broken one for the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # the block of zeros that ends a tar
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _extract_tar(stream: Readable, folder: Path) -> None:
    file_like = cast(IO[bytes], stream)  # of which a tar that is read as a stream calls `read` alone
    with tarfile.open(mode="r|", fileobj=file_like, bufsize=CHUNK, tarinfo=_StrictHeader) as archive:
        while member := archive.next():
            archive.members = []  # type: ignore[attr-defined] # tarfile would remember every member
            if not (member.isfile() or member.isdir()):
                raise BadInput(f"expected files and folders, received the link or device {member.name!r}; {_REPACK}")
            if member.name.startswith("/"):
                raise BadInput(f"expected relative names, received {member.name!r}; {_REPACK}")
            target = folder / tarfile.data_filter(member, str(folder)).name
            if content := archive.extractfile(member):
                if not target.parent.exists():
                    target.parent.mkdir(parents=True)
                with target.open("wb", buffering=0) as file:
                    copy(content, file)
            else:
                target.mkdir(parents=True, exist_ok=True)
    while stream.read(CHUNK):  # to the end: the digest and the checksum of gzip cover it
        pass


class _Decompressed:
    """The content of a compressed stream of one member or several, with their checksums and their ends checked."""

    def __init__(self, stream: Readable, decompressor: Callable[[], Decompressor]) -> None:
        self._stream = stream
        self._new = decompressor
        self._member = decompressor()
        self._rest = b""

    def read(self, size: int) -> bytes:
        while not self._member.eof or self._next_member():
            packed = b""
            if self._member.needs_input and not (packed := self._rest or self._stream.read(CHUNK)):
                raise EOFError("the compressed stream has no end")
            self._rest = b""
            try:
                content = self._member.decompress(packed, size)
            except (OSError, lzma.LZMAError, zlib.error) as error:  # bz2 has no error of its own
                raise EOFError(str(error)) from error
            if content:
                return content
        return b""

    def _next_member(self) -> bool:
        """Go on to the next member, past padding with zeros; False at the end of the stream."""
        rest = self._member.unused_data.lstrip(b"\0")
        while not rest:
            packed = self._stream.read(CHUNK)
            if not packed:
                return False
            rest = packed.lstrip(b"\0")
        self._member, self._rest = self._new(), rest
        return True


class _Gunzip:
    """A Decompressor for gzip."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(_GZIP)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._inner.decompress(data or self._inner.unconsumed_tail, max_length)


def _decompressor_for(name: str) -> Callable[[], Decompressor]:
    if name.lower().endswith("bz2"):
        return bz2.BZ2Decompressor
    if name.lower().endswith("xz"):
        return partial(lzma.LZMADecompressor, memlimit=_MOST_FOR_XZ)
    return _Gunzip


def _extract_zip(stream: Readable, folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder.parent) as file:  # the directory of a zip is at its end
        copy(stream, file)
        size = file.tell()
        with zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                _check_entry(entry)
            _check_size(sum(entry.file_size for entry in archive.infolist()), size, folder)
            for entry in archive.infolist():
                archive.extract(entry, folder)


def _check_entry(entry: zipfile.ZipInfo) -> None:
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadInput(f"expected files and folders, received the link or device {entry.filename!r}; {_REPACK}")
    if not stays_inside(entry.filename):
        raise BadInput(f"expected names below the archive's root, received {entry.filename!r}; {_REPACK}")
    if entry.flag_bits & 1:
        raise BadInput(f"expected no password, received the encrypted {entry.filename!r}; {_REPACK}")


def _check_size(content: int, packed: int, folder: Path) -> None:
    if content > _MOST_FROM_A_BYTE * packed:
        raise BadInput(f"expected data, received a zip bomb: {packed:,} bytes claim to hold {content:,}")
    free = shutil.disk_usage(folder).free
    if content > free:
        raise OSError(errno.ENOSPC, f"{content:,} bytes to unpack, {free:,} bytes free on the disk", str(folder))
