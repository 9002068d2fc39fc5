"""How the pods of the steps run on a cluster: the part `steps` of a settings file, compiled by real processes."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from tests.conftest import PROJECT, outside_aws

README = PROJECT / "README.md"
IMAGES = PROJECT / "tests" / "golden" / "images.json"
SETTINGS = """
run_service_account: default-editor
ttl: 604800
steps:
  all:
    labels: {team: vision}
    image_pull_secrets: [registry]
    image_pull_policy: IfNotPresent
  train:
    cpu: 4
    cpu_limit: 8
    memory: 8Gi
    memory_limit: 16Gi
    gpus: 1
    node_selector: {pool: gpu}
    tolerations: [{key: team, operator: Equal, value: vision, effect: NoSchedule}]
    labels: {stage: training}
    annotations: {example.com/owner: ada}
    timeout: 3600
    istio_sidecar: false
    secret: false
  export: {secret_files: {signing-key: /keys}}
  download: {retries: 3, retry_after: 30, cache: true}
"""


def compile_(folder, settings, *options, module="trainyard"):
    """The pipeline and the part for Kubernetes, compiled with a settings file."""
    (folder / "settings.yaml").write_text(settings)
    command = [sys.executable, "-m", module, "compile", "--settings", "settings.yaml", *options, "p.yaml"]
    environment = outside_aws() | {"PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    if done.returncode:
        return done
    spec, platform = yaml.safe_load_all((folder / "p.yaml").read_text())
    return spec, platform["platforms"]["kubernetes"]


def test_each_setting_of_a_step_reaches_its_pod(tmp_path):
    spec, kubernetes = compile_(tmp_path, SETTINGS)
    (volume,) = kubernetes["deploymentSpec"]["executors"]["exec-export"]["secretAsVolume"]
    assert (volume["secretName"], volume["mountPath"]) == ("signing-key", "/keys")
    container = spec["deploymentSpec"]["executors"]["exec-train"]["container"]
    assert {name: value for name, value in container["resources"].items() if name.startswith("resource")} == {
        "resourceCpuRequest": "4",
        "resourceCpuLimit": "8",
        "resourceMemoryRequest": "8Gi",
        "resourceMemoryLimit": "16Gi",
    }
    assert container["resources"]["accelerator"]["resourceCount"] == "1"
    pod = kubernetes["deploymentSpec"]["executors"]["exec-train"]
    assert pod["nodeSelector"]["labels"] == {"pool": "gpu"}
    assert pod["tolerations"] == [
        {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
        {"key": "team", "operator": "Equal", "value": "vision", "effect": "NoSchedule"},
    ]
    assert pod["podMetadata"]["labels"] == {"team": "vision", "stage": "training", "sidecar.istio.io/inject": "false"}
    assert pod["podMetadata"]["annotations"] == {"example.com/owner": "ada"}
    assert pod["activeDeadlineSeconds"] == "3600"
    assert [one["secretName"] for one in pod["imagePullSecret"]] == ["registry"]
    assert pod["imagePullPolicy"] == "IfNotPresent"
    assert "secretAsEnv" not in pod
    download = spec["root"]["dag"]["tasks"]["download"]
    assert download["cachingOptions"] == {"enableCache": True}
    assert download["retryPolicy"] == {
        "backoffDuration": "30s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": "3600s",
        "maxRetryCount": 3,
    }
    assert kubernetes["pipelineConfig"]["resourceTtlOnCompletion"] == 604800


def test_every_step_asks_for_what_it_needs_and_has_no_limit_unless_one_is_set(tmp_path):
    spec, _ = compile_(tmp_path, "")
    executors = spec["deploymentSpec"]["executors"]
    for name in ("download", "validate", "train", "evaluate", "export", "serve"):
        asked = executors[f"exec-{name}"]["container"]["resources"]
        assert {"resourceCpuRequest", "resourceMemoryRequest"} <= set(asked)
        assert not {"resourceCpuLimit", "resourceMemoryLimit", "accelerator"} & set(asked)


def test_the_short_forms_for_gpus_go_before_the_file(tmp_path):
    spec, kubernetes = compile_(tmp_path, SETTINGS, "--gpus", "4", "--gpu-node", "zone=a")
    accelerator = spec["deploymentSpec"]["executors"]["exec-train"]["container"]["resources"]["accelerator"]
    assert accelerator["resourceCount"] == "4"
    selector = kubernetes["deploymentSpec"]["executors"]["exec-train"]["nodeSelector"]
    assert selector["labels"] == {"pool": "gpu", "zone": "a"}
    assert "exec-evaluate" not in str(selector)


def test_another_pipeline_takes_the_same_settings(tmp_path):
    spec, kubernetes = compile_(tmp_path, SETTINGS, module="examples.compare_models")
    for name in ("exec-train", "exec-train-2"):
        assert spec["deploymentSpec"]["executors"][name]["container"]["resources"]["resourceMemoryRequest"] == "8Gi"
        assert kubernetes["deploymentSpec"]["executors"][name]["podMetadata"]["labels"]["team"] == "vision"
    assert spec["deploymentSpec"]["executors"]["exec-select"]["container"]["resources"]["resourceCpuRequest"] == "100m"


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("[train]", "steps: expected a mapping, received ['train']"),
        ("{trian: {cpu: 1}}", "unknown step 'trian'; did you mean train?"),
        ("{xyz: {}}", "unknown step 'xyz'; one of all, download, "),
        ("{train: {memory_limits: 1Gi}}", "steps.train: unknown setting 'memory_limits'; did you mean memory_limit?"),
        ("{train: {memory: 4GB}}", "steps.train.memory: expected a quantity such as 512Mi or 4Gi, received '4GB'"),
        ("{train: {cpu: lots}}", "steps.train.cpu: expected a quantity such as 500m or 2, received 'lots'"),
        ("{train: {gpus: -1}}", "steps.train.gpus: expected a whole number, at least 0, received -1"),
        ("{train: {timeout: 1h}}", "steps.train.timeout: expected a whole number, at least 0, received '1h'"),
        ("{all: {labels: {gpu: true}}}", "steps.all.labels.gpu: expected text, received True; put it in quotes"),
        ("{all: {tolerations: [{keys: a}]}}", "steps.all.tolerations: unknown key 'keys'; did you mean key?"),
        ("{all: {image_pull_policy: Sometimes}}", "expected one of Always, IfNotPresent, Never, received 'Sometimes'"),
        ("{all: {secret: maybe}}", "steps.all.secret: expected true or false, received 'maybe'"),
        ("{all: {image_pull_secrets: registry}}", "expected a list, received 'registry'"),
    ],
)
def test_a_wrong_setting_of_a_step_is_refused_in_one_line(tmp_path, steps, said):
    done = compile_(tmp_path, f"steps: {steps}")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr


def secrets(kubernetes):
    executors = kubernetes["deploymentSpec"]["executors"]
    return sorted(name.removeprefix("exec-") for name, pod in executors.items() if "secretAsEnv" in pod)


def test_a_compiled_form_that_asks_for_a_base_model_brings_the_secret(tmp_path):
    _, kubernetes = compile_(tmp_path, "")
    assert secrets(kubernetes) == ["download", "evaluate", "export", "serve", "train", "validate"]
    _, kubernetes = compile_(tmp_path, "steps: {train: {secret: false}, evaluate: {secret: false}}")
    assert secrets(kubernetes) == ["download", "export", "serve", "validate"]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, ["download", "export", "serve"]),
        ({"base_model": "s3://models/digits/"}, ["download", "export", "serve", "train"]),
        ({"baseline": "s3://models/digits/"}, ["download", "evaluate", "export", "serve", "validate"]),
    ],
)
def test_a_submitted_step_gets_the_secret_of_the_store_only_if_it_may_use_it(parameters, expected):
    from google.protobuf.json_format import MessageToDict

    from trainyard.launch.cluster import PARAMETERS, to_submit

    given = {one.name: None for one in PARAMETERS} | {"images": IMAGES, "source": "s3://data/digits.npz", **parameters}
    spec = to_submit("submit", None, given).pipeline.platform_spec
    assert secrets(MessageToDict(spec)["platforms"]["kubernetes"]) == expected


def run_anew(parameters, settings_file=None):
    """The steps of a submitted run that take no earlier result."""
    from trainyard.launch.cluster import PARAMETERS, to_submit

    given = {one.name: None for one in PARAMETERS} | {"images": IMAGES, "no_cache": (), **parameters}
    tasks = to_submit("submit", settings_file, given).pipeline.pipeline_spec.root.dag.tasks
    return sorted(name for name, task in tasks.items() if not task.caching_options.enable_cache)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"source": "s3://data/digits.npz"}, ["download", "export", "serve"]),
        ({"source": "tfds://mnist"}, ["download", "export", "serve"]),
        ({"source": "s3://data/digits.npz", "sha256": "0" * 64}, ["export", "serve"]),
        ({"source": "tfds://mnist:3.0.1"}, ["export", "serve"]),
        ({"source": "tfds://mnist:3.0.1", "no_cache": ("train",)}, ["export", "serve", "train"]),
    ],
)
def test_a_source_that_can_change_is_fetched_by_every_run(parameters, expected):
    """A schedule would otherwise train on the data of its first run for ever."""
    assert run_anew(parameters) == expected


@pytest.mark.parametrize(
    ("steps", "no_cache", "expected"),
    [
        ("{download: {cache: true}}", (), ["export", "serve"]),
        ("{all: {cache: false}}", (), ["download", "evaluate", "export", "serve", "train", "validate"]),
        ("{all: {cache: false}, train: {cache: true}}", (), ["download", "evaluate", "export", "serve", "validate"]),
        ("{train: {cache: true}}", ("all",), ["download", "evaluate", "export", "serve", "train", "validate"]),
    ],
)
def test_the_settings_say_which_steps_take_earlier_results_and_no_cache_goes_before_them(
    tmp_path, steps, no_cache, expected
):
    (tmp_path / "prod.yaml").write_text(f"steps: {steps}")
    assert run_anew({"source": "s3://data/digits.npz", "no_cache": no_cache}, tmp_path / "prod.yaml") == expected


def test_a_component_in_a_pipeline_of_ones_own_takes_no_earlier_result_where_that_would_be_wrong():
    from kfp import dsl

    import trainyard

    @dsl.pipeline(name="own")
    def own(source: str):
        trainyard.load("download")(source=source)
        trainyard.load("download")(source=source, sha256="0" * 64)
        trainyard.load("serve")(model_uri="s3://models/digits/1/")

    tasks = own.pipeline_spec.root.dag.tasks
    assert {name: task.caching_options.enable_cache for name, task in tasks.items()} == {
        "download": False,
        "download-2": True,
        "serve": False,
    }


def test_the_pipeline_that_the_readme_shows_compiles_and_can_read_what_its_importer_finds(tmp_path, monkeypatch):
    """Backend 2.17.0 fails on a default that a task did not pass; a consumer of an imported artifact reads the store
    with the credentials in its own environment, region included."""
    from kfp.compiler import Compiler

    (tmp_path / "dist").mkdir()
    images = {step: f"registry.example.com/{step}@sha256:1" for step in ("train", "evaluate")}
    (tmp_path / "dist" / "images.json").write_text(json.dumps(images))
    monkeypatch.chdir(tmp_path)
    (code,) = (
        block for block in re.findall("```python\n(.*?)```", README.read_text(), re.DOTALL) if "importer" in block
    )
    names = {}
    exec(code, names)
    Compiler().compile(names["my_pipeline"], "p.yaml")
    spec, platform = yaml.safe_load_all((tmp_path / "p.yaml").read_text())
    tasks = {name: task for name, task in spec["root"]["dag"]["tasks"].items() if name in images}
    for name, task in tasks.items():
        container = spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
        assert container["image"] == images[name]
        asked = set(re.findall(r"\$\.inputs\.parameters\['(\w+)'\]", " ".join(container["args"])))
        assert set(task["inputs"]["parameters"]) == asked
        (secret,) = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{name}"]["secretAsEnv"]
        assert secret["secretName"] == "s3-credentials"
        assert "AWS_DEFAULT_REGION" in json.dumps(secret["keyToEnv"])
    assert set(tasks) == set(images)
