"""Command line of the serve step."""

import json
from pathlib import Path
from typing import Any

import click

from ..common.cli import BadInput, StepCommand, say, step_group
from ..common.options import Output, executor_input, inputs, outputs, section
from .options import host_names, origins, service_options

rollout, policy, here = section("Rollout"), section("Rollout", setting="any"), section("This machine", "machine")


@step_group("checks.check", "kserve.specification.InferenceServiceOptions", cached=False)
@inputs(
    "--model-uri", default="", metavar="URI", help="Published model, s3://bucket/name/version/, as export prints it."
)
@inputs(
    "--model-name",
    default="",
    help="Name of the endpoint's model, and of the InferenceService; empty: the name in --model-uri.",
)
@rollout(
    "--action",
    default="apply",
    metavar="ACTION",
    help="What to do: apply (create or update), promote or rollback (end a canary), delete, or status.",
)
@policy(
    "--target",
    default="kserve",
    help="Where to serve: kserve (an InferenceService on a cluster), process or docker (a model server on this "
    "machine).",
)
@rollout(
    "--canary-percent",
    default=100,
    help="Share of the requests that the new version gets; below 100 the current version keeps the rest.",
)
@rollout(
    "--auto-promote",
    type=click.BOOL,
    default=False,
    help="Promote the canary in the same step, once it has passed the smoke test.",
)
@policy(
    "--analyze",
    default="",
    metavar="DURATION",
    help="Duration to compare a canary with the stable version, e.g. 10m, then promote or roll back; empty: no "
    "analysis.",
)
@policy("--max-error-rate", default=0.01, help="Maximum error rate of an analyzed canary, 0 to 1.")
@policy(
    "--max-latency-ratio",
    default=1.5,
    help="Maximum ratio of its 95th percentile latency to the stable version's.",
)
@policy("--min-requests", default=100, help="Minimum number of requests to an analyzed canary for a decision.")
@policy(
    "--smoke-test",
    type=click.BOOL,
    default=True,
    help="Send the examples published with the model and compare the answers with those at evaluation.",
)
@rollout(
    "--direct",
    type=click.BOOL,
    default=False,
    help="On a cluster, route requests to an update at once, without testing it next to the current version first.",
)
@rollout(
    "--replace-different",
    type=click.BOOL,
    default=False,
    help="Accept a version with another input shape or other classes than the one that is served.",
)
@rollout("--dry-run", type=click.BOOL, default=False, help="Change nothing: print what apply would send.")
@policy(
    "--verify-key",
    default="",
    help="PEM files of public keys, comma-separated, of which one must have signed the version (export --signing-key); "
    "our predictor on a cluster verifies what it loads too. Empty: not verified.",
)
@policy("--timeout", default=600, help="Seconds to wait until the endpoint answers.")
@service_options
@here("--port", default=0, help="Port of a model server on this machine; 0: any free one.")
@here(
    "--server-image",
    default="",
    help="Image whose containers hold the model for --target docker, with TensorFlow Serving's REST, e.g. "
    "tensorflow/serving:2.19.1; empty: our model server loads it.",
)
@here(
    "--ui",
    type=click.BOOL,
    default=True,
    help="Show a page at the root of a model server on this machine, to try the model in a browser.",
)
@here("--no-ui", is_flag=True, by_hand=True, help="Same as --ui false.")
@here(
    "--shadow",
    type=click.BOOL,
    default=False,
    help="With --canary-percent 0: copy the requests to the new version, compare the answers and keep "
    "the disagreements; clients are not delayed.",
)
@here(
    "--cors-origin",
    default="",
    help="Origins of web pages that may send requests to a model server on this machine and read the answers, "
    "separated by commas, e.g. https://lab.example.com; *: all; empty: only its own page.",
)
@here(
    "--allow-host",
    default="",
    help="Host names that a model server on this machine answers to besides localhost and its address, separated by "
    "commas; empty: none.",
)
@outputs("--endpoint", type=Output("String"), help="File to write the URL for predictions to.")
@outputs("--revision", type=Output("String"), help="File to write the name of the newest revision to.")
@outputs(
    "--verdict",
    type=Output("String"),
    help="File to write the result of --analyze to: promoted, rolled back or too few requests; empty without it.",
)
@outputs(
    "--status",
    type=Output("JsonObject"),
    help="File to write what is served to: each version with its share, state, origin and start.",
)
@outputs("--summary", type=Output("Markdown"), help="File to write the same to as Markdown, with the curl line.")
@executor_input
@click.pass_context
def main(
    ctx: click.Context,
    /,
    action: str,
    model_uri: str,
    model_name: str,
    target: str,
    canary_percent: int,
    auto_promote: bool,
    analyze: str,
    max_error_rate: float,
    max_latency_ratio: float,
    min_requests: int,
    smoke_test: bool,
    direct: bool,
    replace_different: bool,
    dry_run: bool,
    verify_key: str,
    timeout: int,
    port: int,
    server_image: str,
    ui: bool,
    no_ui: bool,
    shadow: bool,
    cors_origin: str,
    allow_host: str,
    endpoint: Path | None,
    revision: Path | None,
    verdict: Path | None,
    status: Path | None,
    summary: Path | None,
    executor_input: str,
    **service: Any,
) -> None:
    """Serve a published model at a prediction endpoint, and wait until it answers.

    Prints the endpoint's URL. A new version replaces the served one without a failed request; if it cannot be loaded or
    does not answer, the step fails and the served version remains.

    On this machine (--target process, or docker for a container) the URI may also be a model folder. State and log lie
    below $TRAINYARD_HOME (default .trainyard); the store and its credentials come from the environment
    (AWS_ENDPOINT_URL, ...). On a cluster the step uses the pod's service account or the kubeconfig.

    \b
    Examples:
      trainyard serve --target process --model-uri s3://models/mnist/3/
      trainyard serve --target process --model-uri runs/latest/model --port 8501
      trainyard serve --target docker --server-image tensorflow/serving:2.19.1 --model-uri s3://models/mnist/3/
      trainyard serve --model-uri s3://models/mnist/3/ --namespace vision --service-account models
      trainyard serve --model-uri s3://models/mnist/4/ --namespace vision --canary-percent 10
      trainyard serve --model-uri s3://models/mnist/4/ --target process --canary-percent 10 --analyze 10m
      trainyard serve --action promote --model-name mnist --namespace vision
      trainyard serve predict --endpoint http://127.0.0.1:8501/v1/models/mnist:predict --image digit.png
      trainyard serve status
    """
    if ctx.invoked_subcommand:
        return
    from ..common.kfp_outputs import record_artifacts, write_parameter
    from .analysis import PROMOTED, criteria
    from .orders import Order
    from .target import carry_out

    order = Order(
        action,
        model_name,
        model_uri,
        canary_percent,
        auto_promote,
        smoke_test,
        dry_run,
        timeout,
        direct,
        replace_different,
        criteria(analyze, max_error_rate, max_latency_ratio, min_requests),
        shadow,
        verify_key,
    )
    if target == "kserve":
        from .kserve.specification import InferenceServiceOptions
        from .kserve.target import KServeTarget

        options = InferenceServiceOptions(**service, verify_key=verify_key)
        outcome = carry_out(order, lambda: KServeTarget(order, options, _tell), _tell)
    else:
        from .here.containers import PREDICTOR
        from .here.service import Front
        from .here.target import MachineTarget, ServerOptions

        image = (service["image"] or PREDICTOR) if target == "docker" else ""
        front = Front(ui and not no_ui, origins(cors_origin), host_names(allow_host))
        server = ServerOptions(port, front, image, server_image)
        outcome = carry_out(order, lambda: MachineTarget(order, server, _tell), _tell)

    write_parameter(endpoint, outcome.endpoint)
    write_parameter(revision, outcome.revision)
    write_parameter(verdict, outcome.verdict.decision if outcome.verdict else "")
    write_parameter(status, json.dumps(outcome.status()))
    write_parameter(summary, outcome.summary())
    record_artifacts(executor_input)
    text = outcome.text or (outcome.table() if action == "status" else outcome.endpoint)
    if text:
        click.echo(text)
    if outcome.verdict and outcome.verdict.decision != PROMOTED:
        raise RuntimeError(f"{outcome.name}: canary {outcome.verdict}")


