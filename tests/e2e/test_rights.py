"""What the step may do: each test here runs with deploy/base/serve-role.yaml, and each of its verbs is needed."""

import json

import pytest

from tests.e2e.conftest import last_line, succeeded

NEEDED = {
    "get inferenceservices": ("inferenceservices", "get"),
    "create inferenceservices": ("inferenceservices", "create"),
    "get deployments": ("deployments", "get"),
    "create services/proxy": ("services/proxy", "create"),
}
FOR_UPDATES = {
    "patch inferenceservices": ("inferenceservices", "patch"),
}


def without(service, resource, verb):
    """Take one right away."""
    role = service.cluster.get("role", "trainyard-serve", service.namespace)
    for rule in role["rules"]:
        if rule["resources"] == [resource]:
            rule["verbs"] = [one for one in rule["verbs"] if one != verb] or ["watch"]
    service.cluster.kubectl("replace", "-f", "-", manifest=json.dumps(role))


@pytest.mark.parametrize("right", NEEDED)
def test_a_right_that_is_missing_for_a_first_rollout_is_named(service, right):
    """The last line names verb, resource and namespace."""
    resource, verb = NEEDED[right]
    without(service, resource, verb)
    done = service.serve("--timeout", 120, uri=service.published.uris[0])
    assert done.returncode == 1, done.stderr
    assert f"not allowed to {verb} {resource}" in last_line(done), last_line(done)
    assert service.namespace in last_line(done)


@pytest.mark.parametrize("right", FOR_UPDATES)
def test_a_right_that_is_missing_for_an_update_is_named_before_anything_changes(service, right):
    """What was served goes on."""
    service.apply(1)
    resource, verb = FOR_UPDATES[right]
    without(service, resource, verb)
    done = service.serve("--timeout", 120, uri=service.published.uris[1])
    assert done.returncode == 1, done.stderr
    assert f"not allowed to {verb} {resource}" in last_line(done), last_line(done)
    assert service.uri() == service.published.uris[0]


def test_a_namespace_that_is_not_there_is_named(service):
    """The role holds in one namespace alone."""
    done = service.serve("--namespace", "elsewhere", uri=service.published.uris[0])
    assert done.returncode == 1, done.stderr
    assert "elsewhere" in last_line(done)


def test_pods_need_not_be_listed(service):
    """With that right a failure tells more; without it everything works."""
    without(service, "pods", "list")
    succeeded(service.serve(uri=service.published.uris[0]))
