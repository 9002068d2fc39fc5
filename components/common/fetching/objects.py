"""Objects in an S3-compatible store: one, or all below a prefix."""

import io
from functools import partial
from typing import TYPE_CHECKING, Any

from ..cli import BadInput
from ..store import s3
from ..store.small_objects import SMALL, SmallObjects
from .archives import Readable
from .streams import ListedFile, OpenFile, Resuming

if TYPE_CHECKING:
    from botocore.client import BaseClient


def open_object(uri: str, client: "BaseClient | None" = None) -> OpenFile:
    """Open one object; its stream resumes after a broken connection.

    Raises:
        BadInput: there is no such object or bucket.
        PermissionError: the store refuses the credentials.
        ConnectionError: the store does not answer.
    """
    bucket, key = s3.parse_uri(uri)
    client = client or s3.client()

    def get(**condition: str) -> dict[str, Any]:
        with s3.s3_errors(uri):
            return client.get_object(Bucket=bucket, Key=key, **condition)

    try:
        first = get()
    except FileNotFoundError as error:
        raise BadInput(f"--source: {error}; correct it, or end it in '/' for all objects below it") from error

    def open_at(offset: int) -> Readable:
        try:
            response = get(Range=f"bytes={offset}-", IfMatch=first["ETag"])
        except FileExistsError as error:
            raise RuntimeError(f"{uri}: was replaced while it was fetched; run again") from error
        return _Body(uri, response["Body"])

    size = first["ContentLength"]
    return OpenFile(key.rpartition("/")[2], size, Resuming(uri, open_at, size, _Body(uri, first["Body"])))


def list_objects(uri: str) -> list[ListedFile]:
    """The objects below a prefix, which ends in '/'.

    Raises:
        BadInput: there is no such bucket.
    """
    bucket, prefix = s3.parse_uri(uri)
    client = s3.client()
    try:
        found = s3.sizes_below(client, bucket, prefix)
    except FileNotFoundError as error:
        raise BadInput(f"--source: {error}; correct it") from error
    small_objects = SmallObjects(client, "GetObject", bucket)
    return [
        ListedFile(key.removeprefix(prefix), size, partial(_open_listed, client, small_objects, bucket, key, size))
        for key, size in found.items()
        if not key.endswith("/")  # some tools mark folders by empty objects
    ]


def _open_listed(client: "BaseClient", small_objects: SmallObjects, bucket: str, key: str, size: int) -> OpenFile:
    content = small_objects.get(key, size) if size <= SMALL else None
    if content is None:
        return open_object(f"s3://{bucket}/{key}", client)
    return OpenFile(key.rpartition("/")[2], size, io.BytesIO(content))


class _Body:
    """An object's bytes, with the store's errors in Python's terms."""

    def __init__(self, uri: str, body: Any) -> None:
        self._uri = uri
        self._body = body

    def read(self, size: int, /) -> bytes:
        with s3.s3_errors(self._uri):
            return self._body.read(size)
