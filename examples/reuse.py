"""Another team's pipeline: two released components, one loaded by path and one by URL, beside a step of its own.

All it needs to compile is kfp; `run` borrows the runners of this repository.

    python -m examples.reuse compile --download download.yaml --train https://.../train/component.yaml reuse.yaml
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from kfp import compiler, dsl
from kfp.components import load_component_from_file, load_component_from_url

LAST_EPOCH = """
import json, pathlib, sys
last = json.loads(pathlib.Path(sys.argv[1], "model.json").read_text())["history"][-1]
output = pathlib.Path(sys.argv[2])
output.parent.mkdir(parents=True, exist_ok=True)
output.write_text(f"{last['accuracy']:.2%} of the training images after epoch {last['epoch']}")
"""


@dsl.container_component
def last_epoch(model: dsl.Input[dsl.Model], text: dsl.OutputPath(str)) -> dsl.ContainerSpec:
    """A step of our own, on any Python image: how well the model knew its training images in the end."""
    return dsl.ContainerSpec("python:3.11-slim", ["python3", "-c", LAST_EPOCH], [model.path, text])


def build(download: Any, train: Any) -> Any:
    """Our pipeline, with two components that somebody else released."""

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
    """The options that name the two components."""
    path = click.option("--download", required=True, metavar="PATH", help="component.yaml of download.")
    url = click.option("--train", required=True, metavar="URL", help="component.yaml of train.")
    return path(url(command))


@main.command("compile")
@released
@click.argument("output")
def compile_(download: str, train: str, output: str) -> None:
    """Compile for Kubeflow Pipelines into the file OUTPUT."""
    pipeline = build(load_component_from_file(download), load_component_from_url(train))
    compiler.Compiler().compile(pipeline, output)


@main.command()
@released
@click.option("--source", required=True, help="Data set that the download step can fetch.")
@click.option("--runner", type=click.Choice(["process", "docker"]), default="process", help="What the steps are.")
@click.option("--runs", type=click.Path(path_type=Path), default="runs", help="Folder for the runs.")
def run(download: str, train: str, source: str, runner: str, runs: Path) -> None:
    """Run on this machine; the store is the one in AWS_ENDPOINT_URL."""
    from trainyard.launch.containers import steps_as_containers
    from trainyard.launch.processes import steps_as_processes

    steps = {
        "download": load_component_from_file(download),
        "train": load_component_from_url(train),
        "last-epoch": last_epoch,
    }
    images = {name: step.component_spec.implementation.container.image for name, step in steps.items()}
    pipeline = build(steps["download"], steps["train"])
    with steps_as_containers(runs, images) if runner == "docker" else steps_as_processes(runs) as done:
        pipeline(source=source)
    click.echo((done.folder / "last-epoch" / "text").read_text())


if __name__ == "__main__":
    main()
