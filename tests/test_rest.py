"""Kubeflow Pipelines by plain REST: the commands of docs/rest.md, against the double of the API."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT, outside_aws
from tests.kfp_api import STEPS, Frame, kfp_backend

PAGE = PROJECT / "docs" / "rest.md"


def test_the_commands_of_the_page_upload_start_follow_and_schedule(tmp_path):
    if missing := [program for program in ("bash", "curl", "jq") if not shutil.which(program)]:
        pytest.skip(f"docs/rest.md IS NOT TESTED: {', '.join(missing)} is not installed")
    (tmp_path / "dist").mkdir()
    (tmp_path / "prod.yaml").write_text("namespace: vision\n")
    commands = "\n".join(re.findall("```sh\n(.*?)```", PAGE.read_text(), re.DOTALL))
    with kfp_backend() as backend:
        backend.users = {"do-not-show": {""}}
        backend.script = [
            Frame("RUNNING", {"download": "RUNNING"}),
            Frame("SUCCEEDED", dict.fromkeys(STEPS, "SUCCEEDED")),
        ]
        environment = outside_aws() | {
            "HOST": backend.url,
            "KF_PIPELINES_TOKEN": "do-not-show",
            "SECONDS_BETWEEN_LOOKS": "0",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        script = ["bash", "-euo", "pipefail", "-c", commands]
        done = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (run,) = backend.runs.values()
    assert run["runtime_config"]["parameters"] == {"source": "s3://datasets/digits.npz", "epochs": 10}
    assert run["pipeline_version_reference"]["pipeline_id"] in backend.pipelines
    assert done.stdout.rstrip().endswith(f"run {run['run_id']} SUCCEEDED\n{{}}{{}}")
    assert "train SUCCEEDED" in done.stdout
    assert backend.schedules == {}
    changes = [f"{method} {path.partition(':')[2]}" for method, path, _ in backend.requests if "recurringruns" in path]
    assert changes == ["POST ", "POST disable", "DELETE "]
