"""What the cluster answers, and where a service answers: told before anything is changed where it can be."""

from tests.e2e.conftest import last_line, succeeded
from tests.e2e.reach import wait_until


def test_what_kserve_denies_is_the_callers_mistake(service):
    """Its webhooks answer 403, as RBAC does, but no right is missing."""
    done = service.serve("--min-replicas", 3, "--max-replicas", 2, uri=service.published.uris[0])
    assert done.returncode == 2, done.stderr
    assert "denied the request" in last_line(done)
    assert "not allowed" not in last_line(done)
    assert service.object() is None


def test_an_address_that_resolves_nowhere_is_told_before_anything_changes(service):
    """KServe's default is a domain that nobody has."""
    service.apply(1)
    generation = service.object()["metadata"]["generation"]
    done = service.serve("--route", "url", uri=service.published.uris[1])
    assert done.returncode == 2, done.stderr
    assert "expected an address that resolves" in last_line(done)
    assert "--route api" in last_line(done)
    assert service.object()["metadata"]["generation"] == generation


def test_an_ingress_that_does_not_answer_is_told_before_anything_changes(service):
    """Nothing listens there."""
    done = service.serve("--route", "http://127.0.0.1:9", uri=service.published.uris[0])
    assert done.returncode == 2, done.stderr
    assert "expected an address that answers" in last_line(done)
    assert service.object() is None


def test_from_outside_the_smoke_test_takes_the_api_where_it_may(service):
    """No --route is needed, and the printed command goes the same way."""
    summary = service.folder / "summary.md"
    done = succeeded(service.serve("--route", "", "--summary", summary, uri=service.published.uris[0]))
    assert "asked by the Kubernetes API" in done.stderr
    [line] = [line for line in summary.read_text().splitlines() if line.startswith("kubectl create --raw")]
    request = service.folder / "request.json"
    request.write_text(f'{{"instances": [{service.published.instance}]}}')
    path = line.split()[3]
    assert "predictions" in service.cluster.kubectl("create", "--raw", path, "-f", str(request))


def test_a_step_that_was_superseded_ends_at_once_and_says_by_whom(service):
    """Somebody else's change of the specification is left alone."""
    service.apply(1)
    step = service.start("--timeout", 300, "--runtime-version", "0.0.1", uri=service.published.uris[1])
    wait_until(lambda: bool(service.object()["spec"].get("canary")))
    patch = '{"spec": {"predictor": {"timeout": 77}}}'
    command = ("patch", "inferenceservice", service.name, "-n", service.namespace, "--type=merge", "-p", patch)
    service.cluster.kubectl(*command, "--field-manager=somebody")
    _, stderr = step.communicate(timeout=60)
    assert step.returncode == 1
    assert "somebody changed the InferenceService" in stderr.splitlines()[-1]
    assert service.object()["spec"]["predictor"]["timeout"] == 77
