"""Rollouts on KServe from beginning to end: canaries, smoke tests and what is taken back when one fails.

KServe's part is played from recorded rollouts by the API double; the endpoint is a real server over HTTP.
"""

import copy
import json
import signal
import ssl
import subprocess
import sys
import threading
import time

import pytest
import yaml

from tests.conftest import PROJECT, outside_aws
from tests.kserve_status import (
    FIRST,
    LOAD_FAILED,
    OLD,
    PROBABILITIES,
    URI,
    URL,
    conditions,
    deployment,
    last_line,
    standard,
)
from tests.kubernetes_api import DEPLOYMENTS, GATEWAYS, INGRESSES, ROUTES, SERVICES, Fault, Frame

RIGHT, WRONG, ANOTHER = PROBABILITIES, [0.9, 0.1], [0.2, 0.8]
PROGRESSED = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
CANARY_READY = conditions(CanaryPredictorReady=True)[0]


@pytest.fixture
def in_standard(serve_on_cluster, api):
    """A service that has been rolled out in Standard mode."""
    api.script = [Frame(standard(), deployment(OLD, generation=1))]
    assert serve_on_cluster(uri=OLD).returncode == 0
    return copy.deepcopy(spec_of(api))


def spec_of(api):
    return api.service("mnist")["spec"]


def canary_of(api):
    return spec_of(api)["canary"][0]


def with_canary(name, percent):
    """A Standard status with one canary, of which KServe tells no modelStatus."""
    status = standard()
    told = {"name": name, "ready": True, "trafficPercent": percent}
    return {**status, "canaryStatuses": [told], "conditions": [*status["conditions"], CANARY_READY]}


EVERY_OPTION = [
    *("--model-format", "sklearn", "--runtime-version", "1.5", "--runtime", "kserve-sklearnserver"),
    *("--service-account", "models", "--storage-secret", "store", "--request-timeout", "20"),
    *("--min-replicas", "2", "--max-replicas", "5", "--scale-metric", "concurrency", "--scale-target", "8"),
    *("--cpu-request", "500m", "--cpu-limit", "2", "--memory-request", "512Mi", "--memory-limit", "2Gi"),
    *("--predictor-gpus", "1", "--node-selector", '{"disk": "ssd"}', "--labels", '{"team": "vision"}'),
    *("--annotations", '{"owner": "me"}', "--sidecar-injection", "false", "--deployment-mode", "Knative"),
]
EVERY_FIELD = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {
        "name": "mnist",
        "annotations": {
            "owner": "me",
            "serving.kserve.io/deploymentMode": "Knative",
            "serving.kserve.io/storageSecretName": "store",
            "sidecar.istio.io/inject": "false",
        },
        "labels": {"team": "vision"},
    },
    "spec": {
        "predictor": {
            "model": {
                "modelFormat": {"name": "sklearn"},
                "runtime": "kserve-sklearnserver",
                "runtimeVersion": "1.5",
                "storageUri": URI,
                "resources": {
                    "requests": {"cpu": "500m", "memory": "512Mi", "nvidia.com/gpu": "1"},
                    "limits": {"cpu": "2", "memory": "2Gi", "nvidia.com/gpu": "1"},
                },
            },
            "serviceAccountName": "models",
            "timeout": 20,
            "minReplicas": 2,
            "maxReplicas": 5,
            "scaleMetric": "concurrency",
            "scaleTarget": 8,
            "nodeSelector": {"disk": "ssd"},
        }
    },
}


def dry_run(step, *options, uri=URI):
    done = step("serve", "--model-uri", uri, "--dry-run", "true", *options, env={"KUBECONFIG": "/none"})
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


def test_a_dry_run_prints_the_manifest_of_every_option_without_a_cluster(step, kserve_models):
    manifest = dry_run(step, *EVERY_OPTION)
    assert manifest == EVERY_FIELD
    assert kserve_models(manifest) == []


