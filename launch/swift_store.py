"""A real, durable object store in one process: OpenStack Swift with its S3 interface, from PyPI.

Swift's proxy, account, container and object servers run as four WSGI applications in one eventlet hub, as an ordinary
user, without memcached and without /etc/swift. Listens on the loopback interface only. The S3 port checks signatures;
the three inner ports have no authentication, so every user of this machine can reach them.

Started by launch.store as `python -m trainyard.launch.swift_store FOLDER [crashed]`, with the word if the server before
was killed.
"""

import json
import logging
import os
import signal
import socket
import sys
import time as clock
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from . import swift_listings
from .store_folder import ACCESS_KEY, REGION, StoreFolder

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_LOGGING = f"""\
log_level = WARNING
log_custom_handlers = {__package__}.swift_store.log_to_stderr
"""

_STORAGE_SERVER = """\
[DEFAULT]
swift_dir = {etc}
devices = {devices}
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
container_update_timeout = 60
conn_timeout = 5
node_timeout = 60
db_preallocation = off
{logging}
[pipeline:main]
pipeline = {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
log_requests = false
"""

_PROXY_SERVER = """\
[DEFAULT]
swift_dir = {etc}
{logging}
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck local listing_formats s3api tempauth copy slo dlo proxy-server

[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
conn_timeout = 5
node_timeout = 60
recoverable_node_timeout = 60

[filter:local]
paste.filter_factory = {package}.swift_store:local_filter

[filter:catch_errors]
use = egg:swift#catch_errors

[filter:gatekeeper]
use = egg:swift#gatekeeper

[filter:healthcheck]
use = egg:swift#healthcheck

[filter:listing_formats]
use = egg:swift#listing_formats

[filter:s3api]
use = egg:swift#s3api
location = {region}
s3_acl = false
max_upload_part_num = 10000

[filter:tempauth]
use = egg:swift#tempauth
user_{account}_{user} = {secret} .admin

[filter:copy]
use = egg:swift#copy

[filter:slo]
use = egg:swift#slo
concurrency = 4

[filter:dlo]
use = egg:swift#dlo
"""


def main() -> None:
    """Serve the store in the folder named on the command line until SIGTERM, or until the folder is removed."""
    folder = StoreFolder(Path(sys.argv[1]))
    lock = folder.hold()
    os.setxattr(lock.name, "user.trainyard", b"1")  # fails where the file system has no user xattrs, which Swift needs

    import eventlet
    import eventlet.debug
    from swift.common import utils

    utils.monkey_patch()
    eventlet.debug.hub_exceptions(False)
    os.environ["TZ"] = "UTC+0"  # Swift takes local time for UTC
    clock.tzset()

    stopping = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.append(True))
    sockets = {kind: listen() for kind in ("account", "container", "object")} | {"proxy": listen(folder.last_port())}
    ports = {kind: listener.getsockname()[1] for kind, listener in sockets.items()}
    etc = configure(folder, ports)
    start(etc, sockets)
    if "crashed" in sys.argv[2:]:
        swift_listings.complete(etc, folder.path / "data")
    folder.announce(f"http://127.0.0.1:{ports['proxy']}")
    # A flag to poll: a signal handler does not wake an idle eventlet hub.
    while not stopping and os.fstat(lock.fileno()).st_nlink:
        eventlet.sleep(0.2)
    sockets["proxy"].close()
    eventlet.sleep(0.3)  # requests in flight may finish
    os._exit(0)  # what was acknowledged is on the disk already


def listen(port: int = 0) -> socket.socket:
    """A listening socket of the loopback interface: on this port if it is free, else on any."""
    import eventlet

    try:
        # Without reuse_port=False a half-dead server and a new one would share a port silently.
        return eventlet.listen(("127.0.0.1", port), backlog=1024, reuse_port=False)
    except OSError:
        if not port:
            raise
        return listen()


def configure(folder: StoreFolder, ports: dict[str, int]) -> Path:
    """Write Swift's configuration and rings for these ports, and return its folder.

    The ports may change from start to start. The hash suffix may not: it is part of every object's path.
    """
    etc, devices = folder.path / "etc", folder.path / "data"
    etc.mkdir(exist_ok=True)
    (devices / "d1").mkdir(parents=True, exist_ok=True)
    suffix = etc / "swift.conf"
    if not suffix.exists():
        write(suffix, f"[swift-hash]\nswift_hash_path_suffix = {os.urandom(12).hex()}\n")
    for kind in ("account", "container", "object"):
        write_ring(etc / f"{kind}.ring.gz", ports[kind])
        text = _STORAGE_SERVER.format(etc=etc, devices=devices, kind=kind, logging=_LOGGING)
        write(etc / f"{kind}-server.conf", text)
    account, user = ACCESS_KEY.split(":")
    text = _PROXY_SERVER.format(
        etc=etc,
        logging=_LOGGING,
        package=__package__,
        region=REGION,
        account=account,
        user=user,
        secret=folder.secret(),
    )
    write(etc / "proxy-server.conf", text)
    return etc


