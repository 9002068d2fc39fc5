"""deploy/: what kustomize makes of it, where it is installed. On a cluster: tests/e2e/test_deploy.py."""

import shutil
import subprocess
import sys

import pytest
import yaml

from tests.conftest import PROJECT

OVERLAYS = sorted(path.parent for path in PROJECT.glob("deploy/overlays/*/kustomization.yaml"))
ACCOUNTS = {
    "namespace": ("trainyard-serve", None),
    "profile": ("default-editor", None),
    "standalone": ("pipeline-runner", "kubeflow"),
    "trial": ("pipeline-runner", "kubeflow"),
}
"""The account that runs use, and its namespace if it is another than that of the endpoints."""

each_overlay = pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)


def built(overlay):
    """The objects of an overlay, by kind and name."""
    commands = {"kustomize": ["kustomize", "build"], "kubectl": ["kubectl", "kustomize"]}
    found = next((command for program, command in commands.items() if shutil.which(program)), None)
    if not found:
        pytest.skip("NO OVERLAY IS BUILT: neither kustomize nor kubectl is installed")
    done = subprocess.run([*found, str(overlay)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout)}


def test_every_overlay_is_known():
    assert {path.name for path in OVERLAYS} == set(ACCOUNTS)


@each_overlay
def test_the_role_is_bound_to_the_account_that_runs_use(overlay):
    objects = built(overlay)
    binding = objects["RoleBinding", "trainyard-serve"]
    assert binding["roleRef"]["name"] == "trainyard-serve"
    assert ("Role", "trainyard-serve") in objects
    (subject,) = binding["subjects"]
    assert (subject["name"], subject.get("namespace")) == ACCOUNTS[overlay.name]
    own = {name for kind, name in objects if kind == "ServiceAccount"}
    assert own == {"models", *({subject["name"]} & {"trainyard-serve"})}


@each_overlay
def test_kserve_finds_the_store_and_no_credential_is_in_a_file(overlay):
    objects = built(overlay)
    assert objects["ServiceAccount", "models"]["secrets"] == [{"name": "model-store"}]
    secret = objects["Secret", "model-store"]
    assert not {"data", "stringData"} & set(secret)
    assert secret["metadata"]["annotations"]["serving.kserve.io/s3-endpoint"]
    assert all("namespace" not in one["metadata"] for one in objects.values())  # kubectl apply -n decides


def test_the_store_of_the_trial_is_the_one_that_kserve_is_told():
    objects = built(PROJECT / "deploy" / "overlays" / "trial")
    endpoint = objects["Secret", "model-store"]["metadata"]["annotations"]["serving.kserve.io/s3-endpoint"]
    host, _, port = endpoint.partition(":")
    service, deployment = objects["Service", host], objects["Deployment", "store"]
    assert [one["port"] for one in service["spec"]["ports"]] == [int(port)]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert f"-s3.port={port}" in container["command"]
    keys = {one["valueFrom"]["secretKeyRef"]["name"] for one in container["env"] if "valueFrom" in one}
    assert keys == {"model-store"}


TRAINER = "kubeflow-trainer-api==2.3.0"
ROUND_TRIP = """
import sys, yaml
from kubeflow_trainer_api import models
for given in yaml.safe_load_all(open(sys.argv[1])):
    known = getattr(models, "TrainerV1alpha1" + given["kind"]).from_dict(given).to_dict()
    assert known == given, f"of {given} the schema knows {known}"
"""


def test_the_train_job_is_what_kubeflow_trainer_publishes_as_its_schema(pytestconfig):
    """What its models do not know they drop. No cluster has run it."""
    folder = pytestconfig.cache.mkdir("trainer") / TRAINER
    if not folder.is_dir():
        command = [sys.executable, "-m", "pip", "install", "-q", "--target", folder, TRAINER]
        if (done := subprocess.run(command, capture_output=True, text=True)).returncode:
            pytest.skip(f"{TRAINER} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    manifest = PROJECT / "deploy" / "train-job.yaml"
    check = ["-c", f"import sys; sys.path.append({str(folder)!r}){ROUND_TRIP}", str(manifest)]
    done = subprocess.run([sys.executable, *check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
