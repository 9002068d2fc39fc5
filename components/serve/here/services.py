"""All services of this machine: what is served, and how to start and stop it."""

import time

from ...common.cli import BadInput
from ..target import Tell
from .model_server import SECONDS_TO_STOP, ModelServer
from .service import ServerState, ServiceFolder


def start(timeout: float, tell: Tell) -> None:
    """Start the model servers that do not run, as after a restart of the machine, on the ports they had, and wait until
    their models are loaded.

    Args:
        timeout: Seconds for each server and its models.
        tell: Called with a line for each.

    Raises:
        BadInput: a port is taken by something else meanwhile.
        RuntimeError, TimeoutError: a server ended, or its models were not loaded in time.
    """
    services, failures = ServiceFolder.all(), []
    for service in services:
        try:
            tell(f"{service.name}: {_started(service, timeout)}")
        except (BadInput, RuntimeError, TimeoutError) as error:  # the others are started all the same
            failures.append(error)
    for failure in failures[:-1]:
        tell(str(failure))
    if failures:
        raise failures[-1]
    if not services:
        tell("nothing is served here")


def _started(service: ServiceFolder, timeout: float) -> str:
    """The predict URL of a service, once its models are loaded."""
    deadline = time.monotonic() + timeout
    with service.alone(deadline):
        state = service.state() or _start_on_its_port(service, deadline)
        for version in service.served():
            ModelServer(service).wait_until_loaded(version, deadline)
    return service.url(state.url)


def _start_on_its_port(service: ServiceFolder, deadline: float) -> ServerState:
    port = service.last_port()
    try:
        return ModelServer(service).start(port, deadline)
    except BadInput as error:
        raise BadInput(
            f"{service.name}: port {port} is in use; end what uses it and start again, or remove this endpoint: "
            f"trainyard serve stop --model-name {service.name}"
        ) from error


def stop(model_name: str, tell: Tell) -> None:
    """End the server of one service, or of all (empty name), and remove what they left.

    Raises:
        BadInput: there is no service of that name.
    """
    if model_name and not ServiceFolder.named(model_name).wanted():
        raise BadInput(
            f"--model-name: expected a model that is served here, received {model_name!r}; see trainyard serve status"
        )
    services = [ServiceFolder.named(model_name)] if model_name else ServiceFolder.all()
    for service in services:
        with service.alone(time.monotonic() + SECONDS_TO_STOP):
            ModelServer(service).remove(tell)
    if not services:
        tell("nothing is served here")


def versions() -> list[tuple[str, ...]]:
    """One row per version of each service: model, version, share of the requests, state, endpoint, origin."""
    rows: list[tuple[str, ...]] = []
    for service in ServiceFolder.all():
        state = service.state()
        if state is None:
            rows += [(service.name, str(one.version), "", "STOPPED", "", one.uri) for one in service.wanted()]
            continue
        url = service.url(state.url)
        rows += [
            (service.name, str(one.version), f"{one.percent} %", one.state, url, one.uri) for one in state.versions
        ]
    return rows
