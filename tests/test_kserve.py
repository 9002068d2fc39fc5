"""The serve step on KServe: the decision on what a cluster shows, and the step against a double of its API."""

import time

import pytest

from tests.kserve_status import (
    FIRST,
    LATE,
    LOAD_FAILED,
    NO_RUNTIME,
    OLD,
    QUOTA,
    UNAVAILABLE,
    URI,
    URL,
    conditions,
    deployment,
    knative,
    last_line,
    standard,
)
from tests.kubernetes_api import SERVICES, Fault, Frame
from trainyard.components.serve.kserve import pods
from trainyard.components.serve.kserve.cluster import SERVICE, Namespace
from trainyard.components.serve.kserve.modes import look, mode_of
from trainyard.components.serve.kserve.rollout import Before, Goal, Patience, Phase, RolloutStatus
from trainyard.components.serve.kserve.watch import Watch


class Shown(Namespace):
    """A namespace in which there is one Deployment, or none."""

    def __init__(self, deployed):
        super().__init__("vision")
        self._deployed = deployed

    def get(self, kind, name):
        return self._deployed

    def listed(self, kind, **selectors):
        return []


def service(status, **metadata):
    return {"metadata": {"name": "mnist", **metadata}, "spec": {"predictor": {}}, "status": status}


@pytest.mark.parametrize(
    ("status", "deployed", "phase", "reason"),
    [
        pytest.param(standard(), deployment(), Phase.READY, "Ready", id="done"),
        pytest.param({}, None, Phase.ROLLING, "NotObserved", id="just created"),
        pytest.param(
            {"conditions": conditions(Ready=False)}, None, Phase.ROLLING, "NoDeploymentMode", id="no mode yet"
        ),
        pytest.param(standard(), deployment(OLD), Phase.ROLLING, "NotApplied", id="Ready=True is the old model's"),
        pytest.param(standard(), deployment(generation=1), Phase.ROLLING, "NotApplied", id="same URI, not changed yet"),
        pytest.param(standard(), deployment(observed=1), Phase.ROLLING, "NotObserved", id="update not begun"),
        pytest.param(standard(False), None, Phase.ROLLING, "NoDeployment", id="no Deployment yet"),
        pytest.param(
            standard(PredictorReady=UNAVAILABLE, Ready=False),
            deployment(updated=1, available=0),
            Phase.ROLLING,
            "Updating",
            id="Ready=False is no failure in a rollout",
        ),
        pytest.param(standard(), deployment(old=1), Phase.ROLLING, "Updating", id="old pods still there"),
        pytest.param(standard(), deployment(replicas=3, updated=2), Phase.ROLLING, "Updating", id="pods missing"),
        pytest.param(standard(IngressReady=False), deployment(), Phase.ROLLING, "IngressReady", id="no ingress yet"),
        pytest.param(
            standard(), deployment(conditions=[LATE]), Phase.FAILED, "ProgressDeadlineExceeded", id="too late"
        ),
        pytest.param(standard(), deployment(conditions=[QUOTA]), Phase.FAILED, "FailedCreate", id="quota"),
        pytest.param(
            standard(transition="BlockedByFailedLoad", failure=LOAD_FAILED),
            deployment(updated=1, old=1, available=1),
            Phase.FAILED,
            "ModelLoadFailed",
            id="the new model cannot be loaded while the old one serves",
        ),
        pytest.param(
            standard(transition="BlockedByFailedLoad", failure=LOAD_FAILED),
            deployment(),
            Phase.READY,
            "Ready",
            id="the failure was an old pod's",
        ),
        pytest.param(standard(failure=LOAD_FAILED), deployment(), Phase.READY, "Ready", id="last failure is long past"),
        pytest.param(
            standard(False, transition="InvalidSpec", failure=NO_RUNTIME), None, Phase.INVALID, "NoSupportingRuntime"
        ),
        pytest.param(
            standard(transition="InvalidSpec", failure=NO_RUNTIME), deployment(), Phase.INVALID, "NoSupportingRuntime"
        ),
        pytest.param(standard(Stopped=True), deployment(), Phase.FAILED, "Stopped", id="stopped"),
        pytest.param(
            standard(PredictorReady=("False", "ReconcileFailed", "no such service account"), Ready=False),
            deployment(OLD),
            Phase.FAILED,
            "ReconcileFailed",
        ),
        pytest.param(
            {"deploymentMode": "ModelMesh", "conditions": conditions(Ready=True)}, None, Phase.FAILED, "UnsupportedMode"
        ),
    ],
)
def test_a_standard_rollout_is_judged_by_its_deployment(status, deployed, phase, reason):
    seen = look(Shown(deployed), service(status), Goal(URI, changed=True), Before(generation=1))
    assert (seen.phase, seen.reason) == (phase, reason)


