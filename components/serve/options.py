"""The options of the serve step that only a cluster knows, in the sections of its help."""

import re
from collections.abc import Callable

from ..common.cli import BadInput
from ..common.options import JsonObject, section

cluster = section("Cluster", setting="cluster")
model_server = section("Model server (KServe)", setting="cluster")
scale = section("Replicas and resources (KServe)", setting="cluster")
pods = section("Pods (KServe)", setting="cluster")
KEEP = "keep the current value, or KServe's default"

_OPTIONS = (
    cluster(
        "--namespace",
        default="",
        help="Namespace of the InferenceService; empty: the pod's own, or the kubeconfig context's.",
    ),
    cluster(
        "--context", default="", help="Context of the kubeconfig; empty: the pod's own cluster, or the current context."
    ),
    cluster(
        "--deployment-mode",
        default="",
        help="Standard or Knative; empty: keep the current mode, Standard for a new service.",
    ),
    cluster(
        "--route",
        default="",
        help="How the smoke test reaches the service: url (its own), cluster (its address inside), api (the "
        "Kubernetes API's proxy) or the URL of an ingress; empty: cluster in a pod; elsewhere api in Standard mode "
        "where it is allowed, else url.",
    ),
    cluster(
        "--prometheus",
        default="",
        help="URL of the Prometheus that --analyze queries, e.g. http://prometheus.monitoring:9090.",
    ),
    cluster(
        "--prometheus-metrics",
        default="trainyard",
        help="Metrics to query: trainyard (our predictor image, scraped with the labels namespace and pod) or "
        "istio (any model server behind Istio's proxies).",
    ),
    model_server(
        "--inference-service",
        default="",
        help="A whole InferenceService as YAML, or a file with one; the other options override it.",
    ),
    model_server(
        "--model-format",
        default="",
        help="Model format as KServe names it: tensorflow, sklearn, xgboost, pytorch, onnx, triton, ...; empty: "
        "keep the current value, tensorflow for a new service.",
    ),
    model_server(
        "--runtime-version",
        default="",
        help="Version of the model server; empty: keep the current value, 2.19.1 for a new service with tensorflow.",
    ),
    model_server(
        "--runtime", default="", help="Name of the serving runtime; empty: keep the current one, or KServe's choice."
    ),
    model_server(
        "--image",
        default="",
        help="Image of your own model server, instead of a model format; for --target docker, the default is "
        "trainyard-predictor:dev.",
    ),
    model_server(
        "--service-account",
        default="",
        help="Service account with the store's credentials for KServe; empty: keep the current value, or the "
        "namespace's default.",
    ),
    model_server(
        "--storage-secret",
        default="",
        help="Secret with the store's credentials for KServe, instead of the service account's.",
    ),
    model_server(
        "--request-timeout",
        default=0,
        help=f"Timeout of a request to the model server in seconds; 0: {KEEP}.",
    ),
    scale(
        "--min-replicas",
        default=-1,
        help=f"Minimum number of pods; 0 lets Knative scale to zero, -1: {KEEP}.",
    ),
    scale("--max-replicas", default=0, help=f"Maximum number of pods; 0: {KEEP}."),
    scale(
        "--scale-metric",
        default="",
        help=f"Metric to autoscale on: concurrency, rps, cpu or memory; empty: {KEEP}.",
    ),
    scale(
        "--scale-target",
        default=0,
        help=f"Target value of that metric per pod; 0: {KEEP}.",
    ),
    scale(
        "--cpu-request",
        default="",
        help=f"CPU request of a pod, e.g. 500m; empty: {KEEP}.",
    ),
    scale(
        "--cpu-limit",
        default="",
        help=f"CPU limit of a pod, e.g. 2; empty: {KEEP}.",
    ),
    scale(
        "--memory-request",
        default="",
        help=f"Memory request of a pod, e.g. 512Mi; empty: {KEEP}.",
    ),
    scale(
        "--memory-limit",
        default="",
        help=f"Memory limit of a pod, e.g. 2Gi; empty: {KEEP}.",
    ),
    scale("--predictor-gpus", default=0, help="NVIDIA GPUs per serving pod; 0: keep the current value, or none."),
    pods(
        "--node-selector",
        type=JsonObject(),
        default={},
        help="Labels of the nodes to run the pods on, as a JSON object.",
    ),
    pods("--labels", type=JsonObject(), default={}, help="Additional labels of the InferenceService, as JSON."),
    pods(
        "--annotations",
        type=JsonObject(),
        default={},
        help="Additional annotations of the InferenceService, as JSON.",
    ),
    pods(
        "--sidecar-injection",
        default="",
        help="true or false for the annotation sidecar.istio.io/inject; empty: keep the current value, or Istio's "
        "default.",
    ),
)


def origins(value: str) -> tuple[str, ...]:
    """The origins in --cors-origin.

    Raises:
        BadInput: one of them is none.
    """
    listed = _listed(value)
    for one in listed:
        if one != "*" and not re.fullmatch(r"https?://[a-z0-9.-]+(:\d+)?|https?://\[[0-9a-f:]+\](:\d+)?", one):
            raise BadInput(
                f"--cors-origin: expected origins such as https://lab.example.com, received {one!r}; "
                "leave out paths, write names in lower case"
            )
    return listed


def host_names(value: str) -> tuple[str, ...]:
    """The names in --allow-host.

    Raises:
        BadInput: one of them is none.
    """
    listed = _listed(value)
    for one in listed:
        if not re.fullmatch(r"[a-z0-9.-]+|[0-9a-f:]+", one):
            raise BadInput(
                f"--allow-host: expected host names, received {one!r}; leave out scheme and port, write in lower case"
            )
    return listed


def _listed(value: str) -> tuple[str, ...]:
    return tuple(part for part in (part.strip() for part in value.split(",")) if part)


def service_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of an InferenceService; they are the fields of `InferenceServiceOptions`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
