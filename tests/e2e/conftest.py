"""What the tests on a cluster share: published models, a namespace of each test's own, the serve step with its Role.

KUBECONFIG names the cluster, AWS_ENDPOINT_URL and the other AWS variables a store that is reached under one address
from here and from the cluster's pods. E2E_IMAGE is our model server's image as the nodes find it, E2E_ONNX_IMAGE that
with ONNX Runtime, E2E_GATEWAY the URL of the Gateway where its own status does not tell, E2E_KNATIVE that of Knative's
ingress where it is not the Gateway, E2E_RESTART_API a command that ends the API server for some seconds.
"""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import yaml

from tests.conftest import PROJECT, RunningStore
from tests.e2e import client, traffic
from tests.e2e.reach import Cluster
from tests.serving import answers_of
from trainyard.components.common.store import s3

ACCOUNT = "trainyard-serve"
"""What deploy/base/serve-role.yaml calls the service account of the step."""
MODELS = "models"
"""What deploy/base/model-store.yaml calls that of KServe's pods."""


@pytest.fixture(scope="session")
def cluster():
    """The cluster; without KServe there is nothing to test."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("no cluster: KUBECONFIG is not set; make cluster makes one")
    found = Cluster()
    if not found.knows("inferenceservices.serving.kserve.io"):
        pytest.skip(f"the cluster of {os.environ['KUBECONFIG']} has no KServe")
    return found


@pytest.fixture(scope="session")
def store():
    """The store that the cluster reaches too."""
    if not os.environ.get("AWS_ENDPOINT_URL"):
        pytest.skip("no store: AWS_ENDPOINT_URL names none that the cluster reaches")
    environment = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return RunningStore(environment, s3.client(environment))


@pytest.fixture(scope="session")
def image():
    """The image of our model server, as the nodes find it."""
    return os.environ.get("E2E_IMAGE") or pytest.skip("no image: E2E_IMAGE names none that the nodes have")


@pytest.fixture(scope="session")
def onnx_image():
    """The image of our model server with ONNX Runtime, as the nodes find it."""
    return os.environ.get("E2E_ONNX_IMAGE") or pytest.skip("no image: E2E_ONNX_IMAGE names none that the nodes have")


@dataclass(frozen=True)
class Published:
    """Two versions of a model that give different answers.

    Attributes:
        uris: Of both.
        instance: An image, as JSON.
        versions: Which of them gives an answer, `v1` or `v2`, by what the client makes of it.
        lying: URI of a version that answers otherwise than its evaluation says.
        broken: URI of a version that no server can read.
    """

    uris: tuple[str, str]
    instance: str
    versions: dict[str, str]
    lying: str
    broken: str


@pytest.fixture(scope="session")
def run(store):
    """Run a module of ours with the store's credentials; it has to succeed."""

    def run(module: str, *arguments: object) -> None:
        command = [sys.executable, "-m", module, *map(str, arguments)]
        done = subprocess.run(command, cwd=PROJECT, env=os.environ | store.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return run


def publish(run, model: Path, dataset: Path, folder: Path, *options: object, bucket: str = "") -> str:
    """Evaluate a model and export it; the URI of the version.

    Args:
        folder: For what the steps write.
        bucket: Empty: one of its own.
    """
    evaluation, uri = folder / f"{model.name}-evaluation", folder / "uri"
    run("trainyard.components.evaluate", "--dataset", dataset, "--model", model, "--evaluation", evaluation)
    given = ["--model", model, "--evaluation", evaluation, "--model-uri", uri, *options]
    run("trainyard.components.export", *given, "--bucket", bucket or new_bucket(), "--model-name", "digits")
    return uri.read_text()


def new_bucket() -> str:
    """Name of a bucket that nobody has."""
    return f"e2e-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def published(store, run, dataset, model, tmp_path_factory):
    """Two versions of a model, trained, evaluated and published by the steps themselves."""
    folder, bucket = tmp_path_factory.mktemp("published"), new_bucket()
    other = folder / "other"
    run("trainyard.components.train", "--dataset", dataset, "--model", other, "--epochs", 3, "--seed", 8)
    uris = [publish(run, trained, dataset, folder, bucket=bucket) for trained in (model, other)]
    with np.load(dataset / "digits.npz") as arrays:
        images = arrays["x_test"][:1]
    images = images.reshape(*images.shape[:3], -1)
    versions = {
        client.rounded(answers_of(trained, images)[0].tolist()): name
        for trained, name in ((model, "v1"), (other, "v2"))
    }
    assert len(versions) == 2, "both models give the same answer"
    lying = changed_copy(store, uris[1], 3, {"evaluation/": uris[0]})
    broken = changed_copy(store, uris[1], 4, {"model.json": None})
    return Published((uris[0], uris[1]), json.dumps(images[0].tolist()), versions, lying, broken)


def changed_copy(store: RunningStore, uri: str, version: int, changes: dict[str, str | None]) -> str:
    """Copy a published version to another number, with some of its objects changed; the URI of the copy.

    Args:
        changes: By the beginning of their paths, the URI of the version to take objects from; None: they hold nothing
            that can be read.
    """
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    copy = f"{prefix.split('/')[0]}/{version}/"
    for listed in store.client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
        path = listed["Key"].removeprefix(prefix)
        source = next((changes[start] for start in changes if path.startswith(start)), uri)
        if source is None:
            store.client.put_object(Bucket=bucket, Key=copy + path, Body=b"nothing that can be read")
        else:
            origin = {"Bucket": bucket, "Key": source.removeprefix(f"s3://{bucket}/") + path}
            store.client.copy_object(Bucket=bucket, Key=copy + path, CopySource=origin)
    return f"s3://{bucket}/{copy}"


@pytest.fixture
def namespace(cluster, store):
    """A namespace of the test's own, prepared as docs/serving.md says; its name."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("apply", "-n", name, "-f", "-", manifest=model_store(store.environment))
    cluster.kubectl("apply", "-n", name, "-f", str(PROJECT / "deploy" / "base" / "serve-role.yaml"))
    if cluster.gateway:
        cluster.kubectl("apply", "-n", "kserve", "-f", str(PROJECT / "deploy" / "gateway-role.yaml"))
    yield name
    cluster.kubectl("delete", "inferenceservice", "--all", "-n", name, "--wait=false")
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def model_store(environment: dict[str, str], secret: str | None = None) -> str:
    """deploy/base/model-store.yaml, filled in for this store.

    Args:
        secret: In place of the store's own.
    """
    objects = list(yaml.safe_load_all((PROJECT / "deploy" / "base" / "model-store.yaml").read_text()))
    url = urlsplit(environment["AWS_ENDPOINT_URL"])
    for one in objects:
        if one["kind"] == "Secret":
            annotations = one["metadata"]["annotations"]
            annotations["serving.kserve.io/s3-endpoint"] = url.netloc
            annotations["serving.kserve.io/s3-usehttps"] = "1" if url.scheme == "https" else "0"
            one["stringData"] = {
                "AWS_ACCESS_KEY_ID": environment["AWS_ACCESS_KEY_ID"],
                "AWS_SECRET_ACCESS_KEY": secret or environment["AWS_SECRET_ACCESS_KEY"],
            }
    return yaml.safe_dump_all(objects)


@dataclass
class Service:
    """The InferenceService `digits` in a namespace, and the serve step, which has its Role and no other right."""

    cluster: Cluster
    namespace: str
    published: Published
    folder: Path
    environment: dict[str, str]
    image: str
    mode: str = "Standard"
    name: str = "digits"
    options: list[str] = field(default_factory=list)

    def start(self, *options: object, uri: str = "") -> subprocess.Popen:
        """Start the step and go on."""
        where = ["--namespace", self.namespace, "--model-name", self.name, "--route", self.route]
        first = ["--model-uri", uri, "--service-account", MODELS, "--deployment-mode", self.mode] if uri else []
        return subprocess.Popen(
            [sys.executable, "-m", "trainyard.components.serve", *where, *first, *map(str, options)],
            cwd=PROJECT,
            env=os.environ | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def serve(self, *options: object, uri: str = "") -> subprocess.CompletedProcess:
        """Run the step to its end; without a URI for another action than apply."""
        with self.start(*options, uri=uri) as process:
            stdout, stderr = process.communicate(timeout=900)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def apply(self, version: int, *options: object) -> subprocess.CompletedProcess:
        """Apply version 1 or 2, which has to succeed."""
        return succeeded(self.serve(*options, uri=self.published.uris[version - 1]))

    @property
    def route(self) -> str:
        """How the step asks the service: through the Kubernetes API, which KServe's default of a domain needs too."""
        return "api" if self.mode == "Standard" else self.ingress

    @property
    def ingress(self) -> str:
        """URL of what leads clients from here to the service; empty: nothing."""
        return (os.environ.get("E2E_KNATIVE") if self.mode == "Knative" else "") or self.cluster.gateway

    def object(self) -> dict:
        """The InferenceService as it is."""
        return self.cluster.get("inferenceservice", self.name, self.namespace)

    def uri(self) -> str:
        """The URI of the model that is specified."""
        return self.object()["spec"]["predictor"]["model"]["storageUri"]

    def changed_since(self, uri: str) -> bool:
        """Whether anything but the model at this URI is specified now, as the predictor's or as a canary's."""
        return self.uri() != uri or bool(self.object()["spec"].get("canary"))

    @contextmanager
    def asked(self) -> Iterator[list[traffic.Seen]]:
        """Ask it without a pause, inside the cluster and, where something leads there, from here."""
        path = f"/v1/models/{self.name}:predict"
        inside = f"http://{self.name}-predictor.{self.namespace}.svc.cluster.local{path}"
        host = urlsplit(self.object()["status"]["url"]).netloc
        instance, versions = self.published.instance, self.published.versions
        with ExitStack() as clients:
            pod = traffic.from_a_pod(self.cluster, self.namespace, self.image, inside, instance, versions)
            seen = [clients.enter_context(pod)]
            if self.ingress:
                here = traffic.from_here(f"{self.ingress}{path}", host, instance, versions, self.folder)
                seen.append(clients.enter_context(here))
            yield seen


def succeeded(done: subprocess.CompletedProcess) -> subprocess.CompletedProcess:
    """The same, which has to have ended well."""
    assert done.returncode == 0, done.stderr
    return done


def last_line(done: subprocess.CompletedProcess) -> str:
    """What a failure ends in."""
    return done.stderr.splitlines()[-1]


@pytest.fixture
def service(cluster, namespace, published, store, image, tmp_path):
    """The service, not there yet."""
    kubeconfig = tmp_path / "kubeconfig"
    write_kubeconfig(cluster, namespace, kubeconfig)
    return Service(cluster, namespace, published, tmp_path, store.environment | {"KUBECONFIG": str(kubeconfig)}, image)


@pytest.fixture
def knative(service):
    """The same, which is going to be in Knative mode."""
    if not service.cluster.knative:
        pytest.skip("the cluster has no Knative Serving")
    service.mode = "Knative"
    return service


def write_kubeconfig(cluster: Cluster, namespace: str, path: Path) -> None:
    """A kubeconfig for the step's own service account."""
    config = yaml.safe_load(cluster.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "yaml"))
    token = cluster.kubectl("create", "token", ACCOUNT, "-n", namespace, "--duration=2h").strip()
    config["users"] = [{"name": ACCOUNT, "user": {"token": token}}]
    config["contexts"][0]["context"] = {**config["contexts"][0]["context"], "user": ACCOUNT, "namespace": namespace}
    path.write_text(yaml.safe_dump(config))
