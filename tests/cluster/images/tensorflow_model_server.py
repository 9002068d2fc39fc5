#!/usr/bin/env python3
"""A stand-in for TensorFlow Serving's program: its flags, as KServe's runtime gives them, over our own model server."""

import os
import sys

flags = dict(flag.removeprefix("--").partition("=")[::2] for flag in sys.argv[1:])
command = [sys.executable, "-m", "trainyard.components.serve.predictor"]
command += ["--model-name", flags["model_name"], "--model", flags["model_base_path"], "--port", flags["rest_api_port"]]
os.execv(command[0], command)
