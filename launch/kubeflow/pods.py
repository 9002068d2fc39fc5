"""The pods of a run, where a kubeconfig or a pod's service account lets them be read."""

from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any

SECONDS_PER_CALL = (3, 10)
NOT_YET = ("PodInitializing", "ContainerCreating")
"""Reasons of a container that waits as every one does at first."""


class RunPods:
    """The pods of one run. What cannot be read is empty: the API alone says how the run goes."""

    def __init__(self, run_id: str, namespace: str) -> None:
        self._labels = f"pipeline/runid={run_id}"
        self.namespace = namespace
        self.unreadable = ""
        """Why the last look did not succeed."""

    def waiting(self) -> dict[str, str]:
        """By step, what its pod waits for: a secret or image that is missing, a GPU, the quota, ..."""
        reasons = {}
        for node in self._nodes():
            if node.get("phase") == "Pending" and node.get("message", NOT_YET[0]) not in NOT_YET:
                reasons[_step(node.get("name", ""))] = " ".join(node["message"].split())
        for pod in self._pods():
            if reason := next(_reasons(pod), ""):
                reasons[_step_of(pod)] = reason
        return {step: reason for step, reason in reasons.items() if step}

    def name(self, step: str) -> str:
        """Name of the newest pod of a step's container; empty if there is none."""
        pods = [pod["metadata"] for pod in self._pods() if _step_of(pod) == step and "-driver-" not in _name(pod)]
        return str(max(pods, key=lambda one: str(one.get("creationTimestamp")))["name"]) if pods else ""

    def log(self, name: str) -> str:
        """What a pod wrote."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/log"
        return str(self._get(path, "str", [("container", "main")]) or "")

    def _pods(self) -> list[dict[str, Any]]:
        self.unreadable = ""
        return self._list(f"/api/v1/namespaces/{self.namespace}/pods")

    def _nodes(self) -> list[dict[str, Any]]:
        """The workflow's nodes: they tell of a pod that could not even be created, as the quota has it."""
        workflows = self._list(f"/apis/argoproj.io/v1alpha1/namespaces/{self.namespace}/workflows")
        return [node for one in workflows for node in ((one.get("status") or {}).get("nodes") or {}).values()]

    def _list(self, path: str) -> list[dict[str, Any]]:
        listed = self._get(path, "object", [("labelSelector", self._labels)])
        return list((listed or {}).get("items") or [])

    def _get(self, path: str, kind: str, query: list[tuple[str, str]]) -> Any:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        cluster = _cluster()
        if not cluster:
            self.unreadable = "there is no kubeconfig"
            return None
        try:
            return cluster.call_api(
                path,
                "GET",
                query_params=query,
                header_params={"Accept": "application/json"},
                response_type=kind,
                auth_settings=["BearerToken"],
                _return_http_data_only=True,
                _request_timeout=SECONDS_PER_CALL,
            )
        except ApiException as error:
            self.unreadable = f"the cluster answers {error.status} {error.reason}"
        except HTTPError:
            self.unreadable = "the cluster does not answer"
        return None


@cache
def _cluster() -> Any:
    """A client of the cluster; None if nothing says where it is."""
    from kubernetes import client, config

    settings = client.Configuration()
    settings.retries = False
    for load in (config.load_incluster_config, config.load_kube_config):
        with suppress(config.ConfigException, OSError):
            load(client_configuration=settings)
            return client.ApiClient(settings)
    return None


def _name(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["name"])


def _step_of(pod: dict[str, Any]) -> str:
    return _step((pod["metadata"].get("annotations") or {}).get("workflows.argoproj.io/node-name", ""))


def _step(node_name: str) -> str:
    """The step of a node: `trainyard-x7k2p.root.train.executor` is of train, and so is its driver's."""
    parts = [part for part in node_name.split(".") if not part.startswith("executor")]
    return parts[-1].removesuffix("-driver") if len(parts) > 1 else ""


def _reasons(pod: dict[str, Any]) -> Iterator[str]:
    """What a pod waits for, in Kubernetes' words."""
    status = pod.get("status") or {}
    for one in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] not in NOT_YET:
            message = " ".join((waiting.get("message") or "").split())
            yield f"{waiting['reason']}{f': {message}' if message else ''}"
    for one in status.get("conditions") or []:
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            message = " ".join((one.get("message") or "").split())
            yield f"{one.get('reason', 'Unschedulable')}{f': {message}' if message else ''}"
