"""Objects that are on the disk and not in their bucket's listing, since Swift was killed between writing the two."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECONDS = 120.0
"""Twice what Swift waits for a listing to be updated: what is that much older than the newest object is in it."""
_OVERRIDE = "x-object-sysmeta-container-update-override-"
"""Of metadata that a listing shows in place of the object's own, such as the ETag of several parts."""


def complete(etc: Path, devices: Path) -> None:
    """List again what was written last; the container server ignores what it has already.

    Args:
        etc: Folder with the ring of the container server, which is running.
        devices: Folder of the devices of the object server.
    """
    from swift.common.direct_client import direct_put_container_object
    from swift.common.exceptions import ClientException
    from swift.common.ring import Ring
    from swift.obj.diskfile import read_metadata

    ring = Ring(str(etc), ring_name="container")
    for path in _written_last(devices):
        metadata = read_metadata(str(path))
        account, container, name = metadata["name"].removeprefix("/").split("/", 2)
        part, nodes = ring.get_nodes(account, container)
        for node in nodes:
            try:
                direct_put_container_object(node, part, account, container, name, headers=_listed(metadata))
            except ClientException as error:
                if error.http_status != 404:  # its bucket was removed
                    raise


def _written_last(devices: Path) -> Iterator[Path]:
    """The files of the objects that may lack in a listing."""
    written = {path: path.stat().st_mtime for path in devices.glob("*/objects/*/*/*/*.data")}
    newest = max(written.values(), default=0.0)
    return (path for path, time in written.items() if time > newest - SECONDS)


def _listed(metadata: dict[str, Any]) -> dict[str, Any]:
    """What the object server tells the container server of an object (ObjectController.PUT)."""
    own = {
        "x-size": metadata["Content-Length"],
        "x-content-type": metadata["Content-Type"],
        "x-timestamp": metadata["X-Timestamp"],
        "x-etag": metadata["ETag"],
        "x-backend-storage-policy-index": 0,
    }
    overridden = {key.lower(): value for key, value in metadata.items() if key.lower().startswith(_OVERRIDE)}
    return own | {f"x-{key.removeprefix(_OVERRIDE)}": value for key, value in overridden.items()}
