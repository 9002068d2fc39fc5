"""What keeps the pods of a new version from running is told within a tenth of --timeout, from these pods."""

import time

import pytest
import yaml

from tests.e2e.conftest import last_line, succeeded
from tests.e2e.test_failures import FIRST_OR_UPDATE, fails

TOLD_WITHIN = 120
"""Seconds: a tenth of the 300 that `fails` allows, and what starting a pod and restoring takes on a busy machine."""


def container(service, *command):
    """An InferenceService whose container runs this command."""
    spec = {"containers": [{"name": "kserve-container", "image": service.image, "command": list(command)}]}
    manifest = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": service.name},
        "spec": {"predictor": spec},
    }
    return yaml.safe_dump(manifest)


def test_a_container_that_ends_is_told_with_its_exit_code_and_its_last_words(service):
    """KServe's own status says Pending all the time."""
    broken = container(service, "sh", "-c", "echo reading the settings >&2; echo no such setting: batch >&2; exit 3")
    began = time.monotonic()
    said = fails(service, False, "--inference-service", broken, uri=service.published.uris[0])
    assert time.monotonic() - began < TOLD_WITHIN
    assert "exit code 3" in said
    assert "no such setting: batch" in said
    assert "reading the settings" not in said


@FIRST_OR_UPDATE
def test_an_image_that_cannot_be_pulled_is_told(service, update):
    """Of the new pods alone: those of the old version are well."""
    said = fails(service, update, "--runtime-version", "0.0.1", uri=service.published.uris[1])
    assert "ImagePullBackOff" in said
    assert "serving:0.0.1" in said


@FIRST_OR_UPDATE
def test_a_pod_that_cannot_be_scheduled_is_told(service, update):
    """Beside the old version it needs room for both; the message says how to do without."""
    said = fails(service, update, "--cpu-request", "900", "--cpu-limit", "900", uri=service.published.uris[1])
    assert "Unschedulable" in said
    assert "Insufficient cpu" in said
    assert ("--direct" in said) == update


def test_a_canary_that_cannot_start_is_told_and_taken_away(service):
    """Its own status, `canaryStatuses`, has nothing to say."""
    service.apply(1)
    done = service.serve(
        *("--canary-percent", 0, "--timeout", 300, "--runtime-version", "0.0.1"), uri=service.published.uris[1]
    )
    assert done.returncode == 1
    assert "ImagePullBackOff" in last_line(done)
    assert last_line(done).endswith(f"rolled back to {service.published.uris[0]}")
    assert not service.object()["spec"].get("canary")


def test_changed_labels_are_waited_for(service):
    """KServe gives them to the pods, so that these are replaced: the step returns when the new ones answer."""
    service.apply(1)
    succeeded(service.serve("--labels", '{"team": "vision"}', uri=service.published.uris[0]))
    pods = service.cluster.listed("pods", service.namespace, f"serving.kserve.io/inferenceservice={service.name}")
    alive = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    assert [pod["metadata"]["labels"].get("team") for pod in alive] == ["vision"]
    assert all(one["ready"] for pod in alive for one in pod["status"]["containerStatuses"])


def test_more_replicas_are_waited_for(service):
    """All of them answer when the step returns."""
    service.apply(1)
    succeeded(service.serve("--min-replicas", 2, "--max-replicas", 2, uri=service.published.uris[0]))
    deployment = service.cluster.get("deployment", f"{service.name}-predictor", service.namespace)
    assert deployment["status"].get("availableReplicas") == 2


def test_a_mode_that_the_cluster_does_not_have_is_told(service):
    """KServe says so in an Event alone."""
    if service.cluster.knative:
        pytest.skip("the cluster has Knative Serving")
    service.mode = "Knative"
    done = service.serve("--timeout", 100, "--smoke-test", "false", "--route", "url", uri=service.published.uris[0])
    assert done.returncode == 1, done.stderr
    assert "ServerlessModeRejected" in last_line(done), last_line(done)
    assert service.object() is None
