"""An InferenceService as the options describe it: pure functions on what is there and what is wanted."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ...common.artifacts.signing import VERIFY_KEY, VerifyKeys
from ...common.cli import BadInput
from . import prometheus, status
from .cluster import Object
from .status import MODES

DEPLOYMENT_MODE = "serving.kserve.io/deploymentMode"
STORAGE_SECRET = "serving.kserve.io/storageSecretName"
SIDECAR = "sidecar.istio.io/inject"
SOURCE_ANNOTATION = "internal.serving.kserve.io/storage-initializer-sourceuri"
"""Where KServe writes the URI of the model that a pod holds."""
FORMAT, FORMAT_VERSION = "tensorflow", "2.19.1"
"""What a new service gets when no option says otherwise. KServe's own TensorFlow Serving is too old for Keras 3."""
FORMAT_FIELDS = (
    "sklearn",
    "xgboost",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
    "paddle",
)
"""How a predictor named its format before there was `model`."""
NO_MODEL = "--model-uri: expected the URI of a published model, received none; pass what export printed"


@dataclass(frozen=True)
class InferenceServiceOptions:
    """The options that only a cluster knows; empty, 0 and -1 mean: as it is, or as KServe has it by itself."""

    namespace: str = ""
    context: str = ""
    deployment_mode: str = ""
    route: str = ""
    inference_service: str = ""
    model_format: str = ""
    runtime_version: str = ""
    runtime: str = ""
    image: str = ""
    service_account: str = ""
    storage_secret: str = ""
    request_timeout: int = 0
    min_replicas: int = -1
    max_replicas: int = 0
    scale_metric: str = ""
    scale_target: int = 0
    cpu_request: str = ""
    cpu_limit: str = ""
    memory_request: str = ""
    memory_limit: str = ""
    predictor_gpus: int = 0
    node_selector: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)
    annotations: Mapping[str, Any] = field(default_factory=dict)
    sidecar_injection: str = ""
    prometheus: str = ""
    prometheus_metrics: str = "trainyard"
    verify_key: str = ""

    def __post_init__(self) -> None:
        prometheus.check(self.prometheus, self.prometheus_metrics)
        if self.deployment_mode and self.deployment_mode not in MODES:
            raise BadInput(
                f"--deployment-mode: expected Standard or Knative, received {self.deployment_mode!r}; choose one"
            )
        if self.image and (self.model_format or self.runtime or self.runtime_version):
            raise BadInput(
                "--image: expected no --model-format, --runtime or --runtime-version with it, received both; "
                "an image of your own replaces KServe's model servers"
            )
        if self.sidecar_injection not in ("", "true", "false"):
            raise BadInput(
                f"--sidecar-injection: expected true or false, received {self.sidecar_injection!r}; choose one"
            )
        if self.route not in ("", "url", "cluster", "api") and not urlsplit(self.route).hostname:
            raise BadInput(
                f"--route: expected url, cluster, api or the URL of an ingress, received {self.route!r}; choose one"
            )
        for name in ("node_selector", "labels", "annotations"):
            for key, value in getattr(self, name).items():
                if not isinstance(value, str):
                    raise BadInput(
                        f"--{name.replace('_', '-')}: expected text for {key}, received {value!r}; put it in quotes"
                    )


def check_name(name: str) -> None:
    """Raises BadInput when Kubernetes does not take it."""
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,51}[a-z0-9])?", name):
        raise BadInput(
            f"--model-name: expected at most 53 lower-case letters, digits and '-', beginning with a letter, received "
            f"{name!r}; Kubernetes takes no other name"
        )


def check_model(model_uri: str, options: InferenceServiceOptions) -> None:
    """Raises BadInput when the options name no model, or one that no cluster can read."""
    if model_uri:
        storage_uri(model_uri)
    elif not (options.inference_service or options.image):
        raise BadInput(NO_MODEL)


def storage_uri(model_uri: str) -> str:
    """The URI as KServe is to have it. It ends in '/': KServe fetches by prefix, and `mnist/1` would bring `mnist/10`.

    Raises:
        BadInput: no cluster can read it.
    """
    if "://" not in model_uri or model_uri.startswith("file:"):
        raise BadInput(
            f"--model-uri: expected s3://bucket/name/version/, received {model_uri!r}; a cluster cannot read "
            "this machine's files, so export the model first, or serve it here with --target process"
        )
    return model_uri.rstrip("/") + "/" if model_uri.startswith("s3://") else model_uri


