"""Command line of the serve step."""

from pathlib import Path

import click

from components.common.cli import BadInput, StepCommand, say, step_group


@step_group
@click.option("--model-uri", metavar="URI", help="Published model, s3://bucket/name/version/, as export prints it.")
@click.option("--model-name", default="mnist", help="Name of the endpoint's model, and of the InferenceService.")
@click.option(
    "--target",
    default="kserve",
    help="Where to serve: kserve (an InferenceService on a cluster) or process (a model server on this machine).",
)
@click.option(
    "--namespace",
    default="",
    help="Namespace of the InferenceService; empty: the pod's own, or the kubeconfig context's.",
)
@click.option(
    "--service-account",
    default="",
    help="Service account that holds the store's credentials for KServe; empty: the namespace's default.",
)
@click.option("--runtime-version", default="2.19.1", help="Version of TensorFlow Serving that KServe runs.")
@click.option("--port", default=0, help="Port of a model server on this machine; 0: any free one.")
@click.option("--timeout", default=600, help="Seconds to wait until the endpoint answers.")
@click.option(
    "--endpoint",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write the URL for predictions into.",
)
@click.pass_context
def main(
    context: click.Context,
    model_uri: str | None,
    model_name: str,
    target: str,
    namespace: str,
    service_account: str,
    runtime_version: str,
    port: int,
    timeout: int,
    endpoint: Path | None,
) -> None:
    """Take a published model to a live prediction endpoint and wait until it answers.

    Prints the endpoint's URL. A new version takes the place of the old one without a failed request; if it cannot be
    loaded or does not answer, the step fails and the old one goes on.

    On this machine (--target process) the URI may also be a model folder. State and log lie below $TRAINYARD_HOME
    (default .trainyard); the store and its credentials come from the environment (AWS_ENDPOINT_URL, ...). On a cluster
    the step uses the pod's service account or the kubeconfig.

    \b
    Examples:
      python -m components.serve --target process --model-uri s3://models/mnist/3/
      python -m components.serve --target process --model-uri runs/latest/model --port 8501
      python -m components.serve --model-uri s3://models/mnist/3/ --namespace vision --service-account models
      python -m components.serve predict --endpoint http://127.0.0.1:8501/v1/models/mnist:predict --image digit.png
      python -m components.serve status
    """
    if context.invoked_subcommand:
        return
    if not model_uri:
        raise BadInput("--model-uri: expected the URI of a published model, received none; pass what export printed")
    if timeout < 1:
        raise BadInput(f"--timeout: expected a number of seconds of at least 1, received {timeout}; choose another")
    if not 0 <= port <= 65535:
        raise BadInput(f"--port: expected 0 to 65535, received {port}; choose another")
    if target == "process":
        from components.serve import process

        url = process.serve(model_uri, model_name, port, timeout, _tell)
    elif target == "kserve":
        from components.serve import kserve

        plan = kserve.Plan(model_name, namespace, model_uri, runtime_version, service_account)
        url = kserve.serve(plan, timeout, _tell)
    else:
        raise BadInput(f"--target: expected kserve or process, received {target!r}; choose one of these")
    from components.common.kfp_outputs import write_parameter

    write_parameter(endpoint, url)
    click.echo(url)


@main.command(cls=StepCommand)
@click.option("--endpoint", required=True, metavar="URL", help="Predict URL, as serve prints it.")
@click.option("--image", type=click.Path(path_type=Path), metavar="FILE", help="A PNG or JPEG image of any size.")
@click.option("--invert", is_flag=True, help="Swap dark and light in the image, as for dark ink with an MNIST model.")
@click.option("--data", type=click.Path(path_type=Path), metavar="FOLDER", help="Data set to take a test image from.")
@click.option("--index", type=int, metavar="N", help="Which test image, from 0.")
@click.option("--picture", type=click.Path(path_type=Path), metavar="FILE", help="PNG to draw image and answer into.")
@click.option("--result", type=click.Path(path_type=Path), metavar="FILE", help="JSON file to write the answer into.")
def predict(
    endpoint: str,
    image: Path | None,
    invert: bool,
    data: Path | None,
    index: int | None,
    picture: Path | None,
    result: Path | None,
) -> None:
    """Send one image to an endpoint and show what the model sees in it.

    The image is brought to the size and the colours that the model takes.

    \b
    Examples:
      python -m components.serve predict --endpoint URL --image digit.png --invert
      python -m components.serve predict --endpoint URL --data runs/latest/dataset --index 1005 --picture seen.png
    """
    if (image is None) == (data is None) or (data is None) != (index is None):
        raise BadInput("expected either --image, or --data with --index, received something else; pass one of the two")
    from components.serve import picture as drawing
    from components.serve import predict as asking

    seen = asking.predict_file(endpoint, image, invert) if image else asking.predict_example(endpoint, data, index)
    click.echo(drawing.as_text(seen))
    if picture:
        drawing.save_picture(seen, picture)
        say("predict", f"picture in {picture}")
    if result:
        asking.save_result(seen, result)


@main.command(cls=StepCommand)
@click.option("--model-name", default="", help="Name of the model to stop; empty: all that are served here.")
def stop(model_name: str) -> None:
    """End the model servers of this machine, one or all, and remove what they left.

    \b
    Example:
      python -m components.serve stop --model-name mnist
    """
    from components.serve import process

    process.stop(model_name, _tell)


@main.command(cls=StepCommand)
def status() -> None:
    """Show what is served on this machine.

    \b
    Example:
      python -m components.serve status
    """
    from components.serve import process

    rows = process.status()
    if not rows:
        click.echo("nothing is served here")
        return
    table = [("MODEL", "VERSION", "SHARE", "STATE", "ENDPOINT", "FROM"), *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _tell(line: str) -> None:
    say("serve", line)


if __name__ == "__main__":
    main()
