"""Run a pipeline on a Kubeflow Pipelines cluster."""

import contextlib
import datetime
import io
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from ..components.common.cli import BadInput, say

if TYPE_CHECKING:
    from kfp.dsl.graph_component import GraphComponent


def submit_run(pipeline: "GraphComponent", parameters: dict[str, Any], host: str, experiment: str, wait: bool) -> None:
    """Start a run and print its URL; with `wait`, follow it to its end.

    Raises:
        BadInput: the API refuses the pipeline, its parameters or the caller.
        ConnectionError: no API answers at `host`.
        RuntimeError: the API failed, or with `wait` the run did not succeed.
    """
    import kfp

    if not host.startswith(("http://", "https://")):
        raise BadInput(f"--host: expected a URL (http://...), received {host!r}; put the scheme before it")
    host = host.rstrip("/")
    with _plain_errors(host):
        client = kfp.Client(host=host)
        run = client.create_run_from_pipeline_func(pipeline, parameters, experiment_name=experiment)
    click.echo(f"{host}/#/runs/details/{run.run_id}")
    if wait:
        say("submit", f"run {run.run_id} started; waiting for its end")
        with _plain_errors(host):
            ended = client.wait_for_run_completion(run.run_id, datetime.timedelta(days=365))
        state = str(ended.state).upper()
        if state != "SUCCEEDED":
            raise RuntimeError(
                f"run {run.run_id}: expected it to succeed, it ended as {state}; see its failed step at "
                f"{host}/#/runs/details/{run.run_id}"
            )
        say("submit", f"run {run.run_id} succeeded")


@contextlib.contextmanager
def _plain_errors(host: str) -> Iterator[None]:
    """Turn what kfp's client raises into ours, and keep its own prints out of the output."""
    import kfp_server_api
    import urllib3

    try:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            yield
    except kfp_server_api.ApiException as error:
        said = f"{host}: the Kubeflow Pipelines API answered {error.status} {error.reason}"
        body = " ".join(str(error.body or "").split())[:300]
        if error.status in (401, 403):
            raise BadInput(f"{said}; log in, or ask for the right to create runs: {body}") from error
        if error.status in (400, 404, 409, 422):
            raise BadInput(f"{said}: {body}; correct what it names, or check --host") from error
        raise RuntimeError(f"{said}: {body}; try again") from error
    except urllib3.exceptions.HTTPError as error:
        raise ConnectionError(
            f"{host}: expected a Kubeflow Pipelines API, nothing answers there; check --host"
        ) from error
