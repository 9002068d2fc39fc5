"""The model server of one model that is there already: KServe's custom runtime, or a container by hand.

`python -m trainyard.components.serve.predictor` serves what lies in /mnt/models, where KServe puts it.
"""

import logging
import os
import tempfile
from pathlib import Path

import click

from ..common.artifacts.model import read_card
from ..common.artifacts.published import MANIFEST, Manifest, verify_folder
from ..common.artifacts.signing import VERIFY_KEY
from ..common.cli import command
from .here.service import Front, ServiceFolder, WantedVersion
from .options import host_names, origins
from .server.main import bind, run


@command
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    default="/mnt/models",
    metavar="FOLDER",
    help="Model folder, or a published version.",
)
@click.option(
    "--model-name",
    default="model",
    envvar="INFERENCE_SERVICE_NAME",
    help="Name of the model in its URL; on KServe, which sets INFERENCE_SERVICE_NAME, that of the service.",
)
@click.option(
    "--verify-key",
    default="",
    envvar=VERIFY_KEY,
    help="Public keys of which one must have signed the version: PEM files, comma-separated, or their content; on "
    "KServe, where serve --verify-key sets it, from the environment. Empty: not verified.",
)
@click.option("--host", default="0.0.0.0", help="Address to listen on.")
@click.option("--port", default=8080, help="Port to listen on.")
@click.option("--patience", default=30.0, help="Seconds within which a client has to send its request.")
@click.option(
    "--drain",
    default=8.0,
    help="Seconds to accept requests after SIGTERM: a cluster sends some until its routes have followed.",
)
@click.option(
    "--cors-origin",
    default="",
    help="Origins of web pages that may read the answers, separated by commas, e.g. https://lab.example.com; *: all.",
)
@click.option(
    "--allow-host",
    default="",
    help="Host names to answer to, separated by commas; empty: any, since the routes of a cluster decide.",
)
def main(
    model: Path,
    model_name: str,
    verify_key: str,
    host: str,
    port: int,
    patience: float,
    drain: float,
    cors_origin: str,
    allow_host: str,
) -> None:
    """Serve one model until SIGTERM, and answer what has been asked by then.

    It listens when the model is loaded, so that an open port means an answer, and ends if it cannot be loaded.

    \b
    Examples:
      docker run -v "$PWD/runs/latest/train/model:/mnt/models:ro" -p 8080:8080 trainyard-predictor:dev
      python -m trainyard.components.serve.predictor --model runs/latest/train/model --model-name mnist
    """
    read_card(model)
    if verify_key:
        verify_folder(model, verify_key)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as home, bind(host, port, listening=False) as listener:
        front = Front(origins=origins(cors_origin), hosts=host_names(allow_host))
        service = ServiceFolder(Path(home) / ServiceFolder.named(model_name).name)
        service.versions.mkdir(parents=True)
        (service.versions / "model").symlink_to(model.resolve())
        service.want([WantedVersion(_version(model), f"{model.resolve()}/", "model", percent=100)], front)
        logging.getLogger("serve").info("%s: process %d listens on %s:%d", model_name, os.getpid(), host, port)
        run(service, listener, patience, drain, loaded_first=True, any_host=not front.hosts)


def _version(model: Path) -> int:
    """The number under which a model was published; 1 for a model folder."""
    return Manifest.read(model).version if (model / MANIFEST).is_file() else 1


if __name__ == "__main__":
    main()
