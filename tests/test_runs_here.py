"""What is kept of the runs on this machine: their records, their page in a real browser, and steps that are reused."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trainyard
from tests.browser import Browser
from tests.conftest import PROJECT, outside_aws
from tests.made_up import made_up_card, made_up_evaluation
from trainyard.launch import contract, records, step_cache
from trainyard.launch.logs import LogFile
from trainyard.launch.records import RunRecord, StepRecord
from trainyard.launch.runs_page import page

HOSTILE = "</script><script>document.title='owned'</script>"
PHONE, DESKTOP = 360, 1180


@pytest.fixture
def fetch():
    """A pipeline of one step of ours, and one of somebody else's after it."""
    from kfp import dsl

    download = trainyard.load("download")

    @dsl.container_component
    def count(dataset: dsl.Input[dsl.Dataset], total: dsl.OutputPath(int)):
        program = 'mkdir -p "$(dirname "$1")" && ls "$0" | wc -l | tr -d " \\n" >"$1"; echo counted >&2'
        return dsl.ContainerSpec("never-pulled", ["sh", "-c", program], [dataset.path, total])

    @dsl.pipeline(name="fetch")
    def pipeline(source: str, sha256: str = ""):
        count(dataset=download(source=source, sha256=sha256).outputs["dataset"])

    return pipeline


def states(run):
    return {step.name: step.state for step in records.read(run.folder).steps}


def test_a_run_leaves_a_record_with_what_each_step_took_and_said(fetch, digits, tmp_path):
    with trainyard.local.processes(tmp_path / "runs") as run:
        fetch(source=str(digits))
    record = records.read(run.folder)
    assert (record.pipeline, record.status) == ("fetch", "succeeded")
    assert record.parameters == {"source": str(digits), "sha256": ""}
    assert record.edges == [["download", "count"]]
    assert [(step.name, step.state, step.exit_code) for step in record.steps] == [
        ("download", "succeeded", 0),
        ("count", "succeeded", 0),
    ]
    for step in record.steps:
        assert step.seconds >= 0 <= step.cpu_seconds
        assert step.peak_memory > 2**20
    assert (run.folder / record.steps[1].log).read_text().endswith("counted\n")
    assert run.folder.name in (tmp_path / "runs" / "index.html").read_text()


def test_a_log_holds_no_control_characters_and_of_a_progress_bar_its_last_state(tmp_path):
    with LogFile(tmp_path / "log") as log:
        for text in ("10 %\r50 ", "%\r100 %\r\n", "\x1b[32mgreen\x1b[0m\n", "no end"):
            log.write(text)
    assert (tmp_path / "log").read_text() == "100 %\ngreen\nno end\n"


def test_a_step_is_reused_as_long_as_its_options_and_inputs_are_the_same(fetch, digits, tmp_path):
    source = tmp_path / "digits.npz"
    shutil.copy(digits, source)

    def run_with(**chosen):
        with trainyard.local.processes(tmp_path / "runs", cache=True) as run:
            fetch(source=str(source), **chosen)
        return run

    first = run_with()
    assert set(states(first).values()) == {"succeeded"}
    second = run_with()
    assert states(second) == {"download": "reused", "count": "reused"}
    assert (second.folder / "download" / "dataset" / "digits.npz").read_bytes() == digits.read_bytes()
    told = (second.folder / "download" / "executor_output.json").read_text()
    assert first.folder.name not in told
    assert second.folder.name in told

    digest = json.loads((first.folder / "download" / "dataset" / "download.json").read_text())["sha256"]
    assert states(run_with(sha256=digest)) == {"download": "succeeded", "count": "reused"}  # it wrote the same again

    with source.open("ab") as file:
        file.write(b"more")
    assert set(states(run_with()).values()) == {"succeeded"}
    shutil.copy(digits, source)
    shutil.rmtree(first.folder / "download" / "dataset")
    shutil.rmtree(second.folder / "download" / "dataset")
    assert states(run_with())["download"] == "succeeded"  # what is lost cannot be taken


def test_a_step_whose_code_has_changed_is_run_again(tmp_path, monkeypatch):
    for folder in ("common", "download"):
        shutil.copytree(contract.COMPONENTS / folder, tmp_path / "components" / folder)
    monkeypatch.setattr(contract, "COMPONENTS", tmp_path / "components")
    command = ["python3", "-m", "trainyard.components.download", "--source", "x"]

    def code():
        step_cache._digest_of_code.cache_clear()
        return step_cache.code_here(command)

    seen = {code()}
    assert code() in seen
    for file in ("download/fetch.py", "common/cli.py"):
        with (tmp_path / "components" / file).open("a") as source:
            source.write("\n# changed\n")
        assert code() not in seen
        seen.add(code())
    monkeypatch.setattr(step_cache, "_packages", lambda: ["numpy==0"])
    assert code() not in seen


@pytest.mark.parametrize("step", ["export", "serve"])
def test_export_and_serve_are_never_reused(step, tmp_path):
    command = ["python3", "-m", f"trainyard.components.{step}", "--bucket", "models"]
    assert step_cache.key("code", command, {}, tmp_path / "run" / step, tmp_path / "run") == ""


def test_a_step_that_reads_from_the_web_is_never_reused(tmp_path):
    command = ["python3", "-m", "trainyard.components.download", "--source", "https://example.com/x.npz"]
    assert step_cache.key("code", command, {}, tmp_path / "run" / "download", tmp_path / "run") == ""


