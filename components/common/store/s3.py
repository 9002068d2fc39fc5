"""The object store, as every step speaks to it: one client, one form of URI, one table of errors.

Endpoint and credentials come from the standard AWS chain alone (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION, profiles, roles), so that one setting serves Trainyard, KServe and the
AWS CLI alike.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..cli import BadInput

if TYPE_CHECKING:
    from botocore.client import BaseClient

_SMALL_BODY = 65_536  # bytes; fits what a connection buffers, so that an early refusal is still read
_NOT_FOUND = (FileNotFoundError, "there is no such object")
_NO_BUCKET = (FileNotFoundError, "there is no such bucket")
_REFUSED = (PermissionError, "the store refuses access with the key in AWS_ACCESS_KEY_ID; check it and what it may do")
_BAD_KEY = (PermissionError, "the store does not know the key in AWS_ACCESS_KEY_ID; check it and AWS_ENDPOINT_URL")
_BAD_SECRET = (PermissionError, "AWS_SECRET_ACCESS_KEY does not fit AWS_ACCESS_KEY_ID; check both")
_EXPIRED = (PermissionError, "the credentials have expired; renew AWS_SESSION_TOKEN and the key that came with it")
_CLOCK = (PermissionError, "this machine's clock and the store's are too far apart; set the clock")
_EXISTS = (FileExistsError, "there is an object of this name already")
_CHANGED = (OSError, "the content changed while it was sent; run again")
_BUSY = (ConnectionError, "the store is overloaded, out of order or its disk is full; look at it, or try again later")

EXCEPTIONS: dict[str, tuple[type[OSError], str]] = {
    "NoSuchKey": _NOT_FOUND,
    "404": _NOT_FOUND,
    "NoSuchBucket": _NO_BUCKET,
    "AccessDenied": _REFUSED,
    "AllAccessDisabled": _REFUSED,
    "403": _REFUSED,
    "401": _REFUSED,
    "InvalidAccessKeyId": _BAD_KEY,
    "SignatureDoesNotMatch": _BAD_SECRET,
    "ExpiredToken": _EXPIRED,
    "InvalidToken": _EXPIRED,
    "RequestTimeTooSkewed": _CLOCK,
    "PreconditionFailed": _EXISTS,
    "412": _EXISTS,
    "BadDigest": _CHANGED,
    "XAmzContentChecksumMismatch": _CHANGED,
    "SlowDown": _BUSY,
    "ServiceUnavailable": _BUSY,
    "InternalError": _BUSY,
    "RequestTimeout": _BUSY,
    "OperationAborted": _BUSY,
    "ConditionalRequestConflict": _BUSY,
    "500": _BUSY,
    "502": _BUSY,
    "503": _BUSY,
    "504": _BUSY,
}
"""What an S3 error code means to the caller: the exception, and what happened in plain words."""


def parse_uri(uri: str) -> tuple[str, str]:
    """Split `s3://bucket/some/key` into bucket and key (which may be empty).

    Raises:
        BadInput: it is no such URI.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise BadInput(f"expected s3://bucket/key, received {uri!r}")
    return bucket, key