@pytest.mark.parametrize(
    ("uri", "options", "name"),
    [
        ("s3://models/photos/1/", [], "photos"),
        ("s3://models/team/photos/12", [], "photos"),
        ("s3://models/photos/1/", ["--model-name", "cats"], "cats"),
    ],
)
def test_a_service_is_named_as_the_published_model_unless_it_is_said(step, uri, options, name):
    assert dry_run(step, *options, uri=uri)["metadata"]["name"] == name


def test_a_service_of_a_model_without_a_name_is_named_as_the_inference_service_given(step):
    assert dry_run(step, "--inference-service", WHOLE, uri="gs://models/photos/")["metadata"]["name"] == "mnist"


@pytest.mark.parametrize("model_format", ["tensorflow", "sklearn", "xgboost", "pytorch", "onnx", "triton"])
def test_any_model_format_is_served_and_only_tensorflow_gets_a_version_by_itself(step, kserve_models, model_format):
    manifest = dry_run(step, "--model-format", model_format)
    model = manifest["spec"]["predictor"]["model"]
    assert model["modelFormat"] == {"name": model_format}
    assert ("runtimeVersion" in model) == (model_format == "tensorflow")
    assert kserve_models(manifest) == []


def test_a_model_server_of_ones_own_gets_the_model_by_its_environment(step, kserve_models):
    manifest = dry_run(step, "--image", "registry/server:1", "--cpu-limit", "1", "--canary-percent", "100")
    container = manifest["spec"]["predictor"]["containers"][0]
    assert container["image"] == "registry/server:1"
    assert container["env"] == [{"name": "STORAGE_URI", "value": URI}]
    assert container["resources"] == {"limits": {"cpu": "1"}}
    assert kserve_models(manifest) == []


WHOLE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: mnist
  annotations: {owner: them}
spec:
  predictor:
    minReplicas: 3
    tolerations: [{key: gpu, operator: Exists}]
    tensorflow:
      storageUri: s3://elsewhere/1/
      runtimeVersion: 2.18.0
