"""What a cluster lacks for the pipeline, told before anything is submitted (`make cluster-check`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from ..components.common.cli import BadInput, command
from ..components.common.options import section
from .assembly import STORE_KEYS
from .cluster import PARAMETERS, settings_for, settings_options
from .contract import ROOT
from .kubeflow.access import Access, access_options
from .kubeflow.api import SINGLE_USER_NAMESPACE
from .settings import Settings
from .step_settings import GPU, settings_of

ROLE = ROOT / "deploy" / "base" / "serve-role.yaml"
OLDEST_KUBERNETES = (1, 28)
OK, LACKS, UNKNOWN = "ok", "lacks", "unknown"
REQUIRED = ("inferenceservices", "deployments")
"""Resources of the Role that serve cannot do without; the rest of it tells failures earlier and better."""
STANDALONE_ACCOUNT, PROFILE_ACCOUNT = "pipeline-runner", "default-editor"

Findings = Iterator[tuple[str, str, str]]
"""State, subject, and what was found or is to be done."""


class Forbidden(Exception):
    """The Kubernetes API refuses the caller this question."""


class Cluster:
    """The cluster that the kubeconfig (or a pod's service account) names.

    Raises:
        BadInput: there is neither.
    """

    def __init__(self, context: str) -> None:
        from kubernetes import client, config

        try:
            self._api = config.new_client_from_config(context=context or None)
        except (config.ConfigException, OSError) as error:
            try:
                config.load_incluster_config()
            except config.ConfigException:
                raise BadInput(
                    f"KUBECONFIG: expected a cluster, received none ({error}); set it, or --context"
                ) from None
            self._api = client.ApiClient()

    def get(self, path: str) -> dict[str, Any] | None:
        """An object; None: it does not exist.

        Raises:
            Forbidden: the caller may not read it.
            ConnectionError: nothing answers.
        """
        return self._call("GET", path, None)

    def may(self, user: str, namespace: str, group: str, resource: str, verb: str) -> bool:
        """Whether an account has a right."""
        plural, _, sub = resource.partition("/")
        attributes = {"namespace": namespace, "group": group, "resource": plural, "subresource": sub, "verb": verb}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
        asked = {**review, "spec": {"user": user, "resourceAttributes": attributes}}
        answer = self._call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", asked)
        return bool(answer and answer["status"].get("allowed"))

    def serves(self, group: str, version: str, resource: str) -> bool:
        """Whether the API has a resource."""
        found = self.get(f"/apis/{group}/{version}") or {}
        return any(one["name"] == resource for one in found.get("resources", []))

    def _call(self, method: str, path: str, body: Any) -> Any:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            answer = self._api.call_api(
                path,
                method,
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=body,
                response_type="object",
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=(3, 10),
            )
        except ApiException as error:
            if error.status == 404:
                return None
            if error.status in (401, 403):
                raise Forbidden(path) from None
            raise ConnectionError(f"the Kubernetes API answers {error.status}; try again") from None
        except HTTPError:
            raise ConnectionError(f"no Kubernetes API answers at {self._api.configuration.host}") from None
        return answer


@dataclass
class Check:
    """The questions, asked of a cluster.

    Attributes:
        settings: What would be submitted.
        runs_in: Namespace of the runs.
        profile: Whether this is a Kubeflow profile; otherwise Kubeflow Pipelines stands alone.
        access: The API of Kubeflow Pipelines; without a host it is not asked.
    """

    cluster: Cluster
    settings: Settings
    runs_in: str
    profile: bool
    access: Access

    def findings(self) -> Findings:
        """The answers, in the order in which things are installed."""
        for ask in (
            self._kubernetes,
            self._storage,
            self._pipelines,
            self._host,
            self._kserve,
            self._route,
            self._namespaces,
            self._store_secret,
            self._pull_secrets,
            self._models_account,
            self._rights,
            self._gpus,
        ):
            try:
                yield from ask()
            except Forbidden as refused:
                yield UNKNOWN, ask.__name__.strip("_").replace("_", " "), f"no permission to read {refused}"

    def _value(self, name: str) -> str:
        default = next(one.default for one in PARAMETERS if one.name == name)
        return str(self.settings.values.get(name, default or ""))

    @cached_property
    def _endpoints_in(self) -> str:
        return self._value("namespace") or self.runs_in

    @property
    def _account(self) -> str:
        return self.settings.run_service_account or (PROFILE_ACCOUNT if self.profile else STANDALONE_ACCOUNT)

    def _kubernetes(self) -> Findings:
        version = self.cluster.get("/version") or {}
        number = tuple(int("".join(filter(str.isdigit, version.get(part, "0"))) or 0) for part in ("major", "minor"))
        fits = number >= OLDEST_KUBERNETES
        wanted = ".".join(map(str, OLDEST_KUBERNETES))
        yield (
            OK if fits else LACKS,
            "Kubernetes",
            f"{version.get('gitVersion')}{'' if fits else f'; {wanted} or later'}",
        )

    def _storage(self) -> Findings:
        classes = (self.cluster.get("/apis/storage.k8s.io/v1/storageclasses") or {}).get("items", [])
        mark = "storageclass.kubernetes.io/is-default-class"
        default = [one["metadata"]["name"] for one in classes if _annotations(one).get(mark) == "true"]
        if default:
            yield OK, "storage class", default[0]
        else:
            yield UNKNOWN, "storage class", "no default class; volumes without a class stay pending"

    def _pipelines(self) -> Findings:
        if self.cluster.serves("argoproj.io", "v1alpha1", "workflows"):
            yield OK, "Argo Workflows", "workflows.argoproj.io"
        else:
            yield LACKS, "Argo Workflows", "workflows.argoproj.io; Kubeflow Pipelines brings it"
        if self.profile:
            return
        if self.cluster.get(f"/api/v1/namespaces/{self.runs_in}/services/ml-pipeline"):
            yield OK, "Kubeflow Pipelines", f"service ml-pipeline in {self.runs_in}"
        else:
            yield LACKS, "Kubeflow Pipelines", f"service ml-pipeline in {self.runs_in}; or name another --kfp-namespace"

    def _host(self) -> Findings:
        if not self.access.host:
            return
        from .kubeflow.api import Api

        try:
            yield OK, "Pipelines API", f"{Api(self.access).host} answers"
        except (BadInput, OSError, RuntimeError) as error:
            yield LACKS, "Pipelines API", str(error)

    def _kserve(self) -> Findings:
        if not self.cluster.serves("serving.kserve.io", "v1beta1", "inferenceservices"):
            yield LACKS, "KServe", "inferenceservices.serving.kserve.io"
            return
        yield OK, "KServe", "inferenceservices.serving.kserve.io"
        schema = json.dumps(self.cluster.get("/openapi/v3/apis/serving.kserve.io/v1beta1"))
        if '"canary"' in schema:
            yield OK, "canaries", "spec.canary; requests are split by KServe later than 0.20.0 with the Gateway API"
        else:
            yield UNKNOWN, "canaries", "no spec.canary: canaries in Standard mode need KServe 0.20 or later"
        if self._value("deployment_mode") in ("Knative", "Serverless"):
            found = self.cluster.serves("serving.knative.dev", "v1", "services")
            yield OK if found else LACKS, "Knative", "services.serving.knative.dev"

    def _route(self) -> Findings:
        path = "/api/v1/namespaces/kserve/configmaps/inferenceservice-config"
        config = (self.cluster.get(path) or {}).get("data", {}).get("ingress")
        if config is None:
            yield UNKNOWN, "route", "no inferenceservice-config in the namespace kserve; see how endpoints are reached"
            return
        ingress = json.loads(config)
        if ingress.get("disableIngressCreation"):
            yield (
                LACKS,
                "route",
                "disableIngressCreation in inferenceservice-config: endpoints have no URL from outside",
            )
        elif ingress.get("enableGatewayApi"):
            yield from self._gateway(ingress.get("kserveIngressGateway", ""))
        else:
            yield from self._ingress_class(ingress.get("ingressClassName", ""))
        if ingress.get("ingressDomain", "example.com") == "example.com":
            yield (
                UNKNOWN,
                "host names",
                "ingressDomain is example.com, which resolves nowhere; --route names an address",
            )

    def _gateway(self, name: str) -> Findings:
        namespace, _, gateway = name.partition("/")
        path = f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/gateways/{gateway}"
        found = self.cluster.get(path)
        states = {one["type"]: one["status"] for one in (found or {}).get("status", {}).get("conditions", [])}
        if found and states.get("Programmed") == "True":
            yield OK, "route", f"Gateway {name}"
        else:
            missing = "is not programmed by a controller" if found else "does not exist"
            yield LACKS, "route", f"Gateway {name}, which KServe is configured to use, {missing}"

    def _ingress_class(self, name: str) -> Findings:
        if self.cluster.get(f"/apis/networking.k8s.io/v1/ingressclasses/{name}"):
            yield OK, "route", f"IngressClass {name}; canaries in Standard mode need the Gateway API"
        else:
            yield LACKS, "route", f"IngressClass {name!r}, which KServe is configured to use, does not exist"

    def _namespaces(self) -> Findings:
        for namespace in dict.fromkeys((self.runs_in, self._endpoints_in)):
            found = self.cluster.get(f"/api/v1/namespaces/{namespace}")
            yield (
                (OK, "namespace", namespace) if found else (LACKS, "namespace", f"kubectl create namespace {namespace}")
            )

    def _store_secret(self) -> Findings:
        name = self.settings.s3_secret
        found = self.cluster.get(f"/api/v1/namespaces/{self.runs_in}/secrets/{name}")
        missing = [key for key in STORE_KEYS if key not in ((found or {}).get("data") or {})]
        what = f"secret {name} in {self.runs_in}"
        if not found:
            yield LACKS, "store for the steps", f"{what}, with {', '.join(STORE_KEYS)}"
        elif missing:
            yield LACKS, "store for the steps", f"{what} has no {', '.join(missing)}"
        else:
            yield OK, "store for the steps", what

    def _pull_secrets(self) -> Findings:
        steps = self.settings.of_steps()
        for name in dict.fromkeys(one for step in steps for one in settings_of(step, steps).image_pull_secrets):
            found = self.cluster.get(f"/api/v1/namespaces/{self.runs_in}/secrets/{name}")
            yield OK if found else LACKS, "image pull secret", f"{name} in {self.runs_in}"

    def _models_account(self) -> Findings:
        name, namespace = self._value("service_account"), self._endpoints_in
        if not name:
            yield UNKNOWN, "store for KServe", "no service_account is set: KServe reads the store without credentials"
            return
        found = self.cluster.get(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}")
        if not found:
            yield (
                LACKS,
                "store for KServe",
                f"service account {name} in {namespace}; kubectl apply -k deploy/overlays/...",
            )
            return
        for secret in [one["name"] for one in found.get("secrets", [])]:
            kept = self.cluster.get(f"/api/v1/namespaces/{namespace}/secrets/{secret}") or {}
            endpoint = _annotations(kept).get("serving.kserve.io/s3-endpoint") if kept else None
            if "AWS_SECRET_ACCESS_KEY" in (kept.get("data") or {}):
                yield OK, "store for KServe", f"secret {secret} of {name} in {namespace}, at {endpoint or 'AWS'}"
                return
        yield LACKS, "store for KServe", f"credentials in the secret of {name} in {namespace}; see deploy/base"

    def _rights(self) -> Findings:
        import yaml

        rules = next(one for one in yaml.safe_load_all(ROLE.read_text()) if one["kind"] == "Role")["rules"]
        user = f"system:serviceaccount:{self.runs_in}:{self._account}"
        missing: dict[str, list[str]] = {OK: [], LACKS: [], UNKNOWN: []}
        for rule in rules:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    if not self.cluster.may(user, self._endpoints_in, rule["apiGroups"][0], resource, verb):
                        missing[LACKS if resource in REQUIRED else UNKNOWN].append(f"{verb} {resource}")
        about = f"{self._account} of {self.runs_in} in {self._endpoints_in}"
        if not missing[LACKS]:
            yield OK, "rights of serve", about
        else:
            yield LACKS, "rights of serve", f"{about}: {', '.join(missing[LACKS])}; bind the Role in deploy/"
        if missing[UNKNOWN] and not missing[LACKS]:
            yield UNKNOWN, "further rights", f"{', '.join(missing[UNKNOWN])}: failures are detected later"

    def _gpus(self) -> Findings:
        steps = self.settings.of_steps()
        asked = max(settings_of(step, steps).gpus for step in steps)
        if asked:
            nodes = (self.cluster.get("/api/v1/nodes") or {}).get("items", [])
            most = max((int(one["status"].get("allocatable", {}).get(GPU, 0)) for one in nodes), default=0)
            yield OK if most >= asked else LACKS, "GPUs", f"{asked} on one node; the cluster's nodes have up to {most}"


def _annotations(found: dict[str, Any]) -> dict[str, str]:
    return found["metadata"].get("annotations") or {}


cluster_option = section("Cluster")


@command
@cluster_option("--context", default="", help="Context of the kubeconfig; empty: the current one.")
@cluster_option("--namespace", help="Namespace of the endpoints.")
@cluster_option("--service-account", help="Service account that KServe's pods read the store with.")
@cluster_option("--profile", is_flag=True, help="A Kubeflow profile; --kfp-namespace names it.")
@cluster_option("--run-service-account", help="Kubernetes service account of the runs' pods.")
@access_options
@settings_options
def main(context: str, profile: bool, access: Access, settings_file: Path | None, **given: Any) -> None:
    """Say what a cluster has and lacks for the pipeline.

    Reads; changes nothing. Exit code 2 where something is lacking.

    \b
    Example:
      python -m trainyard.launch.cluster_check --settings prod.yaml
    """
    settings = settings_for(settings_file, given)
    settings.check(PARAMETERS)
    runs_in = access.kfp_namespace or SINGLE_USER_NAMESPACE
    lacking = 0
    for state, subject, words in Check(Cluster(context), settings, runs_in, profile, access).findings():
        lacking += state == LACKS
        click.echo(f"{state:<8}{subject:<22}{words}")
    if lacking:
        plural = "s" if lacking > 1 else ""
        raise BadInput(f"{lacking} requirement{plural} missing; docs/cluster.md explains how to install each")


if __name__ == "__main__":
    main()
