"""Command line of the export step."""

from pathlib import Path

import click

from ..common.cli import say, step


@step
@click.option(
    "--model",
    required=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Model folder, as train writes it.",
)
@click.option(
    "--evaluation",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Evaluation folder of this model, as evaluate writes it.",
)
@click.option("--bucket", default="models", help="Bucket to publish into; made, private, when it is missing.")
@click.option("--model-name", default="mnist", help="Name to publish under, the folder in the bucket.")
@click.option(
    "--version",
    default="next",
    help="A positive integer, or 'next' for the first free one; a model that the newest one holds already keeps it.",
)
@click.option(
    "--model-uri",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File to write the published URI into.",
)
def main(
    model: Path, evaluation: Path | None, bucket: str, model_name: str, version: str, model_uri: Path | None
) -> None:
    """Publish a model that passed its evaluation as s3://BUCKET/MODEL_NAME/VERSION/.

    A version never changes: publishing the same content again succeeds and says so, other content is refused. It
    exists from the moment that its manifest.json does, which is written last. Run again after a failure: what was
    uploaded is not uploaded twice.

    Without --evaluation, by hand, the model is published unevaluated.

    Store and credentials come from the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...).

    \b
    Example:
      trainyard export --model my-model --evaluation my-evaluation --bucket models --model-name digits
    """
    from ..common.kfp_outputs import write_parameter
    from ..common.progress import counted, readable_size
    from .address import check_place
    from .publish import publish
    from .verdict import check_evaluation

    check_place(model_name, bucket, version)
    if evaluation:
        check_evaluation(evaluation, model)
    else:
        say("export", "no --evaluation: the model is published unevaluated")
    published = publish(model, evaluation, bucket, model_name, None if version == "next" else int(version))
    write_parameter(model_uri, published.uri)
    there = ", published already with this very content" if published.already else ""
    say("export", f"{published.uri}  {counted(published.files)}, {readable_size(published.bytes)}{there}")


if __name__ == "__main__":
    main()