"""


def test_options_override_a_whole_inference_service_given_as_yaml_or_as_a_file(step, kserve_models, tmp_path):
    (tmp_path / "service.yaml").write_text(WHOLE)
    for given in (WHOLE, tmp_path / "service.yaml"):
        manifest = dry_run(
            step, "--inference-service", given, "--min-replicas", "1", "--annotations", '{"owner": "me"}'
        )
        predictor = manifest["spec"]["predictor"]
        assert predictor["minReplicas"] == 1
        assert predictor["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
        assert predictor["model"] == {
            "modelFormat": {"name": "tensorflow"},
            "storageUri": URI,
            "runtimeVersion": "2.18.0",
        }
        assert manifest["metadata"]["annotations"]["owner"] == "me"
        assert kserve_models(manifest) == []


def test_kserves_own_models_find_what_would_be_dropped_in_silence(kserve_models):
    wrong = {"model": {"modelFormat": {"name": "onnx"}, "storageURI": URI}, "minReplicas": "two"}
    assert kserve_models({"apiVersion": "a", "kind": "b", "metadata": {}, "spec": {"predictor": wrong}}) == [
        'unknown field "spec.predictor.model.storageURI"',
        ".spec.predictor.minReplicas: expected int, received 'two'",
    ]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--action", "upgrade"], "--action: expected one of apply, promote, rollback, delete, status"),
        (["--canary-percent", "101"], "--canary-percent: expected 0 to 100"),
        (["--auto-promote", "true"], "--auto-promote: expected a canary to promote"),
        (["--deployment-mode", "Raw"], "--deployment-mode: expected Standard or Knative"),
        (["--min-replicas", "0"], "only Knative scales to zero"),
        (["--image", "a", "--model-format", "onnx"], "--image: expected no --model-format"),
        (["--sidecar-injection", "no"], "--sidecar-injection: expected true or false"),
        (["--labels", '{"replicas": 2}'], "--labels: expected text for replicas, received 2; put it in quotes"),
        (["--route", "gateway"], "--route: expected url, cluster, api or the URL of an ingress"),
        (["--inference-service", "/none.yaml"], "--inference-service: expected YAML or a file with it"),
        (["--inference-service", "kind: Pod\n"], "one object of kind InferenceService"),
        (["--inference-service", WHOLE, "--model-name", "digits"], "--model-name: expected 'mnist'"),
        (["--action", "promote", "--dry-run", "true"], "--dry-run: expected --action apply"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_changed(serve_on_cluster, api, options, text):
    done = serve_on_cluster(*options)
    assert done.returncode == 2
    assert text in last_line(done)
    assert api.writes == []


def test_a_json_option_that_is_no_object_is_refused(step):
    done = step("serve", "--labels", "team=vision")
    assert done.returncode == 2
    assert "expected a JSON object, received 'team=vision'" in done.stderr


def test_outputs_tell_what_runs_now_from_where_and_since_when(serve_on_cluster, api, tmp_path):
    done_at = {**PROGRESSED, "lastUpdateTime": "2026-11-22T10:00:00Z"}
    rolled = deployment(conditions=[done_at])
    rolled["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "3"}
    api.script = [*FIRST[:2], Frame(standard(), rolled)]
    files = {name: tmp_path / "outputs" / name for name in ("endpoint", "revision", "status", "summary")}
    executor = {
        "outputs": {
            "artifacts": {"summary": {"artifacts": [{"name": "summary", "uri": "x", "type": {}}]}},
            "outputFile": str(tmp_path / "executor.json"),
        }
    }
    options = [part for name, path in files.items() for part in (f"--{name}", path)]
    done = serve_on_cluster(*options, "--executor-input", json.dumps(executor))
    assert done.returncode == 0, done.stderr
    assert f"no examples published with {URI}; its answers are not tested" in done.stderr
    assert files["endpoint"].read_text() == f"{URL}/v1/models/mnist:predict"
    assert files["revision"].read_text() == "mnist-predictor/3"
    version = {"revision": "mnist-predictor/3", "uri": URI, "percent": 100, "state": "Ready"}
    assert json.loads(files["status"].read_text()) == {
        "name": "mnist",
        "where": "namespace vision",
        "endpoint": f"{URL}/v1/models/mnist:predict",
        "serving": [{**version, "since": "2026-11-22T10:00:00Z"}],
    }
    summary = files["summary"].read_text()
    assert f"| mnist-predictor/3 | 100 % | Ready | 2026-11-22T10:00:00Z | {URI} |" in summary
    assert f"curl -d @request.json {URL}/v1/models/mnist:predict" in summary
    assert "summary" in json.loads((tmp_path / "executor.json").read_text())["artifacts"]

    status = serve_on_cluster("--action", "status", uri="")
    assert status.returncode == 0, status.stderr
    assert status.stdout.splitlines()[0] == f"mnist in namespace vision: {URL}/v1/models/mnist:predict"
    assert status.stdout.splitlines()[2].split() == [
        *("mnist-predictor/3", "100", "%", "Ready", "2026-11-22T10:00:00Z", URI)
    ]
    missing = serve_on_cluster("--action", "status", "--model-name", "other", uri="")
    assert missing.returncode == 2
    assert "'other', which does not exist" in last_line(missing)


def test_the_smoke_test_asks_an_ingress_for_the_service_until_it_answers(serve_on_cluster, api, published, endpoint):
    """An ingress may need a moment before it knows the way."""
    uri = published(4)
    api.script = [Frame(standard(), deployment(uri))]
    endpoint.answers = [404, 503, RIGHT]
    done = serve_on_cluster("--route", endpoint.url, uri=uri)
    assert done.returncode == 0, done.stderr
    assert f"answers 1 known examples as at evaluation, asked by {endpoint.url}" in done.stderr
    assert set(endpoint.asked) == {("mnist.vision.example.com", "/v1/models/mnist:predict")}


def test_an_ingress_whose_certificate_is_not_trusted_is_told_before_anything_changes(
    serve_on_cluster, api, published, endpoint, certificate
):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    endpoint.socket = context.wrap_socket(endpoint.socket, server_side=True)
    done = serve_on_cluster("--route", endpoint.url.replace("http", "https"), uri=published(4))
    assert done.returncode == 2
    assert "certificate verify failed" in last_line(done)
    assert api.writes == []


@pytest.fixture
def gateway(api, endpoint, published):
    """A Gateway before a service whose own pods answer rightly; `endpoint` answers for it."""
    name = "kserve-ingress-gateway"
    listener = {"name": "http", "protocol": "HTTP", "port": int(endpoint.url.rpartition(":")[2])}
    api.objects[ROUTES, "vision", "mnist"] = {"spec": {"parentRefs": [{"namespace": "kserve", "name": name}]}}
    api.objects[GATEWAYS, "kserve", name] = {
        "spec": {"listeners": [listener]},
        "status": {"addresses": [{"type": "IPAddress", "value": "127.0.0.1"}]},
    }
    api.rights, api.behind = ["create services/proxy"], behind_the_api([], [RIGHT])
    api.script = [Frame(standard(), deployment(published(4)))]
    return endpoint


def test_a_service_is_ready_when_its_gateway_answers_steadily(serve_on_cluster, published, gateway):
    """Its routes follow with a delay, in each of its servers for itself."""
    gateway.answers = [404, RIGHT, RIGHT, 503, RIGHT]
    done = serve_on_cluster(uri=published(4))
    assert done.returncode == 0, done.stderr
    assert f"asked by {gateway.url}" in done.stderr
    assert gateway.asked == [("mnist.vision.example.com", "/v1/models/mnist:predict")] * (4 + 5)


@pytest.mark.parametrize("host", [{"ip": "127.0.0.1"}, {"hostname": "localhost"}], ids=["ip", "hostname"])
def test_without_the_gateway_api_the_address_of_the_ingress_is_asked(serve_on_cluster, api, published, gateway, host):
    """KServe names the Ingress like the service; its controller writes where it is reached."""
    del api.objects[ROUTES, "vision", "mnist"]
    port = int(gateway.url.rpartition(":")[2])
    there = {**host, "ports": [{"port": 443, "protocol": "TCP"}, {"port": port, "protocol": "TCP"}]}
    api.objects[INGRESSES, "vision", "mnist"] = {"spec": {}, "status": {"loadBalancer": {"ingress": [there]}}}
    done = serve_on_cluster(uri=published(4))
    assert done.returncode == 0, done.stderr
    assert f"asked by http://{next(iter(host.values()))}:{port}" in done.stderr
    assert gateway.asked == [("mnist.vision.example.com", "/v1/models/mnist:predict")] * 5


def test_an_ingress_that_no_controller_serves_has_no_address(serve_on_cluster, api, published, gateway):
    """KServe reports the service ready all the same; its URL resolves nowhere."""
    del api.objects[ROUTES, "vision", "mnist"]
    api.objects[INGRESSES, "vision", "mnist"] = {"spec": {}, "status": {"loadBalancer": {}}}
    done = serve_on_cluster(uri=published(4))
    assert done.returncode == 0, done.stderr
    assert "not tested from outside the cluster (--route: expected an address that resolves" in done.stderr
    assert gateway.asked == []


def test_a_gateway_that_never_answers_is_told_in_words(serve_on_cluster, api, published, gateway):
    gateway.answers = [404]
    done = serve_on_cluster("--timeout", "3", uri=published(4))
    assert done.returncode == 1
    assert f"ready, but not reachable for clients at {gateway.url} after 3 s" in last_line(done)
    assert last_line(done).endswith("; deleted again, since nothing was served before")


def test_a_gateway_that_lets_in_nobody_unknown_is_no_failure(serve_on_cluster, published, gateway):
    gateway.answers = [401]
    done = serve_on_cluster(uri=published(4))
    assert done.returncode == 0, done.stderr
    assert "not tested from outside the cluster" in done.stderr


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (WRONG, "expected '1' for test image 7 as at evaluation, received '0'"),
        (ANOTHER, "received some that are 0.100 apart; another model answers"),
        (400, "ready, but the smoke test got no answer"),
    ],
)
def test_a_model_that_does_not_prove_itself_is_taken_back(
    serve_on_cluster, api, published, endpoint, in_standard, answer, text
):
    uri = published(4)
    rolled_out = deployment(uri, replicas=2, updated=2)
    api.scripts = [[Frame(standard(), rolled_out)], [Frame(standard(), deployment(OLD, generation=3))]]
    endpoint.answers = [answer]
    done = serve_on_cluster("--route", endpoint.url, "--timeout", "10", "--min-replicas", "2", uri=uri)
    assert done.returncode == 1
    assert text in last_line(done)
    assert last_line(done).endswith(f"; rolled back to {OLD}")
    assert api.writes[-2]["spec"]["predictor"]["model"]["storageUri"] == uri
    assert spec_of(api) == in_standard


def test_a_model_of_other_classes_does_not_take_the_place_of_the_served_one(serve_on_cluster, api, published):
    """Unless that is what is meant. Where a card cannot be read, there is nothing to compare, which is said."""
    served, other = published(3), published(4, classes=["cat", "dog"])
    api.script = [Frame(standard(), deployment(served, generation=1))]
    assert serve_on_cluster("--smoke-test", "false", uri=served).returncode == 0
    writes = len(api.writes)
    done = serve_on_cluster("--smoke-test", "false", uri=other)
    assert done.returncode == 2
    assert last_line(done) == (
        "mnist: expected the classes of the served version, received them without 0, 1 and with cat, dog; "
        "pass another --model-name, or --replace-different true"
    )
    assert len(api.writes) == writes
    api.script = [Frame(standard(), deployment(other))]
    done = serve_on_cluster("--smoke-test", "false", "--replace-different", "true", uri=other)
    assert done.returncode == 0, done.stderr
    api.script = [Frame(standard(), deployment(URI, generation=3))]
    done = serve_on_cluster("--smoke-test", "false")
    assert done.returncode == 0, done.stderr
    assert f"not compared with the served version, whose card cannot be read ({URI}model.json" in done.stderr


def test_a_first_version_that_does_not_prove_itself_answers_nobody(serve_on_cluster, api, published, endpoint):
    uri = published(4)
    api.script = [Frame(standard(), deployment(uri))]
    endpoint.answers = [WRONG]
    done = serve_on_cluster("--route", endpoint.url, "--timeout", "10", uri=uri)
    assert done.returncode == 1
    assert last_line(done).endswith("; deleted again, since nothing was served before")
    assert (SERVICES, "vision", "mnist") not in api.objects


def test_a_smoke_test_that_cannot_read_its_examples_ends_before_anything_is_changed(serve_on_cluster, api):
    done = serve_on_cluster(env={"AWS_SECRET_ACCESS_KEY": "wrong"})
    assert done.returncode == 1
    assert last_line(done).endswith("or pass --smoke-test false")
    assert api.writes == []
    api.script = [Frame(standard(), deployment())]
    assert serve_on_cluster("--smoke-test", "false", env={"AWS_SECRET_ACCESS_KEY": "wrong"}).returncode == 0


def test_a_load_that_fails_first_and_then_succeeds_is_no_failure(serve_on_cluster, api):
    blocked = standard(False, transition="BlockedByFailedLoad", failure=LOAD_FAILED)
    rolling = deployment(updated=1, available=0)
    recovered = standard(failure=LOAD_FAILED)  # the failure stays there for good
    api.script = [*[Frame(blocked, rolling)] * 3, Frame(standard(False), rolling), Frame(recovered, deployment())]
    done = serve_on_cluster("--timeout", "60")
    assert done.returncode == 0, done.stderr
    assert "ModelLoadFailed" in done.stderr


def owned(name, uid, owner, status=None, revision=""):
    """A ReplicaSet or a pod of one."""
    metadata = {"name": name, "uid": uid, "ownerReferences": [{"uid": owner}]}
    return {
        "metadata": {**metadata, "annotations": {"deployment.kubernetes.io/revision": revision}},
        "status": status or {},
    }


def waits(reason, message):
    state = {"waiting": {"reason": reason, "message": message}}
    return {"containerStatuses": [{"name": "server", "image": "tensorflow/serving:0.0.1", "state": state}]}


def ended(code):
    last = {"terminated": {"exitCode": code, "reason": "Error"}}
    running = {"state": {"running": {}}, "lastState": last, "ready": False, "restartCount": 3}
    return {"containerStatuses": [{"name": "server", **running}]}


def unscheduled(message):
    """The status of a pod for which no node has room."""
    return {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}]}


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (
            waits("ErrImagePull", 'Back-off pulling image "tensorflow/serving:0.0.1"'),
            'ImagePullBackOff: pod new: Back-off pulling image "tensorflow/serving:0.0.1"',
        ),
        (
            waits("ImagePullBackOff", f"Back-off pulling: failed to resolve {'long-name/' * 30}image: no such host"),
            "ImagePullBackOff: pod new: tensorflow/serving:0.0.1: ... no such host",
        ),
        (ended(3), "CrashLoopBackOff: pod new: container server ended with exit code 3: no such setting"),
        (unscheduled("0/1"), "Unschedulable: pod new: 0/1"),
        (
            unscheduled(
                "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are "
                "available: 1 No preemption victims found for incoming pod."
            ),
            "Unschedulable: pod new: 0/1 nodes are available: 1 Insufficient cpu",
        ),
    ],
)
def test_what_keeps_the_new_pods_from_running_ends_the_wait_early(serve_on_cluster, api, in_standard, status, text):
    """KServe calls the service ready all the time; pods of older ReplicaSets say nothing about this rollout."""
    stuck = deployment(updated=1, old=1, available=1)
    api.scripts = [[Frame(standard(), stuck)], [Frame(standard(), deployment(OLD, generation=3))]]
    api.replicasets = [owned("1", "rs-1", "deployment", revision="1"), owned("2", "rs-2", "deployment", revision="2")]
    api.pods = [owned("old", "a", "rs-1", ended(9)), owned("new", "b", "rs-2", status)]
    api.log = "reading the settings\nno such setting\n"
    done = serve_on_cluster("--timeout", "20", "--runtime-version", "0.0.1")
    assert done.returncode == 1
    assert f"the rollout failed ({text})" in last_line(done)
    assert last_line(done).endswith(f"; rolled back to {OLD}")
    assert spec_of(api) == in_standard


def test_nothing_is_taken_back_that_others_have_changed_meanwhile(serve_on_cluster, api, in_standard):
    def others_change_it():
        while api.service("mnist")["metadata"]["generation"] < 2:
            time.sleep(0.05)
        with api._lock:
            wrote = {"manager": "edit", "time": "2026-11-22T10:00:00Z", "fieldsV1": {"f:spec": {}}}
            api.service("mnist")["metadata"]["managedFields"] = [wrote]
            api.service("mnist")["metadata"]["generation"] += 1

    api.script = [Frame(standard(False), deployment(updated=0))]
    threading.Thread(target=others_change_it, daemon=True).start()
    began = time.monotonic()
    done = serve_on_cluster("--timeout", "100")
    assert done.returncode == 1
    assert time.monotonic() - began < 60
    assert "Superseded: edit changed the InferenceService at 2026-11-22T10:00:00Z (generation 3)" in last_line(done)
    assert "not rolled back, since others have changed the service meanwhile" in last_line(done)
    assert spec_of(api)["predictor"]["model"]["storageUri"] == URI


def test_a_roll_back_that_the_cluster_refuses_is_told_with_the_failure(serve_on_cluster, api):
    api.script = [Frame(standard(False), deployment(updated=0))]
    api.faults = [Fault("DELETE", 403, 'cannot delete resource "inferenceservices"')]
    done = serve_on_cluster("--timeout", "1")
    assert done.returncode == 1
    assert "not ready after 1 s" in last_line(done)
    assert "not rolled back (not allowed to delete inferenceservices.serving.kserve.io" in last_line(done)


def test_a_step_that_is_told_to_end_takes_its_rollout_back(api, store, in_standard, tmp_path):
    api.script = [Frame(standard(False), deployment(updated=0))]
    environment = outside_aws() | store.environment | {"KUBECONFIG": str(tmp_path / "kubeconfig")}
    command = [sys.executable, "-m", "trainyard.components.serve", "--model-uri", URI]
    with subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True) as step:
        for line in step.stderr:
            if "Updating" in line:
                step.send_signal(signal.SIGTERM)
                break
        step.stderr.read()
    assert step.returncode == 143
    assert spec_of(api) == in_standard


def behind_the_api(asked, answers):
    """What a test puts behind the API's proxy to a service."""

    def answer(service, path, body):
        asked.append((service, path))
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, int):
            return answer, {"error": "not now"}
        return 200, {"predictions": [answer] * len(body["instances"])}

    return answer


