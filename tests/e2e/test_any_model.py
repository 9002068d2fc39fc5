"""Models of other tools, and signed ones, on KServe with our own model server."""

import json
import subprocess

import numpy as np

from tests.e2e.conftest import last_line, publish, succeeded
from tests.e2e.reach import wait_until
from tests.e2e.test_predictor import LITTLE
from tests.onnx_models import MEAN, STD, Network
from tests.test_signing import key_pair
from trainyard.components.common.datasets import open_dataset


def ask(service, images):
    """The predictions for images, asked through the Kubernetes API."""
    request = service.folder / "request.json"
    request.write_text(json.dumps({"instances": images.tolist()}))
    [pod] = pods(service)
    path = f"/api/v1/namespaces/{service.namespace}/pods/{pod['metadata']['name']}:8080/proxy/v1/models/digits:predict"
    answer = service.cluster.kubectl("create", "--raw", path, "-f", str(request))
    return np.array(json.loads(answer)["predictions"])


def pods(service):
    return service.cluster.listed("pods", service.namespace, f"serving.kserve.io/inferenceservice={service.name}")


def test_a_model_in_onnx_is_rolled_out_and_answers_as_where_it_was_made(service, run, onnx_image, dataset, tmp_path):
    data = open_dataset(dataset)
    train, images = data.read("train"), data.read("test").images[:4]
    network = Network(train.images, train.labels)
    network.save(tmp_path / "net.onnx")
    described = ["--classes", "0,1,2,3,4,5,6,7,8,9", "--range", "0,1", "--mean", MEAN, "--std", STD]
    run("trainyard", "import-model", tmp_path / "net.onnx", "--model", tmp_path / "model", *described)
    uri = publish(run, tmp_path / "model", dataset, tmp_path)
    succeeded(service.serve("--image", onnx_image, *LITTLE, uri=uri))
    assert np.abs(ask(service, images) - network.probabilities(images)).max() < 1e-4


def test_every_pod_verifies_the_signature_of_what_it_loads(service, run, model, dataset, tmp_path):
    """Whoever changes the InferenceService past the step gets no unsigned model served."""
    private, public = key_pair(tmp_path, "ours")
    signed = publish(run, model, dataset, tmp_path, "--signing-key", private)
    verified = ["--image", service.image, *LITTLE, "--verify-key", public]
    done = service.serve(*verified, uri=service.published.uris[0])
    assert done.returncode == 2, done.stderr
    assert "sign" in last_line(done)
    assert service.object() is None
    succeeded(service.serve(*verified, uri=signed))
    [before] = pods(service)
    server = service.object()["spec"]["predictor"]["containers"][0]
    for one in server["env"]:
        if one["name"] == "STORAGE_URI":
            one["value"] = service.published.uris[0]
    patch = json.dumps({"spec": {"predictor": {"containers": [server]}}})
    service.cluster.kubectl("patch", "isvc", service.name, "-n", service.namespace, "--type=merge", "-p", patch)

    def refused():
        logs = [log_of(service, pod) for pod in pods(service) if pod["metadata"]["name"] != before["metadata"]["name"]]
        return any("sign" in log for log in logs)

    wait_until(refused)
    [still] = [pod for pod in pods(service) if pod["metadata"]["name"] == before["metadata"]["name"]]
    assert all(one["ready"] for one in still["status"]["containerStatuses"])


def log_of(service, pod):
    """What the model server of a pod has said; empty while there is nothing."""
    command = ["kubectl", "logs", pod["metadata"]["name"], "-n", service.namespace, "-c", "kserve-container"]
    ended = subprocess.run([*command, "--previous"], capture_output=True, text=True, check=False).stdout
    return ended + subprocess.run(command, capture_output=True, text=True, check=False).stdout
