"""A double of the Kubeflow Pipelines API (v2beta1) over HTTP, as backend 2.17 answers, since no cluster runs here.

Paths and fields are those of the package kfp_server_api: what it does not know cannot be answered, and is refused when
sent. What runs do is played from a script: a frame for each look at a run. What goes wrong is said by faults. The same
server answers as the Kubernetes API for the pods of the runs.

After the real backend: unset fields are left out, times that have not come are in the years 1 and 1970, drivers and
containers are tasks of their own, a terminated run ends as FAILED, the API server shows no pages, errors are those of
grpc-gateway, with the text for users in their details.
"""

import contextlib
import datetime
import inspect
import json
import re
import ssl
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import kfp_server_api
import yaml
from kfp_server_api import api as services

STEPS = ("download", "train", "evaluate", "export", "serve")
PAGE = "<!DOCTYPE html><html><body>Welcome</body></html>"
STORE = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code></Error>'
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 10, 429: 8, 500: 13, 503: 14}
"""gRPC's, by HTTP status."""
NEVER = "0001-01-01T00:00:00Z"
KNOWN = {
    (method, re.sub(r"{\w+}", "{}", path))
    for service in (
        services.experiment_service_api,
        services.healthz_service_api,
        services.pipeline_upload_service_api,
        services.recurring_run_service_api,
        services.run_service_api,
    )
    for path, method in re.findall(r"'(/apis/v2beta1/[^']+)', '([A-Z]+)'", inspect.getsource(service))
}
"""Methods and paths of the real API."""


@dataclass
class Frame:
    """A run at one look: its state, and those of its steps, by name in their order. `age`: seconds since its start."""

    state: str = "RUNNING"
    steps: dict[str, str] = field(default_factory=dict)
    age: float = 0


