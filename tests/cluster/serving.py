"""What makes a cluster one that serves models: KServe, a gateway, an object store, and the images of their pods."""

import base64
import json
import secrets
import subprocess
import sys
import zlib
from pathlib import Path

import yaml

from trainyard.launch import images
from trainyard.launch.engine import engine

from . import knative
from .network import NODE_ADDRESS, Network, wait_for
from .node import API, SANDBOX_IMAGE, Node
from .programs import GATEWAY_API, HERE, KSERVE, module_folder

WEBHOOK = "https://127.0.0.1:9443"
PREDICTOR, TRAIN = "trainyard-predictor:cluster", "trainyard-train:cluster"
PREDICTOR_ONNX = f"{PREDICTOR}-onnx"
STORE_SERVERS = ("master", "volume", "filer", "s3", "admin")
INGRESS = {"enableGatewayApi": True, "disableIstioVirtualHost": True}
"""How KServe makes its routes, where that is not its default."""
OTHERS = {
    "sandbox": SANDBOX_IMAGE.removeprefix("docker.io/"),
    "storage-initializer": "kserve/storage-initializer:v0.20.0",
    "tensorflow-serving": "tensorflow/serving:2.19.1",
}
"""The images that stand in for those which no registry here offers, under the names that KServe asks for."""


def build_images(base: str) -> tuple[str, ...]:
    """Build the images of the cluster's pods with the container engine; their names."""
    for name, reference in (("predictor", PREDICTOR), ("predictor-onnx", PREDICTOR_ONNX), ("train", TRAIN)):
        images.build_image({**images.IMAGES, **images.ON_REQUEST}[name], reference, base, "cluster")
    with images.pip_secrets() as options:
        for target, name in OTHERS.items():
            arguments = ["--build-arg", f"BASE={base}"] if base else []
            engine("build", *arguments, *options, "--target", target, "-t", name, str(HERE / "images"))
    return PREDICTOR, PREDICTOR_ONNX, TRAIN, *OTHERS.values()


