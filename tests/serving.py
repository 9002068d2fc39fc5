"""What the tests of the serve step share: published versions made by hand, and requests over HTTP."""

import json
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

from trainyard.components.common.artifacts.published import MANIFEST, File, Manifest
from trainyard.components.common.files import files_below, sha256_of_file


def publish(model: Path, folder: Path, version: int, evaluation: Path | None = None) -> str:
    """A published version in a folder, as export lays it out; its URI."""
    shutil.copytree(model, folder, dirs_exist_ok=True)
    if evaluation:
        shutil.copytree(evaluation, folder / "evaluation", dirs_exist_ok=True)
    seal(folder, version)
    return f"{folder.as_uri()}/"


def seal(folder: Path, version: int) -> None:
    """Write the manifest of what is in the folder."""
    paths = [path for path in files_below(folder) if path.name != MANIFEST]
    files = [File(path.as_posix(), (folder / path).stat().st_size, sha256_of_file(folder / path)) for path in paths]
    (folder / MANIFEST).write_text(Manifest("digits", version, files).as_text())


def ask(url: str, body: object = None, raw: bytes | None = None) -> tuple[int, dict]:
    """Status and JSON of an answer: GET, or POST of a body."""
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def answers_of(model: Path, images: np.ndarray) -> np.ndarray:
    """The probabilities that a model folder gives by itself."""
    from trainyard.components.common.artifacts.classifier import load_classifier

    return load_classifier(model).predict(images)


def wait_until(condition, seconds=20):
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.02)
