"""Build, push and pin the images of the components: `python -m trainyard.launch.images`."""

import contextlib
import json
import posixpath
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from ..components.common.cli import BadInput, command_group, say
from ..components.common.files import atomic_file
from .contract import ROOT, steps
from .engine import client, engine

Command = Callable[..., None]
PROJECT = ROOT
IMAGE_LINE = re.compile(r"^(\s+image: )\S+$", re.MULTILINE)
"""The line of a component.yaml that names its image."""


@dataclass(frozen=True)
class Image:
    """An image: the step whose Dockerfile makes it, the target in it, what its name and its tag end in, and the folder
    that the Dockerfile's folder is in."""

    step: str
    target: str = ""
    repository: str = ""
    suffix: str = ""
    folder: str = "components"

    def reference(self, registry: str, version: str) -> str:
        """Registry (may be empty), repository and tag."""
        name = f"trainyard-{self.repository or self.step}:{version}{self.suffix}"
        return f"{registry.rstrip('/')}/{name}" if registry else name


IMAGES = {
    **{name: Image(name) for name in steps()},
    "predictor": Image("serve", "predictor", repository="predictor"),
}
"""What a release consists of."""

ON_REQUEST = {
    "download-tf": Image("download", "tf", suffix="-tf"),
    "evaluate-tf": Image("evaluate", "tf", suffix="-tf"),
    "evaluate-onnx": Image("evaluate", "onnx", suffix="-onnx"),
    "predict-tf": Image("predict", "tf", suffix="-tf"),
    "predict-onnx": Image("predict", "onnx", suffix="-onnx"),
    "predictor-tf": Image("serve", "predictor-tf", repository="predictor", suffix="-tf"),
    "predictor-onnx": Image("serve", "predictor-onnx", repository="predictor", suffix="-onnx"),
    "notebook": Image("notebook", folder="launch"),
}
"""With TensorFlow or ONNX Runtime, for what the lean ones leave out; and JupyterLab."""

GPU = {
    "train": Image("train", suffix="-gpu"),
    "evaluate": Image("evaluate", "tf", suffix="-gpu"),
}


@contextlib.contextmanager
def pip_secrets() -> Iterator[list[str]]:
    """Options that let pip inside a build reach the index as pip here does, without a trace in the image.

    The index, a proxy and a certificate authority come from pip's own configuration (its files and PIP_* variables).
    """
    configured = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    settings = dict(re.findall(r"^(?:global|install|:env:)\.([a-z-]+)='(.*)'$", configured, re.MULTILINE))
    names = ("index-url", "extra-index-url", "trusted-host", "proxy")
    kept = {name: settings[name] for name in names if name in settings}
    options = []
    if certificate := settings.get("cert"):
        kept["cert"] = "/run/secrets/ca.crt"
        options = ["--secret", f"id=ca.crt,src={certificate}"]
    with tempfile.NamedTemporaryFile("w", prefix="pip-", suffix=".conf") as file:
        file.write("\n".join(["[global]", *(f"{name} = {value}" for name, value in kept.items()), ""]))
        file.flush()
        yield [*options, "--secret", f"id=pip.conf,src={file.name}"]


