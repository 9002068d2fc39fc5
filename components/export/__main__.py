"""Command line of the export step."""

import time
from pathlib import Path

from ..common.cli import say, step
from ..common.options import Input, Output, inputs, outputs, section

destination = section("Destination")


@step("address.check_address", cached=False)
@inputs("--model", required=True, type=Input("Model"), help="Model folder, as train writes it.")
@inputs(
    "--evaluation",
    type=Input("Artifact", folder=True),
    help="Evaluation folder of this model, as evaluate writes it.",
)
@inputs(
    "--validation",
    default="",
    help="Result of validate on the training data: its output summary, or its folder; a model whose data did not pass "
    "is refused. Empty: the data was not validated.",
)
@section("Destination", setting="any")(
    "--bucket", default="models", help="Bucket to publish to; created as private if missing."
)
@destination(
    "--model-name",
    default="",
    help="Name to publish under, the folder in the bucket; empty: the name of the data set in the model card.",
)
@destination(
    "--version",
    default="next",
    help="A positive integer, or 'next' for the first free one; unchanged content keeps the newest version.",
)
@section("Signature", setting="any")(
    "--signing-key",
    default="",
    help="PEM file of a private key (P-256, P-384 or P-521, no password) to sign the version with, in the format of "
    "OpenSSF Model Signing; empty: it is not signed.",
)
@outputs("--model-uri", type=Output("String"), help="File to write the published URI to.")
def main(
    model: Path,
    evaluation: Path | None,
    validation: str,
    bucket: str,
    model_name: str,
    version: str,
    signing_key: str,
    model_uri: Path | None,
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
    started = time.monotonic()
    from ..common.artifacts.model import read_card
    from ..common.artifacts.names import name_for
    from ..common.artifacts.signing import SigningKey
    from ..common.kfp_outputs import write_parameter
    from ..common.progress import counted, readable_size
    from .evaluation import check_evaluation
    from .publish import publish
    from .validation import check_validation

    key = SigningKey(Path(signing_key)) if signing_key else None
    card = read_card(model)
    model_name = model_name or name_for(card)
    validated = check_validation(validation, card) if validation else None
    accuracy = ""
    if evaluation:
        accuracy = f", accuracy {check_evaluation(evaluation, model).accuracy:.4f}"
    else:
        say("export", "no --evaluation: the model is published unevaluated")
    number = None if version == "next" else int(version)
    published = publish(model, evaluation, validated, bucket, model_name, number, started, key)
    write_parameter(model_uri, published.uri)
    there = ", published already with this very content" if published.already else ""
    there += ", signed" if key else ""
    say("export", f"{published.uri}  {counted(published.files)}, {readable_size(published.bytes)}{accuracy}{there}")


if __name__ == "__main__":
    main()
