"""Knative mode: a revision gets requests when it has proved itself, and a rejected one never again."""

import time

import pytest

from tests.e2e.conftest import last_line, succeeded
from tests.e2e.reach import wait_until
from tests.e2e.test_failures import FIRST_OR_UPDATE, SAID, fails, too_large


@pytest.fixture
def revisions(knative):
    """The service with version 1 in place."""
    knative.apply(1)
    return knative


@pytest.fixture
def canary(revisions):
    """The service with version 2 as a canary of 10 percent."""
    succeeded(revisions.serve("--canary-percent", 10, uri=revisions.published.uris[1]))
    return revisions


def shares(service) -> list[int | None]:
    """The share that the newest version has by the specification, and by the traffic that Knative tells."""
    there = service.object()
    traffic = there["status"]["components"]["predictor"].get("traffic") or []
    told = sum(one.get("percent") or 0 for one in traffic if one.get("latestRevision"))
    return [there["spec"]["predictor"].get("canaryTrafficPercent"), told]


def answered(service, seconds: float = 3) -> list[set[str]]:
    """Which versions answer, by each way."""
    with service.asked() as clients:
        time.sleep(seconds)
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    return [set(seen.answers) for seen in clients]


def test_an_update_stands_without_requests_until_it_has_proved_itself(revisions):
    """It is asked at its own address first; then both revisions answer in turn, and no request fails."""
    seen = []
    with revisions.asked() as clients:
        step = revisions.start(uri=revisions.published.uris[1])
        while step.poll() is None:
            seen.append(shares(revisions)[0])
        _, stderr = step.communicate()
    assert step.returncode == 0, stderr
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    assert all(set(one.answers) == {"v1", "v2"} for one in clients), clients
    changes = [share for share, before in zip(seen, [object(), *seen], strict=False) if share != before]
    assert changes == [None, 0, None]
    assert answered(revisions) == [{"v2"}] * len(clients)


def test_an_update_that_fails_its_smoke_test_gets_no_request(revisions):
    """The stable model is named, and has all requests all the time."""
    with revisions.asked() as clients:
        done = revisions.serve("--timeout", 300, uri=revisions.published.lying)
    assert done.returncode == 1, done.stderr
    assert "smoke test" in last_line(done)
    assert last_line(done).endswith(f"rolled back to {revisions.published.uris[0]}")
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    assert [set(seen.answers) for seen in clients] == [{"v1"}] * len(clients)
    assert shares(revisions) == [None, 100]
    assert len(revisions.cluster.listed("revisions.serving.knative.dev", revisions.namespace)) == 3


def test_an_update_that_goes_direct_and_answers_wrongly_is_taken_back(revisions):
    """It has had requests by then; afterwards the stable model has them all again."""
    with revisions.asked() as clients:
        done = revisions.serve("--direct", "true", "--timeout", 300, uri=revisions.published.lying)
    assert done.returncode == 1, done.stderr
    assert last_line(done).endswith(f"rolled back to {revisions.published.uris[0]}")
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    assert answered(revisions) == [{"v1"}] * len(clients)


def test_a_canary_gets_its_share_and_is_promoted(canary):
    """Of some hundred requests about a tenth, and then all."""
    with canary.asked() as clients:
        time.sleep(20)
    answers = clients[-1].answers
    assert 0.03 < answers["v2"] / answers.total() < 0.2, answers
    with canary.asked() as clients:
        succeeded(canary.serve("--action", "promote"))
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    assert answered(canary) == [{"v2"}] * len(clients)


def test_a_rollback_fails_no_request(canary):
    """All requests are the stable model's again."""
    with canary.asked() as clients:
        succeeded(canary.serve("--action", "rollback"))
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    assert answered(canary) == [{"v1"}] * len(clients)


def test_a_canary_of_no_percent_is_asked_by_itself_and_by_nobody_else(revisions):
    """It has an address of its own."""
    with revisions.asked() as clients:
        succeeded(revisions.serve("--canary-percent", 0, uri=revisions.published.uris[1]))
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    assert [set(seen.answers) for seen in clients] == [{"v1"}] * len(clients)


def test_an_update_over_an_open_canary_leaves_the_stable_model_its_requests(canary):
    """Neither the canary nor the new version, which fails its smoke test, gets what it has not earned."""
    with canary.asked() as clients:
        done = canary.serve("--timeout", 300, uri=canary.published.lying)
    assert done.returncode == 1, done.stderr
    assert last_line(done).endswith(f"rolled back to {canary.published.uris[0]}")
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    answers = clients[-1].answers
    assert answers["v2"] / answers.total() < 0.2, answers
    assert answered(canary) == [{"v1"}] * len(clients)


@pytest.mark.parametrize("how", ["missing", "lying"])
def test_a_rejected_model_gets_nothing_from_a_later_rollout_that_fails(canary, how):
    """After a rollback, an update that cannot succeed leaves all requests with the stable model."""
    succeeded(canary.serve("--action", "rollback"))
    missing = canary.published.uris[0].replace("/digits/1/", "/digits/99/")
    wait_until(lambda: answered(canary, 1) == [{"v1"}] * 2)
    with canary.asked() as clients:
        if how == "missing":
            done = canary.serve("--smoke-test", "false", "--timeout", 300, uri=missing)
        else:
            done = canary.serve("--timeout", 300, uri=canary.published.lying)
    assert done.returncode, "a model that cannot be served was rolled out"
    assert last_line(done).endswith(f"rolled back to {canary.published.uris[0]}")
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    assert [set(seen.answers) for seen in clients] == [{"v1"}] * len(clients)


def test_a_rejected_model_can_be_applied_after_all(canary):
    """Its revision is there already."""
    succeeded(canary.serve("--action", "rollback"))
    with canary.asked() as clients:
        canary.apply(2)
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    assert answered(canary) == [{"v2"}] * len(clients)
    assert shares(canary) == [None, 100]


@FIRST_OR_UPDATE
@pytest.mark.parametrize("how", SAID, ids=lambda how: how.__name__)
def test_pods_that_cannot_run_are_told_early(knative, how, update):
    """Knative's own words say less than the pods of the revision; `--direct` makes no room here."""
    options, uri = how(knative)
    said = fails(knative, update, *options, uri=uri)
    assert all(words in said for words in SAID[how]), said
    assert ("a second copy needs room: free some;" in said) == (how is too_large and update), said
    if update:
        assert said.endswith(f"rolled back to {knative.published.uris[0]}")


@FIRST_OR_UPDATE
def test_a_model_that_is_not_there_is_told_early(knative, update):
    """KServe's own words for what its storage initializer met."""
    uri = knative.published.uris[0].replace("/digits/1/", "/digits/99/")
    said = fails(knative, update, "--smoke-test", "false", uri=uri)
    assert "ModelLoadFailed" in said or "digits/99" in said, said


def test_a_step_that_was_superseded_ends_at_once_and_says_by_whom(revisions):
    """Somebody else's change of the specification is left alone."""
    step = revisions.start("--timeout", 300, "--runtime-version", "0.0.1", uri=revisions.published.uris[1])
    wait_until(lambda: shares(revisions)[0] == 0)
    patch = '{"spec": {"predictor": {"timeout": 77}}}'
    command = ("patch", "inferenceservice", revisions.name, "-n", revisions.namespace, "--type=merge", "-p", patch)
    revisions.cluster.kubectl(*command, "--field-manager=somebody")
    _, stderr = step.communicate(timeout=60)
    assert step.returncode == 1
    assert "somebody changed the InferenceService" in stderr.splitlines()[-1]
    assert revisions.object()["spec"]["predictor"]["timeout"] == 77
