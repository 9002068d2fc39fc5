"""Changes that leave the model alone are waited for like those that do not."""

import pytest

from tests.e2e.conftest import last_line, succeeded


@pytest.mark.parametrize("what", ["labels", "annotations"])
def test_changed_labels_and_annotations_are_waited_for(service, what):
    """KServe gives them to the pods, so that these are replaced: the step returns when the new ones answer."""
    service.apply(1)
    succeeded(service.serve(f"--{what}", '{"team": "vision"}', uri=service.published.uris[0]))
    pods = service.cluster.listed("pods", service.namespace, f"serving.kserve.io/inferenceservice={service.name}")
    alive = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    assert [pod["metadata"][what].get("team") for pod in alive] == ["vision"]
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