def test_a_request_that_the_model_refuses_is_no_reason_to_wait(serve_on_cluster, api, published):
    uri = published(4)
    api.script = [Frame(standard(), deployment(uri))]
    api.behind = behind_the_api([], [400])
    api.rights = ["create services/proxy"]
    done = serve_on_cluster("--route", "api", uri=uri)
    assert done.returncode == 1
    assert "ready, but the smoke test got no answer" in last_line(done)
    assert "not now" in last_line(done)


def test_a_standard_canary_is_rolled_back_and_the_stable_one_stays(serve_on_cluster, api, in_standard):
    api.service("mnist")["spec"]["canary"] = [{"trafficPercent": 10, "predictor": {"name": "v4"}}]
    api.script = [Frame(with_canary("v4", 10), deployment(OLD)), Frame(standard(), deployment(OLD))]
    done = serve_on_cluster("--action", "rollback", uri="")
    assert done.returncode == 0, done.stderr
    assert spec_of(api) == in_standard


def test_a_canary_is_refused_where_its_share_would_be_ignored(serve_on_cluster, api, in_standard):
    api.knows_canaries = False
    done = serve_on_cluster("--canary-percent", "10")
    assert done.returncode == 2
    assert "expected a KServe with canaries in Standard mode" in last_line(done)
    assert spec_of(api) == in_standard


