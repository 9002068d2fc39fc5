"""Publishing of a model folder as an immutable, numbered version in an object store.

A version is published when its manifest is there, which names every file with size and sha256 and is written last.
Every object is written only if it is absent, and none is ever replaced or removed. The first one, the model's card,
claims the version: each object says in its metadata of which content it is a part, so that the next publisher knows
whether what is there, finished or not, is of its own content, which it may complete, or of another, which it must
leave alone. Of two publishers of one version, one therefore succeeds, and a killed one leaves nothing to be mixed up.
"""

import base64
import hashlib
import json
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..common.artifacts.model import CARD, WEIGHTS, read_card
from ..common.artifacts.published import EVALUATION_FOLDER, MANIFEST, File, Manifest, version_numbers
from ..common.artifacts.signing import SIGNATURE, UNSIGNED, SigningKey
from ..common.artifacts.validation import VALIDATION, Validation
from ..common.cli import BadInput
from ..common.files import files_below, sha256_of_file
from ..common.parallel import in_parallel
from ..common.progress import Advance, transfer
from ..common.store import s3
from ..common.store.small_objects import SMALL, SmallObjects

if TYPE_CHECKING:
    from botocore.client import BaseClient

_CONTENT = "trainyard-content"  # metadata of every object: digest of the content that it is a part of
_RACES = 100
_SECOND = 1.0  # to which the store tells times


class Taken(BadInput):
    """The version belongs to other content."""


@dataclass(frozen=True)
class Entry:
    """A file to publish, and where it is now."""

    file: File
    local: Path


@dataclass(frozen=True)
class ExportResult:
    """A published version: its URI (ends in '/'), files and bytes, and whether it was there already."""

    uri: str
    files: int
    bytes: int
    already: bool


def publish(
    model: Path,
    evaluation: Path | None,
    validation: Validation | None,
    bucket: str,
    name: str,
    version: int | None,
    started: float | None = None,
    signing_key: SigningKey | None = None,
) -> ExportResult:
    """Publish a model folder as `s3://bucket/name/version/`, with its evaluation and the validation of its data.

    Args:
        model: Model folder, as train writes it; no file in it may be empty.
        evaluation: Evaluation folder, published as `evaluation/`; None: without.
        validation: Of the data, published as `validation.json`; None: without.
        bucket: Made, private, when it is missing.
        name: The folder in the bucket.
        version: A positive integer. None: the newest one when it is of this very content, else the one after it.
        started: Monotonic time when the caller began; without a version, what others began to publish since then
            counts as published at the same time, and the same content gets one version. None: now.
        signing_key: Signs the version; None: it is published unsigned. A version that is there already, and unsigned,
            is signed then.

    Raises:
        BadInput: this is no model folder, or (Taken) the version is there with other content.
        PermissionError: the store refuses the credentials.
        ConnectionError: the store does not answer.
    """
    started = time.monotonic() if started is None else started
    with tempfile.TemporaryDirectory() as scratch:
        if validation:
            validation.write(Path(scratch))
        entries = collect(model, evaluation, Path(scratch) / VALIDATION if validation else None)
        return _publish(entries, bucket, name, version, started, signing_key)


def _publish(
    entries: list[Entry], bucket: str, name: str, version: int | None, started: float, key: SigningKey | None
) -> ExportResult:
    client = s3.client()
    s3.ensure_bucket(client, bucket)
    if version is not None:
        return _Publication(client, bucket, name, version, entries, key).publish()
    first = _newest_before(client, bucket, name, started)
    there = sorted(number for number in version_numbers(client, bucket, name) if number >= max(1, first))
    free = (there[-1] if there else 0) + 1
    for number in (*there, *range(free, free + _RACES)):  # each, so that of those of one content none passes another
        try:
            return _Publication(client, bucket, name, number, entries, key).publish()
        except Taken:
            continue  # the newest is of other content, or another publisher was faster
    raise RuntimeError(f"s3://{bucket}/{name}/: other publishers were faster {_RACES} times; run again")


def collect(model: Path, evaluation: Path | None, validation: Path | None = None) -> list[Entry]:
    """The files to publish, sorted by path, with their digests.

    Raises:
        BadInput: this is no model folder, a file is empty (KServe leaves those out) or has a reserved name.
    """
    read_card(model)
    files = {path.as_posix(): model / path for path in files_below(model)}
    reserved = [path for path in files if path in (*UNSIGNED, VALIDATION) or path.startswith(f"{EVALUATION_FOLDER}/")]
    if reserved:
        raise BadInput(f"--model: expected no {reserved[0]} in {model}, which publishing adds; remove it")
    if evaluation:
        files |= {f"{EVALUATION_FOLDER}/{path.as_posix()}": evaluation / path for path in files_below(evaluation)}
    if validation:
        files[VALIDATION] = validation
    for local in files.values():
        if not local.stat().st_size:
            raise BadInput(f"{local}: expected content, received an empty file, which KServe would not fetch")
    return [
        Entry(File(path, local.stat().st_size, sha256_of_file(local)), local) for path, local in sorted(files.items())
    ]


def _newest(client: "BaseClient", bucket: str, name: str) -> int:
    """The highest version below a name, published or begun; 0: none."""
    return next(iter(version_numbers(client, bucket, name)), 0)