def wanted(name: str, model_uri: str, options: InferenceServiceOptions, there: Object | None) -> Object:
    """The InferenceService that an apply is to end in, a canary apart.

    Args:
        name: Of the service.
        model_uri: What is to be served; empty: the model or image in the options, or what is served already.
        options: How.
        there: The InferenceService as it is; None when there is none. What no option speaks of stays as it is.

    Raises:
        BadInput: the options contradict each other or what is there, or name no model.
    """
    given = _given(options.inference_service)
    _check_given(given, name, options.namespace)
    mode = mode_of(there) if there else ""
    chosen = MODES.get(options.deployment_mode) or mode_of(given) or mode or "Standard"
    if mode and chosen != mode:
        raise BadInput(
            f"--deployment-mode: {name} runs in {mode} mode and KServe does not change that, received "
            f"{chosen}; delete the service first (--action delete)"
        )

    metadata = (there or {}).get("metadata", {})
    annotations = {
        **(metadata.get("annotations") or {}),
        **((given.get("metadata") or {}).get("annotations") or {}),
        **options.annotations,
        DEPLOYMENT_MODE: options.deployment_mode or _in_the_clusters_words(there, chosen),
        **_present({STORAGE_SECRET: options.storage_secret, SIDECAR: options.sidecar_injection}),
    }
    labels = {
        **(metadata.get("labels") or {}),
        **((given.get("metadata") or {}).get("labels") or {}),
        **options.labels,
    }
    spec = copy.deepcopy(given.get("spec") or (there or {}).get("spec") or {"predictor": {}})
    spec["predictor"] = _predictor(spec.get("predictor") or {}, model_uri, options)
    spec["predictor"].pop("canaryTrafficPercent", None)
    spec.pop("canary", None)
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "annotations": annotations, **({"labels": labels} if labels else {})},
        "spec": spec,
    }


def mode_of(service: Mapping[str, Any]) -> str:
    """`Standard`, `Knative` or another mode of KServe; empty as long as none is chosen. Older names are translated.

    KServe goes by the status first: once it has chosen, the annotation changes nothing.
    """
    mode = _annotated_mode(service)
    return status.chosen_mode(service) or MODES.get(mode, mode)


def _in_the_clusters_words(service: Mapping[str, Any] | None, mode: str) -> str:
    """The mode as this cluster names it: an older KServe does not know the newer names."""
    named = (_annotated_mode(service), status.of(service).get("deploymentMode", "")) if service else ()
    return next((name for name in named if MODES.get(name) == mode), mode)


def _annotated_mode(service: Mapping[str, Any]) -> str:
    return ((service.get("metadata") or {}).get("annotations") or {}).get(DEPLOYMENT_MODE, "")


def model_uri_of(predictor: Mapping[str, Any]) -> str:
    """Where a predictor's model comes from; empty: it brings its own, or KServe is told in another way."""
    if "model" in predictor:
        return predictor["model"].get("storageUri", "")
    for variable in (predictor.get("containers") or [{}])[0].get("env") or []:
        if variable["name"] == "STORAGE_URI":
            return variable.get("value", "")
    return next((predictor[name].get("storageUri", "") for name in FORMAT_FIELDS if name in predictor), "")


def format_of(predictor: Mapping[str, Any]) -> str:
    """The format of the model for KServe's own servers; empty: it brings its own server."""
    name: str = predictor.get("model", {}).get("modelFormat", {}).get("name", "")
    return name


def with_model(predictor: Object, uri: str) -> Object:
    """A predictor with another model of the same kind."""
    result = copy.deepcopy(predictor)
    if "model" in result:
        result["model"]["storageUri"] = uri
    for variable in (result.get("containers") or [{}])[0].get("env") or []:
        if variable["name"] == "STORAGE_URI":
            variable["value"] = uri
    return result


def deployment_name(service: str, predictor: Mapping[str, Any]) -> str:
    """Name of a predictor's Deployment and Service in Standard mode, as KServe forms it."""
    own = predictor.get("name")
    return f"{service}-{own}-predictor" if own else f"{service}-predictor"


def overlaid(stable: Object, canary: Object) -> Object:
    """A canary's whole predictor: the stable one, with what the canary has otherwise laid over it as KServe does."""
    result = copy.deepcopy(stable)
    for key, value in canary.items():
        result[key] = overlaid(result[key], value) if isinstance(value, dict) and key in result else value
    return result


def patch(there: Object, wanted: Object) -> Object:
    """The JSON merge patch (RFC 7396) from one service to the other; refused if somebody else changes it in between."""
    metadata: Object = {"resourceVersion": there["metadata"]["resourceVersion"]}
    for name in ("annotations", "labels"):
        was, will = there["metadata"].get(name) or {}, wanted["metadata"].get(name) or {}
        if changes := _difference(was, will):
            metadata[name] = changes
    changes = _difference(there["spec"], wanted["spec"])
    return {"metadata": metadata, **({"spec": changes} if changes else {})}


def _difference(old: Object, new: Object) -> Object:
    """The merge patch that makes `new` of `old`."""
    changes: Object = {key: None for key in old if key not in new}
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            if inner := _difference(old[key], value):
                changes[key] = inner
        elif key not in old or old[key] != value:
            changes[key] = value
    return changes


def given_name(text: str) -> str:
    """The name in an InferenceService given as YAML text or as a file; empty when there is none."""
    name: str = (_given(text).get("metadata") or {}).get("name", "")
    return name


