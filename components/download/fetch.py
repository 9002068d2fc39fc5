"""Fetching of a data set, whatever kind of source it has, into one folder."""

import errno
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ..common.cli import BadInput, shown
from ..common.files import ARCHIVES, files_below, sha256_of_folder, sha256_of_listing
from ..common.parallel import in_parallel
from ..common.progress import Advance, transfer
from .archives import CHUNK, OTHERS, copy, extract, is_archive
from .limits import MAX_BYTES, MAX_FILES, Room
from .streams import ListedFile, Measured, OpenFile, ReadAhead

RECORD = "download.json"
"""The file that says what was fetched."""


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
class Limits:
    """What is fetched at most, and from where.

    Attributes:
        max_bytes: Size of the files, unpacked.
        max_files: Number of files and folders.
        hosts: The only ones that http(s) URLs and redirects may name; none: any.
    """

    max_bytes: int = MAX_BYTES
    max_files: int = MAX_FILES
    hosts: tuple[str, ...] = ()


def check(source: str, sha256: str, max_bytes: int, max_files: int) -> None:
    """Raise BadInput for a source that cannot be fetched, a digest that is none, or a limit that nothing keeps."""
    if "://" in source and (scheme := source.partition("://")[0].lower()) not in _FETCHERS:
        raise BadInput(f"--source: expected s3, http, https, file or tfds before '://', received {shown(scheme)}")
    if sha256 and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise BadInput(f"--sha256: expected 64 hexadecimal digits, received {shown(sha256)}")
    for option, limit in (("--max-bytes", max_bytes), ("--max-files", max_files)):
        if limit < 1:
            raise BadInput(f"{option}: expected a positive number, received {limit}")


def is_fixed(source: str, sha256: str) -> bool:
    """Whether the source has the same content for good: one with a digest, or a version of a TFDS data set."""
    return bool(sha256 or re.fullmatch(r"tfds://[^:]+:\d+\.\d+\.\d+/?", source))


def fetch(source: str, folder: Path, expected_sha256: str = "", limits: Limits = Limits()) -> Fetched:
    """Fetch a data set into an existing, empty folder; archives are unpacked while they arrive.

    Args:
        source: s3://bucket/key, s3://bucket/prefix/, http(s)://..., file://..., tfds://name[:version], or a path.
        folder: What lies beside it and starts with a dot may be used for temporary files.
        expected_sha256: 64 hexadecimal digits; empty: not checked.
        limits: What is fetched at most, and from where.

    Raises:
        BadInput: there is no such source, it is empty, it has another sha256, it exceeds a limit, or it is a damaged or
            hostile archive.
        OSError: the network or the disk failed.
    """
    scheme = source.partition("://")[0].lower() if "://" in source else "path"
    try:
        fetched = _FETCHERS[scheme](source, folder, limits)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(f"the disk of {folder.parent} is full; free some space and run again") from error
    if (folder / RECORD).exists():
        if not _is_record(folder / RECORD):
            raise BadInput(
                f"--source: expected no {RECORD} at its top, received one that no earlier download wrote; this step "
                "writes a file of this name, rename it"
            )
        fetched = replace(fetched, files=fetched.files - 1)  # the new record takes its place
    if not fetched.files or not fetched.bytes:
        raise BadInput(f"--source: expected data, received nothing from {fetched.source}")
    if expected_sha256 not in ("", fetched.sha256):
        raise BadInput(
            f"--sha256: expected {expected_sha256}, received {fetched.sha256} from {fetched.source}; "
            "correct the digest, or the source has changed"
        )
    return fetched


def _is_record(path: Path) -> bool:
    try:
        return set(json.loads(path.read_bytes())) == {field.name for field in fields(Fetched)}
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def _fetch_path(source: str, folder: Path, limits: Limits) -> Fetched:
    from .paths import list_folder, open_path

    path = Path(unquote(urlsplit(source).path) if source.startswith("file://") else source)
    if path.is_dir():
        return _fetch_folder(source, list_folder(path), folder, limits)
    if not path.is_file():
        raise BadInput(f"--source: expected a file, a folder or a URI, received {shown(source)}, where nothing is")
    return _fetch_file(source, open_path(path), folder, limits)


def _fetch_url(source: str, folder: Path, limits: Limits) -> Fetched:
    from .web import open_url, without_secrets

    return _fetch_file(without_secrets(source), open_url(source, limits.hosts), folder, limits)


def _fetch_object(source: str, folder: Path, limits: Limits) -> Fetched:
    from ..common.store.s3 import parse_uri
    from .objects import list_objects, open_object

    _, key = parse_uri(source)
    if not key or key.endswith("/"):
        return _fetch_folder(source, list_objects(source), folder, limits)
    return _fetch_file(source, open_object(source), folder, limits)


def _fetch_tfds(source: str, folder: Path, _: Limits) -> Fetched:
    from .tfds import prepare

    return Fetched(source, prepare(source, folder), sha256_of_folder(folder), len(files_below(folder)))


_FETCHERS: dict[str, Callable[[str, Path, Limits], Fetched]] = {
    "path": _fetch_path,
    "file": _fetch_path,
    "http": _fetch_url,
    "https": _fetch_url,
    "s3": _fetch_object,
    "tfds": _fetch_tfds,
}


def _fetch_file(source: str, file: OpenFile, folder: Path, limits: Limits) -> Fetched:
    if file.name.lower().endswith(OTHERS):
        raise BadInput(
            f"--source: expected an archive of {', '.join(ARCHIVES)}, received {shown(file.name)}; pack it anew"
        )
    room = Room(folder, limits.max_bytes, limits.max_files)
    with transfer("download", file.size) as advance:
        measured = Measured(file.stream, advance)
        with ReadAhead(measured) as stream:
            if is_archive(file.name):
                extract(file.name, stream, folder, room)
            else:
                with (folder / room.admit(file.name, file.size or 0)).open("wb") as output:
                    while chunk := stream.read(CHUNK):
                        room.take(len(chunk) if file.size is None else 0)
                        output.write(chunk)
    return Fetched(source, measured.size, measured.sha256, len(files_below(folder)))


def _fetch_folder(source: str, files: list[ListedFile], folder: Path, limits: Limits) -> Fetched:
    digests: dict[Path, str] = {}
    room = Room(folder, limits.max_bytes, limits.max_files)
    for file in files:
        try:
            path = Path(room.admit(file.path, file.size))
        except BadInput as error:
            raise BadInput(f"--source: {error}") from None
        if path in digests:  # the store tells a//b from a/b
            raise BadInput(
                f"--source: expected a path of its own below {source}, received {shown(file.path)}; rename it"
            )
        digests[path] = ""
    size = sum(file.size for file in files)
    with transfer("download", size) as advance:

        def fetch_one(file: ListedFile) -> None:
            digests[Path(file.path)] = _copy(file, folder / file.path, advance)

        in_parallel(fetch_one, files)
    return Fetched(source, size, sha256_of_listing(digests), len(digests))


def _copy(file: ListedFile, target: Path, advance: Advance) -> str:
    """Copy a file, and return its SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    measured = Measured(file.open().stream, advance)
    with target.open("wb") as output:
        copy(measured, output)
    return measured.sha256
