"""A double of Prometheus's HTTP API."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


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