def _given(text: str) -> Object:
    """The InferenceService given as YAML text or as a file; empty when there is none."""
    if not text:
        return {}
    import yaml

    try:
        if "\n" not in text and ":" not in text:
            text = Path(text).read_text()
        parsed = yaml.safe_load(text)
    except OSError as error:
        raise BadInput(
            f"--inference-service: expected YAML or a file with it, received {text!r} ({error.strerror})"
        ) from None
    except yaml.YAMLError as error:
        raise BadInput(f"--inference-service: expected YAML, received something else ({error}); correct it") from None
    if (
        not isinstance(parsed, dict)
        or parsed.get("kind") != "InferenceService"
        or "predictor" not in (parsed.get("spec") or {})
    ):
        raise BadInput(
            "--inference-service: expected one object of kind InferenceService with spec.predictor, received "
            "something else; correct the YAML"
        )
    if parsed.get("apiVersion") != "serving.kserve.io/v1beta1":
        raise BadInput(
            f"--inference-service: expected apiVersion serving.kserve.io/v1beta1, received "
            f"{parsed.get('apiVersion')!r}; translate it"
        )
    return parsed


def _check_given(service: Object, name: str, namespace: str) -> None:
    """Raises BadInput when a given InferenceService has another name or namespace than the options."""
    metadata = service.get("metadata") or {}
    if metadata.get("namespace", namespace) != namespace:
        raise BadInput(
            f"--namespace: expected {metadata['namespace']!r}, as --inference-service has it, received {namespace!r}; "
            "change one"
        )
    named = metadata.get("name", name)
    if named != name:
        raise BadInput(
            f"--model-name: expected {named!r}, as --inference-service has it, received {name!r}; change one"
        )


def _predictor(base: Object, model_uri: str, options: InferenceServiceOptions) -> Object:
    predictor = _modern(base)
    if options.image:
        for replaced in ("model", "containers"):
            predictor.pop(replaced, None)
        predictor["containers"] = [{"name": "kserve-container", "image": options.image}]
    if options.model_format:
        predictor.pop("containers", None)
    if "containers" in predictor:
        server = predictor["containers"][0]
        if model_uri:
            keys = VerifyKeys(options.verify_key).pem if options.verify_key else ""
            given = _present({"STORAGE_URI": storage_uri(model_uri), VERIFY_KEY: keys})
            others = [one for one in server.get("env") or [] if one["name"] not in ("STORAGE_URI", VERIFY_KEY)]
            server["env"] = [*others, *({"name": name, "value": value} for name, value in given.items())]
    elif "workerSpec" in predictor and "model" not in predictor:
        raise BadInput("--inference-service: expected a predictor with a model or containers; give it one of these")
    else:
        server = predictor["model"] = _model(predictor.get("model") or {}, model_uri, options)
    resources = _resources(options)
    if resources:
        server["resources"] = overlaid(server.get("resources") or {}, resources)
    predictor |= _present(
        {
            "serviceAccountName": options.service_account,
            "timeout": options.request_timeout,
            "maxReplicas": options.max_replicas,
            "scaleMetric": options.scale_metric,
            "scaleTarget": options.scale_target,
            "nodeSelector": dict(options.node_selector),
        }
    )
    if options.min_replicas >= 0:
        predictor["minReplicas"] = options.min_replicas
    return predictor


def _modern(predictor: Object) -> Object:
    """`tensorflow: {...}` and its like become `model`, as KServe itself rewrites them."""
    old = next((name for name in FORMAT_FIELDS if name in predictor), "")
    if not old:
        return dict(predictor)
    kept = {key: value for key, value in predictor.items() if key != old}
    return {**kept, "model": {"modelFormat": {"name": old}, **predictor[old]}}


def _model(base: Object, model_uri: str, options: InferenceServiceOptions) -> Object:
    model = dict(base)
    if options.model_format and options.model_format != model.get("modelFormat", {}).get("name"):
        model = {"modelFormat": {"name": options.model_format}}  # what was of another format does not fit
    new = "modelFormat" not in model
    model.setdefault("modelFormat", {"name": FORMAT})
    if model["modelFormat"]["name"] == FORMAT and not options.runtime and (new or options.model_format):
        model.setdefault("runtimeVersion", FORMAT_VERSION)
    model |= _present({"runtime": options.runtime, "runtimeVersion": options.runtime_version})
    if model_uri:
        model["storageUri"] = storage_uri(model_uri)
    if not (model.get("storageUri") or model.get("storage") or model.get("image")):
        raise BadInput(NO_MODEL)
    return model


def _resources(options: InferenceServiceOptions) -> Object:
    gpus = {"nvidia.com/gpu": str(options.predictor_gpus)} if options.predictor_gpus else {}
    requests = _present({"cpu": options.cpu_request, "memory": options.memory_request})
    limits = _present({"cpu": options.cpu_limit, "memory": options.memory_limit})
    return _present({"requests": {**requests, **gpus}, "limits": {**limits, **gpus}})


def _present(fields: Object) -> Object:
    """Without what is empty."""
    return {key: value for key, value in fields.items() if value}
