"""Rollouts that cannot succeed: told early, in KServe's words or the pods', while the earlier version is served on."""

import json

import pytest

from tests.e2e.conftest import last_line, model_store
from tests.e2e.reach import wait_until

FIRST_OR_UPDATE = pytest.mark.parametrize("update", [False, True], ids=["first", "update"])


def fails(service, update, *options, uri):
    """Roll out what cannot succeed, onto nothing or over version 1; the step's last line."""
    if not update:
        done = service.serve("--timeout", 300, *options, uri=uri)
        assert service.object() is None, "what never answered is still there"
    else:
        service.apply(1)
        with service.asked() as clients:
            done = service.serve("--timeout", 300, *options, uri=uri)
        assert service.uri() == service.published.uris[0]
        assert [seen.failures for seen in clients] == [[]] * len(clients)
        assert all(set(seen.answers) == {"v1"} for seen in clients), clients
    assert done.returncode in (1, 2), done.stderr
    assert "not ready after" not in last_line(done), "it took the whole time to find out"
    return last_line(done)


@FIRST_OR_UPDATE
def test_a_model_that_is_not_there_is_told_early(service, update):
    """KServe's own words for what its storage initializer met."""
    uri = service.published.uris[0].replace("/digits/1/", "/digits/99/")
    said = fails(service, update, "--smoke-test", "false", uri=uri)
    assert "ModelLoadFailed" in said or "digits/99" in said, said


@FIRST_OR_UPDATE
def test_refused_credentials_of_the_store_are_told_early(service, update):
    """KServe's pods have another secret than the step, so only they can tell."""
    if update:
        service.apply(1)
    refused = model_store(service.environment, secret="refused")
    service.cluster.kubectl("apply", "-n", service.namespace, "-f", "-", manifest=refused)
    done = service.serve("--timeout", 300, uri=service.published.uris[1])
    assert done.returncode == 1, done.stderr
    assert "not ready after" not in last_line(done)
    assert "Forbidden" in last_line(done) or "ModelLoadFailed" in last_line(done), last_line(done)


def test_a_model_that_answers_otherwise_than_at_evaluation_never_gets_a_request(service):
    """An update proves itself beside the version that is served, before anybody else asks it."""
    service.apply(1)
    with service.asked() as clients:
        done = service.serve("--timeout", 300, uri=service.published.lying)
    assert done.returncode == 1, done.stderr
    assert "smoke test" in last_line(done), last_line(done)
    assert service.uri() == service.published.uris[0]
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    assert [set(seen.answers) for seen in clients] == [{"v1"}] * len(clients)


def broken(service):
    """A model that its server cannot read: it ends at once, again and again."""
    return ["--smoke-test", "false"], service.published.broken


def without_an_image(service):
    """An image that no registry has."""
    return ["--smoke-test", "false", "--image", "registry.invalid/nothing:1"], service.published.uris[1]


def too_large(service):
    """A pod that fits on no node."""
    return ["--cpu-request", "900", "--cpu-limit", "900"], service.published.uris[1]


SAID = {broken: "exit code", without_an_image: "registry.invalid/nothing:1", too_large: "Insufficient cpu"}


@pytest.mark.parametrize("stage", ["first", "update", "canary"])
@pytest.mark.parametrize("how", SAID, ids=lambda how: how.__name__)
def test_pods_that_cannot_run_are_told_early(service, how, stage):
    """KServe's status says nothing then; the pods of the new version do."""
    options, uri = how(service)
    share = ["--canary-percent", 0] if stage == "canary" else []
    assert SAID[how] in fails(service, stage != "first", *options, *share, uri=uri)


def test_a_refusal_of_kserve_is_the_callers_mistake(service):
    """Its admission webhook answers 403, which is no missing right."""
    done = service.serve("--min-replicas", 3, "--max-replicas", 1, uri=service.published.uris[0])
    assert done.returncode == 2, done.stderr
    assert "not allowed to" not in last_line(done)
    assert service.object() is None


def test_an_address_that_resolves_nowhere_is_told_before_anything_changes(service):
    """KServe's own domain, example.com, leads nowhere; the step names the routes that work."""
    service.apply(1)
    if not service.object()["status"]["url"].endswith(".example.com"):
        pytest.skip("this KServe has a domain of its own")
    done = service.serve("--route", "url", uri=service.published.uris[1])
    assert done.returncode == 2, done.stderr
    assert "--route" in last_line(done)
    assert service.uri() == service.published.uris[0]


def test_a_step_that_was_superseded_ends_at_once_and_says_whose_change_it_was(service):
    """Somebody else specifies another model: it is theirs that is rolled out now."""
    service.apply(1)
    step = service.start("--timeout", 300, "--smoke-test", "false", uri=service.published.broken)
    wait_until(lambda: service.changed_since(service.published.uris[0]))
    theirs = {"spec": {"predictor": {"model": {"storageUri": service.published.uris[1]}}}}
    patch = ["-p", json.dumps(theirs), "--type=merge", "--field-manager=somebody"]
    service.cluster.kubectl("patch", "inferenceservice", service.name, "-n", service.namespace, *patch)
    _, stderr = step.communicate(timeout=400)
    assert step.returncode == 1, stderr
    assert "somebody" in stderr.splitlines()[-1], stderr
    assert service.uri() == service.published.uris[1]
