"""A published version: its manifest, and how it comes to this machine, whole and unchanged or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from ..cli import BadInput
from ..files import DOWNLOAD, atomic_folder, files_below, sha256_of_file, sha256_of_listing
from ..parallel import in_parallel
from . import schema
from .model import CARD, read_card
from .signing import SIGNATURE, UNSIGNED, VerifyKeys
from .validation import VALIDATION

if TYPE_CHECKING:
    from botocore.client import BaseClient

MANIFEST = "manifest.json"
EVALUATION_FOLDER = "evaluation"
BESIDE = (EVALUATION_FOLDER, VALIDATION, MANIFEST, SIGNATURE, DOWNLOAD)
"""What a published version holds besides the files of the model, and what download adds."""
PARALLEL_DOWNLOADS = 8


@dataclass(frozen=True)
class File:
    """A file of a version: its path in it, its bytes, its SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a published version consists of. JSON: `manifest.json`, the file that is written last.

    Attributes:
        name: Of the model.
        version: 1 or more.
        files: All other files, by path.
    """

    name: str
    version: int
    files: list[File]

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest in a folder.

        Raises:
            BadInput: there is none.
        """
        return cls.parse(LocalFolder(folder).manifest(), f"{folder}/")

    @classmethod
    def parse(cls, content: str | bytes, where: str) -> Manifest:
        """The manifest of the version at a place.

        Raises:
            BadInput: it is none.
        """

        def refused(wrong: str) -> BadInput:
            return BadInput(
                f"{where}: expected a {MANIFEST} as export writes it, received something else ({wrong}); publish the "
                "model again"
            )

        manifest = schema.parse(cls, content, where + MANIFEST, refused)
        for file in manifest.files:
            path = PurePosixPath(file.path)
            if path.is_absolute() or ".." in path.parts:
                raise refused(f"a path is {file.path}")
        return manifest

    def as_text(self) -> str:
        """The content of `manifest.json`."""
        return json.dumps({"format": schema.FORMAT, **asdict(self)}, indent=1) + "\n"


class Source(Protocol):
    """Where a version's files are."""

    uri: str

    def manifest(self) -> bytes:
        """The content of manifest.json.

        Raises:
            BadInput: there is no such version.
        """

    def signature(self) -> bytes | None:
        """The content of model.sig; None: the version is not signed."""

    def fetch(self, path: str, target: Path) -> None:
        """Copy one file to `target`."""


@dataclass(frozen=True)
class PublishedVersion:
    """A version that can be fetched.

    Attributes:
        number: 1 or more.
        digest: 12 hexadecimal digits that tell its content from any other.
    """

    source: Source
    number: int
    digest: str
    files: list[File]

    @property
    def uri(self) -> str:
        """Where it is; ends in '/'."""
        return self.source.uri

    @property
    def folder_name(self) -> str:
        """Name for its folder: equal names mean equal content."""
        return f"{self.number}-{self.digest}"


def find(uri: str, verify_key: str = "") -> PublishedVersion:
    """Look a version up, without fetching it.

    Args:
        uri: `s3://bucket/name/version/` as export prints it, or (by hand) a folder of this machine as a path or file://
            URL: a published version with its manifest, or a model folder as train writes it, which counts as version 1.
        verify_key: See `signing.VerifyKeys`; empty: the version need not be signed.

    Raises:
        BadInput: there is no version at that place, its manifest is none, or none of the keys signed it.
    """
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        return _published(StorePrefix(uri), verify_key)
    if scheme not in ("", "file"):
        raise BadInput(
            f"expected s3://bucket/name/version/ or a folder of this machine, received {uri!r}; "
            "pass the URI that export printed"
        )
    folder = Path(unquote(urlsplit(uri).path)) if scheme == "file" else Path(uri)
    if folder.is_dir() and not (folder / MANIFEST).is_file():
        read_card(folder)  # BadInput if it is no model folder
        digests = {path: sha256_of_file(folder / path) for path in files_below(folder)}
        files = [File(path.as_posix(), (folder / path).stat().st_size, digest) for path, digest in digests.items()]
        if verify_key:
            raise BadInput(f"{uri}: expected a published version, signed, received a model folder; publish it first")
        return PublishedVersion(LocalFolder(folder), 1, sha256_of_listing(digests)[:12], files)
    return _published(LocalFolder(folder), verify_key)


def choose(uri: str, option: str, verify_key: str = "") -> PublishedVersion | None:
    """Look up the version that a person means, without fetching it; None: none is published there yet.

    Args:
        uri: `s3://bucket/name/` for the newest version, `s3://bucket/name/version/`, or what else `find` takes.
        option: Which option named it, for messages.
        verify_key: See `signing.VerifyKeys`; empty: the version need not be signed.

    Raises:
        BadInput: there is no version at that place, or none of the keys signed it.
    """
    if not uri.startswith("s3://"):
        return find(uri, verify_key)
    from ..store import s3

    *name, last = s3.parse_uri(uri)[1].rstrip("/").split("/")
    if not (name or last):
        raise BadInput(f"{option}: expected s3://bucket/name/ or s3://bucket/name/version/, received {uri!r}")
    return find(uri, verify_key) if name and last.isdigit() else newest(uri, verify_key)