def test_objects_in_a_store_are_told_by_their_content(store, bucket, tmp_path, monkeypatch):
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    command = ["python3", "-m", "trainyard.components.download", "--source", f"s3://{bucket}/data/"]

    def key():
        return step_cache.key("code", command, {}, tmp_path / "run" / "download", tmp_path / "run")

    store.client.put_object(Bucket=bucket, Key="data/a", Body=b"one")
    first = key()
    assert first
    assert key() == first
    store.client.put_object(Bucket=bucket, Key="data/a", Body=b"two")
    assert key() not in ("", first)


def made_up_run(runs, name, status="succeeded", error="", pipeline="trainyard", model=True, **parameters):
    """A run that nobody started."""
    folder = runs / name
    steps = [
        StepRecord(
            name="train", state="succeeded", started="2026-11-26T08:00:01+00:00", seconds=61.5, cpu_seconds=100.0
        ),
        StepRecord(name="evaluate", state="failed" if error else "succeeded", started="2026-11-26T08:01:02+00:00"),
    ]
    steps[0].peak_memory, steps[1].last_line = 887_000_000, error
    edges = [["download", "train"], ["train", "evaluate"], ["download", "evaluate"], ["evaluate", "export"]]
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "train.log").write_text("epoch 1\n")
    if model:
        (folder / "train" / "model").mkdir(parents=True)
        made_up_card().write(folder / "train" / "model")
        (folder / "train" / "model" / "README.md").write_text("# A model\n")
        (folder / "evaluate" / "evaluation").mkdir(parents=True)
        made_up_evaluation(folder / "train" / "model").write(folder / "evaluate" / "evaluation")
        (folder / "evaluate" / "evaluation" / "report.html").write_text("<h1>Report</h1>")
    RunRecord(
        run=name,
        pipeline=pipeline,
        pid=1,
        started="2026-11-26T08:00:00+00:00",
        ended="2026-11-26T08:02:00+00:00",
        status=status,
        parameters=parameters,
        edges=edges,
        steps=steps,
    ).write(runs)


@pytest.fixture(scope="module")
def browsed(tmp_path_factory):
    """A browser, and the address of a page of three runs."""
    runs = tmp_path_factory.mktemp("laptop") / "runs"
    made_up_run(runs, "first", epochs=5, architecture="dense", seed=0)
    made_up_run(runs, "second", epochs=20, architecture="cnn", seed=0)
    made_up_run(runs, "third", "failed", "expected more, received less", HOSTILE, model=False, source=HOSTILE)
    page.write(runs)
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser, (runs / "index.html").as_uri()
    browser.close()


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_of_the_runs_fits_a_phone_and_a_desktop_and_needs_no_network(browsed, width, scheme):
    browser, address = browsed
    browser.requests.clear()
    browser.look(width, 900, scheme, touch=width == PHONE)
    browser.open(address)
    assert browser.run("document.documentElement.scrollWidth") == width
    assert browser.complaints == []
    assert {one for one in browser.requests if not one.startswith("data:")} == {address}
    assert browser.run("document.title") == "Runs"
    assert HOSTILE in browser.text("main")


def test_the_page_shows_of_each_run_its_steps_what_they_took_and_its_files(browsed):
    browser, address = browsed
    browser.look(DESKTOP, 900)
    browser.open(address)
    text = browser.text("#first")
    assert re.search(r"train\s+succeeded\s+1\.0 min\s+1\.7 min\s+887 MB\s+log", text)
    assert "Model digest" in text
    assert (
        browser.run("[...document.querySelectorAll('#first .node .name')].map(e => e.textContent)")
        == [*("train", "evaluate", "download", "export")]
        or "download" in text
    )
    assert browser.run("document.querySelectorAll('#first .graph path').length") == 4
    assert "not run" in browser.run("document.querySelector('#first .graph').textContent")
    assert "evaluate: expected more, received less" in browser.text("#third .verdict")
    links = browser.run("[...document.querySelectorAll('#first a')].map(e => e.href)")
    for link in links:
        assert Path(link.removeprefix("file://")).exists(), link
    assert {Path(link).name for link in links} >= {"report.html", "README.md", "train.log"}


def test_the_page_compares_two_runs(browsed):
    browser, address = browsed
    browser.look(DESKTOP, 900)
    browser.open(address)

    def choose(side, run):
        place = browser.run(f"JSON.parse(data.textContent).findIndex(one => one.run === '{run}')")
        browser.run(
            f"(s => (s.value = {place}, s.dispatchEvent(new Event('change'))))(document.getElementById('run-{side}'))"
        )

    choose("a", "first")
    choose("b", "second")
    rows = browser.run("[...document.querySelectorAll('#compared tr')].map(r => [...r.cells].map(c => c.textContent))")
    assert ["epochs", "5", "20"] in rows
    assert ["architecture", "dense", "cnn"] in rows
    assert ["Accuracy", "0.9700", "0.9700"] in rows  # side by side even where they are equal
    assert not any(row[0] == "seed" for row in rows)
    browser.click("#equal")
    assert "seed" in browser.text("#compared")


def test_the_runs_here_are_listed_with_the_place_of_their_page(tmp_path):
    made_up_run(tmp_path / "runs", "first")
    command = [sys.executable, "-m", "trainyard", "runs", "--here"]
    environment = outside_aws() | {"PYTHONPATH": str(PROJECT.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"first\s+succeeded\s+0\.9700\s+120 s", done.stdout)
    assert done.stdout.strip().endswith(f"file://{tmp_path}/runs/index.html")
    done = subprocess.run([*command, "--runs", "none"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "--runs: expected a folder with runs, received none; make run starts one\n",
    )
