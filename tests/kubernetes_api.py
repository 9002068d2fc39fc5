"""A double of the Kubernetes API over HTTP, in memory: InferenceServices, Deployments, and a script for KServe's part.

It behaves as an API server does where the serve step could go wrong: conflicts by resourceVersion, a generation that
only a change of the specification raises, merge patches alone, a status that writes do not touch, fields that the
schema does not know (dropped, or refused where validation is strict), dry runs, finalizers, errors as Status objects.
What KServe's controller would do is played from a script: a frame for each look at the service after a write. Requests
to a service behind the API's proxy are answered by what the test puts there.
"""

import copy
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

SERVICES = "inferenceservices"
DEPLOYMENTS = "deployments"
REVISIONS = "revisions"
ROUTES = "httproutes"
GATEWAYS = "gateways"
INGRESSES = "ingresses"
AUTOSCALERS = "horizontalpodautoscalers"
LISTED = ("pods", "replicasets", "events")
PATH = re.compile(
    r"/apis/(?P<group>[^/]+)/(?P<version>[^/]+)/namespaces/(?P<namespace>[^/]+)/(?P<plural>[^/?]+)(/(?P<name>[^/?]+))?"
)
PROXY = re.compile(r"/api/v1/namespaces/[^/]+/services/(?P<service>[^/:]+):80/proxy(?P<path>/.*)")
GROUPS = {
    SERVICES: "serving.kserve.io/v1beta1",
    DEPLOYMENTS: "apps/v1",
    REVISIONS: "serving.knative.dev/v1",
    ROUTES: "gateway.networking.k8s.io/v1",
    GATEWAYS: "gateway.networking.k8s.io/v1",
    INGRESSES: "networking.k8s.io/v1",
    AUTOSCALERS: "autoscaling/v2",
}

Object = dict[str, Any]


@dataclass
class Frame:
    """What KServe has done by one look: the service's status, the predictor's Deployment, and others by name."""

    status: Object
    deployment: Object | None = None
    others: dict[str, Object | None] = field(default_factory=dict)


@dataclass
class Fault:
    """An answer in place of the real one, to the next request of a verb. `after`: seconds for Retry-After."""

    verb: str
    status: int
    message: str = ""
    times: int = 1
    after: int = 0


class Refusal(Exception):
    def __init__(self, status: int, reason: str, message: str, after: int = 0) -> None:
        super().__init__(message)
        self.status, self.reason, self.after = status, reason, after