class Serving:
    """KServe and what stands around it, on a node."""

    def __init__(self, state: Path, network: Network, node: Node) -> None:
        self._state, self._network, self._node = state, network, node
        self._environment = state / "environment"

    def start(self, with_knative: bool) -> None:
        """Start everything and wait until KServe accepts an InferenceService."""
        self._start_store()
        self._apply_gateway_api()
        if with_knative:  # KServe looks for it when it starts
            knative.install(self._node, self._network.logs)
        self._start_gateway(with_knative)
        self._apply_kserve()
        self._start_kserve()
        self._apply_runtimes()

    def environment(self) -> dict[str, str]:
        """What a command needs to find the cluster and the store."""
        return dict(line.split("=", 1) for line in self._environment.read_text().splitlines())

    def _start_store(self) -> None:
        # Its sockets in /tmp are named after its ports: those of another checkout's cluster are others.
        first = 10_000 + zlib.crc32(str(self._state).encode()) % 1_000 * len(STORE_SERVERS)
        ports = {name: first + index for index, name in enumerate(STORE_SERVERS)}
        key = {
            "AWS_ENDPOINT_URL": f"http://{NODE_ADDRESS}:{ports['s3']}",
            "AWS_ACCESS_KEY_ID": "trainyard",
            "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        restart = f"cd {HERE.parents[1]} && {sys.executable} -m tests.cluster restart-api"
        shared = self._state / "shared"
        shared.mkdir(mode=0o755)
        others = {
            "KUBECONFIG": str(self._node.kubeconfig),
            "E2E_IMAGE": PREDICTOR,
            "E2E_ONNX_IMAGE": PREDICTOR_ONNX,
            "E2E_TRAIN_IMAGE": TRAIN,
            "E2E_NODE_FOLDER": str(shared),
            "E2E_RESTART_API": restart,
        }
        self._environment.touch(mode=0o600)
        self._environment.write_text("".join(f"{name}={value}\n" for name, value in {**key, **others}.items()))
        home = self._state / "store"
        home.mkdir()
        without = ["-master.telemetry=false", "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0"]
        listening = [f"-ip={NODE_ADDRESS}", *(f"-{name}.port={port}" for name, port in ports.items())]
        command = [Path(sys.executable).with_name("weed"), "mini", f"-dir={home}", *listening, *without]
        self._network.start("weed", [*command, "-master.volumeSizeLimitMB=16"], {**key, "HOME": str(home)})

    def _apply_gateway_api(self) -> None:
        self._node.kubectl("apply", "--server-side", "-f", str(module_folder(GATEWAY_API) / "config/crd/standard"))

    def _start_gateway(self, with_knative: bool) -> None:
        token = yaml.safe_load(self._node.kubeconfig.read_text())["users"][0]["user"]["token"]
        provider = {"endpoint": API, "token": token, "certauthfilepath": self._node.certificate}
        kinds = {
            "kubernetesgateway": {**provider, "statusaddress.ip": NODE_ADDRESS},
            "kubernetesingress": {**provider, "ingressendpoint.ip": NODE_ADDRESS},
            **({"knative": provider} if with_knative else {}),
        }
        flags = [
            f"--providers.{kind}.{name}={value}" for kind, values in kinds.items() for name, value in values.items()
        ]
        flags += knative.FLAGS if with_knative else []
        program = [self._node.programs / "traefik", "--entrypoints.web.address=:80", "--log.level=INFO"]
        self._network.start(
            "traefik", [*program, "--global.checknewversion=false", "--global.sendanonymoususage=false", *flags]
        )

    def _apply_kserve(self) -> None:
        """KServe's released manifests, without the pods of its controllers and the certificates of cert-manager."""
        self._node.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kserve"}})
        released = yaml.load_all((_released() / "kserve.yaml").read_text(), yaml.CSafeLoader)
        objects = [one for one in released if one and _wanted(one)]
        definitions = [one for one in objects if one["kind"] == "CustomResourceDefinition"]
        self._node.define(*definitions)
        certificate = base64.b64encode(self._node.certificate.read_bytes()).decode()
        for one in objects:
            for webhook in one.get("webhooks", []):  # the controller is a process of this machine
                path = webhook["clientConfig"]["service"]["path"]
                webhook["clientConfig"] = {"url": f"{WEBHOOK}{path}", "caBundle": certificate}
            if one["metadata"]["name"] == "inferenceservice-config":
                one["data"]["ingress"] = json.dumps({**json.loads(one["data"]["ingress"]), **INGRESS})
        self._node.apply(*(one for one in objects if one not in definitions))
        self._node.kubectl("apply", "-f", str(HERE / "gateway.yaml"))

    def _start_kserve(self) -> None:
        folder = self._state / "kserve"
        certificates = folder / "k8s-webhook-server" / "serving-certs"
        certificates.mkdir(parents=True)
        (certificates / "tls.crt").symlink_to(self._node.certificate)
        (certificates / "tls.key").symlink_to(self._node.key)
        environment = {
            "KUBECONFIG": str(self._node.kserve_kubeconfig),
            "POD_NAMESPACE": "kserve",
            "TMPDIR": str(folder),
        }
        addresses = ["--metrics-addr=127.0.0.1:8080", "--health-probe-addr=127.0.0.1:8081", "--webhook-port=9443"]
        self._network.start("kserve-manager", [self._node.programs / "kserve-manager", *addresses], environment)
        ready = ["curl", "-fs", "http://127.0.0.1:8081/readyz"]
        wait_for(
            "KServe",
            lambda: subprocess.run(self._network.inside(ready), capture_output=True).returncode == 0,
            self._network.logs / "kserve-manager",
        )

    def _apply_runtimes(self) -> None:
        """KServe's serving runtimes, with requests for CPU that leave room for several pods on two cores."""
        objects = yaml.load_all((_released() / "kserve-cluster-resources.yaml").read_text(), yaml.CSafeLoader)
        runtimes = [one for one in objects if one and one["kind"] == "ClusterServingRuntime"]
        for runtime in runtimes:
            for container in runtime["spec"].get("containers", []):
                container["resources"]["requests"] = {"cpu": "100m", "memory": "256Mi"}
        self._node.apply(*runtimes)


def _released() -> Path:
    """KServe's manifests of this release."""
    return module_folder(KSERVE) / "install" / KSERVE.partition("@")[2]


def _wanted(one: dict) -> bool:
    """Whether an object of KServe's manifests belongs to serving, and needs neither a pod nor cert-manager."""
    name = one["metadata"]["name"]
    elsewhere = ("Deployment", "DaemonSet", "Certificate", "Issuer", "Service")
    return one["kind"] not in elsewhere and not any(part in name for part in ("llm", "localmodel"))
