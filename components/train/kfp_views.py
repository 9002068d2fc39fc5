"""What the UI of Kubeflow Pipelines shows of a training, beside the artifacts themselves."""

import json


def views(card: str, event_files: str) -> str:
    """Content of `mlpipeline_ui_metadata`: the model card, and a button that starts TensorBoard.

    Args:
        card: As Markdown.
        event_files: URI of their folder; empty: there are none that the UI could reach.
    """
    outputs = [{"type": "markdown", "storage": "inline", "source": card}]
    if event_files:
        outputs.append({"type": "tensorboard", "source": event_files})
    return json.dumps({"version": 1, "outputs": outputs})
