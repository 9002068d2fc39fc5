"""Many small requests of one kind, without what boto3 does anew for every one of them.

A request costs boto3 1.0 to 1.3 ms of processor time (checking parameters, endpoint rules, events, parsing), and the
interpreter's lock keeps threads from sharing it out: some 750 small files a second, however near the store. Here boto3
makes the first request of a kind. Those after it take their URL from that one's, their signature from the same signer
and their connection from the same pool. Only a plain success counts: whatever else happens, boto3 makes the request
after all, and it knows about retries, redirects and errors.
"""

import base64
import hashlib
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from botocore.awsrequest import AWSRequest, AWSResponse
    from botocore.client import BaseClient
    from botocore.signers import RequestSigner

SMALL = 1 << 20  # bytes; beyond them boto3's own cost is lost in the transfer's

_CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "x-amz-checksum-crc32": lambda content: zlib.crc32(content).to_bytes(4, "big"),
    "x-amz-checksum-sha1": lambda content: hashlib.sha1(content).digest(),
    "x-amz-checksum-sha256": lambda content: hashlib.sha256(content).digest(),
}


class Series:
    """Requests of one operation, for any objects of one bucket. Threads may share it.

    Args:
        client: Each request of this operation that it makes is one to learn from.
        operation: PutObject or GetObject.
        bucket: The bucket.
    """

    def __init__(self, client: "BaseClient", operation: str, bucket: str) -> None:
        self._operation = operation
        self._bucket = bucket
        # Botocore has no public way to a client's connections: without this one, boto3 makes every request.
        self._connections = getattr(getattr(client, "_endpoint", None), "http_session", None)
        self._learnt: tuple[str, AWSRequest, RequestSigner] | None = None
        client.meta.events.register(f"before-sign.s3.{operation}", self._learn)

    def put(self, key: str, content: bytes, headers: Mapping[str, str]) -> bool:
        """Write an object; whether the store says that it has. False: it may have, or not; boto3 has to find out."""
        return self._send("PUT", key, content, headers) is not None

    def get(self, key: str, size: int) -> bytes | None:
        """Read an object of so many bytes, checked against the checksum that the store may have of it.

        Returns:
            The content; None: boto3 has to read it.
        """
        response = self._send("GET", key, b"", {"x-amz-checksum-mode": "ENABLED"})
        if response is None or not str(size) == response.headers.get("content-length") == str(len(response.content)):
            return None
        for name, checksum in _CHECKSUMS.items():
            expected = response.headers.get(name)
            if expected and "-" not in expected:  # which marks a checksum of checksums, of an object sent in parts
                return response.content if base64.b64encode(checksum(response.content)).decode() == expected else None
        return response.content

    def _learn(self, request: "AWSRequest", request_signer: "RequestSigner", **_: Any) -> None:
        """Remember a request of boto3's, as it is before it is signed."""
        asked = request.context.get("input_params", {})
        path = _quoted(asked.get("Key", ""))
        if path and asked["Bucket"] == self._bucket and request.url.endswith(f"/{path}"):
            self._learnt = request.url.removesuffix(path), request, request_signer

    def _send(self, method: str, key: str, content: bytes, headers: Mapping[str, str]) -> "AWSResponse | None":
        """Make a request like the one learnt; None: there is none yet, or this one came to nothing."""
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError

        if self._learnt is None or self._connections is None:
            return None
        address, first, signer = self._learnt
        agent = {"User-Agent": first.headers["User-Agent"]}
        request = AWSRequest(method, address + _quoted(key), headers={**agent, **headers}, data=content)
        own = ("input_params", "checksum")  # what belongs to the first request alone
        request.context.update((name, value) for name, value in first.context.items() if name not in own)
        try:
            signer.sign(self._operation, request)
            response = self._connections.send(request.prepare())
        except BotoCoreError:
            return None
        return response if response.status_code == 200 else None


def _quoted(key: str) -> str:
    """A key as S3 wants it in a URL."""
    return quote(key, safe="/~")
