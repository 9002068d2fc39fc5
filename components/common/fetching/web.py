"""A file on the web, fetched over HTTP(S), through the proxies that the environment names."""

import base64
import binascii
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from http import HTTPStatus
from http.client import HTTPMessage, HTTPResponse, InvalidURL
from pathlib import PurePosixPath
from typing import IO
from urllib.parse import SplitResult, quote, unquote, urlsplit

from ..cli import BadInput, shown
from ..files import ARCHIVES
from ..proxies import Proxies, through_proxy
from .archives import CHUNK, OTHERS, Readable
from .streams import Busy, OpenFile, Resuming, digest_size, persist

_SECONDS = 15.0  # to connect, and between two bytes
_PORTS = {"http": 80, "https": 443}
_MAY_PASS = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_DATA = (*ARCHIVES, *OTHERS, ".npz", ".npy", ".gz", ".parquet", ".arrow", ".csv", ".tsv", ".jsonl")
_LONGEST_WAIT = 120.0  # seconds that a busy server may ask for
_STORED_ENCODING = "x-goog-stored-content-encoding"
"""Where Google Cloud Storage undoes a compression on the way, its checksum is that of the compressed file."""
_CHECKSUMS = (
    ("x-amz-checksum-sha256", "sha256", r"^([\w+/]+=*)$"),  # of several parts it ends in their number
    ("Repr-Digest", "sha256", r"\bsha-256=:([\w+/]+=*):"),
    ("Content-Digest", "sha256", r"\bsha-256=:([\w+/]+=*):"),
    ("Digest", "sha256", r"\bsha-256=([\w+/]+=*)"),
    ("X-Checksum-Sha256", "sha256", r"^([0-9a-f]+)$"),  # Artifactory
    ("Repr-Digest", "sha512", r"\bsha-512=:([\w+/]+=*):"),
    ("Content-Digest", "sha512", r"\bsha-512=:([\w+/]+=*):"),
    ("Digest", "sha512", r"\bsha-512=([\w+/]+=*)"),
    ("Content-MD5", "md5", r"^([\w+/]+=*)$"),
    ("x-goog-hash", "md5", r"\bmd5=([\w+/]+=*)"),
    ("Digest", "md5", r"\bmd5=([\w+/]+=*)"),
    ("x-amz-checksum-sha1", "sha1", r"^([\w+/]+=*)$"),
    ("Digest", "sha1", r"\bsha=([\w+/]+=*)"),
    ("x-amz-checksum-crc32", "crc32", r"^([\w+/]+=*)$"),
)
"""Header, algorithm and pattern, the best algorithm first. CRC-32C and CRC-64/NVME are not in the standard library."""
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)


def open_url(url: str, hosts: Sequence[str] = ()) -> OpenFile:
    """Open a file on the web; its stream resumes after a broken connection.

    It is called what the server calls it (Content-Disposition), or else as the end of its final URL. Redirects are
    followed to http(s) alone, a few times; credentials go to no other host than that of the URL.

    Args:
        url: May hold user and password.
        hosts: The only hosts that it and redirects may name, `*` for any part; none: any.

    Raises:
        BadInput: this is no URL, there is no such file, or a host is not among those.
        PermissionError: the server wants credentials, or others.
        ConnectionError: the server does not answer.
    """
    where = without_secrets(url)
    opener = urllib.request.build_opener(Proxies(), _Redirects(hosts))
    _check_host(_parts(url), hosts)
    first = persist(where, lambda: _get(opener, url))
    version = _version(first)

    def open_at(offset: int) -> Readable:
        response = _get(opener, url, offset, version)
        if not _begins_at(response, offset):
            response = _get(opener, url)
        if _version(response, offset) != version:
            raise RuntimeError(f"{where}: was replaced while it was fetched; run again")
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            _skip(response, offset)  # the server sends it from its start
        return response

    stream = Resuming(where, open_at, first.length, first)
    media_type, encoding = (first.headers.get(name, "") for name in ("Content-Type", "Content-Encoding"))
    media_type = media_type.partition(";")[0].strip()
    checksum = None if encoding else _checksum(first.headers)
    return OpenFile(_name(url, first), first.length, stream, media_type, encoding, checksum)


def without_secrets(url: str) -> str:
    """A URL for logs and records: without user, password and query, in which presigned URLs carry their signature."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("://")[0] + "://..."
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects to http(s) and allowed hosts alone."""

    max_redirections = 5

    def __init__(self, hosts: Sequence[str]) -> None:
        self._hosts = hosts

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        parts = _parts(newurl)
        if parts.scheme not in _PORTS:
            raise BadInput(
                f"--source: expected a redirect to http(s), {without_secrets(req.full_url)} redirects to "
                f"{shown(parts.scheme)}; correct the URL"
            )
        _check_host(parts, self._hosts)
        anonymous = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        request = super().redirect_request(req, fp, code, msg, headers, anonymous.geturl())
        if request and anonymous[:2] == urlsplit(req.full_url)[:2] and (user := req.get_header("Authorization")):
            request.add_unredirected_header("Authorization", user)
        return request


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(quote(url, safe=":/?#[]@!$&'()*+,;=%~"))
        known = bool(parts.hostname) and parts.port != 0  # a port that is no number raises ValueError
    except ValueError:
        known = False
    if known:
        return parts
    raise BadInput(f"--source: expected a URL, received {shown(without_secrets(url))}; correct it")


