"""Objects in an S3-compatible store: one, or all below a prefix."""

import io
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..cli import BadInput
from ..store import s3
from ..store.small_objects import SMALL, SmallObjects
from .archives import Readable
from .streams import ListedFile, OpenFile, Resuming

if TYPE_CHECKING:
    from botocore.client import BaseClient

Result = TypeVar("Result")


@dataclass(frozen=True)
class Access:
    """How objects are read.

    Attributes:
        anonymous: Whether to send no credentials, which public buckets allow. Where there are none, none are sent.
        requester_pays: Whether the caller's account pays for the transfer, as some buckets want it.
    """

    anonymous: bool = False
    requester_pays: bool = False

    @property
    def options(self) -> dict[str, str]:
        """What a request has to say."""
        return {"RequestPayer": "requester"} if self.requester_pays else {}

    def first(self, request: Callable[["BaseClient"], Result]) -> tuple["BaseClient", Result]:
        """Make the first request, without credentials where there are none; the client that made it, and the answer.

        Raises:
            OSError: see `s3_errors`.
        """
        client = s3.client(anonymous=self.anonymous)
        try:
            return client, request(client)
        except s3.NoCredentials:
            with suppress(PermissionError):
                client = s3.client(anonymous=True)
                return client, request(client)
            raise
        except s3.Refused as error:
            advice = [] if self.anonymous else ["for a public bucket, pass --anonymous true"]
            advice += [] if self.requester_pays else ["where the reader pays, pass --requester-pays true"]
            raise PermissionError("; ".join([str(error), *advice])) from error


def open_object(uri: str, access: Access = Access(), client: "BaseClient | None" = None) -> OpenFile:
    """Open one object; its stream resumes after a broken connection.

    Args:
        uri: s3://bucket/key.
        access: How it is read.
        client: To read it with; None: one of its own.

    Raises:
        BadInput: there is no such object or bucket.
        PermissionError: the store refuses the credentials.
        ConnectionError: the store does not answer.
    """
    bucket, key = s3.parse_uri(uri)

    def get(client: "BaseClient", **condition: str) -> dict[str, Any]:
        with s3.s3_errors(uri):
            return client.get_object(Bucket=bucket, Key=key, **access.options, **condition)

    try:
        known, first = (client, get(client)) if client else access.first(get)
    except FileNotFoundError as error:
        raise BadInput(f"--source: {error}; correct it, or end it in '/' for all objects below it") from error

    def open_at(offset: int) -> Readable:
        try:
            response = get(known, Range=f"bytes={offset}-", IfMatch=first["ETag"])
        except FileExistsError as error:
            raise RuntimeError(f"{uri}: was replaced while it was fetched; run again") from error
        return _Body(uri, response["Body"])

    size = first["ContentLength"]
    stream = Resuming(uri, open_at, size, _Body(uri, first["Body"]))
    encoding = first.get("ContentEncoding", "")
    return OpenFile(key.rpartition("/")[2], size, stream, first.get("ContentType", ""), encoding)


def list_objects(uri: str, access: Access = Access()) -> list[ListedFile]:
    """The objects below a prefix, which ends in '/'.

    Raises:
        BadInput: there is no such bucket.
    """
    bucket, prefix = s3.parse_uri(uri)
    try:
        client, found = access.first(lambda client: s3.sizes_below(client, bucket, prefix, **access.options))
    except FileNotFoundError as error:
        raise BadInput(f"--source: {error}; correct it") from error
    folders = _folders_of(found)
    files = {key: size for key, size in found.items() if not _marks_a_folder(key, size, folders)}
    if both := next((key for key in files if key in folders), None):
        raise BadInput(
            f"--source: expected a file or a folder, received both as s3://{bucket}/{both}; rename or remove the object"
        )
    small_objects = None if access.requester_pays else SmallObjects(client, "GetObject", bucket)
    return [
        ListedFile(
            key.removeprefix(prefix), size, partial(_open_listed, client, access, small_objects, bucket, key, size)
        )
        for key, size in files.items()
    ]


def _folders_of(keys: Iterable[str]) -> set[str]:
    folders: set[str] = set()
    for key in keys:
        folder = key.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return folders


def _marks_a_folder(key: str, size: int, folders: set[str]) -> bool:
    """Whether some tool marks a folder by this object, which is empty and called `folder/`, `folder` or
    `folder_$folder$`."""
    return key.endswith("/") or (not size and (key.endswith("_$folder$") or key in folders))


def _open_listed(
    client: "BaseClient", access: Access, small_objects: SmallObjects | None, bucket: str, key: str, size: int
) -> OpenFile:
    content = small_objects.get(key, size) if small_objects and size <= SMALL else None
    if content is None:
        return open_object(f"s3://{bucket}/{key}", access, client)
    return OpenFile(key.rpartition("/")[2], size, io.BytesIO(content))


class _Body:
    """An object's bytes, with the store's errors in Python's terms."""

    def __init__(self, uri: str, body: Any) -> None:
        self._uri = uri
        self._body = body

    def read(self, size: int, /) -> bytes:
        with s3.s3_errors(self._uri):
            return self._body.read(size)