@pytest.mark.parametrize(
    ("status", "phase", "reason"),
    [
        pytest.param(knative(), Phase.READY, "Ready", id="done"),
        pytest.param(
            knative("r-1", "r-1", "r-1"), Phase.ROLLING, "NoNewRevision", id="Ready=True is the old revision's"
        ),
        pytest.param(knative(ready="r-1", rolled="r-1"), Phase.ROLLING, "RevisionNotReady", id="new one not ready"),
        pytest.param(
            knative(
                ready="r-1", rolled="r-1", PredictorConfigurationReady=("False", "RevisionFailed", "image missing")
            ),
            Phase.FAILED,
            "RevisionFailed",
            id="new one failed while the old one serves",
        ),
        pytest.param(knative(percent=10, rolled="r-1"), Phase.ROLLING, "Traffic", id="a canary's share"),
        pytest.param(knative(rolled="r-1"), Phase.ROLLING, "NotRolledOut", id="not rolled out"),
        pytest.param(knative(RoutesReady=False), Phase.ROLLING, "RoutesReady", id="no route yet"),
        pytest.param(
            knative(transition="InProgress"),
            Phase.READY,
            "Ready",
            id="scaled to zero: ready although nothing is loaded",
        ),
        pytest.param(
            knative(ready="r-1", transition="BlockedByFailedLoad", failure=LOAD_FAILED),
            Phase.FAILED,
            "ModelLoadFailed",
            id="cannot be loaded",
        ),
    ],
)
def test_a_knative_rollout_is_judged_by_its_revision(status, phase, reason):
    seen = look(Shown(None), service(status), Goal(URI, changed=True), Before(revision="r-1"))
    assert (seen.phase, seen.reason) == (phase, reason)


