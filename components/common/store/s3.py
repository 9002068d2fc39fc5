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
from urllib.request import getproxies

from ..cli import BadInput
from ..proxies import is_this_machine, proxy_for, through_proxy

if TYPE_CHECKING:
    from botocore.client import BaseClient


class NoCredentials(PermissionError):
    """There are no credentials in this environment."""


class Refused(PermissionError):
    """The store refuses what these credentials, or none, ask for."""


ATTEMPTS = 5
_SMALL_BODY = 65_536  # bytes; fits what a connection buffers, so that an early refusal is still read
_NOT_FOUND = (FileNotFoundError, "there is no such object")
_NO_BUCKET = (FileNotFoundError, "there is no such bucket")
_REFUSED = (Refused, "the store denies access with {key}; check the key and its permissions")
_BAD_KEY = (PermissionError, "the store does not know {key}; check the key and {endpoint}")
_BAD_SECRET = (PermissionError, "AWS_SECRET_ACCESS_KEY does not match {key}; check both")
_EXPIRED = (PermissionError, "the credentials have expired; renew AWS_SESSION_TOKEN and its key")
_CLOCK = (PermissionError, "this machine's clock and the store's are too far apart; set the clock")
_EXISTS = (FileExistsError, "an object with this name exists")
_CHANGED = (OSError, "the content changed during the upload; run again")
_BUSY = (ConnectionError, "the store is overloaded, failing or out of disk space; check the store, or try again later")

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
"""What an S3 error code means to the caller: the exception, and what happened in plain words ({key}: the credentials,
{endpoint}: the variable that names the store)."""


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


def client(environment: Mapping[str, str] | None = None, anonymous: bool = False) -> "BaseClient":
    """A client for the store of this environment, or of the AWS variables in another one. Safe to share by threads.

    Five attempts; a store that nobody answers for is given up after some 15 s.

    Args:
        environment: The variables; None: those of this process, with profiles, roles and what else boto3 knows.
        anonymous: Whether to send no credentials, which public buckets allow.

    Raises:
        BadInput: a variable ends in white space, or AWS_ENDPOINT_URL is no URL.
    """
    _check_white_space(os.environ if environment is None else environment)
    made = _client(environment or {}, anonymous)
    if made.meta.config.proxies is None and getproxies() and proxy_for(made.meta.endpoint_url) is None:
        made = _client(environment or {}, anonymous, proxies={})
    made.meta.events.register_last("before-call.s3", _send_small_bodies_at_once)
    made.meta.events.register_first("needs-retry.s3", _give_up_certificates_at_once)
    for operation in ("GetObject", "HeadObject"):
        made.meta.events.register_first(f"needs-retry.s3.{operation}", _ask_again_where_headers_break_off)
    return made


def _ask_again_where_headers_break_off(response: Any, attempts: int, **_: Any) -> float | None:
    """Seconds until the next attempt: http.client takes headers for whole that a broken connection has cut off."""
    if response is None or response[0].status_code != 200:
        return None
    if {"content-length", "transfer-encoding"} & {name.lower() for name in response[0].headers}:
        return None
    if attempts >= ATTEMPTS:
        raise ConnectionError("the object store: its responses are incomplete; check the store, or try again later")
    return 0.5


def _client(variables: Mapping[str, str], anonymous: bool, **settings: Any) -> "BaseClient":
    import boto3
    from botocore import UNSIGNED
    from botocore.config import Config

    if anonymous:
        settings["signature_version"] = UNSIGNED
    config = Config(
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        connect_timeout=3,
        read_timeout=30,
        max_pool_connections=16,
        **settings,
    )
    try:
        with s3_errors("the object store"):
            return boto3.client(
                "s3",
                endpoint_url=variables.get("AWS_ENDPOINT_URL_S3") or variables.get("AWS_ENDPOINT_URL"),
                aws_access_key_id=variables.get("AWS_ACCESS_KEY_ID"),
                aws_secret_access_key=variables.get("AWS_SECRET_ACCESS_KEY"),
                region_name=variables.get("AWS_DEFAULT_REGION"),
                config=config,
            )
    except ValueError as error:
        raise BadInput(
            f"{_endpoint_variable()}: expected http(s)://host[:port], received something else ({error})"
        ) from error