@dataclass
class Fault:
    """What happens in place of an answer, `times` times, to requests whose method and path match `asked`.

    `how`: a status; or "drop", "carry out and drop", "page", "redirect", "slow".
    """

    asked: str
    how: int | str
    message: str = ""
    times: int = 1


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Backend:
    """The installation.

    Attributes:
        script: What the next run does, a frame for each look at it; the last one stays.
        behind_ui: Answer as the UI, which passes the API on, does.
        users: By bearer token or cookie, the namespaces that this user may use; None: nobody is asked.
        logs: By step, what its pod wrote.
        pods, nodes: What the Kubernetes API tells of a run's pods, and of its workflow's nodes.
    """

    url: str = ""
    multi_user: bool = False
    behind_ui: bool = False
    users: dict[str, set[str]] | None = None
    script: list[Frame] = field(default_factory=lambda: [Frame("SUCCEEDED", dict.fromkeys(STEPS, "SUCCEEDED"))])
    logs: dict[str, str] = field(default_factory=dict)
    pods: list[dict[str, Any]] = field(default_factory=list)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    pod_logs: dict[str, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.RLock)
    _specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    _frames: dict[str, list[Frame]] = field(default_factory=dict)

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that leads here."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        }
        path.write_text(json.dumps(config))
        return path

    def answer(self, method: str, path: str, headers: dict[str, str], body: Any) -> Any:
        """Carry out a request: an object, or a text.

        Raises:
            Refusal: the answer is an error.
        """
        parts = urlsplit(path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self.lock:
            if parts.path.startswith(("/api/v1/", "/apis/argoproj.io/")):
                return self._kubernetes(parts.path, asked)
            namespaces = self._sign_in(headers)
            if log := re.fullmatch(r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", parts.path):
                return self._log(log[2])
            if self.behind_ui and parts.path == "/k8s/pod/logs":
                return self._log(asked["podname"])
            kind, _, rest = parts.path.removeprefix("/apis/v2beta1/").partition("/")
            name, _, verb = rest.partition(":")
            part = "upload" if (kind, name) == ("pipelines", "upload") else "{}"
            template = f"/apis/v2beta1/{kind}{f'/{part}' if name else ''}{f':{verb}' if verb else ''}"
            if (method, template) not in KNOWN:
                raise Refusal(404, "Not Found")
            if kind == "healthz":
                return self._health()
            action = getattr(self, f"_{kind}")
            return action(method, name, verb, asked, body, namespaces)

    def _health(self) -> dict[str, Any]:
        api = {
            "commit_sha": "c0ffee",
            "tag_name": "2.17.0",
            "multi_user": self.multi_user,
            "pipeline_store": "database",
        }
        if not self.behind_ui:
            return api
        return {
            "apiServerCommitHash": "c0ffee",
            "apiServerTagName": "2.17.0",
            "apiServerMultiUser": self.multi_user,
            "multi_user": self.multi_user,
            "apiServerReady": True,
            "frontendTagName": "2.17.0",
        }

    def _sign_in(self, headers: dict[str, str]) -> set[str] | None:
        if self.users is None:
            return None
        shown = headers.get("authorization", "").removeprefix("Bearer ") or headers.get("cookie", "")
        if shown not in self.users:
            raise Refusal(401, "Failed to check authorization. User identity is empty in the request header")
        return self.users[shown]

    def _may(self, namespaces: set[str] | None, namespace: str) -> None:
        if self.multi_user and not namespace:
            raise Refusal(400, "An experiment cannot have an empty namespace in multi-user mode")
        if namespaces is not None and namespace and namespace not in namespaces:
            raise Refusal(403, f"User 'ada@example.com' is not authorized with reason: (namespace {namespace})")

    def _experiments(self, method, name, verb, asked, body, namespaces) -> dict[str, Any]:
        if method == "POST":
            sent = _known(kfp_server_api.V2beta1Experiment, body)
            self._may(namespaces, sent.get("namespace", ""))
            if any(one["display_name"] == sent["display_name"] for one in self._within(sent.get("namespace", ""))):
                raise Refusal(409, f"Experiment with the name {sent['display_name']!r} already exists")
            made = {**sent, "experiment_id": str(uuid.uuid4()), "created_at": _time(), "storage_state": "AVAILABLE"}
            return self.experiments.setdefault(made["experiment_id"], made)
        if name:
            return _found(self.experiments, name, "Experiment")
        self._may(namespaces, asked.get("namespace", ""))
        return _listed("experiments", self._within(asked.get("namespace", "")), asked)

    def _within(self, namespace: str) -> list[dict[str, Any]]:
        return [one for one in self.experiments.values() if one.get("namespace", "") == namespace]

    def _pipelines(self, method, name, verb, asked, body, namespaces) -> dict[str, Any]:
        if any(one["display_name"] == asked["name"] for one in self.pipelines.values()):
            raise Refusal(409, f"Failed to create a new pipeline. The name {asked['name']} already exist")
        spec, *platform = yaml.safe_load_all(body)
        made = {"pipeline_id": str(uuid.uuid4()), "display_name": asked["name"], "created_at": _time()}
        self._specs[made["pipeline_id"]] = {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec
        return self.pipelines.setdefault(made["pipeline_id"], made)

    def _with_spec(self, sent: dict[str, Any]) -> dict[str, Any]:
        """What was sent, with the pipeline that it may refer to."""
        if not (reference := sent.get("pipeline_version_reference")):
            return sent
        _found(self.pipelines, reference["pipeline_id"], "Pipeline")
        return {**sent, "pipeline_spec": self._specs[reference["pipeline_id"]]}

    def _runs(self, method, name, verb, asked, body, namespaces) -> dict[str, Any]:
        if name:
            run = _found(self.runs, name, "Run")
            self._may(namespaces, self.experiments[run["experiment_id"]].get("namespace", ""))
            if method == "GET":
                return self._look(run)
            return {"terminate": self._terminate, "retry": self._retry}[verb](run)
        if method == "POST":
            return self._start(_known(kfp_server_api.V2beta1Run, body), namespaces)
        return _listed("runs", self._of(self.runs, asked, namespaces), asked)

    def _of(self, kept, asked, namespaces) -> list[dict[str, Any]]:
        if experiment := asked.get("experiment_id"):
            namespace = _found(self.experiments, experiment, "Experiment").get("namespace", "")
            self._may(namespaces, namespace)
            return [one for one in kept.values() if one["experiment_id"] == experiment]
        self._may(namespaces, asked.get("namespace", ""))
        within = {one["experiment_id"] for one in self._within(asked.get("namespace", ""))}
        return [one for one in kept.values() if one["experiment_id"] in within]

    def _start(self, sent: dict[str, Any], namespaces: set[str] | None) -> dict[str, Any]:
        experiment = _found(self.experiments, sent.get("experiment_id", ""), "Experiment")
        self._may(namespaces, experiment.get("namespace", ""))
        _check_parameters(self._with_spec(sent))
        run = {
            **sent,
            "run_id": str(uuid.uuid4()),
            "storage_state": "AVAILABLE",
            "state": "PENDING",
            "created_at": _time(),
            "scheduled_at": _time(),
            "finished_at": "1970-01-01T00:00:00Z",
            "state_history": [{"update_time": _time(), "state": "PENDING"}],
        }
        self._frames[run["run_id"]] = list(self.script)
        return self.runs.setdefault(run["run_id"], run)

    def _look(self, run: dict[str, Any]) -> dict[str, Any]:
        frames = self._frames[run["run_id"]]
        frame = frames.pop(0) if len(frames) > 1 else frames[0]
        began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=frame.age)
        if frame.age:
            run["created_at"] = _time(began)
        if run["state"] != frame.state:
            run["state"] = frame.state
            run["state_history"].append({"update_time": _time(), "state": frame.state})
        if frame.state in ("SUCCEEDED", "FAILED"):
            run["finished_at"] = _time()
        if frame.steps:
            run["run_details"] = {"task_details": _tasks(run["run_id"], frame, began)}
        return run

    def _terminate(self, run: dict[str, Any]) -> dict[str, Any]:
        if run["state"] not in ("PENDING", "RUNNING"):
            raise Refusal(400, f"Failed to terminate a run {run['run_id']}. Row not found")
        steps = self._frames[run["run_id"]][0].steps
        ended = {name: "FAILED" if state == "RUNNING" else state for name, state in steps.items()}
        self._frames[run["run_id"]] = [Frame("CANCELING", steps), Frame("FAILED", ended)]
        return {}

    def _retry(self, run: dict[str, Any]) -> dict[str, Any]:
        if run["state"] != "FAILED":
            raise Refusal(409, "Workflow must be Failed/Error to retry")
        self._frames[run["run_id"]] = list(self.script)
        run |= {"state": "PENDING", "finished_at": "1970-01-01T00:00:00Z"}
        return {}

    def _log(self, pod: str) -> str:
        for step in self.logs:
            if pod == pod_of(step):
                return self.logs[step]
        return json.dumps({"error_message": "Failed to read logs for run: pod not found", "error_details": "..."})

    def _recurringruns(self, method, name, verb, asked, body, namespaces) -> dict[str, Any]:
        if name:
            schedule = _found(self.schedules, name, "Job")
            if method == "DELETE":
                self.schedules.pop(name)
                return {}
            if verb:
                schedule |= {"status": f"{verb.upper()}D", "mode": verb.upper()}
                return {}
            return schedule
        if method == "GET":
            return _listed("recurringRuns", self._of(self.schedules, asked, namespaces), asked)
        sent = _known(kfp_server_api.V2beta1RecurringRun, body)
        _check_parameters(self._with_spec(sent))
        if not 1 <= int(sent.get("max_concurrency", 0)) <= 10:
            raise Refusal(400, "Max concurrency of a recurring run must be at least 1 and at most 10. Received 0")
        cron = sent["trigger"].get("cron_schedule", {}).get("cron", "@daily")
        if not (cron.startswith("@") or len(cron.split()) in (5, 6)):
            raise Refusal(400, f"Schedule cron is not a supported format. Error: Expected 5 to 6 fields, found {cron}")
        made = {**sent, "recurring_run_id": str(uuid.uuid4()), "status": "ENABLED", "created_at": _time()}
        return self.schedules.setdefault(made["recurring_run_id"], made)

    def _kubernetes(self, path: str, asked: dict[str, str]) -> Any:
        if log := re.fullmatch(r"/api/v1/namespaces/[^/]+/pods/([^/]+)/log", path):
            return self.pod_logs[log[1]]
        if path.endswith("/pods"):
            labels = dict([asked["labelSelector"].split("=")])
            found = [pod for pod in self.pods if labels.items() <= pod["metadata"]["labels"].items()]
            return {"kind": "PodList", "apiVersion": "v1", "items": found}
        return {"items": [{"status": {"nodes": self.nodes}}]}


def pod_of(step: str) -> str:
    """Name of the pod of a step's container."""
    return f"trainyard-x7k2p-system-container-impl-{_digest(step)}"


def _digest(step: str) -> str:
    return str(1000 + sum(step.encode()))


def _tasks(run_id: str, frame: Frame, began: datetime.datetime) -> list[dict[str, Any]]:
    """As the real backend lists them: the workflow, its root, and for each step a driver, the step, its container."""

    def task(name: str, state: str, start: float, took: float, *children: str) -> dict[str, Any]:
        started = began + datetime.timedelta(seconds=start)
        return {
            "run_id": run_id,
            "task_id": str(uuid.uuid4()),
            "display_name": name,
            "create_time": _time(started),
            "start_time": _time(started),
            "end_time": NEVER if state in ("PENDING", "RUNNING") else _time(started + datetime.timedelta(seconds=took)),
            "state": state,
            "child_tasks": [{"pod_name": f"trainyard-x7k2p-{_digest(child)}"} for child in children],
        }

    whole = frame.state if frame.state in ("SUCCEEDED", "FAILED") else "RUNNING"
    tasks = [
        task("trainyard-x7k2p", whole, 0, 100, "root-driver"),
        task("root", whole, 10, 100, *(f"{step}-driver" for step in list(frame.steps)[:1])),
        task("root-driver", "SUCCEEDED", 0, 5),
    ]
    for number, (step, state) in enumerate(frame.steps.items()):
        tasks.append(task(f"{step}-driver", "SUCCEEDED", 20 * number, 4, step))
        tasks.append(task(step, state, 20 * number + 5, 12, step))
        tasks.append(task("executor", state, 20 * number + 5, 11))
    return [_known(kfp_server_api.V2beta1PipelineTaskDetail, one) for one in reversed(tasks)]


def _check_parameters(sent: dict[str, Any]) -> None:
    spec = sent["pipeline_spec"]
    inputs = (spec.get("pipeline_spec") or spec)["root"].get("inputDefinitions", {}).get("parameters", {})
    given = sent.get("runtime_config", {}).get("parameters", {})
    for name, described in inputs.items():
        if name not in given and "defaultValue" not in described and not described.get("isOptional"):
            raise Refusal(
                400, f"parameter {name} is not optional, yet has neither default value nor user provided value"
            )
        number = described["parameterType"] in ("NUMBER_INTEGER", "NUMBER_DOUBLE")
        if name in given and number and not isinstance(given[name], int | float):
            raise Refusal(400, f"input parameter {name} requires type double or integer, but it is not of number type")
    if unknown := sorted(set(given) - set(inputs)):
        raise Refusal(400, f"parameter(s) provided are not required or of unknown type: {', '.join(unknown)}")


def _uploaded(kind: str, body: bytes) -> str:
    """The file in a form."""
    message = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    return next(part.get_payload(decode=True).decode() for part in message.get_payload())


def _known(model: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields, each of which the model of kfp_server_api has."""
    if unknown := set(fields) - set(model.attribute_map.values()):
        raise Refusal(400, f"proto: unknown field {sorted(unknown)[0]!r}")
    return fields


def _found(kept: dict[str, dict[str, Any]], name: str, kind: str) -> dict[str, Any]:
    if name not in kept:
        raise Refusal(404, f"{kind} {name} not found")
    return kept[name]


def _listed(kind: str, items: list[dict[str, Any]], asked: dict[str, str]) -> dict[str, Any]:
    for predicate in json.loads(unquote(asked.get("filter", "")) or "{}").get("predicates", []):
        text = predicate.get("string_value", predicate.get("stringValue"))
        matches = {
            "EQUALS": lambda value, text=text: value == text,
            1: lambda value, text=text: value == text,
            "NOT_EQUALS": lambda value, text=text: value != text,
            "IS_SUBSTRING": lambda value, text=text: text in value,
        }[predicate["operation"]]
        items = [one for one in items if matches(one.get(predicate["key"], ""))]
    newest_first = list(reversed(items)) if asked.get("sort_by", "").endswith(" desc") else items
    page = newest_first[: int(asked.get("page_size") or 20)]
    return {kind: page, "total_size": len(items)} if items else {}


def _time(moment: datetime.datetime | None = None) -> str:
    return (moment or datetime.datetime.now(datetime.UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Handler(BaseHTTPRequestHandler):
    backend: Backend

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        sent = self.rfile.read(length)
        form = "multipart/form-data" in (self.headers.get("Content-Type") or "")
        body = _uploaded(self.headers["Content-Type"], sent) if form else json.loads(sent or "null")
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.backend.requests.append((self.command, self.path, headers))
        fault = self._fault()
        if fault and fault.how != "carry out and drop":
            return self._break(fault)
        try:
            answered = self.backend.answer(self.command, self.path, headers, body)
        except Refusal as refusal:
            return self._refuse(refusal.status, str(refusal))
        if fault:
            return self._drop()
        if isinstance(answered, str):
            return self._send(200, answered, "text/plain")
        return self._send(200, json.dumps(answered), "application/json")

    do_GET = do_POST = do_DELETE = _serve  # noqa: N815

    def _fault(self) -> Fault | None:
        with self.backend.lock:
            for fault in self.backend.faults:
                if fault.times and re.search(fault.asked, f"{self.command} {self.path}"):
                    fault.times -= 1
                    return fault
        return None

    def _break(self, fault: Fault) -> None:
        if fault.how == "drop":
            self._drop()
        elif fault.how == "slow":
            time.sleep(60)
        elif fault.how == "page":
            self._send(200, PAGE, "text/html")
        elif fault.how == "redirect":
            self._send(302, "", "text/html", Location="/dex/auth?state=do-not-show")
        else:
            self._refuse(int(fault.how), fault.message)

    def _refuse(self, status: int, message: str) -> None:
        kind = "type.googleapis.com/google.rpc.Status"
        detail = {"@type": kind, "code": CODES[status], "message": message}
        body = {"code": CODES[status], "message": f"Failed: InvalidInputError: {message}", "details": [detail]}
        self._send(status, json.dumps(body), "application/json")

    def _send(self, status: int, text: str, kind: str, **headers: str) -> None:
        content = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _drop(self) -> None:
        self.close_connection = True
        self.connection.close()

    def log_message(self, *args: Any) -> None:
        pass


@contextlib.contextmanager
def kfp_backend(certificate: Path | None = None) -> Iterator[Backend]:
    """Run the double; `certificate`: PEM with its key, to answer over TLS."""
    backend = Backend()
    with _listening(type("Handler", (_Handler,), {"backend": backend}), certificate) as backend.url:
        yield backend


@contextlib.contextmanager
def something_else(text: str, status: int = 200) -> Iterator[str]:
    """URL of a server that answers everything with this text; without an answer if it is empty."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not text:
                time.sleep(60)
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: Any) -> None:
            pass

    with _listening(Handler) as url:
        yield url


@contextlib.contextmanager
def _listening(handler: Any, certificate: Path | None = None) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http{'s' if certificate else ''}://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()
