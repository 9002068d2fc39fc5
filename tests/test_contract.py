"""The contracts of the components: generated from their command lines, and loaded by both generations of kfp."""

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml

import trainyard
from trainyard.components.common.cli import BadInput
from trainyard.launch import contract
from trainyard.launch.contracts import command_of

ROOT = Path(__file__).parent.parent
STEPS = contract.steps()
PARAMETERS = set(contract.TYPES)
ARTIFACTS = {"Artifact", "Dataset", "Model", "Metrics", "ClassificationMetrics", "HTML", "Markdown"}

STATUS = "PipelineTaskFinalStatus"
"""How a run ended: KFP passes it to an exit handler."""

each_step = pytest.mark.parametrize("step_name", STEPS)


def place(task, described):
    """Give a component that takes how the run ended a run to end: an exit handler needs one."""
    from kfp import dsl

    if STATUS in {item["type"] for item in described["inputs"]}:
        with dsl.ExitHandler(task):
            trainyard.load("download")(source="given")


def component(step_name: str) -> dict:
    return yaml.safe_load((ROOT / "components" / step_name / "component.yaml").read_text())


def test_the_generated_files_are_current():
    """component.yaml and the page of every component; `make contracts` writes them."""
    done = subprocess.run(
        [sys.executable, "-m", "trainyard.launch.contracts", "--check"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr


def test_a_changed_option_is_noticed_until_the_files_are_written_again(tmp_path):
    program = """
from trainyard.launch import contracts
option = next(one for one in contracts.command_of("train").params if one.name == "epochs")
option.default = 6
contracts.main(["--check"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert "components/train/component.yaml, docs/components/train.md; run make contracts" in done.stderr


@each_step
def test_each_step_has_the_same_sections_and_shared_options_in_its_help(step_name):
    done = subprocess.run(
        [sys.executable, "-m", f"trainyard.components.{step_name}", "--help"], capture_output=True, text=True, cwd=ROOT
    )
    headings = re.findall(r"^([A-Z].*):$", done.stdout, re.MULTILINE)
    headings = [one for one in headings if one not in ("Example", "Examples", "Commands")]
    assert headings[0] == "Inputs"
    assert headings[-2:] == ["Outputs", "Other options"]
    assert "--debug" in done.stdout.rpartition("Other options:")[2]


@each_step
def test_each_step_checks_its_options_by_a_rule_that_knows_them_all_by_name(step_name):
    """A rule whose argument is no option of the step any more fails here, not silently."""
    command_of(step_name).check({})


def test_the_check_of_a_step_is_the_one_that_a_pipeline_asks():
    with pytest.raises(BadInput, match="--epochs: expected"):
        command_of("train").check({"epochs": -1})


@each_step
def test_a_loaded_component_passes_every_default_on(step_name):
    """Backend 2.17.0 fails on a default that a task did not pass."""
    from kfp import dsl

    loaded = trainyard.load(step_name, images={step_name: f"registry.example.com/{step_name}@sha256:1"})
    described = component(step_name)

    @dsl.pipeline(name="one")
    def one():
        given = {}
        for item in described["inputs"]:
            if item["type"] in ARTIFACTS:
                given[item["name"]] = dsl.importer(f"s3://bucket/{item['name']}", getattr(dsl, item["type"])).output
            elif "default" not in item and item["type"] != STATUS:
                given[item["name"]] = "given"
        place(loaded(**given), described)

    task = one.pipeline_spec.root.dag.tasks[step_name]
    assert set(task.inputs.parameters) == {
        item["name"] for item in described["inputs"] if item["type"] in {*PARAMETERS, STATUS}
    }
    assert f"registry.example.com/{step_name}@sha256:1" in str(one.pipeline_spec.deployment_spec)


def test_an_image_is_named_by_registry_and_version_or_digest():
    from kfp import dsl

    for given, expected in (
        (
            {"registry": "registry.example.com/ml", "version": "1.2"},
            "registry.example.com/ml/trainyard-download:1.2",
        ),
        ({"images": {"download": "registry.example.com/d@sha256:2"}}, "registry.example.com/d@sha256:2"),
        ({}, "trainyard-download"),
    ):
        download = trainyard.load("download", **given)

        @dsl.pipeline(name="one")
        def one():
            download(source="s3://bucket/key")  # noqa: B023 (called at once)

        assert f'"{expected}"' in str(one.pipeline_spec.deployment_spec)
    with pytest.raises(BadInput, match="--images: expected an image of train as well"):
        trainyard.load("train", images={"download": "x"})


@each_step
def test_component_keeps_to_the_subset_that_every_backend_understands(step_name):
    described = component(step_name)
    text = (ROOT / "components" / step_name / "component.yaml").read_text()
    container = described["implementation"]["container"]
    assert container["command"] == ["python3", "-m", f"trainyard.components.{step_name}"]
    kinds = {next(iter(argument)) for argument in container["args"] if isinstance(argument, dict)}
    assert kinds <= {"inputValue", "inputPath", "outputPath", "executorInput"}
    assert not re.search(r"\b(if|concat):", text)
    inputs = {item["name"]: item["type"] for item in described["inputs"]}
    outputs = {item["name"]: item["type"] for item in described["outputs"]}
    assert set(inputs.values()) | set(outputs.values()) <= {*PARAMETERS, *ARTIFACTS, STATUS}
    for flag, value in zip(container["args"][::2], container["args"][1::2], strict=True):
        kind, name = next(iter(value.items()))
        if kind == "executorInput":
            assert flag == "--executor-input"
            continue
        assert flag == f"--{name.replace('_', '-')}"
        assert (
            (inputs[name] in {*PARAMETERS, STATUS}) == (kind == "inputValue")
            if name in inputs
            else kind == "outputPath"
        )
    if set(outputs.values()) & ARTIFACTS:
        assert container["args"][-2] == "--executor-input"


@each_step
def test_kfp_2_loads_and_instantiates_the_component(step_name):
    from kfp import dsl
    from kfp.components import load_component_from_file

    loaded = load_component_from_file(str(ROOT / "components" / step_name / "component.yaml"))
    described = component(step_name)

    @dsl.pipeline(name="one")
    def one():
        arguments = {}
        for item in described["inputs"]:
            if item["type"] in ARTIFACTS:
                imported = dsl.importer(f"s3://bucket/{item['name']}", getattr(dsl, item["type"]))
                arguments[item["name"]] = imported.output
            elif "default" not in item and item["type"] != STATUS:
                arguments[item["name"]] = "given"
        place(loaded(**arguments), described)

    assert step_name in str(one.pipeline_spec.components)


def test_kfp_1_loads_and_instantiates_every_component(tmp_path_factory):
    """The same files in kfp 1.8.22, which many clusters still run."""
    folder = Path(os.environ.get("TRAINYARD_KFP1_VENV") or tmp_path_factory.mktemp("kfp1") / "venv")
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        packages = ["kfp==1.8.22", "setuptools<81"]  # kfp 1 imports pkg_resources
        installed = subprocess.run([python, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True)
        if installed.returncode:
            pytest.skip(f"kfp 1.8.22 cannot be installed here: {installed.stderr.strip().splitlines()[-1]}")
    program = """
import sys, kfp.components
from kfp.dsl import ContainerOp, pipeline
from kfp import compiler
import kfp
assert kfp.__version__ == "1.8.22", kfp.__version__
for path in sys.argv[1:]:
    load = kfp.components.load_component_from_file(path)
    spec = load.component_spec
    @pipeline(name="one")
    def one():
        load(**{i.name: "x" for i in spec.inputs if i.default is None and i.type != "PipelineTaskFinalStatus"})
    workflow = compiler.Compiler()._create_workflow(one)
    print(spec.name, len(workflow["spec"]["templates"]))
"""
    files = [str(ROOT / "components" / name / "component.yaml") for name in STEPS]
    done = subprocess.run([python, "-W", "ignore", "-c", program, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(STEPS)


@pytest.mark.parametrize("module", [*(f"trainyard.components.{name}" for name in STEPS), "trainyard"])
def test_help_is_answered_without_heavy_imports(module):
    """TensorFlow, boto3, kubernetes, kfp, matplotlib and numpy wait until there is work for them."""
    program = f"""
import runpy, sys
sys.argv = ["{module}", "--help"]
try:
    runpy.run_module("{module}", run_name="__main__")
except SystemExit as end:
    assert not end.code
heavy = {{"tensorflow", "boto3", "kubernetes", "kfp", "matplotlib", "numpy", "PIL", "starlette"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout
    assert "Example" in done.stdout