def write(path: Path, text: str) -> None:
    """Write a file of the configuration, which holds the secret, for its owner alone."""
    path.touch(mode=0o600)
    path.write_text(text)


def write_ring(path: Path, port: int) -> None:
    """Write a ring of one device: where the servers of one kind are."""
    from swift.common.ring import RingBuilder

    ring = RingBuilder(part_power=4, replicas=1, min_part_hours=0)
    ring.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d1", "weight": 1})
    ring.rebalance(seed="1")
    ring.get_ring().save(str(path))


def start(etc: Path, sockets: dict[str, socket.socket]) -> None:
    """Start the four servers as green threads."""
    import eventlet
    import eventlet.wsgi
    from swift.common import storage_policy, utils, wsgi

    utils.set_swift_dir(str(etc))
    storage_policy.reload_storage_policies()  # importing it has read /etc/swift
    for kind, listener in sockets.items():
        app = wsgi.loadapp(str(etc / f"{kind}-server.conf"), global_conf={"log_name": kind})
        eventlet.spawn(
            eventlet.wsgi.server,
            listener,
            app,
            wsgi.NullLogger(),
            custom_pool=eventlet.GreenPool(256),
            protocol=wsgi.SwiftHttpProtocol,
            socket_timeout=60,
            capitalize_response_headers=False,
            url_length_limit=8192,
            debug=False,
        )


def log_to_stderr(
    conf: dict[str, Any],
    name: str,
    log_to_console: bool,
    log_route: str,
    fmt: str,
    logger: logging.Logger,
    adapted_logger: Any,
) -> None:
    """Swift's hook for loggers of one's own: warnings go to stderr, which is the store's log."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s {name} %(levelname)s %(message)s"))
    logger.addHandler(handler)


def local_filter(global_conf: dict[str, str], **conf: str) -> Callable[[WsgiApp], WsgiApp]:
    """A filter for what one process needs: a cache without memcached, and create-only writes one at a time per object.

    Swift checks for an existing object and then writes, so that two create-only writers of one object would both
    succeed; here the second one waits and is refused.
    """
    from eventlet.semaphore import Semaphore

    cache = DictCache()
    locks: dict[str, Semaphore] = {}

    def wrap(app: WsgiApp) -> WsgiApp:
        def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            environ["swift.cache"] = cache
            if "HTTP_IF_NONE_MATCH" not in environ or environ["REQUEST_METHOD"] not in ("PUT", "POST"):
                return app(environ, start_response)
            path = environ["PATH_INFO"]
            lock = locks.setdefault(path, Semaphore(1))
            try:
                with lock:
                    return app(environ, start_response)
            finally:
                if lock.balance > 0:  # nobody waits for it
                    locks.pop(path, None)

        return call

    return wrap


class DictCache:
    """What Swift's proxy uses of a memcache client, in one dictionary.

    Values are kept as JSON, so that each `get` returns a fresh copy: callers edit it.
    """

    def __init__(self) -> None:
        self._entries: dict[str, tuple[str, float]] = {}

    def get(self, key: str, raise_on_error: bool = False) -> Any:
        value, expires = self._entries.get(key, ("null", 0))
        return None if expires and expires < clock.time() else json.loads(value)

    def set(
        self,
        key: str,
        value: Any,
        serialize: bool = True,
        time: float = 0,
        min_compress_len: int = 0,
        raise_on_error: bool = False,
    ) -> None:
        if len(self._entries) > 10_000:
            self._entries.clear()
        self._entries[key] = (json.dumps(value), clock.time() + time if time else 0)

    def incr(self, key: str, delta: int = 1, time: float = 0) -> int:
        value = max(0, int(self.get(key) or 0) + int(delta))
        self.set(key, value, time=time)
        return value

    def decr(self, key: str, delta: int = 1, time: float = 0) -> int:
        return self.incr(key, -int(delta), time)

    def delete(self, key: str, server_key: str | None = None) -> None:
        self._entries.pop(key, None)

    def set_multi(
        self,
        mapping: dict[str, Any],
        server_key: str | None = None,
        serialize: bool = True,
        time: float = 0,
        min_compress_len: int = 0,
    ) -> None:
        for key, value in mapping.items():
            self.set(key, value, time=time)

    def get_multi(self, keys: list[str], server_key: str | None = None) -> list[Any]:
        return [self.get(key) for key in keys]


if __name__ == "__main__":
    main()
