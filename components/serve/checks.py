"""What the options of the step rule out by themselves, whatever is served."""

import socket

from ..common.cli import BadInput
from .analysis import criteria
from .options import host_names, origins
from .orders import Order

TARGETS = ("kserve", "process", "docker")


def check(
    action: str,
    model_name: str,
    canary_percent: int,
    auto_promote: bool,
    dry_run: bool,
    timeout: int,
    target: str,
    server_image: str,
    port: int,
    analyze: str,
    max_error_rate: float,
    max_latency_ratio: float,
    min_requests: int,
    prometheus: str,
    shadow: bool,
    cors_origin: str,
    allow_host: str,
) -> None:
    """Raise BadInput for options that contradict each other or that no target takes."""
    if target not in TARGETS:
        raise BadInput(f"--target: expected kserve, process or docker, received {target!r}; choose one of these")
    if server_image and target != "docker":
        raise BadInput(f"--server-image: expected --target docker with it, received {target}; leave one of them out")
    if not 0 <= port <= 65535:
        raise BadInput(f"--port: expected 0 to 65535, received {port}; choose another")
    if port and target != "kserve":
        _check_port(port, model_name)
    if shadow and target == "kserve":
        raise BadInput("--shadow: expected --target process or docker, received kserve; use a canary there")
    origins(cors_origin)
    host_names(allow_host)
    analysis = criteria(analyze, max_error_rate, max_latency_ratio, min_requests)
    if analysis and target == "kserve" and not prometheus:
        raise BadInput(
            "--prometheus: expected the URL of a Prometheus for --analyze on a cluster, received none; pass it"
        )
    if target == "kserve" and model_name:
        from .kserve.specification import check_name

        check_name(model_name)
    Order(
        action,
        model_name,
        "",
        canary_percent,
        auto_promote,
        dry_run=dry_run,
        timeout=timeout,
        analysis=analysis,
        shadow=shadow,
    )


def _check_port(port: int, model_name: str) -> None:
    """Raise BadInput for a port that a model server of this machine cannot have.

    Args:
        model_name: The model to serve; empty: not known yet.
    """
    from .here.service import ServiceFolder

    running = {service.name: state.port for service in ServiceFolder.all() if (state := service.state())}
    if model_name in running:
        ServiceFolder.named(model_name).check_port(port)
    if port in running.values() and (not model_name or model_name in running):
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise BadInput(
                f"--port: expected a free port, received {port} ({error.strerror}); 0 takes any free one"
            ) from error
