"""Carry a release to a site without a network: `python -m trainyard.launch.bundle`.

A bundle is one tar archive: the images as the registry has them, byte for byte, each layer once; the component.yaml
files; the compiled pipeline; and bundle.json, which names them. skopeo takes the images out of one registry and puts
them into another, with no container engine.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import click

from ..components.common.cli import BadInput, command_group, say
from ..components.common.files import atomic_file, write_json
from .engine import failure
from .images import PROJECT, pin, read_images


def pack(images: dict[str, str], version: str, archive: Path) -> None:
    """Write a bundle.

    Args:
        images: By name, pinned to digests in a registry.
        version: Tag that they get in the registry of the site.
        archive: The file to write.

    Raises:
        BadInput: an image is not pinned, or skopeo is missing.
        RuntimeError: the registry does not give an image.
    """
    if loose := [reference for reference in images.values() if "@sha256:" not in reference]:
        raise BadInput(f"expected images that were pushed, received {loose[0]}; make push REGISTRY=... first")
    with tempfile.TemporaryDirectory(dir=_beside(archive)) as scratch, atomic_file(archive) as partial:
        bundle = Path(scratch).resolve()
        (bundle / "images").mkdir()
        known: dict[str, Path] = {}
        for name, reference in images.items():
            skopeo(f"docker://{reference}", f"dir:{bundle / 'images' / name}", tls=_tls("src", reference))
            _once(bundle / "images" / name, known)
            say("bundle", reference)
        about = {"version": version, "images": images}
        write_json(bundle / "bundle.json", about, indent=2)
        pin(images, bundle)
        compile_pipeline = [sys.executable, "pipeline.py", "compile", "--images", str(bundle / "images.json")]
        subprocess.run([*compile_pipeline, str(bundle / "pipeline.yaml")], cwd=PROJECT, check=True, capture_output=True)
        with tarfile.open(partial, "w") as tar:
            for path in sorted(bundle.iterdir()):
                tar.add(path, arcname=path.name)
    say("bundle", f"{archive}, {archive.stat().st_size / 1e6:,.0f} MB")


def load(archive: Path, registry: str, dist: Path) -> None:
    """Push the images of a bundle, and write what it brings with the names that the images have now.

    Args:
        archive: The bundle.
        registry: Where the images go: host[:port][/path].
        dist: Folder for images.json, components/<step>/component.yaml and pipeline.yaml.

    Raises:
        BadInput: it is no bundle, or it is damaged.
        RuntimeError: the registry does not take an image.
    """
    with tempfile.TemporaryDirectory(dir=_beside(dist / "x")) as scratch:
        bundle = Path(scratch)
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(bundle, filter="data")
            about = json.loads((bundle / "bundle.json").read_text())
        except (tarfile.TarError, FileNotFoundError, ValueError):
            raise BadInput(f"{archive}: expected an archive that make bundle wrote, received something else") from None
        names = {}
        for name, reference in about["images"].items():
            folder = bundle / "images" / name
            repository, digest = re.fullmatch(r"(?:.*/)?([^/@]+)@(sha256:.*)", reference).groups()  # type: ignore[union-attr]
            _check(folder, digest)
            target = f"{registry.rstrip('/')}/{repository}"
            skopeo(f"dir:{folder}", f"docker://{target}:{about['version']}", tls=_tls("dest", target))
            names[name] = f"{target}@{digest}"
            say("load", names[name])
        pin(names, dist, bundle / "components")
        pipeline = (bundle / "pipeline.yaml").read_text()
        for name, reference in about["images"].items():
            pipeline = pipeline.replace(reference, names[name])
        with atomic_file(dist / "pipeline.yaml") as partial:
            partial.write_text(pipeline)


def _beside(path: Path) -> Path:
    """The folder of a file, made if need be: there is room for a release where it is written, /tmp may be small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.parent


def _once(folder: Path, known: dict[str, Path]) -> None:
    """Make a layer that another image brings too a hard link to it: then the archive holds it once."""
    for blob in folder.iterdir():
        if re.fullmatch(r"[0-9a-f]{64}", blob.name):
            first = known.setdefault(blob.name, blob)
            if first != blob:
                blob.unlink()
                os.link(first, blob)


def _check(folder: Path, digest: str) -> None:
    """Compare the image in a folder with its digest; the layers are checked against it when they are pushed.

    Raises:
        BadInput: it is another one.
    """
    received = f"sha256:{hashlib.sha256((folder / 'manifest.json').read_bytes()).hexdigest()}"
    if received != digest:
        raise BadInput(f"{folder.name}: expected the image {digest}, received {received}; the bundle is damaged")


def skopeo(source: str, target: str, tls: list[str]) -> None:
    """Copy an image as it is.

    Raises:
        BadInput, RuntimeError: it failed, or skopeo is not installed; the message is one line.
    """
    if not shutil.which("skopeo"):
        raise BadInput("expected skopeo, which copies images between registries, received none; install it")
    command = ["skopeo", "copy", "--quiet", "--preserve-digests", *tls, source, target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise failure(command[:2], done.stderr)


def _tls(side: str, reference: str) -> list[str]:
    """A registry on this machine needs no TLS, as for Docker."""
    return [f"--{side}-tls-verify=false"] if re.match(r"(localhost|127\.[0-9.]+)[:/]", reference) else []


@command_group
def main() -> None:
    """Carry a release to a site without a network."""
    if click.get_current_context().invoked_subcommand is None:
        click.echo(click.get_current_context().get_help())


@main.command("pack")
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("--images", type=click.Path(path_type=Path), default="dist/images.json", help="What make push wrote.")
@click.option("--version", default="dev", help="Tag of the images where they are loaded.")
def pack_(archive: Path, images: Path, version: str) -> None:
    """Put the pushed images, components and pipeline into ARCHIVE."""
    pack(read_images(images), version, archive)


@main.command("load")
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("--registry", required=True, help="Where the images go: host[:port][/path].")
@click.option("--dist", type=click.Path(path_type=Path), default="dist", help="Where components and pipeline go.")
def load_(archive: Path, registry: str, dist: Path) -> None:
    """Push the images in ARCHIVE into a registry, and write components and pipeline pinned to them."""
    if not registry:
        raise BadInput("--registry: expected host[:port][/path], received none; make load-bundle REGISTRY=...")
    load(archive, registry, dist)


if __name__ == "__main__":
    main()
