"""What a file is, by what its server says of it, its name and its first bytes."""

import bz2
import codecs
import io
import lzma
import re
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import PurePosixPath

from ..cli import BadInput, shown
from ..datasets.image_folders import ENDINGS as IMAGES
from ..datasets.shards import begins_with_record
from ..files import ARCHIVES
from .archives import DamagedArchive, Decompressed, Decompressor, Gunzip, Readable, is_archive
from .streams import OpenFile

_FIRST = 1 << 16  # bytes that are looked at
_MOST_OF_A_RECORD = 1 << 24  # bytes in which the first record of a WebDataset ends
_GZIP = b"\x1f\x8b"
_PACKED: dict[bytes, tuple[str, Callable[[], Decompressor]]] = {
    _GZIP: (".gz", Gunzip),
    b"BZh": (".bz2", bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": (".xz", lzma.LZMADecompressor),
}
_OTHERS = {
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "RAR",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"\x04\x22\x4d\x18": "LZ4",
    b"\x1f\x9d": "Unix compress",
    b"LZIP": "lzip",
    b"\x5d\0\0": "LZMA",
    b"MSCF": "a Windows cabinet",
    b"PK\7\x08": "the first part of a zip in several",
}
"""Archives that are not read."""
_DATA = {b"PAR1": ".parquet", b"ARROW1": ".arrow", b"\x93NUMPY": ".npy"}
_ZIPS = (".npz", ".keras", ".pt", ".pth", ".docx", ".xlsx", ".pptx", ".jar", ".whl", ".apk", ".epub")
"""Endings of zips that are something else by themselves."""
_BINARY = (
    *ARCHIVES,
    *_ZIPS,
    *_DATA.values(),
    ".gz",
    ".bz2",
    ".xz",
    *IMAGES,
    ".tfrecord",
    ".h5",
    ".hdf5",
    ".mat",
    ".pkl",
)
"""Endings of files that are no text."""
_NEVER = {
    "a pointer of Git LFS in place of the file": rb"version https://git-lfs",
    "a torrent in place of the file": rb"d\d+:(announce|info|comment|created|url-list)",
    "a list of mirrors (Metalink) in place of the file": rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<metalink\b",
    "a shortcut in place of the file": rb"\[(InternetShortcut|Desktop Entry)\]",
}
"""What is no data set, whatever it is called."""
_TEXTS = {"JSON": rb"[{\[]", "XML": rb"<\?xml|<[A-Za-z]+( xmlns|>)", "a PDF": rb"%PDF-", "text": rb""}
_CONTROL = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]")
"""Bytes that are in no text."""
_PAGE = re.compile(rb"(<!--.*?-->\s*)*<(!doctype html|html|head|body|script|title|meta)\b", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(rb"<title[^>]*>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)


def recognised(file: OpenFile, where: str) -> OpenFile:
    """The file under a name that tells what it is, without an encoding that only its transfer had.

    Args:
        file: As it was opened.
        where: What to call its source in messages.

    Raises:
        BadInput: it is no data but a web page, an error message or the like, or an archive that is not read.
    """
    stream = _Peeking(file.stream)
    file = replace(file, stream=stream)
    head = stream.peek(_FIRST)
    encoding = file.encoding.lower().replace("aws-chunked", "").strip(", ")
    if encoding in ("gzip", "x-gzip") and head.startswith(_GZIP) and _is_only_encoded(file.name, head):
        stream = _Peeking(_Decoded(where, stream))
        file = replace(file, stream=stream, size=None)
        head = stream.peek(_FIRST)
    elif encoding not in ("", "identity", "gzip", "x-gzip"):
        raise BadInput(f"{where}: expected the plain file, received it encoded as {shown(encoding)}; pass another URL")
    _refuse_what_is_no_data(file, head, where)
    name = _named(file.name, head)
    return replace(file, name=name, is_shard=name.lower().endswith(".tar") and _is_shard(stream))


def _is_only_encoded(name: str, head: bytes) -> bool:
    """Whether the gzip is the transfer's: the file is called otherwise, or is gzip below it as well."""
    return not name.lower().endswith((".gz", ".tgz")) or _unpacked(head, Gunzip).startswith(_GZIP)


def _refuse_what_is_no_data(file: OpenFile, head: bytes, where: str) -> None:
    if is_archive(file.name) and head.startswith(_GZIP):
        inside = _unpacked(head, Gunzip)
        head = inside if _is_text(inside) else head
    text, is_text = _text(head), _is_text(head)
    media = file.media_type.lower()
    if _PAGE.match(text) or (media in ("text/html", "application/xhtml+xml") and is_text):
        title = _TITLE.search(text)
        told = f" {shown(title[1].decode('utf-8', 'replace'))}" if title else ""
        raise BadInput(f"{where}: expected a file, received a web page{told}; pass the link of the download itself")
    if kind := next((kind for begin, kind in _OTHERS.items() if head.startswith(begin)), ""):
        raise BadInput(f"{where}: expected a zip or tar archive, received {kind}; pack it again")
    if kind := next((kind for kind, pattern in _NEVER.items() if re.match(pattern, text, re.DOTALL)), ""):
        raise BadInput(f"{where}: expected a data set, received {kind}; correct the source")
    if text and (is_text or text.startswith(b"%PDF-")) and (not _ending(file.name) or _is_binary(file.name)):
        kind = next(kind for kind, pattern in _TEXTS.items() if re.match(pattern, text))
        said = shown(text[:60].decode("utf-8", "replace"))
        raise BadInput(f"{where}: expected a data set, received {kind} ({said}); correct the source")


def _is_binary(name: str) -> bool:
    return name.lower().endswith(_BINARY)


def _text(head: bytes) -> bytes:
    """The first bytes of a file as they are where they are UTF-8, without what may stand before a text."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        head = head.decode("utf-16", "replace").encode()
    return head.removeprefix(codecs.BOM_UTF8).lstrip()


def _is_text(head: bytes) -> bool:
    text = _text(head)
    return bool(text) and not _CONTROL.search(text)


def _is_shard(stream: "_Peeking") -> bool:
    """Whether a tar holds records of a WebDataset, by the first of them."""
    size = _FIRST
    while (
        told := begins_with_record(io.BytesIO(stream.peek(size)), labelled=True)
    ) is None and size < _MOST_OF_A_RECORD:
        size *= 4
    return told is True


def _named(name: str, head: bytes) -> str:
    """The name with the ending of what it is."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        if name.lower().endswith((".zip", *_ZIPS)):
            return name
        first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        return _with(name, ".npz" if first.endswith(b".npy") else ".zip")
    if _is_tar(head):
        return _with(name, ".tar")
    for begin, (ending, decompressor) in _PACKED.items():
        if head.startswith(begin):
            if _is_tar(_unpacked(head, decompressor)) or (ending == ".bz2" and not _ending(name)):
                return _with(name, f".tar{ending}")
            return name if _ending(name) else _with(name, ending)
    ending = next((ending for begin, ending in _DATA.items() if head.startswith(begin)), "")
    return name if _ending(name) or not ending else _with(name, ending)


def _with(name: str, ending: str) -> str:
    short = {".tar.gz": ".tgz", ".tar.bz2": ".tbz2", ".tar.xz": ".txz"}
    return name if name.lower().endswith((ending, short.get(ending, ending))) else name + ending


def _ending(name: str) -> str:
    return PurePosixPath(name).suffix


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _unpacked(head: bytes, decompressor: Callable[[], Decompressor]) -> bytes:
    """What begins in the first bytes of a compressed file."""
    with suppress(EOFError):
        return Decompressed(io.BytesIO(head), decompressor).read(512)
    return b""


class _Peeking:
    """A stream whose first bytes can be looked at before they are read."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._first = b""

    def peek(self, size: int) -> bytes:
        """The next bytes, fewer only where the stream ends."""
        while len(self._first) < size and (data := self._stream.read(size - len(self._first))):
            self._first += data
        return self._first

    def read(self, size: int, /) -> bytes:
        if self._first:
            data, self._first = self._first[:size], self._first[size:]
            return data
        return self._stream.read(size)


class _Decoded:
    """A stream without the gzip of its transfer."""

    def __init__(self, where: str, stream: Readable) -> None:
        self._where = where
        self._content = Decompressed(stream, Gunzip)

    def read(self, size: int, /) -> bytes:
        try:
            return self._content.read(size)
        except (EOFError, zlib.error) as error:
            raise DamagedArchive(
                f"{self._where}: the gzip that its server made for the transfer is damaged or truncated ({error}); try "
                "again later"
            ) from error
