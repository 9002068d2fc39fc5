"""Rollouts that cannot succeed: told early, in KServe's words or the pods', while the earlier version is served on."""

import time

import pytest
import yaml

from tests.e2e.conftest import last_line, model_store

FIRST_OR_UPDATE = pytest.mark.parametrize("update", [False, True], ids=["first", "update"])


def fails(service, update, *options, uri):
    """Roll out what cannot succeed, onto nothing or over version 1; the step's last line, printed with its seconds."""

    def tried():
        began = time.monotonic()
        done = service.serve("--timeout", 300, *options, uri=uri)
        print(f"told after {time.monotonic() - began:.0f} s: {last_line(done)}")  # noqa: T201
        return done

    if not update:
        done = tried()
        assert service.object() is None, "what never answered is still there"
    else:
        service.apply(1)
        with service.asked() as clients:
            done = tried()
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
    """A version of the server that no registry has."""
    return ["--runtime-version", "0.0.1"], service.published.uris[1]


def too_large(service):
    """A pod that fits on no node."""
    return ["--cpu-request", "900", "--cpu-limit", "900"], service.published.uris[1]


SAID = {
    broken: ["exit code"],
    without_an_image: ["ImagePullBackOff", "serving:0.0.1"],
    too_large: ["Unschedulable", "Insufficient cpu"],
}


@pytest.mark.parametrize("stage", ["first", "update", "canary"])
@pytest.mark.parametrize("how", SAID, ids=lambda how: how.__name__)
def test_pods_that_cannot_run_are_told_early(service, how, stage):
    """KServe's status says nothing then; the pods of the new version do."""
    options, uri = how(service)
    share = ["--canary-percent", 0] if stage == "canary" else []
    said = fails(service, stage != "first", *options, *share, uri=uri)
    assert all(words in said for words in SAID[how]), said
    assert ("--direct" in said) == (how is too_large and stage != "first"), said
    if stage != "first":
        assert said.endswith(f"rolled back to {service.published.uris[0]}")
        assert not service.object()["spec"].get("canary")


def test_a_container_that_ends_is_told_with_its_exit_code_and_its_last_words(service):
    """KServe's own status says Pending all the time."""
    command = ["sh", "-c", "echo reading the settings >&2; echo no such setting: batch >&2; exit 3"]
    spec = {"containers": [{"name": "kserve-container", "image": service.image, "command": command}]}
    manifest = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": service.name},
        "spec": {"predictor": spec},
    }
    given = ("--inference-service", yaml.safe_dump(manifest))
    said = fails(service, False, *given, uri=service.published.uris[0])
    assert "exit code 3" in said
    assert "no such setting: batch" in said
    assert "reading the settings" not in said


def test_without_room_for_two_the_way_out_that_is_told_works(service):
    """The failed update names it: the old version ends before the new one starts."""
    nodes = service.cluster.listed("nodes", service.namespace)
    if len(nodes) > 1:
        pytest.skip("several nodes: a second copy may fit on another one")
    most = f"{int(nodes[0]['status']['allocatable']['memory'].removesuffix('Ki')) * 6 // 10}Ki"
    service.apply(1, "--memory-request", most, "--memory-limit", most)
    done = service.serve("--timeout", 300, uri=service.published.uris[1])
    assert done.returncode == 1, done.stderr
    assert "Insufficient memory" in last_line(done), last_line(done)
    assert "--direct with deploymentStrategy Recreate" in last_line(done), last_line(done)
    patch = '{"spec": {"predictor": {"deploymentStrategy": {"type": "Recreate"}}}}'
    service.cluster.kubectl("patch", "isvc", service.name, "-n", service.namespace, "--type=merge", "-p", patch)
    service.apply(2, "--direct", "true")
    assert service.uri() == service.published.uris[1]
