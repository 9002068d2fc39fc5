"""The names of files in archives, as the people who packed them wrote them."""

import re
import struct
import zipfile
import zlib

from ..cli import BadInput, say, shown
from ..progress import counted, some_of

_UTF_8 = 0x800  # the flag of a zip entry whose name is UTF-8
_UNICODE_PATH = 0x7075  # Info-ZIP's extra field with the name in UTF-8
_READ = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_METHODS = {
    6: "Implode",
    9: "Deflate64, which Windows' Explorer takes for files above 2 GB",
    93: "Zstandard",
    95: "XZ",
    98: "PPMd",
    99: "AES encryption",
}
_WORD = re.compile(r"[^\W\d_]+")


def path_in_zip(entry: zipfile.ZipInfo, guessed: list[str]) -> str:
    """The path of an entry of a zip, with `/` between its parts.

    Without the flag that says so, names are UTF-8 if they can be (macOS and many libraries write them so), else code
    page 437, as the format has it: such a one is added to `guessed`.

    Raises:
        BadInput: it can be read in neither way, or a compression that is not read.
    """
    name = entry.orig_filename  # zipfile ends a name at a NUL
    if entry.compress_type not in _READ:
        method = _METHODS.get(entry.compress_type, f"method {entry.compress_type}")
        raise BadInput(f"expected Deflate, received {shown(name)} packed with {method}; pack it again as a plain zip")
    if not entry.flag_bits & _UTF_8:
        name = _unicode_path(entry.extra, zlib.crc32(name.encode("cp437"))) or (
            name if name.isascii() else _from_code_page(name, guessed)
        )
    if not name:
        raise BadInput("expected a name for each file, received an empty one; pack it again")
    return name.replace("\\", "/")  # as .NET before 4.6.1 and some Windows tools write it


def path_in_tar(name: str, guessed: list[str]) -> str:
    """The path of a member of a tar, which Python reads as UTF-8; what is no UTF-8 is taken for Latin-1, and added to
    `guessed`.

    Raises:
        BadInput: it cannot be that.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        told = name.encode("utf-8", "surrogateescape").decode("latin-1")
        if not _can_be_a_name(told):
            raise BadInput(f"expected names in UTF-8, received {shown(told)} in another encoding; rename it") from None
        name = told
        guessed.append(name)
    return name if "/" in name else name.replace("\\", "/")


def tell_guessed(guessed: list[str], encoding: str) -> None:
    """Say once for an archive that names in it may be read wrong."""
    if guessed:
        say(
            "download",
            f"{counted(len(guessed), 'name')} not in UTF-8 read as {encoding}: {some_of(guessed)}; if they look "
            "wrong, pack the archive again with UTF-8 names",
        )


def _from_code_page(name: str, guessed: list[str]) -> str:
    """A name that zipfile read in code page 437."""
    packed = name.encode("cp437")
    try:
        return packed.decode()
    except UnicodeDecodeError:
        if not _can_be_a_name(name):
            raise BadInput(
                f"expected names in UTF-8, received {shown(name)} in another encoding; pack it again with UTF-8 names"
            ) from None
        guessed.append(name)
        return name


def _can_be_a_name(name: str) -> bool:
    """Whether a name in the encoding it was read in is made of words: box drawings are in no name, and a word of
    accented letters alone is one of another script (`êîò` is `кот`)."""
    signs_fit = all(sign.isascii() or sign.isalpha() for sign in name)
    return signs_fit and not any(len(word) > 1 and not re.search("[A-Za-z]", word) for word in _WORD.findall(name))


def _unicode_path(extra: bytes, checksum: int) -> str:
    """The name in the extra field for it; empty where there is none, or it is that of a file since renamed.

    Args:
        extra: The extra fields of an entry.
        checksum: CRC-32 of the name that the entry has.
    """
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        if kind == _UNICODE_PATH and size > 5 and extra[5:9] == struct.pack("<I", checksum):  # a version, then this
            return extra[9 : 4 + size].decode("utf-8", "replace")
        extra = extra[4 + size :]
    return ""
