"""What `make cluster-check` says of a real cluster, before and after it is set up as the documentation says."""

import os
import subprocess
import sys
import uuid

import pytest

from tests.conftest import PROJECT

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")


@pytest.fixture
def profile(cluster):
    """A namespace for runs and endpoints."""
    name = f"check-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def check(*options, env=None):
    command = [sys.executable, "-m", "trainyard.launch.cluster_check", *options]
    done = subprocess.run(command, env=os.environ | (env or {}), capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done


def states(done):
    """State of each subject."""
    return {line[8:30].strip(): line[:8].strip() for line in done.stdout.splitlines()}


def test_what_is_lacking_is_named_and_is_there_once_it_is_set_up(cluster, profile):
    options = ("--profile", "--kfp-namespace", profile, "--namespace", profile, "--service-account", "models")
    before = check(*options)
    assert before.returncode == 2
    assert "docs/cluster.md" in before.stderr
    assert len(before.stderr.splitlines()) == 1
    found = states(before)
    assert found["Kubernetes"] == found["KServe"] == found["namespace"] == "ok"
    mended = ("store for the steps", "store for KServe", "rights of serve")
    assert {found[subject] for subject in mended} == {"lacks"}
    assert "create inferenceservices" in before.stdout

    literals = [f"--from-literal={key}=x" for key in KEYS]
    cluster.kubectl("create", "secret", "generic", "s3-credentials", "-n", profile, *literals[:3])
    assert "has no AWS_DEFAULT_REGION" in check(*options).stdout
    cluster.kubectl("delete", "secret", "s3-credentials", "-n", profile)
    cluster.kubectl("create", "secret", "generic", "s3-credentials", "-n", profile, *literals)
    cluster.kubectl("create", "secret", "generic", "model-store", "-n", profile, *literals[:2])
    cluster.kubectl("apply", "-n", profile, "-k", str(PROJECT / "deploy" / "overlays" / "profile"))
    found = states(check(*options))
    assert {found[subject] for subject in mended} == {"ok"}
    assert "further rights" not in found


def test_settings_that_the_cluster_cannot_meet_are_named(profile, tmp_path):
    settings = tmp_path / "prod.yaml"
    settings.write_text("steps: {train: {gpus: 64}, all: {image_pull_secrets: [registry]}}\n")
    done = check("--settings", str(settings), "--kfp-namespace", profile)
    assert states(done)["GPUs"] == "lacks"
    assert states(done)["image pull secret"] == "lacks"


def test_without_a_cluster_it_says_so_in_one_line(tmp_path):
    done = check(env={"KUBECONFIG": str(tmp_path / "none")})
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("KUBECONFIG: expected a cluster")
