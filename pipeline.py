"""From a data set to a live prediction endpoint: the five components, joined.

Run here with processes (`run`), compile for a cluster (`compile`), or send it to one (`submit`).
"""

from typing import TYPE_CHECKING, Any

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

    from .launch.options import COMPONENTS, STEPS

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
            from .launch.cluster import ask_for_gpus

            ask_for_gpus(trained, gpus, gpu_node)

    return trainyard


if __name__ == "__main__":
    from trainyard.launch.commands import main

    main()
