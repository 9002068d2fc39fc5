"""What a step of an earlier run on this machine left, taken where nothing that it depends on has changed.

A step is told by its command, its code and packages (or its image), and its inputs by content: files, folders and
objects in a store. A step whose command names anything else outside, such as a web page, is run again.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from ..components.common.files import files_below, sha256_of_file, sha256_of_folder
from . import contract
from .records import DONE, StepRecord, newest_first, written

OURS = re.compile(r"trainyard\.components\.(\w+)")
CHECKPOINT = ".*.checkpoint.npz"
"""What an interrupted training leaves beside its output."""
KFP_OUTPUTS = "executor_output.json"


class Unknown(Exception):
    """The content of an input cannot be known."""


def key(code: str, command: list[str], environment: Mapping[str, str], outputs: Path, run: Path) -> str:
    """What tells a step from any other: equal keys mean equal outputs. Empty: it must be run.

    Args:
        code: What tells its code, see `code_here`.
        command: Placeholders replaced.
        environment: Variables that the pipeline sets for it.
        outputs: Its folder.
        run: The run's folder.
    """
    step = _step(command)
    if step and contract.read(step).cached is False:  # it changes the world outside
        return ""
    root, own = str(run.resolve()), str(outputs.resolve())
    try:
        contents = [_content(one) for one in _inputs(command, root, own)]
    except Unknown:
        return ""
    told = [code, written(command, run), sorted(environment.items()), contents]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def reuse(key: str, outputs: Path, runs: Path) -> str:
    """Copy the outputs of the newest step with this key; the name of its run, empty where there is none."""
    for record in newest_first(runs):
        for step in record.steps:
            earlier = runs.resolve() / record.run / step.name
            if step.key != key or step.state not in DONE or earlier == outputs or not earlier.is_dir():
                continue  # one that wrote nothing did something outside
            if listing(earlier) == step.outputs:
                shutil.copytree(earlier, outputs, dirs_exist_ok=True)
                told = outputs / KFP_OUTPUTS
                if told.is_file():
                    told.write_text(told.read_text().replace(str(earlier), str(outputs)))
                return step.reused or record.run
    return ""


def listing(outputs: Path) -> str:
    """Digest of the names and sizes of the files in a folder, by which lost outputs are told."""
    sizes = [f"{path} {(outputs / path).stat().st_size}" for path in files_below(outputs) if path.name != KFP_OUTPUTS]
    return hashlib.sha256("\n".join(sizes).encode()).hexdigest()


def take_checkpoint(step: StepRecord, outputs: Path, runs: Path) -> None:
    """Move the checkpoint of the same step of an earlier run that did not end well; the step knows whether it fits."""
    for record in newest_first(runs):
        for earlier in record.steps:
            folder = runs.resolve() / record.run / earlier.name
            if folder != outputs and earlier.state not in DONE and earlier.command == step.command:
                for checkpoint in folder.glob(CHECKPOINT):
                    outputs.mkdir(parents=True, exist_ok=True)
                    checkpoint.replace(outputs / checkpoint.name)
                    return


def switched_off(spec: Any) -> Iterator[str]:
    """The steps of a pipeline for which the cache is switched off, ours apart.

    Args:
        spec: kfp's PipelineSpec.
    """
    dags = [spec.root.dag, *(one.dag for one in spec.components.values() if one.WhichOneof("implementation") == "dag")]
    for task in (task for dag in dags for task in dag.tasks.values()):
        executor = spec.components[task.component_ref.name].executor_label
        if executor and not task.caching_options.enable_cache:
            container = spec.deployment_spec["executors"][executor]["container"]
            if not _step(list(container["command"])):
                yield task.component_ref.name.removeprefix("comp-")


def _step(command: list[str]) -> str:
    """The component of ours that a command runs; empty: it is another's."""
    module = command[2] if command[1:2] == ["-m"] and len(command) > 2 else ""
    found = OURS.fullmatch(module)
    return found[1] if found and found[1] in contract.steps() else ""


def _inputs(command: list[str], root: str, own: str) -> Iterator[str]:
    """The paths and URIs that a command names: outputs of other steps anywhere in it, all else as a whole argument."""
    for path in sorted(set(re.findall(rf"{re.escape(root)}/[^\s\"'\\,;]+", "\n".join(command)))):
        if not f"{path}/".startswith(f"{own}/"):
            yield path
    for part in command[1:]:
        if re.fullmatch(r"\w+://\S+", part) or (not part.startswith(root) and _is_path(part)):
            yield part


def _is_path(text: str) -> bool:
    try:
        return bool(text) and Path(text).exists()
    except (OSError, ValueError):  # too long, or a character that no path has
        return False


def _content(named: str) -> tuple[str, str]:
    """An input by its content.

    Raises:
        Unknown: it cannot be told.
    """
    scheme, _, rest = named.partition("://")
    if not rest or scheme == "file":
        path = Path(rest or named)
        if not path.exists():
            return "", "missing"  # of no output that a step before had to write
        return "", sha256_of_folder(path) if path.is_dir() else sha256_of_file(path)
    if scheme == "tfds":
        return named, ""  # its version is that of the package
    if scheme != "s3":
        raise Unknown
    return named, _objects(named)


def _objects(uri: str) -> str:
    """Digest of the names and ETags of all objects at or below a URI."""
    from ..components.common.store import s3

    bucket, prefix = s3.parse_uri(uri)
    found = []
    try:
        with s3.s3_errors(uri):
            for page in s3.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                found += [(one["Key"], one["ETag"]) for one in page.get("Contents", [])]
    except (OSError, ValueError) as error:
        raise Unknown from error
    if not found:
        raise Unknown
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def code_here(command: list[str]) -> str:
    """Digest of the code that a command runs as a process of this machine.

    A step of another team has its own code in its command.
    """
    step = _step(command)
    folders = (contract.COMPONENTS / "common", contract.COMPONENTS / step) if step else ()
    told = [*map(_digest_of_code, folders), *_packages()]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


@cache
def _digest_of_code(folder: Path) -> str:
    paths: Iterable[Path] = (path for path in files_below(folder) if "__pycache__" not in path.parts)
    return hashlib.sha256("".join(f"{path} {sha256_of_file(folder / path)}\n" for path in paths).encode()).hexdigest()


@cache
def _packages() -> list[str]:
    """Python and the packages that a process gets."""
    return [sys.version, *sorted({f"{one.metadata['Name']}=={one.version}" for one in distributions()})]