@main.command(cls=StepCommand)
@click.option("--endpoint", required=True, metavar="URL", help="Predict URL, as serve prints it.")
@click.option("--image", type=click.Path(path_type=Path), metavar="FILE", help="An image file of any size.")
@click.option("--invert", is_flag=True, help="Swap dark and light in the image, as for dark ink with an MNIST model.")
@click.option(
    "--json",
    "request",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help='An image as a request holds it, {"instances": [image]}; sent unchanged.',
)
@click.option("--data", type=click.Path(path_type=Path), metavar="FOLDER", help="Data set to take a test image from.")
@click.option("--index", type=int, metavar="N", help="Which test image, from 0; by default any of them.")
@click.option("--host-header", default="", metavar="NAME", help="Host to ask an ingress for, as KServe names it.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE", help="PNG to draw image and answer into.")
@click.option("--result", type=click.Path(path_type=Path), metavar="FILE", help="JSON file to write the answer into.")
def predict(
    endpoint: str,
    image: Path | None,
    invert: bool,
    request: Path | None,
    data: Path | None,
    index: int | None,
    host_header: str,
    picture: Path | None,
    result: Path | None,
) -> None:
    """Send one image to an endpoint and show the prediction.

    The image is converted to the model's size and colours.

    \b
    Examples:
      trainyard serve predict --endpoint URL --image digit.png --invert
      trainyard serve predict --endpoint URL --json input.json --host-header mnist-vision.example.com
      trainyard serve predict --endpoint URL --data runs/latest/download/dataset --picture seen.png
    """
    if sum(source is not None for source in (image, request, data)) != 1:
        raise BadInput("expected one of --image, --json and --data, received none or several; pass one of the three")
    if index is not None and data is None:
        raise BadInput("--index: expected --data with it, received none; pass the data set, or leave --index out")
    from . import picture as drawing
    from . import predict as asking
    from .client import Endpoint

    asked = Endpoint(endpoint, host=host_header)
    if image:
        seen = asking.predict_file(asked, image, invert)
    elif request:
        seen = asking.predict_json(asked, request)
    elif data:
        seen = asking.predict_example(asked, data, index)
    click.echo(drawing.as_text(seen))
    if picture:
        drawing.save_picture(seen, picture)
        say("predict", f"picture in {picture}")
    if result:
        asking.save_result(seen, result)


@main.command("start", cls=StepCommand)
@click.option("--timeout", default=60, show_default=True, help="Seconds to wait for each server and its models.")
def start_again(timeout: int) -> None:
    """Start the model servers of this machine again, as after a restart, on the ports they had.

    \b
    Example:
      trainyard serve start
    """
    from .here import services

    services.start(timeout, _tell)


@main.command(cls=StepCommand)
@click.option("--model-name", default="", help="Model to stop; empty: all on this machine.")
def stop(model_name: str) -> None:
    """Stop the model servers of this machine, one or all, and remove their files.

    \b
    Example:
      trainyard serve stop --model-name mnist
    """
    from .here import services

    services.stop(model_name, _tell)


@main.command("status", cls=StepCommand)
def status_here() -> None:
    """Show what is served on this machine.

    \b
    Example:
      trainyard serve status
    """
    from .here import services

    rows = services.versions()
    if not rows:
        click.echo("nothing is served here")
        return
    from ..common.progress import columns

    click.echo(columns([("MODEL", "VERSION", "SHARE", "STATE", "ENDPOINT", "FROM"), *rows]))


def _tell(line: str) -> None:
    say("serve", line)


if __name__ == "__main__":
    main()
