"""What every target of the serve step can do: `kserve/` does it on a cluster, `here/` on this machine."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from .analysis import PROMOTED, ROLLED_BACK, TrafficSource, analyze
from .orders import Order, Outcome

Tell = Callable[[str], None]
"""Takes a line of progress."""


class Target(Protocol):
    """A place where one model is served. It is made with the order; its methods are the actions, `orders.ACTIONS`.

    Each returns what is served afterwards, and raises

    - BadInput: the order or the options do not fit what is there;
    - PermissionError, ConnectionError: the place does not allow it, or does not answer;
    - RuntimeError, TimeoutError: the version cannot be loaded, answers wrongly, or the time is up; what was served
      before is served again.
    """

    def apply(self) -> Outcome:
        """Serve the order's model alone, or as a canary beside the one that is served. A dry run changes nothing."""

    def promote(self) -> Outcome:
        """Give the canary all requests."""

    def rollback(self) -> Outcome:
        """Give the version before the canary all requests."""

    def delete(self) -> Outcome:
        """Serve nothing any more; if nothing is served, that is said and is no failure."""

    def status(self) -> Outcome:
        """Change nothing."""

    def traffic(self) -> TrafficSource:
        """What the stable version and its canary answer from now on."""


def carry_out(order: Order, target: Callable[[], Target], tell: Tell) -> Outcome:
    """Do the order's action on the target that is made for it, and analyze its canary if it says so.

    Args:
        order: What is to be done.
        target: Makes the target; the time of the order's timeout begins with it.
        tell: Gets lines of progress.
    """
    outcome: Outcome = getattr(target(), order.action)()
    if order.analysis is None or order.dry_run:
        return outcome
    source = target().traffic()
    tell(f"{outcome.name}: canary compared with the stable version for {order.analysis.seconds:g} s")
    verdict = analyze(order.analysis, source)
    tell(f"{outcome.name}: canary {verdict}")
    if verdict.decision == PROMOTED:
        outcome = target().promote()
    elif verdict.decision == ROLLED_BACK:
        outcome = target().rollback()
    return replace(outcome, verdict=verdict)
