"""The programs that the cluster needs: built once from Go modules, and kept in a cache outside of the checkout."""

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from trainyard.components.common.cli import BadInput, say

HERE = Path(__file__).parent
CACHE = Path("~/.cache/trainyard-cluster").expanduser()
KSERVE = "github.com/kserve/kserve@v0.20.0"
GATEWAY_API = "sigs.k8s.io/gateway-api@v1.5.1"  # the one that this KServe is built with
TRAEFIK = "github.com/traefik/traefik/v3@v3.6.12"
KNATIVE = "knative.dev/serving@v0.48.1"
KUBERNETES = "v1.34.4"
NODE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
"""The names that the binary `kubernetes` goes by."""
DEBIAN = ("containerd", "runc", "iptables", "containernetworking-plugins", "openssl")


@dataclass(frozen=True)
class Program:
    """A Go program.

    Attributes:
        module: Folder beside this file with a module of our own, or `path@version` of one to be fetched. The latter
            is built in its own folder, with the replacements in its own go.mod, as its makers build it.
        flags: For the linker.
    """

    name: str
    module: str
    package: str = "."
    flags: str = ""

    @property
    def binary(self) -> Path:
        """Where it lies in the cache, under a name that changes with what it is made of."""
        return CACHE / f"{self.name}-{self._key()}"

    def build(self) -> None:
        """Build it, if it is not in the cache."""
        if self.binary.exists():
            return
        say("cluster", f"building {self.name}")
        folder = module_folder(self.module) if "@" in self.module else HERE / self.module
        partial = self.binary.with_suffix(f".{os.getpid()}")
        flags = ["-mod=readonly", "-buildvcs=false", f"-ldflags=-s -w {self.flags}"]
        go("build", "-C", str(folder), *flags, "-o", str(partial), self.package)
        partial.rename(self.binary)

    def _key(self) -> str:
        parts = [self.module, self.flags, "" if "@" in self.module else _contents(HERE / self.module)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _contents(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.iterdir()))


PROGRAMS = (
    Program("kubernetes", "kubernetes", flags=f"-X k8s.io/component-base/version.gitVersion={KUBERNETES}"),
    Program("coredns", "coredns"),
    Program("kserve-manager", KSERVE, "./cmd/manager"),
    Program("traefik", TRAEFIK, "./cmd/traefik"),
)
KNATIVE_PROGRAMS = tuple(
    Program(f"knative-{name}", KNATIVE, f"./cmd/{name}")
    for name in ("controller", "webhook", "autoscaler", "activator", "queue")
)
"""What Knative's pods run; only for a cluster with Knative."""


def go(*arguments: str) -> str:
    """Run the Go tool, outside of any module; what it wrote to stdout. Programs need no library of the machine.

    Raises:
        RuntimeError: it failed.
    """
    environment = {**os.environ, "GOWORK": "off", "CGO_ENABLED": "0"}
    done = subprocess.run(["go", *arguments], cwd="/", env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"go {arguments[0]} failed ({done.stderr.strip()[-2000:]})")
    return done.stdout


def module_folder(module: str) -> Path:
    """Where the Go tool keeps a module's files; they are fetched if need be.

    Args:
        module: `path@version`.
    """
    return Path(json.loads(go("mod", "download", "-json", module))["Dir"])


def missing() -> str:
    """What this machine lacks for a cluster, in words; empty: nothing."""
    if os.geteuid():
        return "root"
    tools = ("go", "unshare", "nsenter", "ip", "openssl")
    return ", ".join(tool for tool in tools if not shutil.which(tool))


def install(folder: Path) -> None:
    """Put all programs into a folder, under the names that they are called by.

    Raises:
        BadInput: the machine lacks what they need.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    _install_debian()
    for program in PROGRAMS:
        program.build()
        for name in NODE if program.name == "kubernetes" else (program.name,):
            (folder / name).unlink(missing_ok=True)
            (folder / name).symlink_to(program.binary)


def _install_debian() -> None:
    """What comes from Debian: the container runtime and the plugins for the pods' network."""
    if shutil.which("containerd") and shutil.which("iptables") and plugins_folder():
        return
    if not shutil.which("apt-get"):
        raise BadInput(f"expected Debian, or the programs of {', '.join(DEBIAN)}, received neither; install them")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], env=quiet, check=True)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *DEBIAN]
    subprocess.run(command, env=quiet, check=True, stdout=subprocess.DEVNULL)


def plugins_folder() -> Path | None:
    """Where the CNI plugins are; None: nowhere."""
    return next(
        (folder for folder in map(Path, ("/usr/lib/cni", "/opt/cni/bin")) if (folder / "bridge").exists()), None
    )
