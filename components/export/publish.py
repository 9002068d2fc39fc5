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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..common.artifacts.model import CARD, read_card
from ..common.cli import BadInput
from ..common.files import files_below, sha256_of_file
from ..common.parallel import in_parallel
from ..common.progress import Advance, transfer
from ..common.store import s3
from ..common.store.small_objects import SMALL, Series

if TYPE_CHECKING:
    from botocore.client import BaseClient

MANIFEST = "manifest.json"
EVALUATION = "evaluation"
SERVED = "1/saved_model.pb"  # whoever watches the store for models waits for it
_CONTENT = "trainyard-content"  # metadata of every object: digest of the content that it is a part of
_RACES = 100


class Taken(BadInput):
    """The version belongs to other content."""


@dataclass(frozen=True)
class Entry:
    """A file to publish: its path in the version, and what it is."""

    path: str
    file: Path
    size: int
    sha256: str

    def described(self) -> dict[str, str | int]:
        """The file in the manifest."""
        return {"path": self.path, "size": self.size, "sha256": self.sha256}


@dataclass(frozen=True)
class Published:
    """A published version: its URI (ends in '/'), files and bytes, and whether it was there already."""

    uri: str
    files: int
    bytes: int
    already: bool


def publish(model: Path, evaluation: Path | None, bucket: str, name: str, version: int | None) -> Published:
    """Publish a model folder as `s3://bucket/name/version/`, with its evaluation in it.

    Args:
        model: Model folder, as train writes it; no file in it may be empty.
        evaluation: Evaluation folder, published as `evaluation/`; None: without.
        bucket: Made, private, when it is missing.
        name: The folder in the bucket.
        version: A positive integer. None: the newest one when it is of this very content, else the one after it.

    Raises:
        BadInput: this is no model folder, or (Taken) the version is there with other content.
        PermissionError: the store refuses the credentials.
        ConnectionError: the store does not answer.
    """
    entries = collect(model, evaluation)
    client = s3.client()
    s3.ensure_bucket(client, bucket)
    if version is not None:
        return _Publication(client, bucket, name, version, entries).publish()
    for _ in range(_RACES):
        newest = newest_version(client, bucket, name)
        for number in (newest, newest + 1) if newest else (1,):
            try:
                return _Publication(client, bucket, name, number, entries).publish()
            except Taken:
                continue  # the newest is of other content, or another publisher was faster
    raise RuntimeError(f"s3://{bucket}/{name}/: other publishers were faster {_RACES} times; run again")


def collect(model: Path, evaluation: Path | None) -> list[Entry]:
    """The files to publish, sorted by path, with their digests.

    Raises:
        BadInput: this is no model folder, a file is empty (KServe leaves those out) or has a reserved name.
    """
    read_card(model)
    files = {path.as_posix(): model / path for path in files_below(model)}
    reserved = [path for path in files if path == MANIFEST or path.startswith(f"{EVALUATION}/")]
    if reserved:
        raise BadInput(f"--model: expected no {reserved[0]} in {model}, which publishing adds; remove it")
    if evaluation:
        files |= {f"{EVALUATION}/{path.as_posix()}": evaluation / path for path in files_below(evaluation)}
    entries = [Entry(path, file, file.stat().st_size, sha256_of_file(file)) for path, file in sorted(files.items())]
    for entry in entries:
        if not entry.size:
            raise BadInput(f"{entry.file}: expected content, received an empty file, which KServe would not fetch")
    return entries


def newest_version(client: "BaseClient", bucket: str, name: str) -> int:
    """The highest version below a name, published or begun; 0: none."""
    prefix = f"{name}/"
    with s3.s3_errors(f"s3://{bucket}/{prefix}"):
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
        folders = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]
    numbers = [folder.removeprefix(prefix).rstrip("/") for folder in folders]
    return max((int(number) for number in numbers if number.isascii() and number.isdigit()), default=0)


class _Publication:
    """One content on its way to one version."""

    def __init__(self, client: "BaseClient", bucket: str, name: str, version: int, entries: list[Entry]) -> None:
        self._client = client
        self._small_files = Series(client, "PutObject", bucket)
        self._bucket = bucket
        self._name = name
        self._version = version
        self._entries = {entry.path: entry for entry in entries}
        self._files = [entry.described() for entry in entries]
        self._content = hashlib.sha256(json.dumps(self._files).encode()).hexdigest()
        self._prefix = f"{name}/{version}/"
        self._uri = f"s3://{bucket}/{self._prefix}"

    def publish(self) -> Published:
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
        strangers = self._sizes().items() ^ {entry.path: entry.size for entry in self._entries.values()}.items()
        for path, _ in sorted(strangers):
            if path != MANIFEST:
                raise self._taken(f"holds {path}, which is not of this model")
        manifest = {"format": 1, "name": self._name, "version": self._version, "files": self._files}
        try:
            self._create(MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
        except FileExistsError:  # by a publisher of the same content
            return self._found()
        return self._published(already=False)

    def _upload_files(self) -> None:
        """Upload what is not there yet: the card first, which claims the version, the served file last."""
        between = [entry for path, entry in self._entries.items() if path not in (CARD, SERVED)]
        with transfer("export", sum(entry.size for entry in self._entries.values())) as advance:
            self._upload(self._entries[CARD], advance)
            in_parallel(lambda entry: self._upload(entry, advance), between)
            self._upload(self._entries[SERVED], advance)

    def _upload(self, entry: Entry, advance: Advance) -> None:
        digest = base64.b64encode(bytes.fromhex(entry.sha256)).decode()  # the store compares it
        if not (entry.size <= SMALL and self._upload_at_once(entry, digest)):
            try:
                with entry.file.open("rb") as body:
                    self._create(entry.path, body, ChecksumSHA256=digest, Metadata={_CONTENT: self._content})
            except FileExistsError:
                self._make_sure_it_is_ours(entry.path)
        advance(entry.size)

    def _upload_at_once(self, entry: Entry, digest: str) -> bool:
        """Write an object that must not exist yet, and is small; whether it is known to have worked."""
        headers = {
            "If-None-Match": "*",
            "x-amz-checksum-sha256": digest,
            f"x-amz-meta-{_CONTENT}": self._content,
        }
        return self._small_files.put(self._prefix + entry.path, entry.file.read_bytes(), headers)

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

    def _found(self) -> Published:
        """The version that is published already, if its content is ours."""
        with s3.s3_errors(self._uri + MANIFEST):
            body = self._client.get_object(Bucket=self._bucket, Key=self._prefix + MANIFEST)["Body"].read()
        try:
            files = json.loads(body)["files"]
        except (ValueError, KeyError, TypeError):
            files = None
        if files != self._files:
            raise self._taken("is published with other content, and versions never change")
        return self._published(already=True)

    def _published(self, already: bool) -> Published:
        size = sum(entry.size for entry in self._entries.values())
        return Published(self._uri, len(self._entries), size, already)

    def _taken(self, why: str) -> Taken:
        free = max(newest_version(self._client, self._bucket, self._name), self._version) + 1
        return Taken(f"{self._uri}: the version {why}; use --version next or {free}")

    def _sizes(self) -> dict[str, int]:
        """What is in the version now: path and size."""
        with s3.s3_errors(self._uri):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            found = [item for page in pages for item in page.get("Contents", [])]
        return {item["Key"].removeprefix(self._prefix): item["Size"] for item in found}
