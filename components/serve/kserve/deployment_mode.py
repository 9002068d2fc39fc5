"""What KServe's two deployment modes have in common, and where each has a way of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from ..orders import ServedVersion
from . import rollout, status
from .cluster import Namespace, Object
from .rollout import Before, Goal, Phase, RolloutStatus
from .specification import InferenceServiceOptions


class DeploymentMode(ABC):
    """A way in which KServe deploys an InferenceService. What is planned is a copy; what is given is never changed.

    Attributes:
        name: As KServe has it.
    """

    name: ClassVar[str]

    def __init__(self, cluster: Namespace) -> None:
        self._cluster = cluster

    @abstractmethod
    def check(self, options: InferenceServiceOptions) -> None:
        """Raises BadInput when the mode does not know one of the options."""

    @abstractmethod
    def with_canary(self, there: Object, wanted: Object, percent: int, options: InferenceServiceOptions) -> Object:
        """The service as it is, with a new version as a canary.

        Args:
            there: The service as it is.
            wanted: The service with the new version alone.
            percent: Share of the requests for the new version, 0 to 99.
            options: Those that `wanted` was made with.

        Raises:
            BadInput: there is no version to put a canary beside, or the options or the cluster do not allow it.
        """

    @abstractmethod
    def dry_canary(self, wanted: Object, percent: int) -> Object:
        """The service with its new version as a canary, as far as it can be told without a cluster.

        Raises:
            BadInput: it depends on what is served.
        """

    @abstractmethod
    def has_canary(self, service: Object) -> bool:
        """Whether a canary stands beside the stable version."""

    @abstractmethod
    def promoted(self, service: Object) -> Object:
        """The service with all requests for its canary.

        Raises:
            BadInput: it has several.
        """

    @abstractmethod
    def rolled_back(self, service: Object) -> Object:
        """The service with all requests for the version before its canary.

        Raises:
            BadInput: it has several.
        """

    @abstractmethod
    def newest(self, service: Object) -> Object:
        """What of the newest version's predictor starts new pods when it changes."""

    @abstractmethod
    def is_new_again(self, failed: Object, restored: Object) -> bool:
        """Whether a specification that is restored makes something new to wait for."""

    @abstractmethod
    def goal(self, service: Object, changed: bool, back: bool = False) -> Goal:
        """What the specification of a service is to end in."""

    @abstractmethod
    def before(self, service: Object, goal: Goal) -> Before:
        """What there is to be told from what a rollout brings."""

    @abstractmethod
    def versions(self, service: Object) -> list[ServedVersion]:
        """The versions, the newest first."""

    @abstractmethod
    def addresses(self, service: Object, goal: Goal) -> tuple[str, str]:
        """URLs of the version that is rolled out: as the world sees it, and inside the cluster.

        Raises:
            RuntimeError: KServe gives it no address of its own.
        """

    @abstractmethod
    def proxied(self, service: Object, goal: Goal) -> str:
        """The Kubernetes Service through which the API reaches the version that is rolled out.

        Raises:
            BadInput: there is none.
        """

    @abstractmethod
    def _progress(self, service: Object, goal: Goal, before: Before) -> RolloutStatus:
        """How far the rollout is, by what is new in it."""

    def look(self, service: Object, goal: Goal, before: Before) -> RolloutStatus:
        """Judge a rollout by what the cluster shows now."""
        if over := rollout.ended(service):
            return over
        conditions, chosen = status.conditions(service), status.chosen_mode(service)
        if not conditions:
            return RolloutStatus(Phase.ROLLING, "NotObserved", "KServe has not looked at it yet")
        if not chosen:
            return RolloutStatus(Phase.ROLLING, "NoDeploymentMode", "KServe has not chosen how to deploy it yet")
        if chosen != self.name:
            return RolloutStatus(Phase.FAILED, "UnsupportedMode", f"deployment mode {chosen} is not known here")
        seen = self._progress(service, goal, before)
        told = status.canary(service, goal.canary) if goal.canary else status.of(service)
        failure = rollout.failure(told, conditions.get("PredictorReady", {}))
        if failure and (seen.phase is Phase.ROLLING or failure.phase is Phase.INVALID):
            return failure
        return seen