@dataclass
class API:
    """The cluster's content.

    `script` is what KServe does after a write, `scripts` after the next writes, one each; `faults` is what goes wrong
    first. `mistakes` tells what KServe's schema says against a manifest, `knows_canaries` whether it has spec.canary.
    `controller` makes the status of a service, in place of a script.
    `behind` answers for the services in the cluster; `rights` are what a client hears when it asks whether it may do
    something, as `create services/proxy`. Whatever is listed is there for every selector.
    """

    url: str = ""
    script: list[Frame] = field(default_factory=list)
    scripts: list[list[Frame]] = field(default_factory=list)
    mistakes: Callable[[Object], list[str]] | None = None
    knows_canaries: bool = True
    finalizer: bool = False
    behind: Callable[[str, str, Object], tuple[int, Object]] | None = None
    controller: Callable[[Object], Object] | None = None
    rights: list[str] = field(default_factory=list)
    pods: list[Object] = field(default_factory=list)
    replicasets: list[Object] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)
    log: str = ""
    writes: list[Object] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    objects: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    _playing: list[Frame] = field(default_factory=list)
    _lock: Any = field(default_factory=threading.RLock)
    _counter: int = 0
    _looks_at_a_deletion: int = 0

    def service(self, name: str, namespace: str = "vision") -> Object:
        return self.objects[SERVICES, namespace, name]

    def kubeconfig(self, path: Path, namespace: str = "vision") -> Path:
        """Write a kubeconfig whose context leads here."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": "secret-token"}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": namespace}}],
        }
        path.write_text(json.dumps(config))
        return path

    def answer(self, verb: str, path: str, content_type: str, body: Object | None) -> Object:
        """Carry out one request.

        Raises:
            Refusal: the answer is an error.
        """
        with self._lock:
            self.requests.append((verb, path))
            for fault in self.faults:
                if fault.verb == verb and fault.times:
                    fault.times -= 1
                    raise Refusal(fault.status, "", fault.message, fault.after)
            asked = parse_qs(path.partition("?")[2])
            if proxied := PROXY.fullmatch(path) if self.behind else None:
                status, answer = self.behind(proxied["service"], proxied["path"], body)
                if status != 200:
                    raise Refusal(status, "", json.dumps(answer))
                return answer
            if path.endswith("/selfsubjectaccessreviews"):
                wanted = body["spec"]["resourceAttributes"]
                resource = "/".join(filter(None, (wanted["resource"], wanted["subresource"])))
                return {**body, "status": {"allowed": f"{wanted['verb']} {resource}" in self.rights}}
            plural = path.partition("?")[0].rpartition("/")[2]
            if verb == "GET" and plural in LISTED:
                return {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": getattr(self, plural)}
            if verb == "GET" and plural == "log":
                return self.log
            parts = PATH.fullmatch(path.partition("?")[0])
            if not parts or GROUPS.get(parts["plural"]) != f"{parts['group']}/{parts['version']}":
                raise Refusal(404, "NotFound", "the server could not find the requested resource")
            if verb == "POST":
                return self._create(parts["plural"], parts["namespace"], body, asked)
            key = (parts["plural"], parts["namespace"], parts["name"])
            if verb == "GET":
                if key[0] == SERVICES:
                    self._play(key)
                return self._found(key)
            if verb == "DELETE":
                return self._delete(key)
            if content_type != "application/merge-patch+json":
                raise Refusal(
                    415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {content_type}"
                )
            return self._patch(key, body, asked)

    def _found(self, key: tuple[str, str, str]) -> Object:
        if key not in self.objects:
            raise Refusal(404, "NotFound", f'{key[0]} "{key[2]}" not found')
        return self.objects[key]

    def _create(self, plural: str, namespace: str, body: Object, asked: dict[str, list[str]]) -> Object:
        key = (plural, namespace, body["metadata"]["name"])
        if key in self.objects:
            raise Refusal(409, "AlreadyExists", f'{plural} "{key[2]}" already exists')
        new = self._validated(copy.deepcopy(body), asked)
        new.pop("status", None)
        new["metadata"] |= {"namespace": namespace, "generation": 1, "resourceVersion": self._next()}
        if self.finalizer:
            new["metadata"]["finalizers"] = ["inferenceservice.finalizers"]
        return self._written(key, new)

    def _patch(self, key: tuple[str, str, str], patch: Object, asked: dict[str, list[str]]) -> Object:
        old = self._found(key)
        expected = patch.get("metadata", {}).pop("resourceVersion", None)
        if expected not in (None, old["metadata"]["resourceVersion"]):
            raise Refusal(
                409, "Conflict", f'Operation cannot be fulfilled on {key[0]} "{key[2]}": the object has been modified'
            )
        patch.pop("status", None)
        new = self._validated(merged(old, patch), asked)
        if asked.get("dryRun") == ["All"]:
            return new
        new["metadata"]["generation"] += new["spec"] != old["spec"]
        new["metadata"]["resourceVersion"] = self._next()
        return self._written(key, new)

    def _validated(self, new: Object, asked: dict[str, list[str]]) -> Object:
        """What the schema leaves of an object."""
        strict = asked.get("fieldValidation") == ["Strict"]
        if not self.knows_canaries and new["spec"].get("canary"):
            if strict:
                raise Refusal(400, "BadRequest", 'strict decoding error: unknown field "spec.canary"')
            del new["spec"]["canary"]
        wrong = self.mistakes({key: value for key, value in new.items() if key != "status"}) if self.mistakes else []
        if unknown := [text for text in wrong if text.startswith("unknown")]:
            raise Refusal(400, "BadRequest", f"strict decoding error: {', '.join(unknown)}")
        if wrong:
            raise Refusal(422, "Invalid", f"InferenceService is invalid: {'; '.join(wrong)}")
        return new

    def _written(self, key: tuple[str, str, str], new: Object) -> Object:
        self.objects[key] = new
        self.writes.append(copy.deepcopy(new))
        self._playing = copy.deepcopy(self.scripts.pop(0) if self.scripts else self.script)
        return new

    def _delete(self, key: tuple[str, str, str]) -> Object:
        found = self._found(key)
        if found["metadata"].get("finalizers"):
            found["metadata"]["deletionTimestamp"] = "2026-11-22T10:00:00Z"
        else:
            del self.objects[key]
        return {"kind": "Status", "status": "Success"}

    def _play(self, key: tuple[str, str, str]) -> None:
        if self.objects.get(key, {}).get("metadata", {}).get("deletionTimestamp"):
            self._looks_at_a_deletion += 1
            if self._looks_at_a_deletion > 2:  # what the finalizer waits for is done
                del self.objects[key]
            return
        if self.controller and key in self.objects:
            self.objects[key]["status"] = self.controller(self.objects[key])
        if not self._playing or key not in self.objects:
            return
        frame = self._playing.pop(0)
        self.objects[key]["status"] = frame.status
        self.objects[key]["metadata"]["resourceVersion"] = self._next()
        for name, deployment in {f"{key[2]}-predictor": frame.deployment, **frame.others}.items():
            if deployment:
                self.objects[DEPLOYMENTS, key[1], name] = deployment

    def _next(self) -> str:
        self._counter += 1
        return str(self._counter)


def merged(target: Any, patch: Any) -> Any:
    """JSON merge patch, RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


@contextmanager
def kubernetes_api() -> Iterator[API]:
    """A running API on a port of its own."""
    api = API()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            content_type = self.headers.get("Content-Type", "").partition(";")[0]
            after = 0
            try:
                if self.headers.get("Authorization") != "Bearer secret-token":
                    raise Refusal(401, "Unauthorized", "Unauthorized")
                status, content = (
                    200,
                    api.answer(self.command, self.path, content_type, json.loads(body) if body else None),
                )
            except Refusal as refusal:
                status, after = refusal.status, refusal.after
                content = {
                    "kind": "Status",
                    "status": "Failure",
                    "message": str(refusal),
                    "reason": refusal.reason,
                    "code": status,
                }
            encoded = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            if after:
                self.send_header("Retry-After", str(after))
            self.end_headers()
            self.wfile.write(encoded)

        do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
