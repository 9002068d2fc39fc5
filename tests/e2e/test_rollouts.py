"""Rollouts: what is promised of them holds for clients that never stop, through the Gateway and in the cluster."""

import json
import os
import signal
import subprocess
import time

import pytest
import yaml

from tests.e2e.conftest import last_line, succeeded
from tests.e2e.reach import wait_until


def test_a_new_service_answers_with_its_model(service):
    """What `apply` prints is an endpoint, and the model behind it is the one that was evaluated."""
    done = service.apply(1)
    assert service.uri() == service.published.uris[0]
    with service.asked() as clients:
        time.sleep(1)
    assert [set(seen.answers) for seen in clients] == [{"v1"}] * len(clients)
    if service.cluster.gateway and not os.environ.get("E2E_GATEWAY"):  # else the step cannot know where it is
        assert f"asked by {service.cluster.gateway}" in done.stderr
        assert [seen.failures for seen in clients] == [[]] * len(clients)


def test_an_update_fails_no_request_and_is_waited_for(service):
    """From the moment that `apply` returns only the new model answers, and no request has failed on the way."""
    service.apply(1)
    with service.asked() as clients:
        service.apply(2)
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    assert all(set(seen.answers) == {"v1", "v2"} for seen in clients), clients
    with service.asked() as clients:
        time.sleep(1)
    assert [set(seen.answers) for seen in clients] == [{"v2"}] * len(clients)


def test_a_dry_run_is_what_the_server_accepts(service):
    """The printed InferenceService passes the API's schema and KServe's webhooks."""
    done = succeeded(service.serve("--dry-run", "true", uri=service.published.uris[0]))
    accepted = service.cluster.kubectl(
        "apply", "-n", service.namespace, "--dry-run=server", "--validate=strict", "-f", "-", "-o", "json",
        manifest=done.stdout,
    )  # fmt: skip
    assert json.loads(accepted)["spec"]["predictor"]["model"]["storageUri"] == service.published.uris[0]
    assert yaml.safe_load(done.stdout)["metadata"]["name"] == "digits"
    assert service.object() is None


def test_of_two_creators_at_once_each_ends_well_or_says_that_it_was_superseded(service):
    """Two steps create the same service at the same moment: none of them calls ready what is not served."""
    steps = [service.start("--timeout", 120, uri=uri) for uri in service.published.uris]
    ended = []
    for step in steps:
        stdout, stderr = step.communicate(timeout=900)
        ended.append(subprocess.CompletedProcess(step.args, step.returncode, stdout, stderr))
    assert 0 in [done.returncode for done in ended], [done.stderr for done in ended]
    served = service.uri()
    for done, uri in zip(ended, service.published.uris, strict=True):
        if done.returncode == 0 and uri != served:
            pytest.fail(f"{uri} was called ready, but {served} is served: {done.stderr}")


def test_writes_of_others_meanwhile_do_no_harm(service):
    """Others write to the object all the time, as `kubectl apply` does: the step reads again, and succeeds."""
    service.apply(1)
    step = service.start(uri=service.published.uris[1])
    writes = 0
    while step.poll() is None:
        writes += 1
        note = f"kubectl.kubernetes.io/last-applied-configuration={writes}"  # one that KServe does not give to pods
        service.cluster.kubectl("annotate", "--overwrite", "inferenceservice", "digits", "-n", service.namespace, note)
    _, stderr = step.communicate()
    assert step.returncode == 0, stderr
    assert writes > 5


def test_sigterm_restores_what_was_served(service):
    """A step that is told to end in the middle of an update takes it back before it goes, and no request fails."""
    service.apply(1)
    with service.asked() as clients:
        step = service.start(uri=service.published.uris[1])
        wait_until(lambda: service.changed_since(service.published.uris[0]))
        step.send_signal(signal.SIGTERM)
        step.communicate(timeout=30)
        there = service.object()
    assert step.returncode == 143
    assert service.uri() == service.published.uris[0]
    assert not there["spec"].get("canary")
    assert [seen.failures for seen in clients] == [[]] * len(clients)


def test_sigterm_on_a_first_rollout_leaves_nothing(service):
    """A service that did not prove itself is deleted again."""
    step = service.start(uri=service.published.uris[0])
    wait_until(lambda: service.object() is not None)
    step.send_signal(signal.SIGTERM)
    step.communicate(timeout=30)
    wait_until(lambda: service.object() is None)


@pytest.mark.skipif(not os.environ.get("E2E_RESTART_API"), reason="E2E_RESTART_API names no command that ends the API")
def test_an_api_server_that_dies_in_mid_wait_is_waited_for(service):
    """The rollout goes on, and is told to be done when the API answers again."""
    service.apply(1)
    with service.asked() as clients:
        step = service.start(uri=service.published.uris[1])
        wait_until(lambda: service.changed_since(service.published.uris[0]))
        subprocess.run(os.environ["E2E_RESTART_API"], shell=True, check=True)
        _, stderr = step.communicate(timeout=900)
    assert step.returncode == 0, stderr
    assert [seen.failures for seen in clients] == [[]] * len(clients)


def test_delete_ends_the_service_and_succeeds_again(service):
    """A retry of a deletion is no failure."""
    service.apply(1)
    succeeded(service.serve("--action", "delete"))
    assert service.object() is None
    assert "no InferenceService" in succeeded(service.serve("--action", "delete")).stderr


def test_status_shows_what_is_served(service):
    """The table has the revision, its share and where it comes from."""
    service.apply(1)
    shown = succeeded(service.serve("--action", "status")).stdout
    assert "100 %" in shown
    assert service.published.uris[0] in shown
    missing = service.serve("--action", "status", "--model-name", "nothing")
    assert missing.returncode == 2, missing.stderr
    assert "'nothing'" in last_line(missing)
