"""The stand-in for Swift where it has no wheels (macOS): moto's imitation of S3, in memory.

It speaks the same protocol, but takes any secret and forgets everything when it stops.

Started by launch.store as `python -m trainyard.launch.moto_store FOLDER`.
"""

import os
import signal
import sys
import time
from pathlib import Path

from .store_folder import StoreFolder


def main() -> None:
    """Serve until SIGTERM, or until the folder is removed."""
    folder = StoreFolder(Path(sys.argv[1]))
    lock = folder.hold()
    from moto.server import ThreadedMotoServer

    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    folder.announce("http://{}:{}".format(*server.get_host_and_port()))
    while not stopping and os.fstat(lock.fileno()).st_nlink:
        time.sleep(0.2)
    server.stop()


if __name__ == "__main__":
    main()
