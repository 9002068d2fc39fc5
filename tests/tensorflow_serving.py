"""A stand-in for tensorflow/serving, run in the train image: the interface of the real one, on the same SavedModel.

It serves /models/$MODEL_NAME/<number>/ on port 8501 and speaks as much of TensorFlow Serving's REST as serve uses.
"""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from trainyard.components.common.artifacts.classifier import SavedModelClassifier

NAME = os.environ["MODEL_NAME"]
VERSION = max((folder for folder in Path("/models", NAME).iterdir()), key=lambda folder: int(folder.name))
PATHS = [f"/v1/models/{NAME}", f"/v1/models/{NAME}/versions/{VERSION.name}"]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path not in PATHS:
            return self.answer(404, {"error": f"Could not find any versions of model {self.path}"})
        status = {"error_code": "OK", "error_message": ""}
        told = {"version": VERSION.name, "state": "AVAILABLE", "status": status}
        return self.answer(200, {"model_version_status": [told]})

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path not in [f"{path}:predict" for path in PATHS]:
            return self.answer(404, {"error": f"Servable not found for request: {self.path}"})
        try:
            images = np.array(json.loads(content)["instances"], np.float32)
            return self.answer(200, {"predictions": model.predict(images).tolist()})
        except (ValueError, KeyError) as error:
            return self.answer(400, {"error": f"JSON Parse error: {error}"})

    def answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


model = SavedModelClassifier(VERSION)
ThreadingHTTPServer(("", 8501), Handler).serve_forever()