def _check_white_space(variables: Mapping[str, str]) -> None:
    """A secret made with `echo` ends in a newline, with which no store knows it."""
    for name, value in variables.items():
        if name.startswith("AWS_") and value != value.strip():
            received = "a newline at its end" if value.endswith("\n") else "a space there"
            raise BadInput(
                f"{name}: expected a value without white space around it, received {received}; set it again "
                "(for a Kubernetes secret: kubectl create secret generic --from-literal)"
            )


def _send_small_bodies_at_once(params: dict[str, Any], **_: Any) -> None:
    """Leave `Expect: 100-continue` out, for which a store answers twice, where there is little to send in vain."""
    from botocore.utils import determine_content_length

    length = determine_content_length(params["body"])
    if length is not None and length <= _SMALL_BODY:
        params["headers"].pop("Expect", None)


def _give_up_certificates_at_once(caught_exception: BaseException | None, **_: Any) -> None:
    """Raise what no retry can help."""
    if caught_exception is not None and _is_certificate(caught_exception):
        raise caught_exception


def _is_certificate(error: BaseException) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _endpoint_variable() -> str:
    """The variable that names the store."""
    return "AWS_ENDPOINT_URL_S3" if os.environ.get("AWS_ENDPOINT_URL_S3") else "AWS_ENDPOINT_URL"


def _key() -> str:
    """The credentials that are used, in words."""
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return "the key in AWS_ACCESS_KEY_ID"
    if profile := os.environ.get("AWS_PROFILE"):
        return f"the key of AWS_PROFILE {profile}"
    return "the key that was found here (~/.aws, or the role of this machine)"


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
        raise kind(
            f"{where}: {meaning.replace('{key}', _key()).replace('{endpoint}', _endpoint_variable())}"
        ) from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
        raise NoCredentials(
            f"{where}: no credentials for the store; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from error
    except (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError) as error:
        raise _no_answer(where, error) from error
    except exceptions.ParamValidationError as error:
        raise BadInput(f"{where}: expected s3://bucket/key, received an invalid name ({error})") from error
    except exceptions.ProfileNotFound as error:
        raise BadInput(f"AWS_PROFILE: expected a configured profile, received another ({error}); unset it") from error
    except exceptions.BotoCoreError as error:
        raise OSError(f"{where}: {error}") from error


def _no_answer(where: str, error: Exception) -> OSError:
    """What to say of a store that nothing sensible came from."""
    text = str(error)
    if "Invalid header value" in text:  # which would tell the token
        return PermissionError(
            f"{where}: a credential holds characters that no header takes, as a line break; set it again"
        )
    if _is_certificate(error):
        reason = text.partition("CERTIFICATE_VERIFY_FAILED] certificate verify failed: ")[2].partition(" (_ssl")[0]
        return PermissionError(
            f"{where}: the store's certificate is not trusted here ({reason or 'it cannot be verified'}); name the "
            "file of its authority in AWS_CA_BUNDLE"
        )
    url = str(getattr(error, "kwargs", {}).get("endpoint_url") or os.environ.get(_endpoint_variable()) or "")
    advice = f"check {_endpoint_variable()}"
    if is_this_machine(urlsplit(url).hostname):
        advice += ", or trainyard store start"
    if proxy := through_proxy(url):
        advice += " and the proxy, or name the store's host in NO_PROXY"
    return ConnectionError(f"{where}: the store does not answer{proxy} ({text}); {advice}")


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


def sizes_below(client: "BaseClient", bucket: str, prefix: str, **options: str) -> dict[str, int]:
    """The objects below a prefix: key and bytes. Raises as `s3_errors` says."""
    pages = _pages(client, bucket, prefix, **options)
    return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}


def folders_below(client: "BaseClient", bucket: str, prefix: str) -> list[str]:
    """What looks like folders right below a prefix, each ending in '/'. Raises as `s3_errors` says."""
    pages = _pages(client, bucket, prefix, Delimiter="/")
    return [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]


def _pages(client: "BaseClient", bucket: str, prefix: str, **options: str) -> Iterator[dict[str, Any]]:
    with s3_errors(f"s3://{bucket}/{prefix}"):
        yield from client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **options)
