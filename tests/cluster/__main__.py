"""Command line of the cluster: `python -m tests.cluster --help`."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import click

from trainyard.components.common.cli import BadInput, command_group, say
from trainyard.launch.engine import client

from . import knative, programs
from .network import Network
from .node import Node
from .serving import Serving, build_images

STATE = Path(__file__).parents[2] / ".cluster"
network = Network(STATE)
node = Node(STATE, network)
serving = Serving(STATE, network, node)


@command_group
def main() -> None:
    """A one-node Kubernetes cluster with KServe on this machine, in a network of its own.

    \b
    Examples:
      python -m tests.cluster start
      python -m tests.cluster run kubectl get pods -A
      python -m tests.cluster stop
    """
    if click.get_current_context().invoked_subcommand is None:
        click.echo(click.get_current_context().get_help())


@main.command()
@click.option("--base", default="", help="Base image of its pods.  [default: python:3.11-slim]")
@click.option("--knative", "with_knative", is_flag=True, help="Also install Knative Serving.")
def start(base: str, with_knative: bool) -> None:
    """Build what is not in the cache, and start the cluster."""
    if lacks := programs.missing():
        raise BadInput(f"expected a machine with root, Go and Linux's own tools, received one without {lacks}")
    if network.exists():
        raise BadInput("expected no cluster, received one that runs already; make cluster-stop ends it")
    began = time.monotonic()
    _clear()
    STATE.mkdir()
    node.programs.mkdir()
    say("cluster", "building the images of its pods")
    images = build_images(base)
    programs.install(node.programs)
    if with_knative:
        images += knative.build_images()
    network.make()
    say("cluster", "starting Kubernetes")
    node.start()
    node.import_images(*images, docker=client())
    node.wait_until_ready()
    say("cluster", "starting KServe")
    serving.start(with_knative)
    say("cluster", f"ready after {time.monotonic() - began:.0f} s; make e2e tests on it, make cluster-stop ends it")


@main.command()
def stop() -> None:
    """End the cluster and remove all its state; what was built stays in the cache."""
    if network.exists():
        node.end_pods()
        network.kill()
    _clear()


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(command: tuple[str, ...]) -> None:
    """Run COMMAND in the cluster's network, with KUBECONFIG, the store and its programs in the environment."""
    if not network.exists():
        raise BadInput("expected a running cluster, received none; make cluster starts one")
    path = f"{node.programs}:{os.environ['PATH']}"
    line = network.inside(command)
    os.execvpe(line[0], line, {**os.environ, **serving.environment(), "PATH": path})


@main.command("restart-api")
def restart_api() -> None:
    """Kill the API server, and start it again after two seconds."""
    network.kill("kube-apiserver")
    time.sleep(2)
    node.start_api()


def _clear() -> None:
    """Remove the state of a cluster that has ended."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed([mount for mount in mounts if Path(mount).is_relative_to(STATE)]):
        subprocess.run(["umount", "--lazy", mount], check=False)
    shutil.rmtree(STATE, ignore_errors=True)


if __name__ == "__main__":
    main()
