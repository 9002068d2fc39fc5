"""Fetching of a source, whatever kind it is, into one folder."""

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from ..cli import BadInput
from ..files import ARCHIVES, files_below, sha256_of_listing
from ..parallel import in_parallel
from ..progress import Advance, transfer
from .archives import OTHERS, copy, extract, is_archive, stays_inside
from .streams import ListedFile, Measured, OpenFile, ReadAhead


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


Fetcher = Callable[[str, Path], Fetched]
"""Fetches a source into a folder."""


def check_scheme(source: str, more: Mapping[str, Fetcher] = MappingProxyType({})) -> None:
    """Raise BadInput for a source of a scheme that is not fetched; `more`: further fetchers, by scheme."""
    if "://" in source and urlsplit(source).scheme not in {**FETCHERS, **more}:
        *schemes, last = (name for name in {**FETCHERS, **more} if name != "path")
        raise BadInput(f"--source: expected {', '.join(schemes)} or {last} before '://', received {source!r}")


def fetch(
    source: str, folder: Path, expected_sha256: str = "", more: Mapping[str, Fetcher] = MappingProxyType({})
) -> Fetched:
    """Fetch a source into an existing, empty folder; archives are unpacked while they arrive.

    Args:
        source: s3://bucket/key, s3://bucket/prefix/, http(s)://..., file://..., or a path.
        folder: What lies beside it and starts with a dot may be used for temporary files.
        expected_sha256: 64 hexadecimal digits; empty: not checked.
        more: Further fetchers, by scheme.

    Raises:
        BadInput: there is no such source, it is empty, it has another sha256, or it is a damaged or hostile archive.
        OSError: the network or the disk failed.
    """
    scheme = urlsplit(source).scheme if "://" in source else "path"
    try:
        fetched = {**FETCHERS, **more}[scheme](source, folder)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OSError(f"the disk of {folder.parent} is full; free some space and run again") from error
    if not fetched.files or not fetched.bytes:
        raise BadInput(f"--source: expected data, received nothing from {fetched.source}")
    if expected_sha256 not in ("", fetched.sha256):
        raise BadInput(
            f"--sha256: expected {expected_sha256}, received {fetched.sha256} from {fetched.source}; "
            "correct the digest, or the source has changed"
        )
    return fetched


def _fetch_path(source: str, folder: Path) -> Fetched:
    from .paths import list_folder, open_path

    path = Path(unquote(urlsplit(source).path) if source.startswith("file://") else source)
    if path.is_dir():
        return _fetch_folder(source, list_folder(path), folder)
    if not path.is_file():
        raise BadInput(f"--source: expected a file, a folder or a URI, received {source!r}, where nothing is")
    return _fetch_file(source, open_path(path), folder)


def _fetch_url(source: str, folder: Path) -> Fetched:
    from .web import open_url, without_secrets

    return _fetch_file(without_secrets(source), open_url(source), folder)


def _fetch_object(source: str, folder: Path) -> Fetched:
    from ..store.s3 import parse_uri
    from .objects import list_objects, open_object

    _, key = parse_uri(source)
    if not key or key.endswith("/"):
        return _fetch_folder(source, list_objects(source), folder)
    return _fetch_file(source, open_object(source), folder)


FETCHERS: dict[str, Fetcher] = {
    "path": _fetch_path,
    "s3": _fetch_object,
    "http": _fetch_url,
    "https": _fetch_url,
    "file": _fetch_path,
}
"""By scheme; `path` for none."""


def _fetch_file(source: str, file: OpenFile, folder: Path) -> Fetched:
    if file.name.lower().endswith(OTHERS):
        raise BadInput(f"--source: expected an archive of {', '.join(ARCHIVES)}, received {file.name!r}; pack it anew")
    with transfer("download", file.size) as advance:
        measured = Measured(file.stream, advance)
        with ReadAhead(measured) as stream:
            if is_archive(file.name):
                extract(file.name, stream, folder)
            else:
                with (folder / file.name).open("wb") as output:
                    copy(stream, output)
    return Fetched(source, measured.size, measured.sha256, len(files_below(folder)))


def _fetch_folder(source: str, files: list[ListedFile], folder: Path) -> Fetched:
    digests: dict[Path, str] = {}
    for file in files:
        if not stays_inside(file.path) or Path(file.path) in digests:  # the store tells a//b from a/b
            raise BadInput(f"--source: expected a path of its own below {source}, received {file.path!r}; rename it")
        digests[Path(file.path)] = ""
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
