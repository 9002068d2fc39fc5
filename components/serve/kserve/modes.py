"""Find out in which deployment mode an InferenceService runs, and judge its rollout by that."""

from . import specification
from .cluster import Namespace, Object
from .deployment_mode import DeploymentMode
from .knative import Knative
from .rollout import DELETED, Before, Goal, RolloutStatus
from .standard import Standard


def mode_of(service: Object, cluster: Namespace) -> DeploymentMode:
    """How KServe deploys a service: on Knative, or else by Deployments, the default for a new one."""
    return (Knative if specification.mode_of(service) == "Knative" else Standard)(cluster)


def look(cluster: Namespace, service: Object | None, goal: Goal, before: Before) -> RolloutStatus:
    """Judge a rollout by what the cluster shows now.

    Args:
        service: The InferenceService as it is; None when it is gone.
    """
    return DELETED if service is None else mode_of(service, cluster).look(service, goal, before)
