"""What the tests of the serve step share: published versions made by hand, and requests over HTTP."""

import hashlib
import json
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np


def publish(model: Path, folder: Path, version: int, evaluation: Path | None = None) -> str:
    """A published version in a folder, as export lays it out; its URI."""
    shutil.copytree(model, folder, dirs_exist_ok=True)
    if evaluation:
        shutil.copytree(evaluation, folder / "evaluation", dirs_exist_ok=True)
    seal(folder, version)
    return f"{folder.as_uri()}/"


def seal(folder: Path, version: int) -> None:
    """Write the manifest of what is in the folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "manifest.json"]
    listed = [
        {
            "path": path.relative_to(folder).as_posix(),
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in files
    ]
    manifest = {"format": 1, "name": "digits", "version": version, "files": listed}
    (folder / "manifest.json").write_text(json.dumps(manifest))


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
    from trainyard.components.common.artifacts.model import load_classifier

    return load_classifier(model).predict(images)


def wait_until(condition, seconds=20):
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.02)
