"""Knative Serving on the node: its own manifests and programs, with routes made by Traefik's Knative provider."""

import json
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from trainyard.launch.engine import engine

from .network import NODE_ADDRESS, wait_for
from .node import Node
from .programs import KNATIVE, KNATIVE_PROGRAMS, module_folder

OF_SERVING = ("networking@v0.0.0-20260120131110-a7cdca238a0d", "caching@v0.0.0-20260120130310-f1fc03b7f5ee")
"""The modules with the definitions that Serving needs besides its own, as its go.mod has them."""
NAMESPACE, GATEWAY = "knative-serving", "gateway"
PROGRAM = "program"
"""What each image holds."""
SETTINGS = {
    "config-network": {"ingress-class": "traefik.ingress.networking.knative.dev"},
    "config-domain": {"example.com": ""},  # KServe's default; else nothing answers from outside the cluster
    "config-deployment": {"registries-skipping-tag-resolving": "index.docker.io"},  # the node has the images already
}
FLAGS = [
    "--experimental.knative=true",
    "--providers.knative.publicentrypoints=web",
    "--providers.knative.privateentrypoints=web",
    *(
        f"--providers.knative.{one}service.{key}={value}"
        for one in ("public", "private")
        for key, value in (("name", GATEWAY), ("namespace", NAMESPACE))
    ),
]
"""For Traefik, besides how it reaches the API. Its Gateway API lacks the filters that net-gateway-api needs."""


def build_images() -> tuple[str, ...]:
    """Make the images of Knative's pods with the container engine, each of one program; their names."""
    with tempfile.TemporaryDirectory() as folder:
        for program in KNATIVE_PROGRAMS:
            program.build()
            archive = Path(folder) / program.name
            with tarfile.open(archive, "w") as files:
                files.add(program.binary, PROGRAM)
            changes = [f"--change=ENTRYPOINT {json.dumps([f'/{PROGRAM}'])}", "--change=USER 65532:65532"]
            engine("import", *changes, str(archive), _image(program.package))
    return tuple(_image(program.package) for program in KNATIVE_PROGRAMS)


def install(node: Node, logs: Path) -> None:
    """Install Knative Serving, and wait until its pods are ready."""
    objects = [_adapted(one) for one in _released()]
    definitions = [one for one in objects if one["kind"] == "CustomResourceDefinition"]
    webhooks = [one for one in objects if "webhooks" in one]  # they deny what comes while nothing answers them
    node.define(*definitions)
    node.apply(*(one for one in objects if one not in (*definitions, *webhooks)), *_gateway())

    def available() -> bool:
        try:
            ready = ("--for=condition=Available", "deployment", "--all", "--timeout=30s")
            return bool(node.kubectl("wait", *ready, "-n", NAMESPACE))
        except RuntimeError:
            return False

    wait_for("Knative Serving", available, logs / "kubelet", 180)
    node.apply(*webhooks)


def _released() -> Iterator[dict]:
    """All objects of Knative Serving's manifests, and those of the modules that it is made of."""
    images = {
        f"ko://knative.dev/serving/{program.package[2:]}": _image(program.package) for program in KNATIVE_PROGRAMS
    }
    folders = [module_folder(f"knative.dev/{module}") / "config" for module in OF_SERVING]
    for folder in (module_folder(KNATIVE) / "config" / "core", *folders):
        for path in sorted(folder.rglob("*.yaml")):
            text = path.read_text()
            for name, image in images.items():
                text = text.replace(name, image)
            yield from filter(None, yaml.load_all(text, yaml.CSafeLoader))


def _adapted(one: dict) -> dict:
    """An object with what this cluster wants otherwise; its pods leave room on two cores."""
    if one["kind"] == "ConfigMap":
        one["data"] |= SETTINGS.get(one["metadata"]["name"], {})
    if one["kind"] == "Deployment":
        for container in one["spec"]["template"]["spec"]["containers"]:
            container["resources"]["requests"] = {"cpu": "20m", "memory": "50Mi"}
    return one


def _gateway() -> tuple[dict, dict]:
    """A Service for Traefik, which is a process of this machine: the routes' addresses in the cluster lead to it."""
    metadata = {"name": GATEWAY, "namespace": NAMESPACE}
    port = {"name": "http", "port": 80}
    return (
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [port]}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": GATEWAY}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [NODE_ADDRESS]}],
            "ports": [port],
        },
    )


def _image(package: str) -> str:
    """Name of the image of a program: `./cmd/queue` is `trainyard-knative-queue`."""
    return f"trainyard-knative-{package.rpartition('/')[2]}:cluster"
