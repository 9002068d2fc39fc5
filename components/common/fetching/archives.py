"""Unpacking of tar and zip archives that nobody vouches for."""

import bz2
import errno
import lzma
import os
import re
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Protocol, Self, cast

from ..cli import BadInput, shown
from ..datasets.image_folders import ENDINGS as IMAGES
from ..files import ARCHIVES
from .limits import Room
from .names import path_in_tar, path_in_zip, tell_guessed

OTHERS = (
    *(".7z", ".rar", ".tar.zst", ".tzst", ".tar.lz4", ".tar.z", ".tar.lzma", ".tlz", ".tar.lz", ".tar.lzo", ".tar.br"),
    *(".cab", ".arj", ".lzh", ".iso", ".dmg"),
)
"""Endings of archives that are not read."""
PACKED_ALONE = (".npz", ".npy", ".parquet", ".arrow", *IMAGES)
"""Endings of data files that are unpacked where each is compressed by itself."""
CHUNK = 1 << 17  # larger ones cost more in page faults than they save in calls
_GZIP = 16 + zlib.MAX_WBITS
_MOST_FOR_XZ = 256 * 2**20  # bytes of memory; `xz -9` asks for 65 MiB, a hostile file may for 4 GiB
_MOST_FROM_A_BYTE = 1100  # deflate makes at most 1,032 bytes of one; a "zip bomb" claims more
_MOST_OF_A_HEADER = 1 << 20  # bytes of a long name and the like, which tarfile reads into memory
_PART = re.compile(r"\.(zip|tar|gz|tgz|bz2|xz|7z|rar)\.(\d{2,4}|a[a-z])$|\.z\d\d$|\.part\d+\.(zip|rar)$", re.IGNORECASE)
"""Ending of a part of an archive that was split."""
_REPACK = "pack the archive again with the files that links point to (tar --dereference --hard-dereference)"
_UNUSABLE = (IsADirectoryError, NotADirectoryError, FileExistsError, ValueError)  # names that collide, or hold a NUL
_METADATA = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    NotImplementedError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RecursionError,
)
"""What the libraries raise for an archive that is damaged. zipfile implements no version of the format above 6.3, which
damage to a header pretends."""


class DamagedArchive(BadInput):
    """An archive is damaged or cut off, at its source or on the way.

    Attributes:
        sha256: Of what arrived; empty until it is known.
    """

    sha256 = ""


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


def check_name(name: str) -> None:
    """Raise BadInput for a file whose name says that it is an archive of a kind that is not read, or a part of one."""
    if _PART.search(name):
        raise BadInput(
            f"--source: expected a whole archive, received {shown(name)}, a part of one; join the parts, or pack the "
            "files again as one"
        )
    if name.lower().endswith(OTHERS):
        raise BadInput(f"--source: expected an archive of {', '.join(ARCHIVES)}, received {shown(name)}; pack it again")


def copy(stream: Readable, file: Writable) -> None:
    """Write what is left of a stream to a file."""
    while chunk := stream.read(CHUNK):
        file.write(chunk)


def extract(name: str, stream: Readable, folder: Path, room: Room) -> None:
    """Unpack an archive into an existing folder, and read the stream to its end.

    Memory stays flat, and a tar needs no space but that of its files; a zip is kept in a temporary file meanwhile.
    Only regular files and folders come out, without the archive's owners, modes and times. Links are refused: the
    outputs of a step are copied by tools that do not know them.

    Args:
        name: The archive's name, which tells its format.
        stream: Its bytes.
        folder: Where to put the files. After an error it holds some of them.
        room: What they may take.

    Raises:
        BadInput: the archive is damaged, cut off or encrypted, exceeds a limit, or reaches outside the folder.
        OSError: reading or writing failed.
    """
    try:
        if name.lower().endswith(".zip"):
            _extract_zip(stream, folder, room)
        elif name.lower().endswith(".tar"):
            _extract_tar(stream, folder, room)
        else:
            _extract_tar(Decompressed(stream, _decompressor_for(name)), folder, room)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from error
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{name}: expected the names in UTF-8 that it promises, received others; pack it again"
        ) from error
    except _DAMAGED as error:
        raise DamagedArchive(
            f"{name}: the archive is damaged or truncated ({error}); fetch or pack it again"
        ) from error
    except _UNUSABLE as error:
        raise BadInput(f"{name}: it holds names that cannot be files ({shown(error)}); pack it again") from error


def packed_alone(name: str) -> str:
    """The name of the one data file that a compressed file holds by its name (`digits.npz.gz`); empty: none.

    IDX files are read as they are.
    """
    inner, ending = os.path.splitext(name)  # noqa: PTH122
    return inner if ending.lower() in (".gz", ".bz2", ".xz") and inner.lower().endswith(PACKED_ALONE) else ""


def unpack_file(name: str, stream: Readable, target: Path, room: Room) -> None:
    """Unpack a compressed file that is no archive, and read the stream to its end; see `extract`."""
    content = Decompressed(stream, _decompressor_for(name))
    try:
        with target.open("wb") as file:
            while chunk := content.read(CHUNK):
                room.take(len(chunk))
                file.write(chunk)
    except EOFError as error:
        raise DamagedArchive(f"{name}: it is damaged or truncated ({error}); fetch or pack it again") from error


