"""The steps on SeaweedFS, the object store that Kubeflow Pipelines installs: what holds on the embedded one holds here.

`weed mini` is the whole of it in one process.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import RunningStore
from tests.test_download import (  # noqa: F401  they are collected here too, with the store below
    folder,
    output,
    test_a_broken_connection_to_the_store_is_resumed,
    test_a_folder_and_a_prefix_of_a_bucket_are_the_same_data,
    test_a_whole_bucket_is_a_folder,
)
from tests.test_export import (  # noqa: F401
    fake_model,
    other_model,
    start,
    test_a_begun_version_of_other_content_is_passed_over,
    test_a_model_is_published_with_its_evaluation_and_manifest,
    test_a_published_version_refuses_other_content,
    test_a_version_is_never_half_there,
    test_an_object_of_somebody_else_in_a_version_is_refused,
    test_of_two_publishers_of_different_content_one_gets_the_version,
    test_of_two_publishers_of_the_next_version_each_gets_one,
    test_publishers_of_the_same_content_all_succeed,
    test_versions_are_numbered_and_the_same_content_keeps_its_number,
)
from tests.test_small_objects import (  # noqa: F401
    client,
    get,
    put,
    test_a_secret_that_is_refused_is_left_to_boto3,
    test_a_wrong_checksum_is_not_taken_for_success,
    test_an_object_is_read_as_by_boto3,
    test_an_object_is_written_as_by_boto3,
    test_an_object_that_is_there_stays_as_it_is,
    test_what_is_not_there_or_has_changed_is_left_to_boto3,
)
from tests.test_store import test_of_many_create_only_writers_of_one_object_one_wins  # noqa: F401
from trainyard.components.common.store import s3

SERVERS = ("master", "volume", "filer", "s3", "admin")
WEED = Path(sys.executable).with_name("weed")
GRPC = 10_000  # each server has a second port, so much higher

pytestmark = pytest.mark.skipif(not WEED.exists(), reason=f"no SeaweedFS for {sys.platform}")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """SeaweedFS, in place of the embedded store."""
    home = tmp_path_factory.mktemp("seaweedfs")
    ports = dict(zip(SERVERS, free_ports(len(SERVERS)), strict=True))
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test-secret",  # the server takes its own key from these too
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    listening = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", *(f"-{server}.port={port}" for server, port in ports.items())]
    # Each bucket takes a few volumes, of which there are as many as the free disk holds: by default some 1 GB each.
    volumes = "-master.volumeSizeLimitMB=16"
    without = ["-master.telemetry=false", "-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0"]
    command = [WEED, "mini", f"-dir={home / 'data'}", *listening, volumes, *without]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=home, env=os.environ | environment | {"HOME": str(home)}, stdout=log, stderr=log
        )
    running = RunningStore(environment, s3.client(environment))
    for _ in range(100):
        try:
            running.client.list_buckets()
            break
        except Exception:
            assert server.poll() is None, (home / "log").read_text()
            time.sleep(0.1)
    yield running
    server.kill()  # asked to end it takes half a minute
    server.wait()


def free_ports(count):
    """Ports on which nothing listens, nor on their second ones."""
    ports = []
    for port in range(20_000, 32_000):
        if len(ports) == count:
            break
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + GRPC))
            except OSError:
                continue
        ports.append(port)
    return ports
