"""Many small requests of one kind to a store nearby, without what boto3 does anew for every one of them.

A request costs boto3 1.0 to 1.3 ms of processor time (checking parameters, endpoint rules, events, layers of HTTP), and
the interpreter's lock keeps threads from sharing it out: some 750 small files a second, however near the store. Here
boto3 makes the first request of a kind. Those after it take their URL from that one's and their signature from the
same signer, and go over plain connections of Python's own: 0.35 ms. Only a plain success counts: whatever else happens,
boto3 makes the request after all, and it knows about retries, redirects and errors. It makes all of them where HTTPS or
a proxy leads to the store: far away it is the wait that counts, which threads do share.
"""

import base64
import hashlib
import http.client
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from botocore.awsrequest import AWSRequest
    from botocore.client import BaseClient
    from botocore.signers import RequestSigner

SMALL = 1 << 20  # bytes; beyond them boto3's own cost is lost in the transfer's

_CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "x-amz-checksum-crc32": lambda content: zlib.crc32(content).to_bytes(4, "big"),
    "x-amz-checksum-sha1": lambda content: hashlib.sha1(content).digest(),
    "x-amz-checksum-sha256": lambda content: hashlib.sha256(content).digest(),
}


@dataclass(frozen=True)
class _First:
    """A request of boto3's: its URL up to the key, the request before it was signed, and what signs it."""

    address: str
    request: "AWSRequest"
    signer: "RequestSigner"


@dataclass(frozen=True)
class _Answer:
    """A success: the headers, and the whole content."""

    headers: http.client.HTTPMessage
    content: bytes


class SmallObjects:
    """Small objects of one bucket, written or read by requests of one operation. Threads may share it.

    Args:
        client: Each request of this operation that it makes is one to learn from.
        operation: PutObject or GetObject.
        bucket: The bucket.
    """

    def __init__(self, client: "BaseClient", operation: str, bucket: str) -> None:
        self._operation = operation
        self._bucket = bucket
        self._config = client.meta.config
        self._first: _First | None = None
        self._of_thread = threading.local()
        client.meta.events.register(f"before-sign.s3.{operation}", self._learn)

    def put(self, key: str, content: bytes, headers: Mapping[str, str]) -> bool:
        """Write an object; whether the store says that it has. False: it may have, or not; boto3 has to find out."""
        return self._send("PUT", key, content, headers) is not None

    def get(self, key: str, size: int) -> bytes | None:
        """Read an object of so many bytes, checked against the checksum that the store may have of it.

        Returns:
            The content; None: boto3 has to read it.
        """
        answer = self._send("GET", key, None, {"x-amz-checksum-mode": "ENABLED"})
        if answer is None or not str(size) == answer.headers["Content-Length"] == str(len(answer.content)):
            return None
        for name, checksum in _CHECKSUMS.items():
            expected = answer.headers[name]
            if expected and "-" not in expected:  # which marks a checksum of checksums, of an object sent in parts
                return answer.content if base64.b64encode(checksum(answer.content)).decode() == expected else None
        return answer.content

    def _learn(self, request: "AWSRequest", request_signer: "RequestSigner", **_: Any) -> None:
        """Remember a request of boto3's, as it is before it is signed."""
        asked = request.context.get("input_params", {})
        path = _quoted(asked.get("Key", ""))
        if path and asked["Bucket"] == self._bucket and request.url.endswith(f"/{path}") and self._is_near(request.url):
            self._first = _First(request.url.removesuffix(path), request, request_signer)

    def _is_near(self, url: str) -> bool:
        """Whether plain HTTP without a proxy leads there."""
        from botocore.utils import get_environ_proxies

        proxies = get_environ_proxies(url) if self._config.proxies is None else self._config.proxies
        return url.startswith("http://") and "http" not in proxies

    def _send(self, method: str, key: str, content: bytes | None, headers: Mapping[str, str]) -> _Answer | None:
        """Make a request like the first one; None: there is none yet, or this one came to nothing."""
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        first = self._first
        if first is None:
            return None
        agent = {"User-Agent": first.request.headers["User-Agent"]}
        request = AWSRequest(method, first.address + _quoted(key), headers={**agent, **headers}, data=content)
        own = ("input_params", "checksum")  # what belongs to the first request alone
        request.context.update((name, value) for name, value in first.request.context.items() if name not in own)
        place = urlsplit(request.url)
        connection = self._connection(place.netloc)
        try:
            first.signer.sign(self._operation, request)
            connection.request(method, place.path, content, dict(request.headers.items()))
            response = connection.getresponse()
            answer = _Answer(response.headers, response.read())
        except (BotoCoreError, OSError, http.client.HTTPException):
            connection.close()
            return None
        return answer if response.status == 200 else None

    def _connection(self, host: str) -> http.client.HTTPConnection:
        """This thread's connection to a host; it opens itself, and again once it was closed."""
        known: dict[str, http.client.HTTPConnection] = self._of_thread.__dict__
        if host not in known:
            known[host] = http.client.HTTPConnection(host, timeout=self._config.read_timeout)
        return known[host]


def _quoted(key: str) -> str:
    """A key as S3 wants it in a URL."""
    return quote(key, safe="/~")
