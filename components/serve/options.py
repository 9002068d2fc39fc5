"""The options of the serve step that only a cluster knows, in the sections of its help."""

from collections.abc import Callable

from ..common.cli import JsonObject, section

cluster = section("Cluster")
model_server = section("Model server (KServe)")
scale = section("Replicas and resources (KServe)")
pods = section("Pods (KServe)")

_OPTIONS = (
    cluster(
        "--namespace",
        default="",
        help="Namespace of the InferenceService; empty: the pod's own, or the kubeconfig context's.",
    ),
    cluster(
        "--context", default="", help="Context of the kubeconfig; empty: the pod's own cluster, or the current context."
    ),
    cluster("--deployment-mode", default="", help="Standard or Knative; empty: as it is, Standard for a new service."),
    cluster(
        "--route",
        default="",
        help="How the smoke test reaches the service: url (its own), cluster (its address inside), api (the "
        "Kubernetes API's proxy) or the URL of an ingress; empty: cluster in a pod, else url.",
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
        "as it is, tensorflow for a new service.",
    ),
    model_server(
        "--runtime-version",
        default="",
        help="Version of the model server; empty: as it is, 2.19.1 for a new service with tensorflow.",
    ),
    model_server("--runtime", default="", help="Name of the serving runtime; empty: as it is, or KServe's choice."),
    model_server(
        "--image",
        default="",
        help="Image of a model server of your own, instead of a model format; for --target docker, empty is "
        "trainyard-predictor:dev.",
    ),
    model_server(
        "--service-account",
        default="",
        help="Service account that holds the store's credentials for KServe; empty: as it is, or the namespace's "
        "default.",
    ),
    model_server(
        "--storage-secret",
        default="",
        help="Secret with the store's credentials for KServe, in place of those of the service account.",
    ),
    model_server(
        "--request-timeout",
        default=0,
        help="Seconds that the model server has for a request; 0: as it is, or KServe's own.",
    ),
    scale(
        "--min-replicas", default=-1, help="Fewest pods; 0 lets Knative scale to zero, -1: as it is, or KServe's own."
    ),
    scale("--max-replicas", default=0, help="Most pods; 0: as it is, or KServe's own."),
    scale(
        "--scale-metric",
        default="",
        help="What the number of pods follows: concurrency, rps, cpu or memory; empty: as it is, or KServe's own.",
    ),
    scale(
        "--scale-target", default=0, help="Value of that metric that one pod is to have; 0: as it is, or KServe's own."
    ),
    scale("--cpu-request", default="", help="CPU that a pod asks for, e.g. 500m; empty: as it is, or KServe's own."),
    scale("--cpu-limit", default="", help="CPU that a pod may take, e.g. 2; empty: as it is, or KServe's own."),
    scale(
        "--memory-request", default="", help="Memory that a pod asks for, e.g. 512Mi; empty: as it is, or KServe's own."
    ),
    scale("--memory-limit", default="", help="Memory that a pod may take, e.g. 2Gi; empty: as it is, or KServe's own."),
    scale("--predictor-gpus", default=0, help="NVIDIA GPUs of a pod that serves; 0: as it is, or none."),
    pods(
        "--node-selector",
        type=JsonObject(),
        default={},
        help="Labels of the nodes that the pods may run on, as a JSON object.",
    ),
    pods("--labels", type=JsonObject(), default={}, help="Further labels of the InferenceService, as a JSON object."),
    pods(
        "--annotations",
        type=JsonObject(),
        default={},
        help="Further annotations of the InferenceService, as a JSON object.",
    ),
    pods(
        "--sidecar-injection",
        default="",
        help="true or false for the annotation sidecar.istio.io/inject; empty: as it is, or Istio's own.",
    ),
)


def service_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of an InferenceService; they are the fields of `service_spec.Service`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
