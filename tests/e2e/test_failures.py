"""Rollouts that cannot succeed: told early, in KServe's words or the pods', while the earlier version is served on."""

import pytest

from tests.e2e.conftest import last_line, model_store

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