ENTRY = {"name": "v4", "ready": True, "trafficPercent": 10}
FAILED_LOAD = {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": LOAD_FAILED}


@pytest.mark.parametrize(
    ("status", "deployed", "goal", "phase", "reason"),
    [
        pytest.param(
            {**standard(CanaryPredictorReady=True), "canaryStatuses": [ENTRY]},
            deployment(),
            Goal(URI, True, 10, "v4"),
            Phase.READY,
            "Ready",
            id="Standard: done",
        ),
        pytest.param(
            standard(),
            deployment(),
            Goal(URI, True, 10, "v4"),
            Phase.ROLLING,
            "CanaryNotReady",
            id="Standard: not seen",
        ),
        pytest.param(
            {**standard(CanaryPredictorReady=True), "canaryStatuses": [{**ENTRY, "trafficPercent": 0}]},
            deployment(),
            Goal(URI, True, 10, "v4"),
            Phase.ROLLING,
            "Traffic",
            id="Standard: without its share",
        ),
        pytest.param(
            {**standard(CanaryPredictorReady=False), "canaryStatuses": [ENTRY]},
            deployment(),
            Goal(URI, True, 10, "v4"),
            Phase.ROLLING,
            "CanaryPredictorReady",
            id="Standard: no part of Ready",
        ),
        pytest.param(
            {**standard(), "canaryStatuses": [{**ENTRY, "ready": False, "modelStatus": FAILED_LOAD}]},
            deployment(available=0),
            Goal(URI, True, 10, "v4"),
            Phase.FAILED,
            "ModelLoadFailed",
            id="Standard: the canary's own failure, which KServe's schema has but 0.20.0 never tells",
        ),
        pytest.param(
            {**standard(), "canaryStatuses": [ENTRY]},
            deployment(),
            Goal(URI, False),
            Phase.ROLLING,
            "CanaryEnding",
            id="Standard: promoted or taken back, but still there",
        ),
        pytest.param(
            knative(percent=10, rolled="r-1"), None, Goal(URI, True, 10), Phase.READY, "Ready", id="Knative: done"
        ),
        pytest.param(knative(), None, Goal(URI, True, 10), Phase.ROLLING, "Traffic", id="Knative: more than its share"),
        pytest.param(
            knative(percent=0, rolled="r-1"), None, Goal(URI, True, 0), Phase.READY, "Ready", id="Knative: dark"
        ),
        pytest.param(
            knative(percent=10, rolled="r-1"), None, Goal(URI, percent=0, back=True), Phase.ROLLING, "Traffic"
        ),
        pytest.param(
            knative(ready="r-1", percent=0, rolled="r-1", PredictorReady=False, Ready=False),
            None,
            Goal(URI, percent=0, back=True),
            Phase.READY,
            "Ready",
            id="Knative: taken back though it never was ready",
        ),
    ],
)
def test_a_canary_is_judged_by_its_own_pods_and_its_share(status, deployed, goal, phase, reason):
    seen = look(Shown(deployed), service(status), goal, Before("r-1", 1))
    assert (seen.phase, seen.reason) == (phase, reason)


def address(url):
    return {"address": {"url": url}}


@pytest.mark.parametrize(
    ("status", "goal", "outside", "inside"),
    [
        (standard(), Goal(URI, True), URL, "http://mnist-predictor.vision.svc.cluster.local"),
        (standard() | address("http://a.vision.svc:8080"), Goal(URI, True), URL, "http://a.vision.svc:8080"),
        (standard(), Goal(URI, True, 10, "v4"), URL, "http://mnist-v4-predictor.vision.svc.cluster.local"),
        (
            standard() | address("http://mnist-predictor.vision.svc.cluster.local:8080"),
            Goal(URI, True, 10, "v4"),
            URL,
            "http://mnist-v4-predictor.vision.svc.cluster.local:8080",
        ),
        (knative() | address("http://mnist.vision.svc"), Goal(URI, True), URL, "http://mnist.vision.svc"),
        (
            knative(percent=10, rolled="r-1"),
            Goal(URI, True, 10),
            "http://latest-mnist-predictor.vision.example.com",
            "http://latest-mnist-predictor.vision.svc.cluster.local",
        ),
    ],
)
def test_each_version_has_an_address_of_its_own(status, goal, outside, inside):
    shown = service(status)
    assert mode_of(shown, Namespace("vision")).addresses(shown, goal) == (outside, inside)


def test_nothing_new_is_waited_for_when_nothing_was_changed():
    for status, deployed in ((knative("r-1", "r-1", "r-1"), None), (standard(), deployment(generation=1))):
        goal, before = Goal(URI, changed=False), Before("r-1", 1)
        assert look(Shown(deployed), service(status), goal, before).phase is Phase.READY


def test_a_service_that_is_deleted_meanwhile_has_failed():
    goal, before = Goal(URI, changed=True), Before()
    assert look(Shown(None), None, goal, before).reason == "Deleted"
    going = service(standard(), deletionTimestamp="2026-11-22T10:00:00Z")
    assert look(Shown(deployment()), going, goal, before).phase is Phase.FAILED


def test_a_failure_counts_when_it_lasts_and_heals_when_it_does_not():
    failed, rolling = RolloutStatus(Phase.FAILED, "ModelLoadFailed", grace=60), RolloutStatus(Phase.ROLLING, "Updating")
    patience = Patience(longest=600)
    seen = [(0, failed), (59, failed), (60, rolling), (61, failed), (120, failed), (121, failed)]
    phases = [patience.judge(one, now).phase for now, one in seen]
    assert phases == [Phase.ROLLING] * 5 + [Phase.FAILED]
    assert Patience(longest=5).judge(RolloutStatus(Phase.FAILED, "Stopped"), 0).phase is Phase.FAILED
    short = Patience(longest=5)
    assert [short.judge(failed, now).phase for now in (0, 4, 5)] == [Phase.ROLLING, Phase.ROLLING, Phase.FAILED]


def test_a_first_deployment_is_created_and_waited_for(serve_on_cluster, api, tmp_path):
    api.script = FIRST
    done = serve_on_cluster("--service-account", "models", "--endpoint", tmp_path / "url", uri=URI.rstrip("/"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{URL}/v1/models/mnist:predict" == (tmp_path / "url").read_text()
    assert "serve     mnist: not ready yet (Updating: 0 of 1 new pods)" in done.stderr
    service = api.service("mnist")
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    assert service["metadata"]["annotations"] == {"serving.kserve.io/deploymentMode": "Standard"}
    assert service["spec"] == {
        "predictor": {
            "model": {"modelFormat": {"name": "tensorflow"}, "runtimeVersion": "2.19.1", "storageUri": URI},
            "serviceAccountName": "models",
        }
    }


def test_an_update_is_not_called_ready_before_the_new_model_is(serve_on_cluster, api):
    """Right after the update everything still says Ready=True, of the old model."""
    api.script = [Frame(standard(), deployment(OLD, generation=1))]
    assert serve_on_cluster(uri=OLD).returncode == 0
    api.script = [
        Frame(standard(), deployment(OLD, generation=1)),
        Frame(standard(), deployment(URI, observed=1)),
        Frame(standard(), deployment(URI, updated=1, old=1)),
        Frame(standard(), deployment(URI)),
    ]
    done = serve_on_cluster()
    assert done.returncode == 0, done.stderr
    assert "NotApplied" in done.stderr
    assert "1 old pods have still to go" in done.stderr
    assert api.service("mnist")["spec"]["predictor"]["model"]["storageUri"] == URI
    again = serve_on_cluster()
    assert again.returncode == 0
    assert "unchanged InferenceService vision/mnist" in again.stderr


def test_a_model_that_cannot_be_loaded_ends_the_wait_early(serve_on_cluster, api):
    blocked = standard(False, transition="BlockedByFailedLoad", failure=LOAD_FAILED)
    api.script = [Frame(blocked, deployment(updated=1, available=0))]
    done = serve_on_cluster("--timeout", "15")
    assert done.returncode == 1
    why = "ModelLoadFailed: Storage initialization failed: no model found in digits/99/. (exit code 1)"
    assert last_line(done) == f"mnist: the rollout failed ({why}); deleted again, since nothing was served before"
    assert (SERVICES, "vision", "mnist") not in api.objects


def test_a_specification_that_kserve_cannot_serve_is_the_callers_mistake(serve_on_cluster, api):
    api.script = [Frame(standard(False, transition="InvalidSpec", failure=NO_RUNTIME))]
    done = serve_on_cluster("--timeout", "10", "--runtime-version", "9")
    assert done.returncode == 2
    line = "mnist: KServe cannot serve this (NoSupportingRuntime: no runtime supports tensorflow 9)"
    assert last_line(done).startswith(line)


def test_the_deadline_tells_the_last_state_in_words(serve_on_cluster, api):
    api.script = [Frame(standard(PredictorReady=UNAVAILABLE, Ready=False), deployment(available=0))]
    done = serve_on_cluster("--timeout", "2")
    assert done.returncode == 1
    assert "mnist: not ready after 2 s (Updating: 0 of 1 new pods answer)" in last_line(done)
    assert "Deployment does not have minimum availability" in last_line(done)


def test_conflicts_and_a_busy_api_are_tried_again(serve_on_cluster, api):
    api.script = [Frame(standard(), deployment(OLD, generation=1))]
    assert serve_on_cluster(uri=OLD).returncode == 0
    api.script = [Frame(standard(), deployment())]
    api.faults = [
        Fault("PATCH", 409, "the object has been modified", times=2),
        Fault("GET", 503, "the server is currently unable to handle the request", times=2),
        Fault("GET", 429, "too many requests"),
    ]
    done = serve_on_cluster()
    assert done.returncode == 0, done.stderr
    assert [fault.times for fault in api.faults] == [0, 0, 0]


FORBIDDEN = (
    'inferenceservices.serving.kserve.io is forbidden: User "system:serviceaccount:vision:runner" cannot create '
    'resource "inferenceservices" in API group "serving.kserve.io" in the namespace "vision"'
)
DENIED = 'admission webhook "inferenceservice.kserve-webhook-server.validator" denied the request: name is too long'


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        (
            Fault("POST", 403, FORBIDDEN),
            1,
            "not allowed to create inferenceservices.serving.kserve.io in namespace vision",
        ),
        (Fault("POST", 403, DENIED), 2, DENIED),
        (Fault("POST", 422, "spec.predictor: Invalid value"), 2, "spec.predictor: Invalid value"),
        (Fault("POST", 404, "the server could not find the requested resource"), 1, "install KServe"),
        (Fault("GET", 401, "Unauthorized"), 1, "does not accept the credentials"),
        (Fault("GET", 500, "etcdserver: leader changed", times=99), 1, "etcdserver: leader changed"),
    ],
)
def test_a_refusal_of_the_cluster_is_told_in_one_plain_line(serve_on_cluster, api, fault, code, text):
    api.faults = [fault]
    done = serve_on_cluster("--timeout", "30")
    assert done.returncode == code
    assert text in last_line(done)
    assert "Traceback" not in done.stderr
    assert (SERVICES, "vision", "mnist") not in api.objects


def test_a_missing_or_silent_cluster_is_told_in_one_plain_line(serve_on_cluster, tmp_path):
    done = serve_on_cluster(env={"KUBECONFIG": str(tmp_path / "none"), "HOME": str(tmp_path)})
    assert done.returncode == 1
    assert "--target process" in last_line(done)
    silent = tmp_path / "silent"
    text = (tmp_path / "kubeconfig").read_text()
    silent.write_text(text.replace(text.partition('"server": "')[2].partition('"')[0], "http://127.0.0.1:9"))
    done = serve_on_cluster(env={"KUBECONFIG": str(silent)})
    assert done.returncode == 1
    assert "the cluster at http://127.0.0.1:9 does not answer" in last_line(done)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--model-name", "MNIST"], "--model-name: expected at most 53 lower-case letters"),
        (["--model-uri", "runs/latest/model"], "export the model first"),
    ],
)
def test_what_no_cluster_can_take_is_refused_before_it_is_asked(serve_on_cluster, api, options, text):
    done = serve_on_cluster(*options)
    assert done.returncode == 2
    assert text in last_line(done)
    assert api.requests == []


