"""From an image data set to a live prediction endpoint: the components, joined.

Parameters and settings are those of the components (docs/components); this says how the artifacts flow. `trainyard run`
runs it here, `trainyard compile` and `trainyard submit` take it to a cluster.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent

    from .launch.assembly import Step
    from .launch.settings import Settings

STEPS: tuple[str, ...] = ("download", "validate", "train", "evaluate", "export", "serve")
WIRED: tuple[str, ...] = ("model_uri", "action", "dry_run", "context", "validation")
"""Parameters that the pipeline sets itself: a run publishes one model, and serves it."""


def wire(download: "Step", validate: "Step", train: "Step", evaluate: "Step", export: "Step", serve: "Step") -> None:
    """How the artifacts flow."""
    dataset = download().outputs["dataset"]
    validated = validate(dataset=dataset)
    model = train(dataset=dataset).after(validated).outputs["model"]
    evaluation = evaluate(dataset=dataset, model=model).outputs["evaluation"]
    published = export(model=model, evaluation=evaluation, validation=validated.outputs["summary"])
    serve(model_uri=published.outputs["model_uri"])


def build(settings: "Settings | None" = None) -> "GraphComponent":
    """The pipeline, with what belongs to a place bound."""
    from .launch.assembly import assemble
    from .launch.settings import Settings

    about = "From a data set to a live prediction endpoint."
    return assemble("trainyard", about, STEPS, wire, settings or Settings(), WIRED)


if __name__ == "__main__":
    from trainyard.launch.commands import trainyard

    trainyard()
