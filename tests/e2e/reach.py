"""The cluster as the tests see it: through kubectl, with the rights of the kubeconfig."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from functools import cached_property


class Cluster:
    """What KUBECONFIG names, and what it has."""

    def kubectl(self, *arguments: str, manifest: str | None = None) -> str:
        """Run kubectl; what it wrote to stdout."""
        done = subprocess.run(["kubectl", *arguments], input=manifest, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def get(self, kind: str, name: str, namespace: str) -> dict | None:
        """An object; None when there is none."""
        found = self.kubectl("get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found")
        return json.loads(found) if found.strip() else None

    def listed(self, kind: str, namespace: str, labels: str = "") -> list[dict]:
        """The objects of a kind, or those of them with these labels."""
        selection = ["-l", labels] if labels else []
        return json.loads(self.kubectl("get", kind, "-n", namespace, "-o", "json", *selection))["items"]

    def knows(self, kind: str) -> bool:
        """Whether it has this kind of object, as `httproutes.gateway.networking.k8s.io`."""
        return bool(self.kubectl("get", "customresourcedefinition", kind, "--ignore-not-found"))

    @cached_property
    def gateway(self) -> str:
        """URL of the Gateway that KServe's routes attach to, as it is reached from here; empty: there is none."""
        if not self.knows("gateways.gateway.networking.k8s.io"):
            return ""
        gateway = self.get("gateway", "kserve-ingress-gateway", "kserve") or {}
        addresses = gateway.get("status", {}).get("addresses") or []
        return os.environ.get("E2E_GATEWAY") or (f"http://{addresses[0]['value']}" if addresses else "")

    @cached_property
    def knative(self) -> bool:
        """Whether Knative Serving is installed."""
        return self.knows("services.serving.knative.dev")


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.2)
