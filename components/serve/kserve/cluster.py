"""The Kubernetes API as the serve step needs it: a few verbs on some kinds, and failures in plain words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ...common.cli import BadInput

Object = dict[str, Any]
"""A Kubernetes object as JSON."""

SERVICE = ("serving.kserve.io", "v1beta1", "inferenceservices")
DEPLOYMENT = ("apps", "v1", "deployments")
REPLICA_SET = ("apps", "v1", "replicasets")
POD = ("", "v1", "pods")
EVENT = ("", "v1", "events")
HTTP_ROUTE = ("gateway.networking.k8s.io", "v1", "httproutes")
GATEWAY = ("gateway.networking.k8s.io", "v1", "gateways")
INGRESS = ("networking.k8s.io", "v1", "ingresses")
REVISION = ("serving.knative.dev", "v1", "revisions")
AUTOSCALER = ("autoscaling", "v2", "horizontalpodautoscalers")
SECONDS_PER_CALL = (5, 30)
"""To connect, and to answer."""
SECONDS_BETWEEN_LOOKS = (0.2, 2.0)
"""The first pause and the longest: soon to see what goes fast, seldom enough to spare the API."""
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def pauses() -> Iterator[float]:
    """Seconds between looks at a cluster, ever longer."""
    pause, longest = SECONDS_BETWEEN_LOOKS
    while True:
        yield pause
        pause = min(longest, pause * 1.3)


class Conflict(Exception):
    """Somebody else changed the object in between: read it again."""


class Connection(NamedTuple):
    """A way to a cluster.

    Attributes:
        client: kubernetes.client.ApiClient.
        host: URL of the API.
        namespace: That of the pod, or of the kubeconfig's context.
        inside: Whether this process runs in the cluster.
    """

    client: Any
    host: str
    namespace: str
    inside: bool


def connect(context: str = "") -> Connection:
    """Find the cluster: by the pod's service account in a cluster, elsewhere by the kubeconfig.

    Args:
        context: Of the kubeconfig; empty: the pod's own cluster, or the current context.

    Raises:
        RuntimeError: neither a service account nor a kubeconfig is there, or it has no such context.
    """
    import urllib3
    from kubernetes import client, config

    settings = client.Configuration()
    # Safe for every verb: what was done by a lost attempt shows as a conflict, and is read again.
    settings.retries = urllib3.Retry(
        total=4,
        connect=2,
        backoff_factor=0.3,
        status_forcelist=(429, 500, 502, 503, 504),
        allowed_methods=None,
        raise_on_status=False,
    )
    inside = False
    try:
        if context:
            raise config.ConfigException(f"no context {context}")
        config.load_incluster_config(client_configuration=settings)
        namespace, inside = _POD_NAMESPACE.read_text().strip(), True
    except config.ConfigException:
        try:
            config.load_kube_config(context=context or None, client_configuration=settings)
            contexts, current = config.list_kube_config_contexts()
        except config.ConfigException as error:
            raise RuntimeError(
                f"no cluster: expected a pod's service account or a kubeconfig, received neither ({error}); "
                "set KUBECONFIG, or serve on this machine with --target process"
            ) from None
        named = [one for one in contexts if one["name"] == context]
        namespace = (named[0] if named else current)["context"].get("namespace", "default")
    return Connection(client.ApiClient(settings), settings.host, namespace, inside)


class Namespace:
    """One namespace of a cluster, which is looked for when it is first asked: see `connect` for what that raises."""

    def __init__(self, name: str = "", context: str = "") -> None:
        """Args:
        name: Empty: the pod's own, or the context's.
        context: Of the kubeconfig; empty: the pod's own cluster, or the current context.
        """
        self._name, self._context = name, context

    @cached_property
    def _connection(self) -> Connection:
        return connect(self._context)

    @property
    def _api(self) -> Any:
        from kubernetes.client import CustomObjectsApi

        return CustomObjectsApi(self._connection.client)

    @property
    def name(self) -> str:
        """Its name."""
        return self._name or self._connection.namespace

    @property
    def inside(self) -> bool:
        """Whether this process runs in the cluster."""
        return self._connection.inside

    def beside(self, name: str) -> Namespace:
        """Another namespace of the same cluster."""
        return Namespace(name, self._context)

    def get(self, kind: tuple[str, str, str], name: str) -> Object | None:
        """An object as it is, or None.

        Raises:
            PermissionError: the cluster does not allow it.
            ConnectionError: it does not answer, or is out of order, even after some attempts.
        """
        group, version, plural = kind
        with self._plain_errors("get", kind):
            try:
                return self._api.get_namespaced_custom_object(
                    group, version, self.name, plural, name, _request_timeout=SECONDS_PER_CALL
                )
            except Exception as error:
                if getattr(error, "status", None) == 404:
                    return None
                raise

    def create(self, kind: tuple[str, str, str], body: Object) -> Object:
        """Create an object; a field that the cluster does not know is refused, not dropped.

        Raises:
            BadInput: the cluster refuses it as it is.
            Conflict: it is there already.
        """
        group, version, plural = kind
        with self._plain_errors("create", kind):
            return self._api.create_namespaced_custom_object(
                group,
                version,
                self.name,
                plural,
                body,
                field_validation="Strict",
                _request_timeout=SECONDS_PER_CALL,
            )

    def patch(self, kind: tuple[str, str, str], name: str, body: Object, dry_run: bool = False) -> Object:
        """Merge a patch into an object; with `metadata.resourceVersion` in it only if nobody else changed the object.

        Args:
            dry_run: Only ask what would come of it. The answer lacks the fields that the cluster does not know; else
                such a field is refused.

        Raises:
            BadInput: the cluster refuses it as it is.
            Conflict: somebody else changed the object.
        """
        group, version, plural = kind
        settings = {"dry_run": "All", "field_validation": "Ignore"} if dry_run else {"field_validation": "Strict"}
        with self._plain_errors("patch", kind):
            return self._api.patch_namespaced_custom_object(
                group, version, self.name, plural, name, body, **settings, _request_timeout=SECONDS_PER_CALL
            )

    def delete(self, kind: tuple[str, str, str], name: str) -> None:
        """Let an object be deleted; one that is gone already is no failure.

        Raises:
            PermissionError, ConnectionError: as for `get`.
        """
        group, version, plural = kind
        with self._plain_errors("delete", kind):
            try:
                self._api.delete_namespaced_custom_object(
                    group, version, self.name, plural, name, _request_timeout=SECONDS_PER_CALL
                )
            except Exception as error:
                if getattr(error, "status", None) != 404:
                    raise

    def ask_service(self, service: str, path: str, body: Object) -> Any:
        """POST JSON to a service of the namespace through the API, which passes it on; the answer's JSON.

        Raises:
            PermissionError: the cluster does not allow it.
            ConnectionError: the cluster or the service does not answer.
        """
        with self._plain_errors("create", ("", "v1", "services/proxy")):
            return self._call("POST", f"{self._path(POD[:2])}/services/{service}:80/proxy{path}", body=body)

    def may(self, verb: str, resource: str, group: str = "") -> bool:
        """Whether this process has a right in the namespace, `create` on `services/proxy`; anyone may ask."""
        resource, _, subresource = resource.partition("/")
        asked = {"namespace": self.name, "verb": verb, "group": group, "resource": resource, "subresource": subresource}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        try:
            with self._plain_errors("create", ("authorization.k8s.io", "v1", "selfsubjectaccessreviews")):
                path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
                return bool(self._call("POST", path, body=review)["status"].get("allowed"))
        except (BadInput, PermissionError, RuntimeError):
            return False

    def listed(self, kind: tuple[str, str, str], **selectors: str) -> list[Object]:
        """The objects of a kind.

        Args:
            selectors: `labelSelector` and `fieldSelector`, as the API has them.

        Raises:
            PermissionError, ConnectionError: as for `get`.
        """
        with self._plain_errors("list", kind):
            found = self._call("GET", f"{self._path(kind[:2])}/{kind[2]}", query_params=list(selectors.items()))
            return list(found["items"])

    def log(self, pod: str, container: str, previous: bool) -> str:
        """The end of a container's log, or of the one before it.

        Raises:
            PermissionError, ConnectionError: as for `get`.
        """
        asked = [("container", container), ("previous", str(previous).lower()), ("tailLines", "20")]
        with self._plain_errors("get", ("", "v1", "pods/log")):
            path = f"{self._path(POD[:2])}/pods/{pod}/log"
            return str(self._call("GET", path, query_params=asked, response_type="str"))

    def _path(self, group: tuple[str, ...]) -> str:
        return f"{f'/apis/{group[0]}' if group[0] else '/api'}/{group[1]}/namespaces/{self.name}"

    def _call(self, verb: str, path: str, response_type: str = "object", **settings: Any) -> Any:
        """Ask for something as plain JSON."""
        return self._connection.client.call_api(
            path,
            verb,
            header_params={"Content-Type": "application/json", "Accept": "application/json"},
            response_type=response_type,
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _request_timeout=SECONDS_PER_CALL,
            **settings,
        )

    @contextmanager
    def _plain_errors(self, verb: str, kind: tuple[str, str, str]) -> Iterator[None]:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        resource = f"{kind[2]}.{kind[0]}".rstrip(".")
        try:
            yield
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            raise ConnectionError(
                f"the cluster at {self._connection.host} does not answer ({reason}); check the kubeconfig's context"
            ) from error
        except ApiException as error:
            text = _message(error)
            if error.status == 401:
                raise PermissionError(
                    f"the cluster at {self._connection.host} does not accept the credentials ({text}); log in again"
                ) from error
            if error.status == 403 and re.search("admission webhook|denied (the )?request", text):
                raise BadInput(f"the cluster refuses the {kind[2]}: {text}") from error
            if error.status == 403 and "cannot" in text:
                raise PermissionError(
                    f"not allowed to {verb} {resource} in namespace {self.name} ({text}); "
                    "bind a role with this verb to the step's service account"
                ) from error
            if error.status == 404:
                raise RuntimeError(
                    f"the cluster knows no {resource} or no namespace {self.name} ({text}); "
                    "install KServe, or pass another --namespace"
                ) from error
            if error.status == 409:
                raise Conflict(text) from error
            if error.status in (400, 422):
                raise BadInput(f"the cluster refuses the {kind[2]}: {text}") from error
            if error.status == 429 or error.status >= 500:
                raise ConnectionError(
                    f"the cluster at {self._connection.host} fails ({text}); try again later"
                ) from error
            raise RuntimeError(f"the cluster answers {error.status} to {verb} {resource}: {text}") from error


def _message(error: Any) -> str:
    """The API's own text of an error."""
    try:
        return json.loads(error.body)["message"]
    except (ValueError, KeyError, TypeError):
        return " ".join(str(error.body or error.reason).split())[:500]
