"""A file on the web, fetched over HTTP(S), through the proxies that the environment names."""

import base64
import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPResponse, InvalidURL
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urlsplit

from ..cli import BadInput
from .archives import CHUNK, Readable
from .streams import OpenFile, Resuming, persist

_SECONDS = 15.0  # to connect, and between two bytes
_MAY_PASS = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)


def open_url(url: str) -> OpenFile:
    """Open a file on the web; its stream resumes after a broken connection.

    It is called what the server calls it (Content-Disposition), or else as the end of its URL.

    Raises:
        BadInput: this is no URL, or there is no such file.
        PermissionError: the server wants credentials, or others.
        ConnectionError: the server does not answer.
    """
    where = without_secrets(url)
    first = persist(where, lambda: _get(url))
    version = _version(first)

    def open_at(offset: int) -> Readable:
        response = _get(url, offset, version)
        if _version(response, offset) != version:
            raise RuntimeError(f"{where}: was replaced while it was fetched; run again")
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            _skip(response, offset)  # the server sends it from its start
        return response

    return OpenFile(_name(url, first), first.length, Resuming(where, open_at, first.length, first))


def without_secrets(url: str) -> str:
    """A URL for logs and records: without user, password and query, in which presigned URLs carry their signature."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _get(url: str, offset: int = 0, version: str | int | None = None) -> HTTPResponse:
    where = without_secrets(url)
    try:
        parts = urlsplit(quote(url, safe=":/?#[]@!$&'()*+,;=%~"))
        user, _, host = parts.netloc.rpartition("@")
        if not host:
            raise InvalidURL("it names no server")
        request = urllib.request.Request(parts._replace(netloc=host).geturl(), headers={"User-Agent": "trainyard"})
        if user:  # unredirected: meant for this host alone
            credentials = base64.b64encode(unquote(user).encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {credentials}")
        if offset:
            request.add_header("Range", f"bytes={offset}-")
            if isinstance(version, str):
                request.add_header("If-Range", version)
        return urllib.request.urlopen(request, timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        answer = f"the server answers {error.code} {error.reason}"
        if error.code in _MAY_PASS or error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ConnectionError(answer) from error
        if error.code in _REFUSED:
            raise PermissionError(f"{where}: {answer}; check that the source may be read from here") from error
        raise BadInput(f"--source: expected a file at {where}, {answer}; correct the URL") from error
    except urllib.error.URLError as error:
        raise ConnectionError(f"the server does not answer ({error.reason})") from error
    except (InvalidURL, ValueError) as error:
        raise BadInput(f"--source: expected a URL, received {where!r} ({error}); correct it") from error


def _version(response: HTTPResponse, offset: int = 0) -> str | int | None:
    """What tells this content from another one of the same URL: a validator of the server, or else the whole size."""
    tag = response.headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")
    if validator or response.length is None:
        return validator
    return response.length + (offset if response.status == HTTPStatus.PARTIAL_CONTENT else 0)


def _skip(response: HTTPResponse, count: int) -> None:
    while count:
        data = response.read(min(count, CHUNK))
        if not data:
            raise ConnectionError("the connection ended again, and earlier")
        count -= len(data)


def _name(url: str, response: HTTPResponse) -> str:
    said = response.headers.get_filename()
    name = PurePosixPath(said or unquote(urlsplit(url).path)).name
    return name if name not in ("", "..") else "data"
