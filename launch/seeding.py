"""Bring the data set of a run into the object store, where the pipeline's first step fetches it."""

import os
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from ..components.common.cli import BadInput, say
from ..components.common.files import sha256_of_file, sha256_of_folder
from ..components.common.store.s3 import client, ensure_bucket, s3_errors
from .processes import command_here, step_environment

BUCKET = "datasets"
DIGITS = Path(__file__).parent.parent / "examples" / "data" / "digits.npz"


@dataclass(frozen=True)
class Seeded:
    """Where the data set lies now, and the parameters that suit it where the caller gave none."""

    source: str
    parameters: dict[str, Any] = field(default_factory=dict)


def seed(data: str, home: Path) -> Seeded:
    """Put a data set into the store.

    Args:
        data: A path or file:// URI is uploaded; any other URI is left for the download step to fetch itself. Empty:
            MNIST through TFDS, and where it cannot be fetched the digits in examples/data.
        home: State folder, in which the MNIST of an earlier call is kept.

    Returns:
        Where it is, and the parameters that suit it.

    Raises:
        BadInput: nothing lies at that path.
    """
    if not data:
        return _default(home)
    if "://" in data and not data.startswith("file://"):
        return Seeded(data)
    path = Path(data.removeprefix("file://"))
    if not path.exists():
        raise BadInput(f"--data: {data!r} does not exist; check the path")
    return Seeded(_upload(path))


def _default(home: Path) -> Seeded:
    mnist = home / "datasets" / "mnist"
    if not mnist.is_dir():
        say("run", "fetching MNIST through TFDS")
        command = command_here(
            ["python3", "-m", "trainyard.components.download", "--source", "tfds://mnist", "--dataset", str(mnist)]
        )
        fetched = subprocess.run(command, env=step_environment(), stderr=subprocess.PIPE, text=True, check=False)
        if fetched.returncode:
            say(
                "run",
                "MNIST cannot be downloaded from here: using the small set of real digits in examples/data",
            )
            return Seeded(_upload(DIGITS), {"epochs": 20, "batch_size": 32, "min_accuracy": 0.9})
        click.echo(fetched.stderr, err=True, nl=False)
    return Seeded(_upload(mnist), {"min_accuracy": 0.9})


def _upload(path: Path) -> str:
    """Upload a file, or a folder as one archive, under its digest; what is there already stays."""
    digest = sha256_of_folder(path) if path.is_dir() else sha256_of_file(path)
    name = f"{path.resolve().name}.tar" if path.is_dir() else path.name
    key = f"{digest[:12]}/{name}"
    uri = f"s3://{BUCKET}/{key}"
    store = client()
    ensure_bucket(store, BUCKET)
    with s3_errors(uri):
        if store.list_objects_v2(Bucket=BUCKET, Prefix=key).get("KeyCount"):
            return uri
        with tempfile.TemporaryDirectory() as scratch:
            if path.is_dir():
                folder, path = path, Path(scratch) / name
                with tarfile.open(path, "w", dereference=True) as archive:
                    archive.add(folder, arcname=".")
            store.upload_file(str(path), BUCKET, key)
    say("run", f"{os.fspath(path.name)} is now {uri}")
    return uri
