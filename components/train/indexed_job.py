"""Workers as pods of a Kubernetes Indexed Job: TF_CONFIG from what each pod is told (deploy/train-workers.yaml)."""

import json
import os
import socket

from ..common.cli import BadInput

WORKERS, SERVICE, INDEX = "TRAIN_WORKERS", "TRAIN_SERVICE", "JOB_COMPLETION_INDEX"
"""Number of the workers, name of their headless Service, and, from Kubernetes itself, the index of this pod."""
PORT = 2222


def tf_config() -> str:
    """TF_CONFIG for this pod; empty when no number of workers is given.

    Pods of the Indexed Job `train` are named `train-0`, `train-1`, ..., and found as `train-0.SERVICE`.

    Raises:
        BadInput: the number is none, or Kubernetes gives this pod no index below it.
    """
    given = os.environ.get(WORKERS, "")
    if not given:
        return ""
    service, index = os.environ.get(SERVICE, ""), os.environ.get(INDEX, "")
    if not given.isdecimal() or not index.isdecimal() or int(index) >= int(given) or not service:
        raise BadInput(
            f"{WORKERS}: expected an Indexed Job with as many completions and its headless Service, received "
            f"{WORKERS}={given!r}, {SERVICE}={service!r}, {INDEX}={index!r}; see deploy/train-workers.yaml"
        )
    job = socket.gethostname().removesuffix(f"-{index}")
    addresses = [f"{job}-{worker}.{service}:{PORT}" for worker in range(int(given))]
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": int(index)}})
