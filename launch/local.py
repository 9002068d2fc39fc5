"""Run any pipeline on this machine: `trainyard.local`.

Steps of these components run as processes or containers; those of others (`@dsl.component`, `@dsl.container_component`)
by the command that kfp makes of them, as a process with this Python or in their own image.

    with trainyard.local.processes("runs") as run:
        my_pipeline(source="s3://datasets/digits.npz")
    print(run.folder)
"""

from .containers import steps_as_containers as containers
from .orchestrator import PipelineRun, StepRun
from .processes import steps_as_processes as processes

__all__ = ["PipelineRun", "StepRun", "containers", "processes"]
