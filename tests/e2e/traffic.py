"""Requests without a pause while something is done to a service, and what came of them."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.reach import Cluster, wait_until

CLIENT = Path(__file__).with_name("client.py")


@dataclass
class Seen:
    """What one client saw.

    Attributes:
        way: How it asks.
        answers: How often each version answered.
        failures: What went wrong, with the time.
    """

    way: str
    sent: int = 0
    answers: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def take(self, line: str, versions: dict[str, str]) -> None:
        """Take over a line of the client."""
        told = json.loads(line)
        self.sent, self.failures = told["sent"], list(told["failures"])
        self.answers = Counter({versions.get(answer, answer): count for answer, count in told["answers"].items()})


@contextmanager
def from_here(url: str, host: str, instance: str, versions: dict[str, str], folder: Path) -> Iterator[Seen]:
    """Ask from this machine, through the gateway.

    Args:
        versions: By answer.
        folder: For the client's output.
    """
    seen, log = Seen(url), folder / f"client-{time.monotonic_ns()}"
    with log.open("w") as output:
        client = subprocess.Popen([sys.executable, CLIENT, url, host, instance], stdout=output)
    try:
        yield from _watched(seen, lambda: log.read_text(), versions)
    finally:
        client.kill()
        client.wait()


@contextmanager
def from_a_pod(
    cluster: Cluster, namespace: str, image: str, url: str, instance: str, versions: dict[str, str]
) -> Iterator[Seen]:
    """Ask from inside the cluster."""
    seen, name = Seen(url), f"client-{time.monotonic_ns()}"
    container = {"name": "client", "image": image, "command": ["python3", "-c", CLIENT.read_text(), url, "", instance]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False},
    }
    cluster.kubectl("apply", "-f", "-", manifest=json.dumps(pod))
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "-n", namespace, "--timeout=120s")
    try:
        yield from _watched(seen, lambda: cluster.kubectl("logs", name, "-n", namespace, "--tail=5"), versions)
    finally:
        cluster.kubectl("delete", "pod", name, "-n", namespace, "--wait=false")


def _watched(seen: Seen, output, versions: dict[str, str]) -> Iterator[Seen]:
    """Yield when the first answer is there, and take over what came of the requests at the end."""

    def look() -> Seen:
        lines = [line for line in output().splitlines() if line.endswith("}")]
        if lines:
            seen.take(lines[-1], versions)
        return seen

    wait_until(lambda: look().sent > 0)
    yield seen
    time.sleep(2)  # for what is under way, and for answers that come late
    look()
