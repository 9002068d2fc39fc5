"""Training on several workers: the pods of deploy/train-workers.yaml, on a folder that they share."""

import os
import shutil
import uuid
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.conftest import PROJECT
from tests.e2e.reach import wait_until
from tests.training import train_here
from trainyard.components.common.artifacts.model import read_card

CHOSEN = {"epochs": 2, "batch_size": 100}


@pytest.fixture
def folder(dataset):
    """A folder that the node has under the same path, with the data set in it, where pods may write."""
    if not os.environ.get("E2E_NODE_FOLDER"):
        pytest.skip("no shared folder: E2E_NODE_FOLDER names none that the node has too")
    made = Path(os.environ["E2E_NODE_FOLDER"]) / uuid.uuid4().hex[:8]
    shutil.copytree(dataset, made / "images")
    made.chmod(0o777)
    (made / "images").chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def start(cluster, folder):
    """Start the Job with other arguments; the name of its namespace."""
    if not os.environ.get("E2E_TRAIN_IMAGE"):
        pytest.skip("no image: E2E_TRAIN_IMAGE names none that the nodes have")
    namespace = f"train-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", namespace)

    def apply(**options):
        service, job = yaml.safe_load_all((PROJECT / "deploy" / "train-workers.yaml").read_text())
        pod = job["spec"]["template"]["spec"]
        pod["volumes"] = [{"name": "data", "hostPath": {"path": str(folder)}}]
        given = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        pod["containers"][0] |= {
            "image": os.environ["E2E_TRAIN_IMAGE"],
            "args": ["--dataset", "/data/images", "--model", "/data/model", *given],
        }
        cluster.kubectl("apply", "-n", namespace, "-f", "-", manifest=yaml.safe_dump_all([service, job]))
        return namespace

    yield apply
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")


def curve(model):
    return [(epoch.loss, epoch.accuracy) for epoch in read_card(model).history]


def workers(cluster, namespace):
    """The pods of the Job that run, by index."""
    running = {}
    for pod in cluster.listed("pods", namespace, "job-name=train"):
        if pod["status"]["phase"] == "Running" and not pod["metadata"].get("deletionTimestamp"):
            running[pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]] = pod
    return running


def says(cluster, namespace, words):
    """Whether the logs of both workers have these words by now."""
    pods = [pod["metadata"]["name"] for pod in workers(cluster, namespace).values()]
    return len(pods) == 2 and all(words in cluster.kubectl("logs", pod, "-n", namespace) for pod in pods)


def test_two_pods_learn_what_one_worker_learns(cluster, start, folder, dataset, tmp_path):
    """The chief writes the model into the shared folder, and the Job is complete."""
    namespace = start(**CHOSEN)
    cluster.kubectl("wait", "--for=condition=complete", "job/train", "-n", namespace, "--timeout=300s")
    train_here(dataset, tmp_path / "alone", **CHOSEN)
    np.testing.assert_allclose(curve(folder / "model"), curve(tmp_path / "alone"), rtol=1e-4)


@pytest.mark.parametrize("index", ["0", "1"], ids=["chief", "other"])
def test_a_pod_that_was_killed_comes_back_and_training_goes_on(cluster, start, index):
    """All workers go on after the last whole epoch."""
    namespace = start(epochs=100_000, batch_size=100)
    wait_until(lambda: says(cluster, namespace, "epoch 3/"), 300)
    pod = workers(cluster, namespace)[index]["metadata"]["name"]
    cluster.kubectl("delete", "pod", pod, "-n", namespace, "--grace-period=0", "--force")
    wait_until(lambda: says(cluster, namespace, "resuming after epoch"), 300)
    resumed = cluster.kubectl("logs", workers(cluster, namespace)["0"]["metadata"]["name"], "-n", namespace)
    done = int(resumed.partition("resuming after epoch ")[2].partition(",")[0])
    assert done >= 3
    wait_until(lambda: says(cluster, namespace, f"epoch {done + 1}/"), 120)


def test_a_mistake_in_the_arguments_ends_the_job_at_once(cluster, start):
    """Exit code 2 is not tried again."""
    namespace = start(architecture="none")
    cluster.kubectl("wait", "--for=condition=failed", "job/train", "-n", namespace, "--timeout=180s")
    [failed] = [
        one
        for one in cluster.get("job", "train", namespace)["status"]["conditions"]
        if one["type"] == "Failed" and one["status"] == "True"
    ]
    assert failed["reason"] == "PodFailurePolicy"
