"""Fetching of a source, whatever kind it is, into one folder."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from ..cli import BadInput, say, shown
from ..files import DOWNLOAD, files_below, sha256_of_listing
from ..parallel import in_parallel
from ..progress import Advance, transfer
from .archives import CHUNK, DamagedArchive, Readable, check_name, copy, extract, is_archive, packed_alone, unpack_file
from .inner_archives import unpack_inner
from .limits import MAX_BYTES, MAX_FILES, Room
from .objects import Access, list_objects, open_object
from .recognition import recognised
from .streams import ListedFile, Measured, OpenFile, ReadAhead

_OVER_THE_NETWORK = ("http", "https", "s3")
_TRANSFERS = 3


@dataclass(frozen=True)
class Fetched:
    """What was fetched.

    Attributes:
        source: Where from, without credentials.
        bytes: Size of what was transferred: of the archive, not of its files.
        sha256: Of the file or archive as it was transferred; of a folder, of the lines that `sha256sum` prints for
            its files, sorted by path.
        files: Number of files in the folder now.
    """

    source: str
    bytes: int
    sha256: str
    files: int


@dataclass(frozen=True)
class Terms:
    """What is fetched at most, from where, and how.

    Attributes:
        max_bytes: Size of the files, unpacked.
        max_files: Number of files and folders.
        hosts: The only ones that http(s) URLs and redirects may name; none: any.
        access: How objects of a store are read.
        keep_shards: Whether tars of a WebDataset stay as they are.
    """

    max_bytes: int = MAX_BYTES
    max_files: int = MAX_FILES
    hosts: tuple[str, ...] = ()
    access: Access = Access()  # noqa: RUF009 (it never changes)
    keep_shards: bool = True


Fetcher = Callable[[str, Path, Terms], Fetched]
"""Fetches a source into a folder."""
NONE: Mapping[str, Fetcher] = MappingProxyType({})


def check_scheme(source: str, more: Mapping[str, Fetcher] = NONE) -> None:
    """Raise BadInput for a source of a scheme that is not fetched; `more`: further fetchers, by scheme."""
    known = {**FETCHERS, **more}
    if "://" in source and (scheme := source.partition("://")[0].lower()) not in known:
        *schemes, last = (name for name in known if name != "path")
        raise BadInput(f"--source: expected {', '.join(schemes)} or {last} before '://', received {shown(scheme)}")


def fetch(
    source: str,
    folder: Path,
    expected_sha256: str = "",
    terms: Terms = Terms(),
    more: Mapping[str, Fetcher] = NONE,
) -> Fetched:
    """Fetch a source into an existing, empty folder; archives are unpacked while they arrive.

    Args:
        source: s3://bucket/key, s3://bucket/prefix/, http(s)://..., file://..., or a path.
        folder: What lies beside it and starts with a dot may be used for temporary files.
        expected_sha256: 64 hexadecimal digits; empty: not checked.
        terms: What is fetched at most, from where, and how.
        more: Further fetchers, by scheme.

    Raises:
        BadInput: there is no such source, it is empty, it has another sha256, it exceeds a limit, or it is a damaged or
            hostile archive.
        OSError: the network or the disk failed.
    """
    scheme = source.partition("://")[0].lower() if "://" in source else "path"
    try:
        fetcher = {**FETCHERS, **more}[scheme]
        fetched = _fetch_whole(fetcher, scheme, source, folder, expected_sha256, terms)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(f"the disk of {folder.parent} is full; free some space and run again") from error
    if (folder / DOWNLOAD).exists():
        if not _is_record(folder / DOWNLOAD):
            raise BadInput(
                f"--source: expected no {DOWNLOAD} at its top, received one that no earlier download wrote; this step "
                "writes a file of this name, rename it"
            )
        fetched = replace(fetched, files=fetched.files - 1)  # the new record takes its place
    if not fetched.files or not fetched.bytes:
        raise BadInput(f"--source: expected data, received nothing from {fetched.source}")
    return fetched


def _fetch_whole(
    fetcher: Fetcher, scheme: str, source: str, folder: Path, expected_sha256: str, terms: Terms
) -> Fetched:
    """Fetch a source; over the network again where it arrives damaged, to tell what its transfer did to it.

    Raises:
        BadInput: it is damaged or another one at its source, from where it came twice alike.
        ConnectionError: it arrived damaged, and otherwise each time.
    """
    seen: set[str] = set()
    while True:
        try:
            fetched = fetcher(source, folder, terms)
            if expected_sha256 in ("", fetched.sha256):
                return fetched
            digest, damage = (
                fetched.sha256,
                BadInput(
                    f"--sha256: expected {expected_sha256}, received {fetched.sha256} from {fetched.source}; "
                    "correct the digest, or the source has changed"
                ),
            )
        except DamagedArchive as error:
            digest, damage = error.sha256, error
        if scheme not in _OVER_THE_NETWORK or digest in seen or digest == expected_sha256 != "":
            raise damage
        if len(seen) == _TRANSFERS - 1:
            raise ConnectionError(
                f"{damage}: the transfer damages it, {_TRANSFERS} of them gave other bytes each; check the network and "
                "the proxy, then run again"
            ) from damage
        seen.add(digest)
        say("download", "unexpected content; downloading again, in case the transfer damaged it")
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_record(path: Path) -> bool:
    try:
        return set(json.loads(path.read_bytes())) == {field.name for field in fields(Fetched)}
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _fetch_path(source: str, folder: Path, terms: Terms) -> Fetched:
    from .paths import list_folder, open_path

    path = Path(unquote(urlsplit(source).path) if source.startswith("file://") else source)
    if path.is_dir():
        return _fetch_folder(source, list_folder(path), folder, terms)
    if not path.is_file():
        raise BadInput(f"--source: {shown(source)} does not exist; check the path")
    return _fetch_file(source, open_path(path), folder, terms)


def _fetch_url(source: str, folder: Path, terms: Terms) -> Fetched:
    from .web import open_url, without_secrets

    return _fetch_file(without_secrets(source), open_url(source, terms.hosts), folder, terms)


def _fetch_object(source: str, folder: Path, terms: Terms) -> Fetched:
    from ..store.s3 import parse_uri

    _, key = parse_uri(source)
    if not key or key.endswith("/"):
        return _fetch_folder(source, list_objects(source, terms.access), folder, terms)
    return _fetch_file(source, open_object(source, terms.access), folder, terms)


FETCHERS: dict[str, Fetcher] = {
    "path": _fetch_path,
    "s3": _fetch_object,
    "http": _fetch_url,
    "https": _fetch_url,
    "file": _fetch_path,
}
"""By scheme; `path` for none."""


def _fetch_file(source: str, file: OpenFile, folder: Path, terms: Terms) -> Fetched:
    check_name(file.name)
    file = recognised(file, source)
    room = Room(folder, terms.max_bytes, terms.max_files)
    with transfer("download", file.size) as advance:
        measured = Measured(file.stream, advance, file.checksum)
        with ReadAhead(measured) as stream:
            try:
                _store(file, stream, folder, room, keep=file.is_shard and terms.keep_shards)
                unpack_inner(folder, room, terms.keep_shards)
            except DamagedArchive as error:
                while stream.read(CHUNK):
                    pass
                error.sha256 = measured.sha256
                raise
    if mismatch := measured.mismatch():
        damage = DamagedArchive(f"{source}: {mismatch}; correct the file or the header on the server")
        damage.sha256 = measured.sha256
        raise damage
    return Fetched(source, measured.size, measured.sha256, sum(len(files) for _, _, files in os.walk(folder)))


def _store(file: OpenFile, stream: Readable, folder: Path, room: Room, keep: bool) -> None:
    """Write a file as it is, or what an archive holds that is not to be kept."""
    if is_archive(file.name) and not keep:
        extract(file.name, stream, folder, room)
        return
    if inner := packed_alone(file.name):
        unpack_file(file.name, stream, folder / room.admit(inner, 0), room)
        return
    with (folder / room.admit(file.name, file.size or 0)).open("wb") as output:
        while chunk := stream.read(CHUNK):
            room.take(len(chunk) if file.size is None else 0)
            output.write(chunk)


def _fetch_folder(source: str, files: list[ListedFile], folder: Path, terms: Terms) -> Fetched:
    digests: dict[Path, str] = {}
    room = Room(folder, terms.max_bytes, terms.max_files)
    for file in files:
        try:
            path = Path(room.admit(file.path, file.size))
        except BadInput as error:
            raise BadInput(f"--source: {error}") from None
        if path in digests:  # the store tells a//b from a/b
            raise BadInput(
                f"--source: expected different paths below {source}, received {shown(file.path)} twice; rename one"
            )
        digests[path] = ""
    size = sum(file.size for file in files)
    with transfer("download", size) as advance:

        def fetch_one(file: ListedFile) -> None:
            digests[Path(file.path)] = _copy(file, folder / file.path, advance)

        in_parallel(fetch_one, files)
    unpack_inner(folder, room, terms.keep_shards)
    return Fetched(source, size, sha256_of_listing(digests), len(files_below(folder)))


def _copy(file: ListedFile, target: Path, advance: Advance) -> str:
    """Copy a file, and return its SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    measured = Measured(file.open().stream, advance)
    with target.open("wb") as output:
        copy(measured, output)
    return measured.sha256