def _newest_before(client: "BaseClient", bucket: str, name: str, started: float) -> int:
    """The highest version below a name that was begun before this publisher was, by the store's own clock; if all were
    begun later, the lowest; 0: none."""
    numbers = version_numbers(client, bucket, name)
    for number in numbers:
        key = f"{name}/{number}/{CARD}"
        try:
            with s3.s3_errors(f"s3://{bucket}/{key}"):
                card = client.head_object(Bucket=bucket, Key=key)
        except FileNotFoundError:  # begun by others, or with another tool
            return number
        now = parsedate_to_datetime(card["ResponseMetadata"]["HTTPHeaders"]["date"])
        if (now - card["LastModified"]).total_seconds() > time.monotonic() - started + _SECOND:
            return number
    return min(numbers, default=0)


class _Publication:
    """One content on its way to one version."""

    def __init__(
        self,
        client: "BaseClient",
        bucket: str,
        name: str,
        version: int,
        entries: list[Entry],
        signing_key: SigningKey | None = None,
    ) -> None:
        self._client = client
        self._signing_key = signing_key
        self._small_files = SmallObjects(client, "PutObject", bucket)
        self._bucket = bucket
        self._name = name
        self._version = version
        self._entries = {entry.file.path: entry for entry in entries}
        self._files = [entry.file for entry in entries]
        self._content = hashlib.sha256(json.dumps([asdict(file) for file in self._files]).encode()).hexdigest()
        self._bytes = sum(file.size for file in self._files)
        self._prefix = f"{name}/{version}/"
        self._uri = f"s3://{bucket}/{self._prefix}"

    def publish(self) -> ExportResult:
        """Publish, complete what was begun with the same content, or find it published.

        Raises:
            Taken: other content has this version.
        """
        there = self._sizes()
        if MANIFEST in there:
            return self._found()
        if there:
            self._make_sure_it_is_ours(CARD)
        self._upload_files()
        strangers = self._sizes().items() ^ {file.path: file.size for file in self._files}.items()
        for path, _ in sorted(strangers):
            if path not in UNSIGNED:
                raise self._taken(f"holds {path}, which is not of this model")
        self._sign()
        try:
            self._create(MANIFEST, Manifest(self._name, self._version, self._files).as_text().encode())
        except FileExistsError:  # by a publisher of the same content
            return self._found()
        return self._published(already=False)

    def _sign(self) -> None:
        """Add the signature, if there is none yet: each is made with random numbers, so that no two are equal."""
        if self._signing_key:
            digests = {file.path: file.sha256 for file in self._files}
            with suppress(FileExistsError):
                self._create(SIGNATURE, self._signing_key.sign(self._name, self._version, digests))

    def _upload_files(self) -> None:
        """Upload what is not there yet: the card first, which claims the version, last what those wait for who watch
        the store for models."""
        between = [entry for path, entry in self._entries.items() if path not in (CARD, *WEIGHTS)]
        with transfer("export", self._bytes) as advance:
            self._upload(self._entries[CARD], advance)
            in_parallel(lambda entry: self._upload(entry, advance), between)
            for path in WEIGHTS:
                if path in self._entries:
                    self._upload(self._entries[path], advance)

    def _upload(self, entry: Entry, advance: Advance) -> None:
        file = entry.file
        digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()  # the store compares it
        if not (file.size <= SMALL and self._upload_at_once(entry, digest)):
            try:
                with entry.local.open("rb") as body:
                    self._create(file.path, body, ChecksumSHA256=digest, Metadata={_CONTENT: self._content})
            except FileExistsError:
                self._make_sure_it_is_ours(file.path)
        advance(file.size)

    def _upload_at_once(self, entry: Entry, digest: str) -> bool:
        """Write an object that must not exist yet, and is small; whether it is known to have worked."""
        headers = {
            "If-None-Match": "*",
            "x-amz-checksum-sha256": digest,
            f"x-amz-meta-{_CONTENT}": self._content,
        }
        return self._small_files.put(self._prefix + entry.file.path, entry.local.read_bytes(), headers)

    def _create(self, path: str, body: bytes | BinaryIO, **options: Any) -> None:
        """Write an object that must not exist yet.

        Raises:
            FileExistsError: it does.
        """
        with s3.s3_errors(self._uri + path):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + path, Body=body, IfNoneMatch="*", **options)

    def _make_sure_it_is_ours(self, path: str) -> None:
        """An object that is there already was written for this very content."""
        try:
            with s3.s3_errors(self._uri + path):
                there = self._client.head_object(Bucket=self._bucket, Key=self._prefix + path)
        except FileNotFoundError:
            there = {"Metadata": {}}
        if there["Metadata"].get(_CONTENT) != self._content:
            raise self._taken("was begun with other content and never finished, or is being published now")

    def _found(self) -> ExportResult:
        """The version that is published already, if its content is ours."""
        body = s3.content(self._client, self._bucket, self._prefix + MANIFEST)
        try:
            same = Manifest.parse(body, self._uri).files == self._files
        except BadInput:
            same = False
        if not same:
            raise self._taken("is published with other content, and versions never change")
        self._sign()
        return self._published(already=True)

    def _published(self, already: bool) -> ExportResult:
        return ExportResult(self._uri, len(self._files), self._bytes, already)

    def _taken(self, why: str) -> Taken:
        free = max(_newest(self._client, self._bucket, self._name), self._version) + 1
        return Taken(f"{self._uri}: the version {why}; use --version next or {free}")

    def _sizes(self) -> dict[str, int]:
        """What is in the version now: path and size."""
        found = s3.sizes_below(self._client, self._bucket, self._prefix)
        return {key.removeprefix(self._prefix): size for key, size in found.items()}
