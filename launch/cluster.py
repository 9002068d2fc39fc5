"""What the steps ask of a cluster."""

from typing import TYPE_CHECKING

from ..components.common.cli import BadInput

if TYPE_CHECKING:
    from kfp.dsl.pipeline_task import PipelineTask

GPU = "nvidia.com/gpu"


def ask_for_gpus(task: "PipelineTask", gpus: int, node: str) -> None:
    """Give a task NVIDIA GPUs, on nodes that are kept for them if need be.

    Args:
        task: Of the pipeline.
        gpus: Number, at least 1.
        node: Label of the nodes, `key=value`; empty: any node with that many free.

    Raises:
        BadInput: the label has no '='.
    """
    from kfp import kubernetes

    task.set_accelerator_type(GPU).set_accelerator_limit(gpus)
    kubernetes.add_toleration(task, key=GPU, operator="Exists", effect="NoSchedule")
    if node:
        key, equals, value = node.partition("=")
        if not equals:
            raise BadInput(f"--gpu-node: expected KEY=VALUE, received {node!r}; e.g. {GPU}.present=true")
        kubernetes.add_node_selector(task, key, value)
