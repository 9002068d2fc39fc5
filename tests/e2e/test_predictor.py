"""Our own model server on KServe: `--image`, and as a serving runtime."""

import re
import time

from tests.e2e.conftest import PROJECT, succeeded

LITTLE = ("--cpu-request", "100m", "--memory-request", "256Mi")
"""In place of KServe's default of a whole CPU, of which a small node has not three."""


def test_our_own_server_serves_under_the_name_of_the_service(service):
    """`--image` is enough: port, probes and the model's name come by themselves."""
    succeeded(service.serve("--image", service.image, *LITTLE, uri=service.published.uris[0]))
    with service.asked() as clients:
        time.sleep(2)
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    assert [set(seen.answers) for seen in clients] == [{"v1"}] * len(clients)


def test_an_update_of_our_own_server_fails_no_request(service):
    """After SIGTERM it accepts requests until the cluster has stopped sending any."""
    succeeded(service.serve("--image", service.image, *LITTLE, uri=service.published.uris[0]))
    with service.asked() as clients:
        succeeded(service.serve("--image", service.image, *LITTLE, uri=service.published.uris[1]))
    assert [seen.failures for seen in clients] == [[]] * len(clients)
    assert all(set(seen.answers) == {"v1", "v2"} for seen in clients), clients


def test_the_serving_runtime_in_deploy_serves(service):
    """A namespace with this ServingRuntime serves the format tensorflow with our server."""
    [runtime] = PROJECT.glob("deploy/*runtime*.yaml")
    text = runtime.read_text()
    name = next(line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("  name:"))
    own = re.sub(r"(image:) \S*trainyard-predictor\S*", rf"\1 {service.image}", text)
    service.cluster.kubectl("apply", "-n", service.namespace, "-f", "-", manifest=own)
    succeeded(service.serve("--runtime", name, uri=service.published.uris[0]))
    [pod] = service.cluster.listed("pods", service.namespace, f"serving.kserve.io/inferenceservice={service.name}")
    assert service.image in [one["image"] for one in pod["spec"]["containers"]]