def build_image(image: Image, reference: str, base: str, version: str) -> None:
    """Build one image and tag it."""
    source = re.sub(r"//[^/@]*@", "//", _git("remote", "get-url", "origin"))  # without a password
    labels = {"VERSION": version, "REVISION": _git("rev-parse", "HEAD"), "SOURCE": source}
    arguments = {"BASE": base, **labels, **({"GPU": "-gpu"} if image.suffix == "-gpu" else {})}
    options = [option for name, value in arguments.items() if value for option in ("--build-arg", f"{name}={value}")]
    if image.target:
        options += ["--target", image.target]
    with pip_secrets() as secrets:
        dockerfile = f"{image.folder}/{image.step}/Dockerfile"
        engine("build", "--progress=plain", "-f", dockerfile, *options, *secrets, "-t", reference, ".")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def pin(references: dict[str, str], dist: Path, components: Path = PROJECT / "components") -> None:
    """Write images.json, and components/<step>/component.yaml with the image of each step.

    Args:
        references: By image; other images keep the names that were written before.
        dist: Folder to write into.
        components: Folder of the components as they were written.
    """
    listed = dist / "images.json"
    known = read_images(listed) if listed.is_file() else {}
    _write(listed, json.dumps({**known, **references}, indent=2) + "\n")
    for name, reference in references.items():
        component = components / name / "component.yaml"
        if component.is_file():
            pinned, count = IMAGE_LINE.subn(rf"\g<1>{reference}", component.read_text())
            assert count == 1, f"{component} names {count} images"
            _write(dist / "components" / name / "component.yaml", pinned)


