"""Another team's pipeline: two components of Trainyard, with a step of its own after them.

    python -m examples.reuse run --source s3://datasets/digits.npz
    python -m examples.reuse run --source s3://datasets/digits.npz --images dist/images.json
    python -m examples.reuse compile --images dist/images.json reuse.yaml
    python -m examples.reuse compile --components https://.../components reuse.yaml

docs/reuse.md explains it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from kfp import compiler, dsl
from kfp.components import load_component_from_file, load_component_from_url

import trainyard

LAST_EPOCH = """
import json, pathlib, sys
last = json.loads(pathlib.Path(sys.argv[1], "model.json").read_text())["history"][-1]
output = pathlib.Path(sys.argv[2])
output.parent.mkdir(parents=True, exist_ok=True)
output.write_text(f"{last['accuracy']:.2%} of the training images after epoch {last['epoch']}")
"""


@dsl.container_component
def last_epoch(model: dsl.Input[dsl.Model], text: dsl.OutputPath(str)) -> dsl.ContainerSpec:
    """A step of our own, on any Python image: training accuracy after the last epoch."""
    return dsl.ContainerSpec("python:3.11-slim", ["python3", "-c", LAST_EPOCH], [model.path, text])


def load(step: str, images: str | None, components: str | None) -> Callable[..., Any]:
    """A component, in one of the two ways that there are: from the package, or from a released component.yaml."""
    if components is None:
        return trainyard.load(step, images)
    file = f"{components}/{step}/component.yaml"
    return load_component_from_url(file) if "://" in file else load_component_from_file(file)


def build(images: str | None = None, components: str | None = None) -> Any:
    """Our pipeline.

    Args:
        images: File with the images of a release, which pins them by digest.
        components: Folder or URL of released component.yaml files, to do without the package.
    """
    download, train = (load(step, images, components) for step in ("download", "train"))

    @dsl.pipeline(name="reuse")
    def reuse(source: str, epochs: int = 5) -> None:
        fetched = download(source=source)
        trained = train(dataset=fetched.outputs["dataset"], epochs=epochs)
        last_epoch(model=trained.outputs["model"])

    return reuse


@click.group()
def main() -> None:
    """Compile or run a pipeline that reuses two components."""


def released(command: Callable[..., None]) -> Callable[..., None]:
    """The options that name a release."""
    images = click.option("--images", help="File with the images of the steps, as make push writes it.")
    components = click.option("--components", help="Folder or URL of component.yaml files, instead of the package's.")
    return images(components(command))


@main.command("compile")
@released
@click.argument("output")
def compile_(images: str | None, components: str | None, output: str) -> None:
    """Compile for Kubeflow Pipelines into the file OUTPUT."""
    compiler.Compiler().compile(build(images, components), output)


@main.command()
@released
@click.option("--source", required=True, help="Data set that the download step can fetch.")
@click.option("--runs", default="runs", metavar="FOLDER", help="Folder for the runs.")
def run(images: str | None, components: str | None, source: str, runs: str) -> None:
    """Run on this machine, with --images in containers; the store is the one in AWS_ENDPOINT_URL."""
    with trainyard.local.containers(images, runs) if images else trainyard.local.processes(runs) as done:
        build(images, components)(source=source)
    click.echo(Path(done.folder, "last-epoch", "text").read_text())


if __name__ == "__main__":
    main()
