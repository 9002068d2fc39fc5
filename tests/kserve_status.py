"""What a cluster shows of a service, as KServe writes it: statuses and Deployments to build recorded rollouts from."""

from tests.kubernetes_api import Frame

URI = "s3://models/mnist/4/"
OLD = "s3://models/mnist/3/"
URL = "http://mnist.vision.example.com"
PROBABILITIES = [0.1, 0.9]
"""What the model answered at evaluation."""


def conditions(**given):
    """Conditions by name: True, False, or (status, reason, message)."""
    listed = []
    for name, value in given.items():
        status, reason, message = value if isinstance(value, tuple) else (str(value), "", "")
        listed.append({"type": name, "status": status, "reason": reason, "message": message})
    return listed


def standard(ready=True, transition="UpToDate", failure=None, **given):
    """A status as KServe writes it in Standard mode."""
    known = {"IngressReady": ready, "PredictorReady": ready, "Ready": ready, **given}
    model = {"transitionStatus": transition, **({"lastFailureInfo": failure} if failure else {})}
    return {"deploymentMode": "Standard", "url": URL, "conditions": conditions(**known), "modelStatus": model}


def deployment(uri=URI, generation=2, observed=None, replicas=1, updated=1, old=0, available=None, conditions=()):
    """The predictor's Deployment in the middle or at the end of a rolling update."""
    source = {"internal.serving.kserve.io/storage-initializer-sourceuri": uri}
    return {
        "metadata": {
            "name": "mnist-predictor",
            "uid": "deployment",
            "generation": generation,
            "annotations": {"deployment.kubernetes.io/revision": str(generation)},
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "isvc.mnist-predictor"}},
            "template": {"metadata": {"annotations": source}},
        },
        "status": {
            "observedGeneration": generation if observed is None else observed,
            "updatedReplicas": updated,
            "replicas": updated + old,
            "availableReplicas": updated if available is None else available,
            "conditions": list(conditions),
        },
    }


def knative(created="r-2", ready="r-2", rolled="r-2", percent=100, transition="UpToDate", failure=None, **given):
    """A status as KServe writes it in Knative mode."""
    names = ("IngressReady", "LatestDeploymentReady", "PredictorReady", "Ready", "RoutesReady")
    known = {**dict.fromkeys(names, True), **given}
    traffic = [{"revisionName": created, "percent": percent, "latestRevision": True}]
    if percent < 100:
        traffic[0] |= {"tag": "latest", "url": "http://latest-mnist-predictor.vision.example.com"}
        traffic.append({"revisionName": rolled, "percent": 100 - percent, "tag": "prev", "latestRevision": False})
    predictor = {
        "latestCreatedRevision": created,
        "latestReadyRevision": ready,
        "latestRolledoutRevision": rolled,
        "traffic": traffic,
    }
    model = {"transitionStatus": transition, **({"lastFailureInfo": failure} if failure else {})}
    return {
        "deploymentMode": "Serverless",
        "url": URL,
        "conditions": conditions(**known),
        "components": {"predictor": predictor},
        "modelStatus": model,
    }


LOG_PREFIX = "2026-11-27 04:08:44.148 1 storage.initializer ERROR [initializer.py:<module>():16] "
LOAD_FAILED = {
    "reason": "ModelLoadFailed",
    "message": f"{LOG_PREFIX}Storage initialization failed: no model found in digits/99/.\n",
    "exitCode": 1,
}
NO_RUNTIME = {"reason": "NoSupportingRuntime", "message": "no runtime supports tensorflow 9"}
WAITING = {"reason": "RuntimeNotRecognized", "message": "Waiting for runtime to become available"}
UNAVAILABLE = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
LATE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "timed out"}
QUOTA = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: pods"}

FIRST = [
    Frame({}),
    Frame(standard(False)),
    Frame(standard(False), deployment(updated=0)),
    Frame(standard(), deployment()),
]


def last_line(done):
    """What a failed step says at last."""
    return done.stderr.strip().splitlines()[-1]