@pytest.mark.parametrize(
    ("options", "uri", "text"),
    [
        (["--canary-percent", "10", "--max-replicas", "4"], URI, "--max-replicas: expected none for a canary"),
        (["--canary-percent", "10"], OLD, "which has all requests already"),
        (["--action", "promote"], "", "expected a service with a canary to promote"),
        (["--action", "rollback"], "", "expected a service with a canary to rollback"),
        (["--deployment-mode", "Knative"], URI, "mnist runs in Standard mode and KServe does not change that"),
    ],
)
def test_what_does_not_fit_the_service_is_refused(serve_on_cluster, api, in_standard, options, uri, text):
    done = serve_on_cluster(*options, uri=uri)
    assert done.returncode == 2
    assert text in last_line(done)
    assert spec_of(api) == in_standard


def test_a_canary_needs_a_version_to_stand_beside(serve_on_cluster, api):
    done = serve_on_cluster("--canary-percent", "10")
    assert done.returncode == 2
    assert "roll out its first version without --canary-percent" in last_line(done)
    assert api.writes == []


def test_a_change_of_scaling_alone_waits_for_the_pods_and_not_for_another_deployment(
    serve_on_cluster, api, in_standard
):
    fewer, enough = deployment(OLD, generation=1), deployment(OLD, generation=1, replicas=3, updated=3)
    api.script = [Frame(standard(), fewer), Frame(standard(), enough)]
    done = serve_on_cluster("--min-replicas", "3", "--timeout", "20", uri=OLD)
    assert done.returncode == 0, done.stderr
    assert spec_of(api)["predictor"]["minReplicas"] == 3


