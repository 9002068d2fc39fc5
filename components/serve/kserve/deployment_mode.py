"""What KServe's two deployment modes have in common, and where each has a way of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from ..orders import ServedVersion
from . import rollout, status
from .cluster import Namespace, Object
from .rollout import Before, Goal, Phase, RolloutStatus
from .specification import InferenceServiceOptions

Plan = Callable[[Object | None], Object]
"""Makes the InferenceService that is wanted of the one that is there, which may change until it is written."""


@dataclass(frozen=True)
class Stage:
    """One write on the way of a version to its requests, and what has to come of it before the next one.

    Attributes:
        plan: What is written.
        stable: Whether the stable version is waited for, although a canary stands beside it.
        proved: Whether the version has to answer the known examples.
        settle: Seconds that the routes get to follow.
    """

    plan: Plan
    stable: bool = False
    proved: bool = True
    settle: float = 0


class DeploymentMode(ABC):
    """A way in which KServe deploys an InferenceService. What is planned is a copy; what is given is never changed.

    Attributes:
        name: As KServe has it.
        without_room: What to do if a second copy has no room.
    """

    name: ClassVar[str]
    without_room: ClassVar[str]

    def __init__(self, cluster: Namespace) -> None:
        self._cluster = cluster

    @abstractmethod
    def check(self, options: InferenceServiceOptions) -> None:
        """Raises BadInput when the mode does not know one of the options."""

    @abstractmethod
    def can_stage(self, there: Object, wanted: Object) -> str:
        """Why a new version cannot stand beside the one that is served, with no requests; empty: it can."""

    @abstractmethod
    def with_canary(self, there: Object, wanted: Object, percent: int) -> Object:
        """The service as it is, with a new version as a canary.

        Args:
            there: The service as it is.
            wanted: The service with the new version alone.
            percent: Share of the requests for the new version, 0 to 99.

        Raises:
            BadInput: there is no version to put a canary beside, or it is what is served.
        """

    @abstractmethod
    def staged(self, there: Object, wanted: Object) -> Object:
        """The service as it is, with a new version that gets no requests; what it may not change yet stays as it is."""

    @abstractmethod
    def check_canary(self, there: Object, wanted: Object, options: InferenceServiceOptions) -> None:
        """Raises BadInput when the options, the service or the cluster do not allow a canary with a share."""

    @abstractmethod
    def share_of(self, service: Object) -> int | None:
        """Share of the requests that the newest version really gets, in percent; None: it cannot be known."""

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
    def promotion(self, service: Object) -> Iterator[Stage]:
        """The way from a canary to all requests; each stage is planned when the one before is done.

        Raises:
            BadInput: it has several canaries.
        """

    @abstractmethod
    def rolled_back(self, service: Object) -> Object:
        """The service with all requests for the version before its canary.

        Raises:
            BadInput: it has several.
        """

    @abstractmethod
    def restoration(self, former: Object, now: Object) -> list[Stage]:
        """What to write, one after another, so that the version which was stable gets all requests.

        Args:
            former: The service before the rollout that failed.
            now: As it is.

        Raises:
            RuntimeError: what was stable cannot be known any more.
        """

    @abstractmethod
    def stable(self, service: Object) -> str:
        """The version that gets the requests which a canary does not: its model, or else its revision."""

    @abstractmethod
    def runs(self, service: Object, goal: Goal) -> Object:
        """What of the version that is waited for starts new pods when it changes."""

    @abstractmethod
    def left_behind(self, former: Object, now: Object) -> Iterator[str]:
        """Names of autoscalers that KServe forgets when a canary ends."""

    @abstractmethod
    def goal(self, service: Object, stable: bool = False) -> Goal:
        """What the specification of a service is to end in.

        Args:
            stable: Whether the stable version is meant, although there is a canary.
        """

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
        if over := rollout.ended(service, goal):
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
        failure = rollout.failure(told, conditions.get("PredictorReady", {}), before.failure)
        if failure and not failure.message and seen.phase is Phase.FAILED:  # the pods tell more
            return seen
        if failure and (seen.phase is not Phase.READY or failure.phase is Phase.INVALID):
            return failure
        return seen