class _StrictHeader(tarfile.TarInfo):
    """A tar header that is what it should be, or an error: tarfile takes a broken one for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _METADATA and header.size > _MOST_OF_A_HEADER:
            raise BadInput(
                f"expected at most {_MOST_OF_A_HEADER:,} bytes on a file, received {header.size:,}; {_REPACK}"
            )
        return header

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # the block of zeros that ends a tar
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _extract_tar(stream: Readable, folder: Path, room: Room) -> None:
    file_like = cast(IO[bytes], stream)  # of which a tar that is read as a stream calls `read` alone
    files = _Files(folder)
    guessed: list[str] = []
    with tarfile.open(mode="r|", fileobj=file_like, bufsize=CHUNK, tarinfo=_StrictHeader) as archive:
        while member := archive.next():
            archive.members = []  # type: ignore[attr-defined] # tarfile would remember every member
            if not (member.isfile() or member.isdir()):
                raise BadInput(
                    f"expected files and folders, received the link or device {shown(member.name)}; {_REPACK}"
                )
            extents: list[tuple[int, int]] = member.sparse or []  # type: ignore[assignment] # typeshed has it as a number
            if extents and member.size > _MOST_FROM_A_BYTE * (CHUNK + sum(size for _, size in extents)):
                raise BadInput(
                    f"expected data, received {shown(member.name)}, {member.size:,} bytes of holes; {_REPACK}"
                )
            if member.size < 0:
                raise tarfile.ReadError("a negative size")
            content = archive.extractfile(member)
            files.write(room.admit(path_in_tar(member.name, guessed), member.size if content else 0), content)
    tell_guessed(guessed, "Latin-1")
    while stream.read(CHUNK):  # to the end: the digest and the checksum of gzip cover it
        pass


class _Files:
    """Files and folders below a folder that holds nothing else."""

    def __init__(self, folder: Path) -> None:
        self._root = str(folder)
        self._made = {self._root}

    def write(self, path: str, content: Readable | None) -> None:
        """Write a file, or make a folder."""
        target = f"{self._root}/{path}"
        folder = os.path.dirname(target) if content else target  # noqa: PTH120 # a Path costs as much as a small file
        if folder not in self._made:
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103
            self._made.add(folder)
        if content:
            with open(target, "wb", buffering=0) as file:  # noqa: PTH123
                while chunk := content.read(CHUNK):
                    file.write(chunk)
                    if len(chunk) < CHUNK:  # the end, since tarfile and zipfile give all that is asked for
                        break


class Decompressed:
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


class Gunzip:
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
    return Gunzip


def _extract_zip(stream: Readable, folder: Path, room: Room) -> None:
    with tempfile.TemporaryFile(dir=folder.parent) as file:  # the directory of a zip is at its end
        copy(stream, file)
        size = file.tell()
        guessed: list[str] = []
        with _places_checked(), zipfile.ZipFile(file) as archive:
            _check_disk(file, archive)
            for entry in archive.infolist():
                _check_entry(entry)
                entry.filename = path_in_zip(entry, guessed)
            tell_guessed(guessed, "code page 437")
            if (content := sum(entry.file_size for entry in archive.infolist())) > _MOST_FROM_A_BYTE * size:
                raise BadInput(f"expected data, received a zip bomb: {size:,} bytes claim to hold {content:,}")
            paths = [room.admit(entry.filename, entry.file_size) for entry in archive.infolist()]
            _check_different(
                [path for path, entry in zip(paths, archive.infolist(), strict=True) if not entry.is_dir()]
            )
            files = _Files(folder)
            for entry, path in zip(archive.infolist(), paths, strict=True):
                if entry.is_dir():
                    files.write(path, None)
                else:
                    with archive.open(entry) as unpacked:
                        files.write(path, unpacked)


@contextmanager
def _places_checked() -> Iterator[None]:
    """zipfile goes to the places that a zip names without a look at them."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise zipfile.BadZipFile("it names places before its start") from error
        if error.errno is None and not isinstance(error, ConnectionError):  # bz2 has no error of its own
            raise zipfile.BadZipFile(str(error)) from error
        raise


def _check_disk(file: IO[bytes], archive: zipfile.ZipFile) -> None:
    """Refuse the last part of a zip in several parts, whose directory tells of others."""
    ends = 22 + len(archive.comment)
    file.seek(-ends, os.SEEK_END)
    end = file.read(6)
    later = end.startswith(b"PK\5\6") and end[4:] not in (b"\0\0", b"\xff\xff")  # the latter: see the Zip64 record
    if later or any(entry.volume for entry in archive.infolist()):
        raise BadInput(
            "expected a whole zip, received the last of several parts; join them (zip -s 0), or pack it again"
        )


def _check_different(paths: list[str]) -> None:
    if len(set(paths)) < len(paths):
        twice = next(path for path, count in Counter(paths).items() if count > 1)
        raise BadInput(f"expected different names, received {shown(twice)} twice; rename one")


def _check_entry(entry: zipfile.ZipInfo) -> None:
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadInput(f"expected files and folders, received the link or device {shown(entry.filename)}; {_REPACK}")
    if entry.flag_bits & 1:
        raise BadInput(
            f"expected no password, received the encrypted {shown(entry.filename)}; pack the archive again without one"
        )
