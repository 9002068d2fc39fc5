"""Another team's PyTorch training between our download and our evaluate, compared with a Keras network of ours.

    python -m examples.pytorch_step run --data my-images.tar.gz --python ~/pytorch/bin/python
    python -m examples.pytorch_step compile --pytorch-image registry.example.com/pytorch:1 pytorch.yaml

Both networks are trained side by side and evaluated on the same images; the better one is published and served. The
PyTorch step is `pytorch_train.py`: it runs in an image of its own, on this machine in an environment of its own.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainyard import pipeline
from trainyard.components.common.cli import command_group
from trainyard.launch.assembly import Step, assemble
from trainyard.launch.cluster import settings_for, settings_options
from trainyard.launch.commands import runs_option, write_compiled
from trainyard.launch.contract import parameters_of
from trainyard.launch.parameters import parameter_options
from trainyard.launch.settings import Settings

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent

STEPS = ("download", "train", "evaluate", "select", "export", "serve")
PARAMETERS = [one for one in parameters_of(STEPS) if one.name not in (*pipeline.WIRED, "target")]
PROGRAM = Path(__file__).with_name("pytorch_train.py")
IMAGE = "pytorch-trainer"


def pytorch_step(image: str, python: str) -> Any:
    """The step as a component; `python` is the interpreter in the image, or of this machine."""
    from kfp import dsl

    @dsl.container_component
    def train_pytorch(dataset: dsl.Input[dsl.Dataset], model: dsl.Output[dsl.Model], epochs: int) -> dsl.ContainerSpec:
        """Train a small convolutional network in PyTorch."""
        arguments = [dataset.path, model.path, epochs, "{{$}}"]
        return dsl.ContainerSpec(image, [python, "-c", PROGRAM.read_text()], arguments)

    return train_pytorch


def build(settings: Settings | None = None, image: str = IMAGE, python: str = "python3") -> "GraphComponent":
    """The pipeline.

    Args:
        settings: What is bound. In containers, evaluate and the model server need the images that end in -onnx.
        image: Of the PyTorch step: one with torch, onnx, onnxscript, pillow and trainyard.
        python: See `pytorch_step`.
    """
    from_pytorch = pytorch_step(image, python)

    def wire(download: Step, train: Step, evaluate: Step, select: Step, export: Step, serve: Step) -> None:
        dataset = download().outputs["dataset"]
        sides = {}
        for side, trained in (("a", train(dataset=dataset)), ("b", from_pytorch(dataset=dataset, epochs=5))):
            model = trained.outputs["model"]
            sides[f"model_{side}"] = model
            sides[f"evaluation_{side}"] = evaluate(dataset=dataset, model=model).outputs["evaluation"]
        best = select(**sides)
        uri = export(model=best.outputs["model"], evaluation=best.outputs["evaluation"]).outputs["model_uri"]
        serve(model_uri=uri)

    told = "A Keras and a PyTorch network compared, the better one served."
    return assemble("keras-or-pytorch", told, STEPS, wire, settings or Settings(), pipeline.WIRED)


@command_group
def main() -> None:
    """Compare a Keras network with another team's PyTorch network and serve the better one.

    \b
    Examples:
      python -m examples.pytorch_step run --data my-images.tar.gz --python ~/pytorch/bin/python
      python -m examples.pytorch_step compile --pytorch-image registry.example.com/pytorch:1 pytorch.yaml
    """
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@main.command("compile")
@click.option("--pytorch-image", default=IMAGE, show_default=True, help="Image of the PyTorch step.")
@settings_options
@parameter_options([one for one in PARAMETERS if one.setting in ("any", "cluster")])
@click.argument("output", type=click.Path(path_type=Path))
def compile_(pytorch_image: str, settings_file: Path | None, output: Path, **given: Any) -> None:
    """Compile for Kubeflow Pipelines into the file OUTPUT."""
    write_compiled(build(settings_for(settings_file, given, PARAMETERS), pytorch_image), output)


@main.command()
@click.option("--data", required=True, help="Data set, a path or a URI.")
@click.option("--python", default="python3", show_default=True, help="Interpreter of an environment with PyTorch.")
@runs_option
@parameter_options([one for one in PARAMETERS if one.setting != "cluster" and one.name != "source"])
def run(data: str, python: str, runs: Path, **parameters: Any) -> None:
    """Run on this machine, each step as a process, and leave the better model served."""
    from trainyard.launch.checks import check
    from trainyard.launch.laptop import run_pipeline

    settings = Settings().bind(**parameters)
    check(STEPS, settings.values)
    folder = run_pipeline(lambda bound: build(bound, python=python), data, settings, runs).folder
    click.echo((folder / "select" / "comparison").read_text())
    click.echo((folder / "serve" / "endpoint").read_text())


if __name__ == "__main__":
    main()
