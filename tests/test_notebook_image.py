"""The notebook image: built for real, and run as Kubeflow runs a notebook server."""

import re
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from tests.conftest import PROJECT, outside_aws
from tests.serving import wait_until
from trainyard.launch.engine import engine

AS_ON_A_CLUSTER = ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--publish", "127.0.0.1::8888"]


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    dist = tmp_path_factory.mktemp("dist")
    command = ["-m", "trainyard.launch.images", "build", "--step", "notebook", "--version", "test", "--dist", dist]
    done = subprocess.run([sys.executable, *command], cwd=PROJECT, capture_output=True, text=True, env=outside_aws())
    if done.returncode and re.search(r"engine|base image|BuildKit", done.stderr):
        pytest.skip(f"NO NOTEBOOK IMAGE IS TESTED: {done.stderr}")
    assert done.returncode == 0, done.stderr
    yield "trainyard-notebook:test"
    engine("rmi", "--force", "trainyard-notebook:test")


@pytest.fixture
def home(tmp_path):
    """An empty home volume, as a cluster mounts it: root's, writable for the pod's group."""
    folder = tmp_path / "home"
    folder.mkdir()
    engine("run", "--rm", "-v", f"{folder}:/home", "python:3.11-slim", "sh", "-c", "chown 0:100 /home; chmod 775 /home")
    yield folder
    engine("run", "--rm", "-v", f"{folder}:/home", "python:3.11-slim", "find", "/home", "-mindepth", "1", "-delete")


@pytest.fixture
def started(image, home):
    """Start a notebook server: its container, and the address that it is published at."""
    containers = []

    def start(*options):
        volume = ["-v", f"{home}:/home/jovyan"]
        container = engine("run", "--detach", *AS_ON_A_CLUSTER, *volume, *options, image).strip()
        containers.append(container)
        return container, f"http://{engine('port', container, '8888').split()[0]}"

    yield start
    for container in containers:
        engine("rm", "--force", container)


def ask(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as refused:
        return refused.code, refused.headers
    except OSError:
        return 0, {}


def test_it_keeps_kubeflows_contract_on_an_empty_home_volume_and_the_example_runs_in_it(started):
    container, url = started("--env", "NB_PREFIX=/notebook/team-a/mine")
    status = f"{url}/notebook/team-a/mine/api/status"
    wait_until(lambda: ask(status)[0] == 200)
    assert ask(status)[1]["Access-Control-Allow-Origin"] == "*"
    assert ask(f"{url}/notebook/team-a/mine/lab")[0] == 200
    assert engine("exec", container, "id", "-un").strip() == "jovyan"
    assert engine("exec", container, "id", "-u").strip() == "1000"
    notebook = ["jupyter", "nbconvert", "--to", "markdown", "--execute", "--stdout", "mnist.ipynb"]
    told = engine("exec", "--workdir", "/home/jovyan/examples", container, *notebook)
    assert "the model sees a" in told
    engine("exec", container, "trainyard", "compile", "/tmp/pipeline.yaml")


def test_outside_of_kubeflow_it_asks_for_a_token(started):
    _, url = started()
    wait_until(lambda: ask(f"{url}/api/status")[0] == 403)


def test_a_home_that_is_in_use_keeps_what_it_has(started, home):
    (home / "examples").mkdir()
    (home / "examples" / "mine.txt").write_text("mine")
    container, url = started("--env", "NB_PREFIX=/n")
    wait_until(lambda: ask(f"{url}/n/api/status")[0] == 200)
    assert engine("exec", container, "ls", "examples").split() == ["mine.txt"]
