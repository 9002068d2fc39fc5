"""Prometheus: a double of its HTTP API, and the program itself."""

import json
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import urlopen


class Prometheus:
    """Answers instant queries.

    Attributes:
        values: By words that are all in the query, the first that fit; `refuse` refuses all.
        queries: Those that were asked.
    """

    def __init__(self):
        self.values = {}
        self.queries = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                query = parse_qs(urlsplit(self.path).query)["query"][0]
                outer.queries.append(query)
                found = [value for part, value in outer.values.items() if all(word in query for word in part)]
                result = [{"metric": {}, "value": [time.time(), str(found[0])]}] if found else []
                told = {"status": "success", "data": {"resultType": "vector", "result": result}}
                if "refuse" in outer.values:
                    self.send_response(400)
                    told = {"status": "error", "error": "bad query"}
                else:
                    self.send_response(200)
                content = json.dumps(told).encode()
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def end(self):
        self.server.shutdown()
        self.server.server_close()


class RealPrometheus:
    """Prometheus itself, which scrapes every half second.

    Attributes:
        url: Of its HTTP API.
    """

    def __init__(self, program, folder, targets):
        """Args:
        program: Its executable.
        folder: For its configuration and data.
        targets: See `scrape`.
        """
        self._targets = folder / "targets.json"
        self.scrape(targets)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.url = f"http://{address}"
        configuration = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
            "scrape_configs": [{"job_name": "predictors", "file_sd_configs": [{"files": [str(self._targets)]}]}],
        }
        (folder / "prometheus.json").write_text(json.dumps(configuration))  # YAML, of which JSON is a part
        with (folder / "prometheus.log").open("w") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={folder / 'prometheus.json'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={address}",
                ],
                stdout=log,
                stderr=log,
            )

    def scrape(self, targets):
        """Scrape these from now on: (address, labels), with the labels that a cluster's scrape configuration adds."""
        listed = [{"targets": [target], "labels": labels} for target, labels in targets]
        partial = self._targets.with_suffix(".partial")
        partial.write_text(json.dumps(listed))
        partial.rename(self._targets)

    def value(self, query):
        """Value of an instant query; None: it has none, or Prometheus has not started yet."""
        try:
            with urlopen(f"{self.url}/api/v1/query?{urlencode({'query': query})}", timeout=10) as answer:
                result = json.load(answer)["data"]["result"]
        except OSError:
            return None
        return float(result[0]["value"][1]) if result else None

    def end(self):
        self._process.terminate()
        self._process.wait(20)