def client(environment: Mapping[str, str] | None = None) -> "BaseClient":
    """A client for the store of this environment, or of the AWS variables in another one. Safe to share by threads.

    Five attempts; a store that nobody answers for is given up after some 15 s.

    Raises:
        BadInput: AWS_ENDPOINT_URL is no URL.
    """
    import boto3
    from botocore.config import Config

    variables = environment or {}
    endpoint = variables.get("AWS_ENDPOINT_URL")
    settings: dict[str, Any] = {
        "retries": {"mode": "standard", "total_max_attempts": 5},
        "connect_timeout": 3,
        "read_timeout": 30,
        "max_pool_connections": 16,
    }
    if _is_this_machine(endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")):
        settings["proxies"] = {}  # a company's proxy cannot reach it
    try:
        with s3_errors("the object store"):
            made = boto3.client(
                "s3",
                endpoint_url=endpoint,
                aws_access_key_id=variables.get("AWS_ACCESS_KEY_ID"),
                aws_secret_access_key=variables.get("AWS_SECRET_ACCESS_KEY"),
                region_name=variables.get("AWS_DEFAULT_REGION"),
                config=Config(**settings),
            )
    except ValueError as error:
        raise BadInput(
            f"AWS_ENDPOINT_URL: expected http(s)://host[:port], received something else ({error})"
        ) from error
    made.meta.events.register_last("before-call.s3", _send_small_bodies_at_once)
    return made


def _send_small_bodies_at_once(params: dict[str, Any], **_: Any) -> None:
    """Leave `Expect: 100-continue` out, for which a store answers twice, where there is little to send in vain."""
    from botocore.utils import determine_content_length

    length = determine_content_length(params["body"])
    if length is not None and length <= _SMALL_BODY:
        params["headers"].pop("Expect", None)


def _is_this_machine(endpoint: str | None) -> bool:
    return urlsplit(endpoint or "").hostname in ("127.0.0.1", "localhost", "::1")


@contextmanager
def s3_errors(where: str) -> Iterator[None]:
    """Turn the store's errors into Python's own, with a message that starts with `where`.

    Raises:
        FileNotFoundError: no such object or bucket.
        FileExistsError: a create-only write found the object there.
        PermissionError: missing or refused credentials.
        ConnectionError: the store does not answer, or not sensibly.
        BadInput: a bucket or key that cannot be, or AWS_PROFILE names no profile.
    """
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        details = error.response.get("Error", {})
        code = str(details.get("Code", ""))
        kind, meaning = EXCEPTIONS.get(code, (OSError, f"the store answers {code}: {details.get('Message', '')}"))
        raise kind(f"{where}: {meaning}") from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise PermissionError(
            f"{where}: no credentials for the store; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    except (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError) as error:
        here = _is_this_machine(os.environ.get("AWS_ENDPOINT_URL"))
        advice = "check AWS_ENDPOINT_URL" + (", or trainyard store start" if here else "")
        raise ConnectionError(f"{where}: the store does not answer ({error}); {advice}") from error
    except exceptions.ParamValidationError as error:
        raise BadInput(f"{where}: expected s3://bucket/key, received a name that no store knows ({error})") from error
    except exceptions.ProfileNotFound as error:
        raise BadInput(f"AWS_PROFILE: expected a configured profile, received another ({error}); unset it") from error
    except exceptions.BotoCoreError as error:
        raise OSError(f"{where}: {error}") from error


def ensure_bucket(client: "BaseClient", bucket: str) -> None:
    """Make a bucket, private, when it is missing."""
    where = f"s3://{bucket}/"
    try:
        with s3_errors(where):
            client.list_objects_v2(Bucket=bucket, MaxKeys=1)  # head_bucket would not say why it fails
    except FileNotFoundError:
        region = client.meta.region_name
        placed = {} if region in (None, "us-east-1", "aws-global") else {"LocationConstraint": region}
        options = {"CreateBucketConfiguration": placed} if placed else {}
        with s3_errors(where), suppress(client.exceptions.BucketAlreadyOwnedByYou):  # somebody was faster
            client.create_bucket(Bucket=bucket, **options)


def content(client: "BaseClient", bucket: str, key: str) -> bytes:
    """An object's content. Raises as `s3_errors` says."""
    with s3_errors(f"s3://{bucket}/{key}"):
        read: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return read


def sizes_below(client: "BaseClient", bucket: str, prefix: str) -> dict[str, int]:
    """The objects below a prefix: key and bytes. Raises as `s3_errors` says."""
    return {item["Key"]: item["Size"] for page in _pages(client, bucket, prefix) for item in page.get("Contents", [])}


def folders_below(client: "BaseClient", bucket: str, prefix: str) -> list[str]:
    """What looks like folders right below a prefix, each ending in '/'. Raises as `s3_errors` says."""
    pages = _pages(client, bucket, prefix, Delimiter="/")
    return [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]


def _pages(client: "BaseClient", bucket: str, prefix: str, **options: str) -> Iterator[dict[str, Any]]:
    with s3_errors(f"s3://{bucket}/{prefix}"):
        yield from client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **options)
