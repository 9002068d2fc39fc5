"""What the step may do: each test here runs with deploy/base/serve-role.yaml, and each of its verbs is needed."""

import json
from urllib.parse import urlsplit

import pytest

from tests.e2e.conftest import last_line, succeeded
from tests.e2e.reach import wait_until

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


def test_without_a_route_of_the_gateway_api_the_ingress_is_asked(service):
    """KServe makes one or the other; here the HTTPRoute may not be read, and the Ingress is as KServe makes it."""
    classes = service.cluster.listed("ingressclasses", service.namespace)
    if not classes:
        pytest.skip("the cluster has no ingress controller")
    service.apply(1)
    without(service, "httproutes", "get")
    host = urlsplit(service.object()["status"]["url"]).netloc
    rule = f"--rule={host}/*={service.name}-predictor:80"
    ingress = ("create", "ingress", service.name, f"--class={classes[0]['metadata']['name']}", rule)
    service.cluster.kubectl(*ingress, "-n", service.namespace)

    def addresses():
        found = service.cluster.get("ingress", service.name, service.namespace)
        return found["status"]["loadBalancer"].get("ingress")

    wait_until(lambda: bool(addresses()))
    done = service.apply(2)
    assert f"asked by http://{addresses()[0]['ip']}" in done.stderr, done.stderr
