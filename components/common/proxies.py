"""The proxies that the environment names, and the hosts that are reached without one."""

import ipaddress
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, getproxies, proxy_bypass


def proxy_for(url: str) -> str | None:
    """The proxy that leads to a URL (http_proxy, https_proxy, all_proxy); None: none.

    As with curl, NO_PROXY may name networks (`10.0.0.0/8`) beside hosts and domains. This machine is never reached
    through a proxy.
    """
    place = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(place.scheme) or proxies.get("all")
    host = place.hostname or ""
    if not proxy or is_this_machine(host) or proxy_bypass(place.netloc.rpartition("@")[2]) or proxy_bypass(host):
        return None
    return None if _in_a_network(host, proxies.get("no", "")) else proxy


def through_proxy(url: str) -> str:
    """The proxy to a URL in words, without its password; empty where there is none."""
    proxy = proxy_for(url)
    if not proxy:
        return ""
    place = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return f" through the proxy {place.scheme}://{place.netloc.rpartition('@')[2]}"


def is_this_machine(host: str | None) -> bool:
    """Whether a name or address is that of the machine itself."""
    return host in ("127.0.0.1", "localhost", "::1")


class Proxies(ProxyHandler):
    """Sends each request of an opener of urllib the way that `proxy_for` says, redirects too."""

    def __init__(self) -> None:
        super().__init__({"http": "", "https": ""})

    def proxy_open(self, req: Request, proxy: str, type: str) -> Any:
        """Called by urllib for each request."""
        named = proxy_for(req.full_url)
        return super().proxy_open(req, named, type) if named else None


def _in_a_network(host: str, bypassed: str) -> bool:
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        for entry in bypassed.split(","):
            with suppress(ValueError):
                if address in ipaddress.ip_network(entry.strip(), strict=False):
                    return True
    return False
