"""Run any pipeline on this machine: `trainyard.local`.

Steps of these components run as processes or containers; those of others (`@dsl.component`, `@dsl.container_component`)
by the command that kfp makes of them, as a process with this Python or in their own image.

    with trainyard.local.processes("runs") as run:
        my_pipeline(source="s3://datasets/digits.npz")
    print(run.folder)
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from .containers import steps_as_containers
from .images import read_images
from .orchestrator import PipelineRun, StepRun
from .processes import steps_as_processes

__all__ = ["PipelineRun", "StepRun", "containers", "processes"]


def processes(runs: str | Path = "runs", cache: bool = False) -> AbstractContextManager[PipelineRun]:
    """Inside the block a pipeline that is called runs here, each step a process.

    The store is the one in AWS_ENDPOINT_URL; `trainyard store start` starts a small one.

    Args:
        runs: Folder for the runs; each gets a folder of its own in it, with a folder per step.
        cache: Whether the earlier outputs of a step whose code, options and inputs did not change are taken.
    """
    return steps_as_processes(Path(runs), cache)


def containers(
    images: Mapping[str, str] | str | Path = "dist/images.json", runs: str | Path = "runs", cache: bool = False
) -> AbstractContextManager[PipelineRun]:
    """Inside the block a pipeline that is called runs here, each step in a container of its image.

    Args:
        images: By step, as `make build` and `make push` write them to a file, or that file.
        runs: As for `processes`.
        cache: As for `processes`.

    Raises:
        BadInput, RuntimeError: no engine answers, or an image is neither here nor in its registry.
    """
    known = read_images(Path(images)) if isinstance(images, str | Path) else dict(images)
    return steps_as_containers(Path(runs), known, cache=cache)
