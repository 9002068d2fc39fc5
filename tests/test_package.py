"""The package as people install it: what the wheel holds, and that it works away from the repository."""

import os
import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.conftest import PROJECT, outside_aws
from trainyard.launch import contract

TEAM = {
    "components/__init__.py": "raise ImportError('the components of the team')\n",
    "pipeline.py": "raise ImportError('the pipeline of the team')\n",
    "random.py": "raise ImportError('the random of the team')\n",
}
"""What a team may have in the folder in which it works."""

OWN_PIPELINE = """
import sys
import trainyard
from kfp import compiler, dsl

download = trainyard.load("download")
train = trainyard.load("train", registry="registry.example.com/ml", version="1.2")

@dsl.pipeline(name="own")
def own(source: str):
    train(dataset=download(source=source).outputs["dataset"])

@dsl.pipeline(name="fetch")
def fetch(source: str):
    download(source=source)

compiler.Compiler().compile(own, "own.yaml")
with trainyard.local.processes("runs") as run:
    fetch(source=sys.argv[1])
print((run.folder / "download" / "dataset" / "digits.npz").is_file())
"""


def uv(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "uv", *map(str, arguments)], cwd=PROJECT, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the source distribution as `make package` does."""
    folder = tmp_path_factory.mktemp("dist")
    done = uv("build", "--offline", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def bin_folder(wheel, tmp_path_factory):
    """The programs of a virtual environment with the wheel, and what it needs from the environment of the tests."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    for command in (["venv", "--python", sys.executable, folder], ["pip", "install", "--no-deps", "--offline", wheel]):
        done = uv(*command, *(["--python", folder] if command[0] == "pip" else []))
        assert done.returncode == 0, done.stderr
    others = [path for path in sys.path if path.endswith("site-packages")]
    next(folder.glob("lib/python*/site-packages")).joinpath("others.pth").write_text("\n".join(others))
    return folder / "bin"


@pytest.fixture
def team(tmp_path):
    """A folder with modules that are called like ours, and like one of Python's own."""
    for name, text in TEAM.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run(folder, *command):
    done = subprocess.run(list(map(str, command)), cwd=folder, env=outside_aws(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_package_and_what_it_reads_and_no_more(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    expected = {"trainyard/__init__.py", "trainyard/__main__.py", "trainyard/pipeline.py", "trainyard/py.typed"}
    expected |= {"trainyard/examples/data/README.md", "trainyard/examples/data/digits.npz"}
    read = (".py", ".css", ".html", ".js", ".jinja", "component.yaml")
    folders = ("components/", "launch/")
    listed = [name for name in tracked.split() if name.startswith(folders) and name.endswith(read)]
    expected |= {f"trainyard/{name}" for name in listed if not name.startswith("launch/templates/")}
    assert {name for name in names if ".dist-info/" not in name} == expected


def test_each_step_is_an_extra_with_what_its_image_installs(wheel):
    metadata = next(name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".dist-info/METADATA"))
    about = Parser().parsestr(zipfile.ZipFile(wheel).read(metadata).decode())
    assert {*contract.steps(), "local", "predictor", "tfds"} <= set(about.get_all("Provides-Extra"))
    required = about.get_all("Requires-Dist")
    assert any(one.startswith("tensorflow") and one.endswith('extra == "train"') for one in required)
    always = {re.match(r"[\w-]+", one)[0] for one in required if "extra ==" not in one}
    assert always == {"click", "jinja2", "kfp", "kfp-kubernetes"}


def test_it_is_imported_and_its_commands_answer_in_a_folder_with_modules_of_the_same_names(bin_folder, team):
    where = Path(run(team, bin_folder / "python", "-c", "import trainyard; print(trainyard.__file__)").strip())
    assert where.is_relative_to(bin_folder.parent)
    assert "trainyard train --help" in run(team, bin_folder / "trainyard", "--help")
    assert "--epochs" in run(team, bin_folder / "trainyard", "train", "--help")


def test_a_team_compiles_and_runs_its_own_pipeline_with_it(bin_folder, team, digits):
    """Without the current folder on the path (-P): there kfp itself would find the team's random.py."""
    (team / "own.py").write_text(OWN_PIPELINE)
    assert run(team, bin_folder / "python", "-P", "own.py", digits).splitlines()[-1] == "True"
    assert "registry.example.com/ml/trainyard-train:1.2" in (team / "own.yaml").read_text()


def test_alone_it_is_light_and_enough_to_compile(wheel, team, tmp_path_factory):
    """Installed with nothing but what it asks for, in an empty environment."""
    folder = tmp_path_factory.mktemp("light") / "venv"
    assert uv("venv", "--python", sys.executable, folder).returncode == 0
    done = uv("pip", "install", "--python", folder, wheel)
    if done.returncode:
        pytest.skip(f"NO INSTALLATION IS TESTED: {done.stderr.strip().splitlines()[-1]}")
    heavy = ("boto3", "numpy", "tensorflow", "PIL")
    look = f"import importlib.util as util; print([name for name in {heavy} if util.find_spec(name)])"
    assert run(team, folder / "bin" / "python", "-P", "-c", look).strip() == "[]"
    run(team, folder / "bin" / "python", "-c", "import trainyard")
    assert "trainyard train --help" in run(team, folder / "bin" / "trainyard", "--help")
    run(team, folder / "bin" / "trainyard", "compile", "compiled.yaml")
    assert "trainyard.components.serve" in (team / "compiled.yaml").read_text()
    environment = {**os.environ, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    command = [folder / "bin" / "trainyard", "train", "--dataset", team, "--model", "model"]
    done = subprocess.run(command, cwd=team, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert 'pip install "trainyard[local]"' in done.stderr
