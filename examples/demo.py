"""What the small examples share: an exit handler, and a command line that compiles and runs a pipeline."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from kfp import dsl

from trainyard.components.common.cli import command_group

PYTHON = "python:3.11-slim"
"""The image of steps that are a few lines of Python."""

HOW_IT_ENDED = """
import json, sys
status = json.loads(sys.argv[1])
error = (status.get("error") or {}).get("message", "")
print("announce  run ended:", *filter(None, (status.get("state"), error)), file=sys.stderr)
"""


@dsl.container_component
def announce(status: dsl.PipelineTaskFinalStatus) -> dsl.ContainerSpec:
    """Tell how the run ended, whether well or not."""
    return dsl.ContainerSpec(PYTHON, ["python3", "-c", HOW_IT_ENDED], [status])


def command_line(build: Callable[[str], Any], result: str) -> click.Group:
    """`compile` and `run` for a pipeline without parameters.

    Args:
        build: From the image of its steps to the pipeline.
        result: The output that is printed in the end, as `<task>/<output>`.
    """

    @command_group
    def commands() -> None:
        """Compile the pipeline, or run it on this machine."""
        context = click.get_current_context()
        if context.invoked_subcommand is None:
            click.echo(context.get_help())

    image_option = click.option("--image", default=PYTHON, show_default=True, help="Image of the steps, with Python.")

    @commands.command("compile")
    @image_option
    @click.argument("output", type=click.Path(path_type=Path))
    def compile_(image: str, output: Path) -> None:
        """Compile for Kubeflow Pipelines into the file OUTPUT."""
        from kfp.compiler import Compiler

        Compiler().compile(build(image), str(output))

    @commands.command()
    @image_option
    @click.option("--runner", type=click.Choice(["process", "docker"]), default="process", help="What the steps are.")
    @click.option("--runs", type=click.Path(path_type=Path), default="runs/examples", help="Folder for the runs.")
    def run(image: str, runner: str, runs: Path) -> None:
        """Run on this machine and print the result."""
        from trainyard.launch.containers import steps_as_containers
        from trainyard.launch.laptop import run_steps
        from trainyard.launch.processes import steps_as_processes

        steps = steps_as_containers(runs, {"steps": image}) if runner == "docker" else steps_as_processes(runs)
        done = run_steps(build(image), {}, steps, runs)
        click.echo((done.folder / result).read_text())

    return commands