def _check_host(parts: SplitResult, hosts: Sequence[str]) -> None:
    name = str(parts.hostname)
    if parts.port and parts.port != _PORTS.get(parts.scheme):
        name = f"{name}:{parts.port}"
    if hosts and not any(fnmatchcase(name, host) for host in hosts):
        raise BadInput(f"--allow-host: expected a URL or redirect to {', '.join(hosts)}, received one to {shown(name)}")


def _get(
    opener: urllib.request.OpenerDirector, url: str, offset: int = 0, version: str | int | None = None
) -> HTTPResponse:
    where = without_secrets(url)
    try:
        parts = _parts(url)
        user, _, host = parts.netloc.rpartition("@")
        request = urllib.request.Request(parts._replace(netloc=host).geturl(), headers={"User-Agent": "trainyard"})
        if user:  # unredirected: meant for this host alone
            credentials = base64.b64encode(unquote(user).encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {credentials}")
        if offset:
            request.add_header("Range", f"bytes={offset}-")
            if isinstance(version, str):
                request.add_header("If-Range", version)
        response: HTTPResponse = opener.open(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
            return _get(opener, url)
        if error.code < HTTPStatus.BAD_REQUEST:  # its reason tells a URL
            raise BadInput(
                f"--source: expected a file at {where}, the server redirects too often or to what is not http(s); "
                "correct the URL"
            ) from error
        answer = f"the server answers {error.code} {error.reason}{through_proxy(url)}"
        if error.code in _MAY_PASS or error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _busy(where, answer, error.headers.get("Retry-After", "")) from error
        if error.code in _REFUSED:
            raise PermissionError(f"{where}: {answer}; check that the source may be read from here") from error
        raise BadInput(f"--source: expected a file at {where}, {answer}; correct the URL") from error
    except urllib.error.URLError as error:
        raise _no_answer(url, error.reason) from error
    except (InvalidURL, ValueError) as error:  # which tell the URL
        raise BadInput(f"--source: expected a URL, received {shown(where)}; correct it") from error
    if response.status == HTTPStatus.ACCEPTED or (response.status == HTTPStatus.PARTIAL_CONTENT and not offset):
        raise ConnectionError(f"the server answers {response.status} {response.reason} in place of the whole file")
    return response


def _busy(where: str, answer: str, retry_after: str) -> OSError:
    """What to raise for a server that may do better later, which may say when: in seconds, or as a date."""
    seconds = 0.0
    with suppress(ValueError, OverflowError):
        seconds = float(retry_after) if retry_after.isdecimal() else _seconds_until(retry_after)
    if seconds > _LONGEST_WAIT:
        return OSError(f"{where}: {answer} and asks to wait {seconds:,.0f} s; run again then")
    return Busy(answer, seconds)


def _seconds_until(date: str) -> float:
    return parsedate_to_datetime(date).timestamp() - time.time()


def _begins_at(response: HTTPResponse, offset: int) -> bool:
    """Whether an answer holds the file from this offset, or whole: some servers send other parts than asked for."""
    if response.status != HTTPStatus.PARTIAL_CONTENT:
        return True
    return response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")


def _no_answer(url: str, reason: str | BaseException) -> OSError:
    if isinstance(reason, ssl.SSLCertVerificationError):  # no retry can help
        return PermissionError(
            f"{without_secrets(url)}: the server's certificate is not trusted here ({reason.verify_message}); name the "
            "file of its authority in SSL_CERT_FILE"
        )
    return ConnectionError(f"the server does not answer{through_proxy(url)} ({reason})")


def _version(response: HTTPResponse, offset: int = 0) -> str | int | None:
    """What tells this content from another one of the same URL: a validator of the server, or else the whole size."""
    tag = response.headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
    if validator or response.length is None:
        return validator
    return response.length + (offset if response.status == HTTPStatus.PARTIAL_CONTENT else 0)


def _checksum(headers: HTTPMessage) -> tuple[str, bytes] | None:
    """The first checksum of a whole file in the headers of an answer; see `OpenFile`."""
    if headers.get(_STORED_ENCODING, "identity") != "identity":
        return None
    for name, algorithm, pattern in _CHECKSUMS:
        for value in headers.get_all(name, []):
            if found := re.search(pattern, value, re.IGNORECASE):
                with suppress(binascii.Error):
                    is_hex = re.fullmatch("[0-9a-f]+", found[1]) and len(found[1]) == 2 * digest_size(algorithm)
                    digest = bytes.fromhex(found[1]) if is_hex else base64.b64decode(found[1], validate=True)
                    if len(digest) == digest_size(algorithm):
                        return algorithm, digest
    return None


def _skip(response: HTTPResponse, count: int) -> None:
    while count:
        data = response.read(min(count, CHUNK))
        if not data:
            raise ConnectionError("the connection ended again, and earlier")
        count -= len(data)


def _name(url: str, response: HTTPResponse) -> str:
    """What the server calls the file, or else the end of its final URL or of that which was asked for: the first of
    these that ends as data does, or else the first."""
    said = response.headers.get_filename() or ""
    with suppress(UnicodeError):
        said = said.encode("latin-1").decode()  # headers are Latin-1 to Python, names in them UTF-8
    paths = (said.replace("\\", "/"), unquote(urlsplit(response.url).path), unquote(urlsplit(url).path))
    names = [name for path in paths if (name := PurePosixPath(path).name) not in ("", "..")]
    return next((name for name in names if name.lower().endswith(_DATA)), names[0] if names else "data")