def newest(uri: str, verify_key: str = "") -> PublishedVersion | None:
    """The newest published version of a model, without fetching it; None: there is none yet.

    Args:
        uri: `s3://bucket/name/`.
        verify_key: See `signing.VerifyKeys`; empty: the version need not be signed.
    """
    from ..store import s3

    bucket, key = s3.parse_uri(uri)
    name = key.rstrip("/")
    try:
        numbers = version_numbers(s3.client(), bucket, name)
    except FileNotFoundError:  # not even the bucket
        return None
    sources = (StorePrefix(f"s3://{bucket}/{name}/{number}/") for number in numbers)
    return next((_published(source, verify_key) for source in sources if source.is_published()), None)


def version_numbers(store: BaseClient, bucket: str, name: str) -> list[int]:
    """The versions below a name, published or only begun, the newest first."""
    from ..store import s3

    prefix = f"{name}/"
    names = [folder.removeprefix(prefix).rstrip("/") for folder in s3.folders_below(store, bucket, prefix)]
    return sorted((int(name) for name in names if name.isascii() and name.isdigit()), reverse=True)


def verify_folder(folder: Path, verify_key: str, where: str = "") -> None:
    """Make sure that a folder holds a version as one of the keys signed it, every file but what download adds.

    Args:
        folder: With manifest.json and model.sig.
        verify_key: See `signing.VerifyKeys`.
        where: What to call it in messages; empty: by its path.

    Raises:
        BadInput: it does not.
    """
    source = LocalFolder(folder)
    where = where or str(folder)
    if folder.is_dir() and not (folder / MANIFEST).is_file():
        raise BadInput(f"{where}: expected a published version, signed, received a model folder; publish it first")
    manifest = Manifest.parse(source.manifest(), where)
    paths = {path.as_posix(): folder / path for path in files_below(folder)}
    digests = {path: sha256_of_file(file) for path, file in paths.items() if path not in (*UNSIGNED, DOWNLOAD)}
    VerifyKeys(verify_key).verify(source.signature(), manifest.name, manifest.version, digests, where)


def _published(source: Source, verify_key: str = "") -> PublishedVersion:
    content = source.manifest()
    manifest = Manifest.parse(content, source.uri)
    if verify_key:
        digests = {file.path: file.sha256 for file in manifest.files}
        VerifyKeys(verify_key).verify(source.signature(), manifest.name, manifest.version, digests, source.uri)
    return PublishedVersion(source, manifest.version, hashlib.sha256(content).hexdigest()[:12], manifest.files)


def fetch(version: PublishedVersion, folder: Path) -> None:
    """Fetch all files of a version into a new folder, several at a time.

    Raises:
        RuntimeError: a file is not what the manifest says.
    """
    with atomic_folder(folder, marker=CARD) as partial:
        in_parallel(
            lambda file: _fetch_file(version.source, file, partial / file.path), version.files, PARALLEL_DOWNLOADS
        )


def _fetch_file(source: Source, file: File, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.fetch(file.path, target)
        received = sha256_of_file(target)
    except FileNotFoundError:
        received = "no such file"
    if received != file.sha256:
        raise RuntimeError(
            f"{source.uri}{file.path}: expected sha256 {file.sha256} as in {MANIFEST}, received {received}; "
            "the published version is damaged, publish the model again"
        )


class LocalFolder:
    """A version in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.uri = f"{folder.resolve()}/"
        self._folder = folder

    def manifest(self) -> bytes:
        """See `Source.manifest`."""
        try:
            return (self._folder / MANIFEST).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            raise BadInput(
                f"{self._folder}: expected a model folder, received nothing there; pass the folder of a model"
            ) from None

    def signature(self) -> bytes | None:
        """See `Source.signature`."""
        path = self._folder / SIGNATURE
        return path.read_bytes() if path.is_file() else None

    def fetch(self, path: str, target: Path) -> None:
        """See `Source.fetch`."""
        shutil.copyfile(self._folder / path, target)


class StorePrefix:
    """A version in an object store."""

    def __init__(self, uri: str) -> None:
        from ..store import s3

        self.uri = uri.rstrip("/") + "/"
        self._bucket, self._prefix = s3.parse_uri(self.uri)
        self._client: Any = s3.client()
        self._errors: Callable[[str], Any] = s3.s3_errors

    def manifest(self) -> bytes:
        """See `Source.manifest`."""
        try:
            with self._errors(self.uri):
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + MANIFEST)
                content: bytes = answer["Body"].read()
        except FileNotFoundError:
            raise BadInput(
                f"{self.uri}: expected a published version, received no {MANIFEST} there; "
                "pass the URI that export printed, s3://bucket/name/version/"
            ) from None
        return content

    def signature(self) -> bytes | None:
        """See `Source.signature`."""
        try:
            with self._errors(self.uri + SIGNATURE):
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + SIGNATURE)
                content: bytes = answer["Body"].read()
        except FileNotFoundError:
            return None
        return content

    def is_published(self) -> bool:
        """Whether the version is whole: without its manifest it was begun and never finished."""
        try:
            with self._errors(self.uri):
                self._client.head_object(Bucket=self._bucket, Key=self._prefix + MANIFEST)
        except FileNotFoundError:
            return False
        return True

    def fetch(self, path: str, target: Path) -> None:
        """See `Source.fetch`."""
        with self._errors(self.uri + path):
            self._client.download_file(self._bucket, self._prefix + path, str(target))