def test_delete_waits_until_the_service_is_gone_and_may_be_repeated(serve_on_cluster, api, tmp_path):
    api.finalizer = True
    api.script = FIRST
    assert serve_on_cluster().returncode == 0
    done = serve_on_cluster("--action", "delete", "--summary", tmp_path / "summary.md", uri="")
    assert done.returncode == 0, done.stderr
    assert (SERVICES, "vision", "mnist") not in api.objects
    assert "Nothing is served under this name" in (tmp_path / "summary.md").read_text()
    again = serve_on_cluster("--action", "delete", uri="")
    assert again.returncode == 0
    assert "there is no InferenceService vision/mnist" in again.stderr


def test_an_apply_during_a_deletion_waits_for_its_end(serve_on_cluster, api):
    api.finalizer = True
    api.script = FIRST
    assert serve_on_cluster().returncode == 0
    api.service("mnist")["metadata"]["deletionTimestamp"] = "2026-11-22T10:00:00Z"
    done = serve_on_cluster()
    assert done.returncode == 0, done.stderr
    assert "waiting for the deletion of vision/mnist" in done.stderr
    assert "deletionTimestamp" not in api.service("mnist")["metadata"]


def test_an_older_kserve_is_spoken_to_in_its_own_words(serve_on_cluster, api):
    api.script = [Frame({**standard(), "deploymentMode": "RawDeployment"}, deployment())]
    for options in (("--deployment-mode", "RawDeployment"), ()):
        assert serve_on_cluster(*options).returncode == 0
        assert api.service("mnist")["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "RawDeployment"


def test_what_kserve_needs_for_the_store_holds_no_credential():
    secret, account = yaml.safe_load_all((PROJECT / "deploy" / "base" / "model-store.yaml").read_text())
    assert account["secrets"] == [{"name": secret["metadata"]["name"]}]
    assert {"serving.kserve.io/s3-endpoint", "serving.kserve.io/s3-usehttps"} <= set(secret["metadata"]["annotations"])
    assert not {"data", "stringData"} & set(secret)


def test_only_what_a_role_for_the_step_allows_is_asked_of_the_cluster(serve_on_cluster, api, published, in_standard):
    """The verbs and resources of deploy/base/serve-role.yaml."""
    documents = list(yaml.safe_load_all((PROJECT / "deploy" / "base" / "serve-role.yaml").read_text()))
    role = next(one for one in documents if one["kind"] == "Role")
    allowed = {(r, v) for rule in role["rules"] for r in rule["resources"] for v in rule["verbs"]}
    uri, asked = published(4), []
    api.behind = behind_the_api(asked, [RIGHT])
    api.rights = ["create services/proxy"]
    api.script = [Frame(standard(), deployment(uri))]
    assert serve_on_cluster("--route", "api", "--direct", "true", uri=uri).returncode == 0
    assert serve_on_cluster("--action", "delete", uri="").returncode == 0
    verbs = {"GET": "get", "POST": "create", "PATCH": "patch", "DELETE": "delete"}
    by_name = {"services/proxy": "/proxy/", "pods": "/pods", SERVICES: SERVICES, DEPLOYMENTS: DEPLOYMENTS}
    by_name |= {name: f"/{name}" for name in ("replicasets", "events", "httproutes", "gateways", "ingresses")}
    for verb, path in api.requests:
        if path.endswith("/selfsubjectaccessreviews"):  # anyone may ask what it may do
            continue
        resource = next(name for name, part in by_name.items() if part in path)
        listed = verb == "GET" and resource in ("pods", "replicasets", "events")
        assert (resource, "list" if listed else verbs[verb]) in allowed
    assert asked


def test_a_busy_api_says_itself_when_to_come_again(serve_on_cluster, api):
    api.script = FIRST
    api.faults = [Fault("POST", 429, "too many requests", after=2)]
    began = time.monotonic()
    assert serve_on_cluster().returncode == 0
    assert time.monotonic() - began > 2
