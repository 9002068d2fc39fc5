"""What runs on GitHub, as far as it can be looked at here."""

import re

import pytest
import yaml

from tests.conftest import PROJECT

WORKFLOWS = sorted(PROJECT.glob(".github/workflows/*.yml"))
CONFIGURATION = sorted(PROJECT.glob(".github/**/*.yml"))

each_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)


def jobs(workflow):
    return yaml.safe_load(workflow.read_text())["jobs"].values()


@pytest.mark.parametrize("file", CONFIGURATION, ids=lambda path: path.stem)
def test_the_configuration_is_yaml(file):
    assert yaml.safe_load(file.read_text())


@each_workflow
def test_an_action_is_pinned_to_a_commit_with_its_version_beside_it(workflow):
    used = re.findall(r"uses: (.*)", workflow.read_text())
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", one)] == []


def test_an_action_has_one_version_in_all_workflows():
    used = {}
    for name, version in re.findall(r"uses: (\S+)@(\S+ # \S+)", "".join(one.read_text() for one in WORKFLOWS)):
        used.setdefault(name, set()).add(version)
    assert {name: versions for name, versions in used.items() if len(versions) > 1} == {}


@each_workflow
def test_a_job_runs_what_there_is(workflow):
    targets = set(re.findall(r"^([a-z-]+):.*## ", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for job in jobs(workflow):
        for run in (one["run"] for one in job["steps"] if "run" in one):
            for words in re.findall(r"^make ((?:[a-z-]+ ?)+)", run, re.MULTILINE):
                assert set(words.split()) <= targets
            for program in re.findall(r"^\.ci/\S+", run, re.MULTILINE):
                assert (PROJECT / program).stat().st_mode & 0o100


@each_workflow
def test_a_workflow_writes_nothing_but_where_a_job_says_so(workflow):
    assert yaml.safe_load(workflow.read_text())["permissions"] in ({}, {"contents": "read"})
    for job in jobs(workflow):
        checkouts = [one for one in job["steps"] if one.get("uses", "").startswith("actions/checkout@")]
        assert all(one["with"]["persist-credentials"] is False for one in checkouts)


def test_the_tests_run_on_every_python_that_is_supported():
    tested = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]["strategy"]["matrix"]
    assert tested["python"] == ["3.11", "3.12", "3.13"]
    assert 'requires-python = ">=3.11,<3.14"' in (PROJECT / "pyproject.toml").read_text()
