"""What the images are built from, looked at without building them."""

import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from trainyard.launch import dependencies
from trainyard.launch.layer import drop_symbols

SOURCES = sorted(PROJECT.glob("*/*/requirements*.in"))
NOTEBOOK = PROJECT / "launch" / "notebook"
DOCKERFILES = sorted(PROJECT.glob("*/*/Dockerfile"))


def pins(lock):
    """Version of each package, and how many hashes it has, as `name: (version, hashes)`."""
    entries = re.split(r"\n(?=\S)", lock.read_text())
    found = (re.match(r"([\w.-]+)==([^\s;]+)", entry) for entry in entries)
    return {match[1]: (match[2], match.string.count("--hash=sha256:")) for match in found if match}


def wanted(source):
    """Names in a requirements.in, and in those that it includes."""
    for line in source.read_text().splitlines():
        if line.startswith("-r "):
            yield from wanted((source.parent / line[3:]).resolve())
        elif name := re.match(r"[\w-]+", line):
            yield name[0].replace("_", "-")


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_lock_pins_all_that_is_asked_for_by_hash_and_names_no_index(source):
    lock = source.with_suffix(".lock")
    pinned = pins(lock)
    assert set(wanted(source)) <= set(pinned), "make lock"
    assert all(hashes for _, hashes in pinned.values())
    assert not re.search(r"https?://|--index-url|--find-links", lock.read_text())


def test_all_locks_agree_on_the_version_of_a_package():
    versions = {}
    for source in SOURCES:
        for name, (version, _) in pins(source.with_suffix(".lock")).items():
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_what_a_step_needs_is_there_on_this_machine_too():
    whole = set(wanted(PROJECT / "requirements.txt"))
    for source in PROJECT.glob("components/*/requirements.in"):
        assert set(wanted(source)) <= whole, f"a line for {source.relative_to(PROJECT)} in requirements.txt"


def test_the_licence_of_everything_that_the_steps_install_is_known_and_no_copyleft_of_whole_works():
    licences = {name: dependencies.licence(name) for name in dependencies.pinned(dependencies.STEPS)}
    assert {name: text for name, text in licences.items() if not text or re.search(r"\bA?GPL", text)} == {}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_a_dockerfile_has_no_warning_and_ends_as_a_user_without_rights(path):
    stages = path.read_text().split("\nFROM ")
    assert "\nADD " not in path.read_text()
    user = re.findall(r"^USER (\S+)", stages[-1], re.M)
    assert user, path
    assert user[-1].split(":")[0].isdecimal()
    assert user[-1].split(":")[0] != "0"
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.is_file():
        pytest.skip("no hadolint for this platform")
    said = subprocess.run([hadolint, "--no-color", path], capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "")


def test_every_component_has_a_dockerfile():
    components = {path.parent for path in PROJECT.glob("components/*/component.yaml")}
    assert {path.parent for path in DOCKERFILES} == {*components, NOTEBOOK}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_a_dockerfile_builds_anywhere_and_its_images_run_without_root(dockerfile):
    text = dockerfile.read_text()
    assert "# syntax" not in text, "it would be fetched from a registry"
    assert "ENTRYPOINT" not in text, "Docker appends a component's command to it, Kubernetes replaces it"
    images = text.count("LABEL org.opencontainers.image.title")
    user = "1000:100" if dockerfile.parent == NOTEBOOK else "65532:65532"  # Kubeflow's jovyan
    assert text.count(f"USER {user}") == text.count("USER ") == images > 0


def test_stages_that_steps_share_are_the_same_text():
    """Else a builder would not find them in its cache, and each image would bring its own copy."""
    stages = {}
    for dockerfile in DOCKERFILES:
        for stage in re.findall(r"^FROM \S+ AS (?:s3|ml|tensorflow)\n(?:.+\n)+", dockerfile.read_text(), re.MULTILINE):
            stages.setdefault(stage.partition("\n")[0], set()).add(stage)
    assert len(stages) == 3
    assert {name: found for name, found in stages.items() if len(found) > 1} == {}


@pytest.mark.skipif(sys.platform != "linux", reason="images are of Linux")
def test_a_library_without_its_symbols_still_loads(tmp_path):
    package = Path(importlib.util.find_spec("ai_edge_litert").origin).parent
    original = package / "libpywrap_litert_common.so"
    library = shutil.copy(original, tmp_path)
    drop_symbols(Path(library))
    assert Path(library).stat().st_size < 0.9 * original.stat().st_size
    assert ctypes.CDLL(library)


def test_what_is_no_library_is_left_alone(tmp_path):
    script = tmp_path / "linker_script.so"
    script.write_text("INPUT(libother.so)\n" * 10)
    drop_symbols(script)
    assert script.read_text() == "INPUT(libother.so)\n" * 10
