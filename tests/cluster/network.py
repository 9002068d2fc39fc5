"""A network of the cluster's own, and the processes that live in it.

Nothing of the machine's own network is touched: the namespace has a loopback, a bridge for the pods and its own packet
filter, and no way out. It ends when its last process does.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

BRIDGE = "cni0"
PODS = "10.244.0.0/16"
SERVICES = "10.96.0.0/16"
NODE_ADDRESS = "10.244.0.1"
"""Of the bridge: where pods find what runs beside them, DNS and the store."""


class Network:
    """The namespace, held by a file, with logs of its processes beside it."""

    def __init__(self, state: Path) -> None:
        self._handle = state / "network"
        self.logs = state / "logs"

    def make(self) -> None:
        """Make the namespace and its bridge."""
        self.logs.mkdir(exist_ok=True)
        self._handle.touch()
        subprocess.run(["unshare", f"--net={self._handle}", "true"], check=True)
        for line in (
            "ip link set lo up",
            f"ip link add {BRIDGE} type bridge",
            f"ip address add {NODE_ADDRESS}/16 dev {BRIDGE}",
            f"ip link set {BRIDGE} up",
            f"ip route add default dev {BRIDGE}",  # addresses of Services need a route before they are rewritten
            "sysctl -qw net.ipv4.ip_forward=1",
        ):
            subprocess.run(self.inside(line.split()), check=True)

    def exists(self) -> bool:
        """Whether the namespace is there."""
        return os.path.ismount(self._handle)

    def inside(self, command: Sequence[str | Path]) -> list[str]:
        """The command line that runs a command in this network."""
        return ["nsenter", f"--net={self._handle}", "--", *map(str, command)]

    def start(self, name: str, command: Sequence[str | Path], environment: dict[str, str] | None = None) -> None:
        """Start a process that outlives this one; its output goes to its log."""
        with (self.logs / name).open("ab") as log:
            subprocess.Popen(
                self.inside(command),
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def processes(self, name: str = "") -> Iterator[int]:
        """The processes in this network, or those of a program; pods have networks of their own."""
        own = self._handle.stat()
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                there = (folder / "ns" / "net").stat()
                called = Path(os.fsdecode((folder / "cmdline").read_bytes().split(b"\0")[0])).name
                if (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino) and name in ("", called):
                    yield int(folder.name)

    def kill(self, name: str = "") -> None:
        """Kill the processes in this network, or those of a program, and wait until they are gone."""
        while found := list(self.processes(name)):
            for process in found:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.05)

    def remove(self) -> None:
        """Remove the namespace."""
        subprocess.run(["umount", self._handle], check=True)


def wait_for(what: str, there: Callable[[], bool], log: Path, seconds: float = 90) -> None:
    """Wait until something is there.

    Raises:
        RuntimeError: it has not come; the message has the end of the log.
    """
    deadline = time.monotonic() + seconds
    while not there():
        if time.monotonic() > deadline:
            said = log.read_text(errors="replace")[-3000:] if log.exists() else ""
            raise RuntimeError(f"{what} is not there after {seconds:.0f} s; see {log}\n{said}")
        time.sleep(0.2)
