"""A double of the REST API of the Kubeflow Model Registry (v1): what its client asks when a model is registered."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

ROOT = "/api/model_registry/v1"


@contextmanager
def model_registry(token=""):
    """A registry: `.models`, `.versions` and `.artifacts` are what it holds, by ID; `.url` is where it answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer(self._find, 200)

        def do_POST(self):
            self._answer(self._create, 201)

        def _answer(self, action, status):
            if token and self.headers.get("Authorization") != f"Bearer {token}":
                return self._send(401, {"code": "401", "message": "no"})
            found = action(urlsplit(self.path).path.removeprefix(ROOT).strip("/").split("/"))
            return self._send(404, {"code": "404", "message": "none"}) if found is None else self._send(status, found)

        def _find(self, path):
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            if path == ["registered_model"]:
                return self._named(server.models, query["name"])
            if path == ["model_version"]:
                parent = query["parentResourceId"]
                own = {key: one for key, one in server.versions.items() if one["registeredModelId"] == parent}
                return self._named(own, query["name"])
            if path[0] == "model_versions" and path[2:] == ["artifacts"]:
                items = [one for one in server.artifacts.values() if one["of"] == path[1]]
                return {"items": items, "size": len(items), "pageSize": 0, "nextPageToken": ""}
            return None

        def _named(self, entries, name):
            return next((one for one in entries.values() if one["name"] == name), None)

        def _create(self, path):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if path == ["registered_models"]:
                return self._keep(server.models, body)
            if path == ["model_versions"]:
                return self._keep(server.versions, body)
            if path[0] == "model_versions" and path[2:] == ["artifacts"]:
                return self._keep(server.artifacts, body | {"of": path[1]})
            return None

        def _keep(self, entries, body):
            number = 1 + sum(map(len, (server.models, server.versions, server.artifacts)))
            kept = entries[str(number)] = {"state": "LIVE"} | body | {"id": str(number)}
            return kept

        def _send(self, status, body):
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.models, server.versions, server.artifacts = {}, {}, {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
