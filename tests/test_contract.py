"""Each step's command line against its component.yaml, and the files against both generations of kfp."""

import importlib
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import click
import pytest
import yaml

ROOT = Path(__file__).parent.parent
STEPS = ("download", "train", "evaluate", "select", "export", "serve")
PARAMETERS = {"String": "text", "Integer": "integer", "Float": "float", "Boolean": "boolean", "JsonObject": "json"}
ARTIFACTS = {"Artifact", "Dataset", "Model", "Metrics", "ClassificationMetrics", "HTML", "Markdown"}
ON_BOTH_SIDES_BUT_KFP = {"executor_input"}

each_step = pytest.mark.parametrize("step_name", STEPS)


def component(step_name: str) -> dict:
    return yaml.safe_load((ROOT / "components" / step_name / "component.yaml").read_text())


def options(step_name: str) -> dict[str, click.Option]:
    command = importlib.import_module(f"trainyard.components.{step_name}.__main__").main
    ours = ("help", "debug", "no_ui")  # the last a short form of --ui false
    return {p.name: p for p in command.params if isinstance(p, click.Option) and p.name not in ours}


@each_step
def test_command_line_and_component_name_the_same_options(step_name):
    described = component(step_name)
    names = [item["name"] for item in [*described["inputs"], *described["outputs"]]]
    assert len(names) == len(set(names))
    assert set(options(step_name)) - ON_BOTH_SIDES_BUT_KFP == set(names)


@each_step
def test_types_defaults_and_help_texts_are_the_same_on_both_sides(step_name):
    described = component(step_name)
    for item in [*described["inputs"], *described["outputs"]]:
        option = options(step_name)[item["name"]]
        assert option.help == item["description"], item["name"]
        is_input = item in described["inputs"]
        if is_input and item["type"] in PARAMETERS:
            assert option.type.name == PARAMETERS[item["type"]], item["name"]
            if "default" in item:
                assert option.type.convert(item["default"], option, None) == option.default, item["name"]
        else:
            assert isinstance(option.type, click.Path), item["name"]


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
    assert set(inputs.values()) | set(outputs.values()) <= set(PARAMETERS) | ARTIFACTS
    for flag, value in zip(container["args"][::2], container["args"][1::2], strict=True):
        kind, name = next(iter(value.items()))
        if kind == "executorInput":
            assert flag == "--executor-input"
            continue
        assert flag == f"--{name.replace('_', '-')}"
        assert (inputs[name] in PARAMETERS) == (kind == "inputValue") if name in inputs else kind == "outputPath"
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
            elif "default" not in item:
                arguments[item["name"]] = "given"
        loaded(**arguments)

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
        load(**{i.name: "x" for i in spec.inputs if i.default is None})
    workflow = compiler.Compiler()._create_workflow(one)
    print(spec.name, len(workflow["spec"]["templates"]))
"""
    files = [str(ROOT / "components" / name / "component.yaml") for name in STEPS]
    done = subprocess.run([python, "-W", "ignore", "-c", program, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(STEPS)


@pytest.mark.parametrize("module", [*(f"trainyard.components.{name}" for name in STEPS), "pipeline"])
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