def read_images(path: Path) -> dict[str, str]:
    """The images in a file that `pin` wrote.

    Raises:
        BadInput: there is no such file, or it is something else.
    """
    try:
        return {str(name): str(reference) for name, reference in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        raise BadInput(f"--images: {str(path)!r} does not exist; make build writes it") from None
    except (ValueError, AttributeError):
        raise BadInput(f"--images: expected what make push writes, received something else in {path}") from None


def image_of(name: str, images: Mapping[str, str]) -> str:
    """One of such images.

    Raises:
        BadInput: it is not among them.
    """
    if name not in images:
        raise BadInput(f"--images: expected an image of {name} as well, received none; make build")
    return images[name]


def unreachable(names: Iterable[str], images: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The images that a cluster has no registry to pull from.

    Returns:
        Those of these names without an image, and those whose image is a bare name, as `make build` without REGISTRY
        gives it: only nodes that such an image was loaded into have it. `user/name` is on Docker Hub.
    """
    missing = [name for name in names if name not in images]
    return missing, [name for name in names if name in images and "/" not in images[name]]


def _write(path: Path, text: str) -> None:
    with atomic_file(path) as partial:
        partial.write_text(text)


def push_image(reference: str) -> str:
    """Push an image.

    Returns:
        Its name by digest, which the registry has confirmed.

    Raises:
        RuntimeError: what the registry returns under the digest is another image.
    """
    engine("push", "--quiet", reference)
    repository = reference.rpartition(":")[0]
    digests = json.loads(engine("image", "inspect", "--format", "{{json .RepoDigests}}", reference))
    pinned = next(digest for digest in digests if digest.startswith(f"{repository}@"))
    engine("pull", "--quiet", pinned)  # the engine checks what it receives against the digest
    sent, received = (engine("image", "inspect", "--format", "{{.Id}}", name) for name in (reference, pinned))
    if sent != received:
        raise RuntimeError(f"{pinned}: expected the image {sent} that was pushed, received {received}; push it again")
    return pinned


@dataclass(frozen=True)
class Sizes:
    """Sizes in bytes, uncompressed: of the layers of each image, by layer."""

    layers: dict[str, dict[str, int]]

    def total(self, name: str) -> int:
        return sum(self.layers[name].values())

    def shared(self, name: str) -> int:
        """What other images hold as well."""
        others = {layer for other, layers in self.layers.items() if other != name for layer in layers}
        return sum(size for layer, size in self.layers[name].items() if layer in others)

    def unique(self) -> int:
        """All layers, each counted once."""
        return sum({layer: size for layers in self.layers.values() for layer, size in layers.items()}.values())


def measure(references: dict[str, str]) -> Sizes:
    """Measure images as the engine saves them: one archive with each layer once."""
    for reference in references.values():
        engine("image", "inspect", reference)
    with subprocess.Popen([client(), "save", *references.values()], stdout=subprocess.PIPE) as process:
        sizes, links, manifest = {}, {}, []
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                if member.name == "manifest.json":
                    manifest = json.load(archive.extractfile(member))  # type: ignore[arg-type]
                elif member.issym():
                    links[member.name] = posixpath.normpath(
                        posixpath.join(posixpath.dirname(member.name), member.linkname)
                    )
                else:
                    sizes[member.name] = member.size
    layers = {tag: entry["Layers"] for entry in manifest for tag in entry["RepoTags"] or []}
    return Sizes(
        {
            name: {(path := links.get(layer, layer)): sizes[path] for layer in layers[reference]}
            for name, reference in references.items()
        }
    )


def chosen_images(name: str | None, gpu: bool) -> dict[str, Image]:
    """The images of a release, or one of those that can be had."""
    release = GPU if gpu else IMAGES
    return {name: {**IMAGES, **ON_REQUEST, **release}[name]} if name else release


choice = [
    click.option("--step", type=click.Choice([*IMAGES, *ON_REQUEST]), help="This one alone.  [default: a release]"),
    click.option("--gpu", is_flag=True, help="The variants of train and evaluate for NVIDIA GPUs."),
]
naming = [
    click.option("--registry", default="", help="Where the images belong: host[:port][/path]."),
    click.option("--version", default="dev", help="Tag of the images."),
]
dist = click.option(
    "--dist", type=click.Path(path_type=Path), default="dist", metavar="FOLDER", help="Where the names are written."
)


def options(*all_of_them: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Give a command several options."""

    def decorate(command: Command) -> Command:
        for option in reversed(all_of_them):
            command = option(command)
        return command

    return decorate


@command_group
def main() -> None:
    """Build, push and measure the images of the components.

    \b
    Examples:
      python -m trainyard.launch.images build --step train
      python -m trainyard.launch.images push --registry ghcr.io/me --version 1.2.0
    """
    if click.get_current_context().invoked_subcommand is None:
        click.echo(click.get_current_context().get_help())


@main.command()
@click.option("--base", default="", help="Base image, with Python 3.11 or newer.  [default: python:3.11-slim]")
@options(*choice, *naming, dist)
def build(base: str, step: str | None, gpu: bool, registry: str, version: str, dist: Path) -> None:
    """Build the images of a release, or one of them; images.json then names them.

    pip's own configuration (index, proxy, certificate authority) holds inside the build, without a trace in the image.
    """
    references = {}
    for name, image in chosen_images(step, gpu).items():
        started = time.perf_counter()
        references[name] = image.reference(registry, version)
        build_image(image, references[name], base, version)
        say("build", f"{references[name]}  {time.perf_counter() - started:.1f} s")
    pin(references, dist)


@main.command()
@options(*choice, *naming, dist)
def push(step: str | None, gpu: bool, registry: str, version: str, dist: Path) -> None:
    """Push the images of a release, or one; images.json and components/<step>/component.yaml name their digests."""
    if not registry:
        raise BadInput("--registry: expected host[:port][/path], received none; make push REGISTRY=...")
    references = {}
    for name, image in chosen_images(step, gpu).items():
        references[name] = push_image(image.reference(registry, version))
        say("push", references[name])
    pin(references, dist)


@main.command()
@options(*naming)
def sizes(registry: str, version: str) -> None:
    """Print the size of each image, and what they need together, in MB (10^6 bytes, uncompressed)."""
    measured = measure({name: image.reference(registry, version) for name, image in IMAGES.items()})
    click.echo(f"{'image':<12}{'MB':>8}{'shared':>9}{'own':>8}")
    for name in measured.layers:
        total, shared = measured.total(name) / 1e6, measured.shared(name) / 1e6
        click.echo(f"{name:<12}{total:>8.1f}{shared:>9.1f}{total - shared:>8.1f}")
    components = Sizes({step: measured.layers[step] for step in steps()}).unique() / 1e6
    click.echo(f"\n{components:.1f} MB for the steps, {measured.unique() / 1e6:.1f} MB for all")


if __name__ == "__main__":
    main()
