"""Whom the server answers: requests to its own host names, and web pages of other sites only if they are allowed.

A page of any site can let a browser send requests to this machine. Two rules keep it from using the server: a name of
that site which resolves to this machine (DNS rebinding) is not among the server's host names, and requests that the
browser marks as another site's (Origin, Sec-Fetch-Site) are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from .protocols.request import Refused, shown

LOOPBACK = ("localhost", "127.0.0.1", "::1")
ANY = "*"
_HOST = re.compile(r"(?:\[([^\]]*)\]|([^:]*))(?::\d*)?")
_TELLING = {b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest"}


@dataclass(frozen=True)
class Access:
    """Who may send requests.

    Attributes:
        hosts: Names in the Host header that are answered; None: any, and pages of other sites are not refused either,
            as behind a cluster's routes.
        origins: Origins, such as `https://lab.example.com`, whose pages may send requests and read the answers; `*`:
            all.
    """

    hosts: tuple[str, ...] | None = None
    origins: tuple[str, ...] = ()

    def check(self, scope: Scope) -> None:
        """Raises Refused: 403, the request is for another host or from another site; 400, it names several hosts."""
        if self.hosts is None:
            return
        telling = [header for header in scope["headers"] if header[0] in _TELLING]
        told = dict(telling)
        if len(told) < len(telling) and [name for name, _ in telling].count(b"host") > 1:
            raise Refused(400, "expected one Host header, received several")
        host = told.get(b"host", b"").decode("latin-1").lower()
        if host and host_name(host) not in self.hosts:
            raise Refused(403, f"expected Host {self.hosts[0]}, received {shown(host)}; --allow-host adds names")
        origin = told[b"origin"].decode("latin-1") if b"origin" in told else None
        if origin is None:
            foreign = told.get(b"sec-fetch-site") in (b"cross-site", b"same-site") and not (
                scope["method"] == "GET"  # somebody follows a link to the server's page
                and told.get(b"sec-fetch-mode") == b"navigate"
                and told.get(b"sec-fetch-dest") == b"document"
            )
        else:
            foreign = not host or origin.lower().partition("://")[2] != host
        if foreign and ANY not in self.origins and origin not in self.origins:
            raise Refused(
                403,
                f"expected a request from the server's own page, received one from {shown(origin or 'another site')}; "
                "--cors-origin allows origins",
            )


def host_name(host: str) -> str:
    """The name in a Host header, without its port; what is no such header is returned as it is."""
    parts = _HOST.fullmatch(host)
    if not parts:
        return host
    return parts[1] if parts[2] is None else parts[2].removesuffix(".")


def guarded(
    access: Callable[[], Access], refusal: Callable[[Refused], ASGIApp], exposed: tuple[str, ...]
) -> Callable[[ASGIApp], ASGIApp]:
    """Middleware that lets in what the access rules of the moment allow.

    Args:
        access: Tells the rules.
        refusal: The answer to a request that is refused.
        exposed: Headers of answers that pages of other origins may read.
    """

    def around(app: ASGIApp) -> ASGIApp:
        @lru_cache(1)
        def with_cors(origins: tuple[str, ...]) -> ASGIApp:
            methods = ("GET", "POST")
            return CORSMiddleware(app, origins, methods, allow_headers=("*",), expose_headers=exposed)

        async def guard(scope: Scope, receive: Receive, send: Send) -> None:
            rules = access()
            try:
                rules.check(scope)
            except Refused as error:
                await refusal(error)(scope, receive, send)
                return
            await (with_cors(rules.origins) if rules.origins else app)(scope, receive, send)

        return guard

    return around
