"""Another team's pipeline: two released components, one loaded by path and one by URL, beside a step of its own.

What a release needs of its users is kfp alone; `run` borrows the runners of this repository.
"""

import os
import sys
from pathlib import Path

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
def last_epoch(model: dsl.Input[dsl.Model], text: dsl.OutputPath(str)):  # noqa: ANN201
    """How well the model knew its training images in the end: a step of our own, on any Python image."""
    return dsl.ContainerSpec("python:3.11-slim", ["python3", "-c", LAST_EPOCH], [model.path, text])


def ours(download_file: str, train_url: str):  # noqa: ANN201
    """Our pipeline, from the component.yaml of download (a path) and of train (a URL)."""
    download = load_component_from_file(download_file)
    train = load_component_from_url(train_url)

    @dsl.pipeline(name="reuse")
    def pipeline(source: str, epochs: int = 5) -> None:
        fetched = download(source=source)
        trained = train(dataset=fetched.outputs["dataset"], epochs=epochs)
        last_epoch(model=trained.outputs["model"])

    images = {name: step.component_spec.implementation.container.image for name, step in _steps(download, train).items()}
    return pipeline, images


def _steps(download, train) -> dict:  # noqa: ANN001
    return {"download": download, "train": train, "last-epoch": last_epoch}


components = [
    click.option("--download", required=True, metavar="PATH", help="component.yaml of download, as make push pins it."),
    click.option("--train", required=True, metavar="URL", help="component.yaml of train, e.g. in a release."),
]


@click.group()
def main() -> None:
    """Compile or run our pipeline."""


@main.command("compile")
@components[0]
@components[1]
@click.argument("output")
def compile_(download: str, train: str, output: str) -> None:
    """Compile for Kubeflow Pipelines into OUTPUT."""
    compiler.Compiler().compile(ours(download, train)[0], output)


@main.command()
@components[0]
@components[1]
@click.option("--source", required=True, help="Data set that the download step can fetch.")
@click.option("--runner", type=click.Choice(["process", "docker"]), default="process")
@click.option("--runs", type=click.Path(path_type=Path), default="runs", help="Folder for the runs.")
def run(download: str, train: str, source: str, runner: str, runs: Path) -> None:
    """Run here, with processes or in Docker."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from launch.containers import steps_as_containers
    from launch.processes import steps_as_processes

    pipeline, images = ours(download, train)
    with steps_as_containers(runs, images) if runner == "docker" else steps_as_processes(runs) as done:
        pipeline(source=os.fspath(source))
    click.echo((done.folder / "last-epoch" / "text").read_text())


if __name__ == "__main__":
    main()
