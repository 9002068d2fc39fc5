"""From a data set to a live prediction endpoint: the five components, joined.

Run here with processes (`run`), compile for a cluster (`compile`), or send it to one (`submit`).
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from components.common.cli import say, step_group
from launch.options import CLUSTER_ONLY, COMPONENTS, STEPS, parameter_options

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent

STORE_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")


def build(
    s3_secret: str = "s3-credentials", images: dict[str, str] | None = None, gpus: int = 0, gpu_node: str = ""
) -> "GraphComponent":
    """The pipeline.

    Args:
        s3_secret: Kubernetes secret whose keys (the names in `STORE_KEYS`) the steps that use the object store get as
            environment. Only a cluster looks at it.
        images: By step, in place of those in component.yaml.
        gpus: NVIDIA GPUs for train. Only a cluster looks at it.
        gpu_node: Label of the nodes that have them, `key=value`; empty: any node with that many free.
    """
    from kfp import dsl, kubernetes
    from kfp.components import load_component_from_file

    download, train, evaluate, export, serve = (
        load_component_from_file(str(COMPONENTS / name / "component.yaml")) for name in STEPS
    )

    # Every parameter is passed on: backend 2.17.0 fails on a default that the task did not pass.
    @dsl.pipeline(name="trainyard", description="From a data set to a live prediction endpoint.")
    def trainyard(
        source: str,
        sha256: str = "",
        architecture: str = "dense",
        epochs: int = 5,
        batch_size: int = 128,
        learning_rate: float = 0.001,
        seed: int = 0,
        optimizer: str = "adam",
        schedule: str = "constant",
        warmup: float = 0.0,
        validation_split: float = 0.0,
        early_stopping: int = 0,
        class_weights: str = "",
        augmentation: str = "",
        model_config: str = "",
        base_model: str = "",
        image_size: str = "",
        on_corrupt: str = "fail",
        memory_budget: int = 0,
        intended_use: str = "",
        limitations: str = "",
        owner: str = "",
        licence: str = "",
        min_accuracy: float = 0.0,
        thresholds: dict[str, Any] = {},  # noqa: B006 (KFP reads it, nobody changes it)
        slice_by: str = "",
        baseline: str = "",
        change_thresholds: dict[str, float] = {},  # noqa: B006 (KFP reads it, nobody changes it)
        bucket: str = "models",
        model_name: str = "mnist",
        version: str = "next",
        target: str = "kserve",
        canary_percent: int = 100,
        auto_promote: bool = False,
        smoke_test: bool = True,
        timeout: int = 600,
        namespace: str = "",
        deployment_mode: str = "",
        route: str = "",
        inference_service: str = "",
        model_format: str = "",
        runtime_version: str = "",
        runtime: str = "",
        image: str = "",
        service_account: str = "",
        storage_secret: str = "",
        request_timeout: int = 0,
        min_replicas: int = -1,
        max_replicas: int = 0,
        scale_metric: str = "",
        scale_target: int = 0,
        cpu_request: str = "",
        cpu_limit: str = "",
        memory_request: str = "",
        memory_limit: str = "",
        predictor_gpus: int = 0,
        node_selector: dict[str, str] = {},  # noqa: B006 (KFP reads it, nobody changes it)
        labels: dict[str, str] = {},  # noqa: B006 (KFP reads it, nobody changes it)
        annotations: dict[str, str] = {},  # noqa: B006 (KFP reads it, nobody changes it)
        sidecar_injection: str = "",
        port: int = 0,
        server_image: str = "",
        ui: bool = True,
    ) -> None:
        fetched = download(source=source, sha256=sha256)
        trained = train(
            dataset=fetched.outputs["dataset"],
            architecture=architecture,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            optimizer=optimizer,
            schedule=schedule,
            warmup=warmup,
            validation_split=validation_split,
            early_stopping=early_stopping,
            class_weights=class_weights,
            augmentation=augmentation,
            model_config=model_config,
            base_model=base_model,
            image_size=image_size,
            on_corrupt=on_corrupt,
            memory_budget=memory_budget,
            intended_use=intended_use,
            limitations=limitations,
            owner=owner,
            licence=licence,
        )
        evaluated = evaluate(
            dataset=fetched.outputs["dataset"],
            model=trained.outputs["model"],
            on_corrupt=on_corrupt,
            min_accuracy=min_accuracy,
            thresholds=thresholds,
            slice_by=slice_by,
            baseline=baseline,
            change_thresholds=change_thresholds,
        )
        published = export(
            model=trained.outputs["model"],
            evaluation=evaluated.outputs["evaluation"],
            bucket=bucket,
            model_name=model_name,
            version=version,
        )
        served = serve(
            action="apply",
            model_uri=published.outputs["model_uri"],
            model_name=model_name,
            target=target,
            canary_percent=canary_percent,
            auto_promote=auto_promote,
            smoke_test=smoke_test,
            dry_run=False,
            timeout=timeout,
            namespace=namespace,
            context="",
            deployment_mode=deployment_mode,
            route=route,
            inference_service=inference_service,
            model_format=model_format,
            runtime_version=runtime_version,
            runtime=runtime,
            image=image,
            service_account=service_account,
            storage_secret=storage_secret,
            request_timeout=request_timeout,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            scale_metric=scale_metric,
            scale_target=scale_target,
            cpu_request=cpu_request,
            cpu_limit=cpu_limit,
            memory_request=memory_request,
            memory_limit=memory_limit,
            predictor_gpus=predictor_gpus,
            node_selector=node_selector,
            labels=labels,
            annotations=annotations,
            sidecar_injection=sidecar_injection,
            port=port,
            server_image=server_image,
            ui=ui,
        )
        for task in (published, served):  # they act on the world outside: never from the cache
            task.set_caching_options(False)
        for task in (fetched, trained, evaluated, published, served):
            kubernetes.use_secret_as_env(task, s3_secret, {key: key for key in STORE_KEYS})
        for name, task in zip(STEPS, (fetched, trained, evaluated, published, served), strict=True):
            if images and name in images:
                task.set_container_image(images[name])
        if gpus:
            from launch.cluster import ask_for_gpus

            ask_for_gpus(trained, gpus, gpu_node)

    return trainyard


images_option = click.option(
    "--images",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Images of the steps, as make build and make push write them into dist/images.json.",
)
runner_option = click.option(
    "--runner",
    type=click.Choice(["process", "docker"]),
    default="process",
    help="What the steps are: processes, or containers of the images in --images.",
)
gpus_option = click.option("--gpus", type=click.IntRange(min=0), default=0, help="NVIDIA GPUs for train.")
gpu_node_option = click.option("--gpu-node", default="", metavar="KEY=VALUE", help="Label of the nodes that have them.")
s3_secret_option = click.option(
    "--s3-secret", default="s3-credentials", help="Kubernetes secret with the object store's AWS_* keys."
)


@step_group
def main() -> None:
    """From a data set to a live prediction endpoint: download, train, evaluate, export, serve.

    \b
    Examples:
      python pipeline.py run
      python pipeline.py run --data my-images.tar.gz --architecture cnn
      python pipeline.py compile dist/pipeline.yaml
      python pipeline.py submit --host http://localhost:8080 --source s3://datasets/mnist.tar.gz --wait
    """
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@main.command()
@click.option(
    "--data",
    default="",
    help="Data set, a path or a URI.  [default: MNIST through TFDS; without a network the digits in examples/data]",
)
@runner_option
@images_option
@click.option("--runs", type=click.Path(path_type=Path), default="runs", metavar="FOLDER", help="Folder for the runs.")
@parameter_options("source", "target", *CLUSTER_ONLY)
def run(data: str, runner: str, images: Path | None, runs: Path, **parameters: Any) -> None:
    """Run the pipeline on this machine, each step as a process or a container, and leave a live endpoint.

    The object store is the one in AWS_ENDPOINT_URL, or a small one that is started here. The summary is written to
    FOLDER/<run>/summary.json; FOLDER/latest is the newest run. `make stop` ends the endpoint and the store.
    """
    from launch.laptop import run_here

    chosen = _images(images or Path("dist/images.json")) if runner == "docker" else None
    run_here(build(images=chosen), data, _given(parameters), runs, chosen)


@main.command(name="compile")
@click.argument("output", type=click.Path(path_type=Path), default="dist/pipeline.yaml")
@images_option
@gpus_option
@gpu_node_option
@s3_secret_option
def compile_(output: Path, images: Path | None, gpus: int, gpu_node: str, s3_secret: str) -> None:
    """Compile the pipeline for Kubeflow Pipelines into the file OUTPUT (dist/pipeline.yaml)."""
    from kfp.compiler import Compiler

    from components.common.files import atomic_file

    with tempfile.TemporaryDirectory() as scratch, atomic_file(output) as partial:
        compiled = Path(scratch) / "pipeline.yaml"  # the compiler insists on this ending
        Compiler().compile(build(s3_secret, _images(images), gpus, gpu_node), str(compiled))
        partial.write_text(compiled.read_text())
    say("compile", str(output))


@main.command()
@click.option("--host", required=True, help="URL of the Kubeflow Pipelines API.")
@click.option("--experiment", default="trainyard", help="Experiment that the run belongs to.")
@click.option("--wait", is_flag=True, help="Wait until the run ends; its failure is this command's failure.")
@images_option
@gpus_option
@gpu_node_option
@s3_secret_option
@parameter_options("target", "port", "server_image")
def submit(
    host: str,
    experiment: str,
    wait: bool,
    images: Path | None,
    gpus: int,
    gpu_node: str,
    s3_secret: str,
    **parameters: Any,
) -> None:
    """Start a run on a Kubeflow Pipelines cluster and print its URL.

    A login that the cluster asks for is kfp's own: see KF_PIPELINES_* in its documentation.
    """
    from components.serve.service_spec import check_name
    from launch.cluster import submit_run
    from launch.seeding import model_name

    given = {"model_name": model_name(parameters["source"]), **_given(parameters)}
    check_name(given["model_name"])
    submit_run(build(s3_secret, _images(images), gpus, gpu_node), given, host, experiment, wait)


def _images(path: Path | None) -> dict[str, str] | None:
    """The images of the steps in such a file."""
    if path is None:
        return None
    from launch.images import read_images

    return read_images(path)


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters that were given, looked at; the pipeline's own defaults hold for the others."""
    from launch.checks import check

    given = {name: value for name, value in parameters.items() if value is not None}
    check(given)
    return given


if __name__ == "__main__":
    main()
