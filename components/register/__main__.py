"""Command line of the register step."""

from pathlib import Path

from ..common.cli import say, step
from ..common.options import Output, inputs, outputs, section

registry = section("Registry", setting="any")
entry = section("Entry")


@step("registration.check_registry", cached=False)
@inputs(
    "--model-uri", required=True, help="Published model to register, as export prints it: s3://bucket/name/version/."
)
@registry(
    "--registry",
    default="http://model-registry-service.kubeflow.svc.cluster.local:8080",
    help="URL of the Kubeflow Model Registry.",
)
@registry("--author", default="trainyard", help="Author of the version, and owner of a new model.")
@entry("--model-name", default="", help="Name in the registry; empty: the name in --model-uri.")
@entry("--run", default="", help="ID or URL of the run that created the model.")
@outputs("--registered", type=Output("String"), help="File to write the ID of the version in the registry to.")
def main(model_uri: str, registry: str, author: str, model_name: str, run: str, registered: Path | None) -> None:
    """Register a published model in the Kubeflow Model Registry: name, version, URI, metrics, verdict, run.

    Run again, it finds the version registered already and says so; what was begun is completed. A version that is
    registered with another URI is refused.

    Store and credentials come from the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...). The token for the
    registry is read from the file that KF_PIPELINES_SA_TOKEN_PATH names, else from the service account of the pod.

    \b
    Example:
      trainyard register --model-uri s3://models/mnist/3/ --registry http://localhost:8081
    """
    from ..common.kfp_outputs import write_parameter
    from .registration import describe, register

    described = describe(model_uri, model_name, run)
    entered = register(described, registry, author)
    write_parameter(registered, entered.id)
    there = ", registered already" if entered.already else ""
    say("register", f"{described.name} version {described.version} in {registry}  id {entered.id}{there}")


if __name__ == "__main__":
    main()
