"""The examples for CI: each command in them runs, `submit` against the double of the API."""

import json
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

from tests.conftest import PROJECT, outside_aws
from tests.kfp_api import Frame, kfp_backend
from trainyard.pipeline import STEPS

EXAMPLES = PROJECT / "examples" / "ci"
GITHUB = yaml.safe_load((EXAMPLES / "github.yml").read_text())
GITLAB = yaml.safe_load((EXAMPLES / "gitlab.yml").read_text())


def commands():
    """The lines of shell, by file."""
    github = [step["run"] for job in GITHUB["jobs"].values() for step in job["steps"] if "run" in step]
    gitlab = [line for job in GITLAB.values() if isinstance(job, dict) for line in job.get("script", [])]
    return {"github": "\n".join(github).splitlines(), "gitlab": gitlab}


@pytest.fixture
def repository(tmp_path):
    """A folder with the settings, and the images that a push has pinned."""
    shutil.copytree(EXAMPLES, tmp_path / "examples" / "ci")
    (tmp_path / "dist").mkdir()
    pinned = {step: f"registry.example.com/{step}@sha256:{'1' * 64}" for step in STEPS}
    (tmp_path / "dist" / "images.json").write_text(json.dumps(pinned))
    return tmp_path


@pytest.mark.parametrize("stage", ["test", "production"])
@pytest.mark.parametrize("file", ["github", "gitlab"])
def test_its_submission_runs_and_fails_with_the_run(repository, file, stage):
    (line,) = {line for line in commands()[file] if line.startswith("trainyard submit")}
    for outcome, code in (("SUCCEEDED", 0), ("FAILED", 1)):
        with kfp_backend() as backend:
            backend.script = [Frame(outcome, dict.fromkeys(STEPS, outcome))]
            environment = {"STAGE": stage, "SOURCE": "s3://data/digits-1.npz", "KF_PIPELINES_ENDPOINT": backend.url}
            command = line.replace("trainyard", f"{shlex.quote(sys.executable)} -m trainyard", 1)
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=repository,
                env=outside_aws() | environment,
                capture_output=True,
                text=True,
            )
        assert done.returncode == code, done.stderr
    (experiment,) = backend.experiments.values()
    assert experiment["display_name"] == stage
    (run,) = backend.runs.values()
    spec = run["pipeline_spec"]["pipeline_spec"]
    containers = [one["container"]["image"] for one in spec["deploymentSpec"]["executors"].values()]
    assert all("@sha256:" in image for image in containers)
    gate = spec["root"]["inputDefinitions"]["parameters"]["min_accuracy"]["defaultValue"]
    assert gate == {"test": 0.9, "production": 0.97}[stage]
    assert spec["root"]["inputDefinitions"]["parameters"]["auto_promote"]["defaultValue"] == (stage == "production")


@pytest.mark.parametrize("file", ["github", "gitlab"])
def test_the_make_targets_and_modules_that_it_calls_are_there(file):
    targets = set(re.findall(r"^([a-z-]+):.*## ", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join(commands()[file])
    for words in re.findall(r"^make ((?:[a-z-]+ ?)+)", text, re.MULTILINE):
        assert set(words.split()) <= targets
    for module, subcommand in re.findall(r"python -m (trainyard\S+) (\w+)", text):
        subprocess.run([sys.executable, "-m", module, subcommand, "--help"], check=True, capture_output=True)


def test_its_actions_are_those_of_our_own_workflows():
    used = set(re.findall(r"uses: (.*)", (EXAMPLES / "github.yml").read_text()))
    ours = "".join(path.read_text() for path in PROJECT.glob(".github/workflows/*.yml"))
    assert used <= set(re.findall(r"uses: (.*)", ours))
    assert GITHUB["permissions"] == {}