@pytest.mark.parametrize(
    ("state", "previous"),
    [
        ({"running": {}}, True),
        ({"waiting": {"reason": "CrashLoopBackOff"}}, False),
        ({"terminated": {"exitCode": 3, "reason": "Error"}}, False),
    ],
)
def test_the_log_that_is_told_is_that_of_the_container_which_ended_last(state, previous):
    """The kubelet keeps one or two of them, and writes a line of its own in place of one that it has removed."""
    container = {"name": "server", "state": state, "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}}}
    pod = {"metadata": {"name": "new"}, "status": {"containerStatuses": [container]}}
    logs = {previous: "no such setting", not previous: "unable to retrieve container logs for containerd://1"}
    ended = "pod new: container server ended with exit code 3"
    assert pods.trouble([pod], lambda *asked: logs[asked[-1]]).message == f"{ended}: no such setting"
    assert pods.trouble([pod], lambda *asked: logs[not previous]).message == ended


def test_a_right_that_is_missing_for_a_moment_is_no_failure():
    """An API server that has just started does not know all roles yet, and answers 403."""

    class Starting(Shown):
        looks = 0

        def get(self, kind, name):
            self.looks += 1
            if self.looks < 3:
                raise PermissionError("not allowed to get inferenceservices.serving.kserve.io")
            return service(standard()) if kind == SERVICE else deployment()

    watch = Watch(Starting(None), "mnist", 60, lambda line: None)
    assert watch.until_ready(Goal(""), Before(), time.monotonic() + 60)["status"] == standard()
