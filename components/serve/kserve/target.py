"""Serve on a cluster: change an InferenceService and wait until this change is the one that answers.

A rollout that fails is taken back: what was served before is specified again, and a service that was not there before
is deleted, so that a model which did not prove itself gets no requests, and a pod that restarts for ever holds no GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ...common.cli import BadInput
from ...common.waiting import wait_for
from ..client import EndpointError
from ..known_examples import KnownExamples, WrongAnswer
from ..orders import Order, Outcome
from ..target import Tell
from . import routes, smoke, specification, status
from .cluster import SERVICE, Conflict, Namespace, Object, pauses
from .deployment_mode import DeploymentMode
from .modes import mode_of
from .rollout import Before, Goal
from .specification import InferenceServiceOptions
from .watch import Watch

CONFLICTS = 5
SECONDS_TO_RESTORE = 120.0

Plan = Callable[[Object | None], Object]
"""Makes the InferenceService that is wanted of the one that is there, which may change until it is written."""


class KServeTarget:
    """One InferenceService, see `Target`."""

    def __init__(self, order: Order, options: InferenceServiceOptions, tell: Tell) -> None:
        """Args:
        order: What is to be done.
        options: What only a cluster knows.
        tell: Gets lines of progress.

        Raises:
            BadInput: the order or the options name no model that a cluster can read, or no name that it takes.
        """
        if order.action == "apply":
            specification.check_model(order.model_uri, options)
        self._order, self._options, self._tell = order, options, tell
        self._name = order.name(lambda: specification.given_name(options.inference_service))
        specification.check_name(self._name)
        self._cluster = Namespace(options.namespace, options.context)
        self._deadline = time.monotonic() + order.timeout
        self._watch = Watch(self._cluster, self._name, order.timeout, tell)
        self._former: Object | None = None

    @property
    def _where(self) -> str:
        return f"{self._cluster.name}/{self._name}"

    def apply(self) -> Outcome:
        """See `Target`."""
        if self._order.dry_run:
            return self._foretold()
        self._wait_for_a_deletion()
        known = self._examples(self._wanted(self._get()))
        outcome = self._roll_out(self._wanted_as_canary if self._order.canary else self._wanted, known)
        if self._order.auto_promote:
            self._tell(f"{self._name}: the canary has proved itself")
            outcome = self.promote()
        return outcome

    def promote(self) -> Outcome:
        """See `Target`."""

        def promoted(there: Object | None) -> Object:
            service = self._with_canary(there, "promote")
            return self._mode(service).promoted(service)

        return self._roll_out(promoted, self._examples(promoted(self._get())))

    def rollback(self) -> Outcome:
        """See `Target`."""

        def rolled_back(there: Object | None) -> Object:
            service = self._with_canary(there, "rollback")
            return self._mode(service).rolled_back(service)

        _, service, _ = self._write(rolled_back)
        goal = self._mode(service).goal(service, changed=False, back=True)
        return self._outcome(self._watch.until_ready(goal, Before(), self._deadline))

    def delete(self) -> Outcome:
        """See `Target`. Waits until the service is gone."""
        if self._get() is None:
            self._tell(f"{self._name}: there is no InferenceService {self._where}")
        else:
            self._cluster.delete(SERVICE, self._name)
            self._wait_until_gone("its deletion is not done yet")
            self._tell(f"{self._name}: deleted InferenceService {self._where}")
        return Outcome(self._name, f"namespace {self._cluster.name}")

    def status(self) -> Outcome:
        """See `Target`."""
        service = self._get()
        if service is None:
            raise BadInput(
                f"--model-name: expected an InferenceService in namespace {self._cluster.name}, received "
                f"{self._name!r}, which is not there; check --namespace"
            )
        return self._outcome(service)

    def _get(self) -> Object | None:
        return self._cluster.get(SERVICE, self._name)

    def _mode(self, service: Object) -> DeploymentMode:
        return mode_of(service, self._cluster)

    def _foretold(self) -> Outcome:
        """What an apply would write, as YAML, without asking a cluster."""
        import yaml

        wanted = self._wanted(None)
        if self._order.canary:
            wanted = self._mode(wanted).dry_canary(wanted, self._order.canary_percent)
        return Outcome(self._name, "no cluster", text=yaml.safe_dump(wanted, sort_keys=False).rstrip())

    def _wanted(self, there: Object | None) -> Object:
        """The service with the order's model alone."""
        wanted = specification.wanted(self._name, self._order.model_uri, self._options, there)
        self._mode(wanted).check(self._options)
        return wanted

    def _wanted_as_canary(self, there: Object | None) -> Object:
        """The service with the order's model beside the version it has."""
        if there is None:
            raise BadInput(
                f"--canary-percent: expected a service to put the canary beside, received {self._where}, which is not "
                "there; roll its first version out without --canary-percent"
            )
        wanted = self._wanted(there)
        return self._mode(wanted).with_canary(there, wanted, self._order.canary_percent, self._options)

    def _with_canary(self, there: Object | None, action: str) -> Object:
        """The service as it is.

        Raises:
            BadInput: it has no canary.
        """
        if there is None or not self._mode(there).has_canary(there):
            raise BadInput(
                f"--action: expected a service with a canary to {action}, received {self._where}, which "
                "has none; see --action status"
            )
        return there

    def _examples(self, wanted: Object) -> KnownExamples | None:
        """What the smoke test will send; looked for before anything is changed."""
        if not self._order.smoke_test:
            return None
        uri = self._mode(wanted).goal(wanted, changed=True).storage_uri
        known = smoke.examples(uri)
        if known is None:
            self._tell(f"{self._name}: no examples travelled with {uri or 'this model'}, so its answers are not tested")
        return known

    def _roll_out(self, plan: Plan, known: KnownExamples | None) -> Outcome:
        """Write what is planned, wait until it is served and proves itself; else take it back."""
        there, written, before = self._write(plan)
        mode = self._mode(written)
        goal = mode.goal(written, changed=there is None or mode.newest(there) != mode.newest(written))
        self._former = self._former or there  # a canary that is promoted at once goes back to what was before it
        with self._restored_on_failure(self._former, written):
            service = self._watch.until_ready(goal, before, self._deadline)
            if known:
                self._prove(service, goal, known)
            outcome = self._outcome(service)
            if not outcome.endpoint:
                raise RuntimeError(f"{self._name}: KServe calls it ready but gives no URL; check its ingress settings")
        return outcome

    def _write(self, plan: Plan) -> tuple[Object | None, Object, Before]:
        """Create or update the service; what it was, what it is, and what ran before."""
        for _ in range(CONFLICTS):
            there = self._get()
            with suppress(Conflict):
                return there, *self._written(there, plan(there))
        raise RuntimeError(f"{self._where}: others changed it {CONFLICTS} times in a row; try again")

    def _written(self, there: Object | None, wanted: Object) -> tuple[Object, Before]:
        """Create or update the service once.

        Raises:
            Conflict: somebody else did in between.
        """
        mode = self._mode(wanted)
        goal = mode.goal(wanted, changed=True)
        if there is None:
            written, before, done = self._cluster.create(SERVICE, wanted), Before(), "created"
        else:
            before = mode.before(there, goal)
            written = self._cluster.patch(SERVICE, self._name, specification.patch(there, wanted))
            done = "unchanged" if written["spec"] == there["spec"] else "updated"
        self._tell(f"{self._name}: {done} InferenceService {self._where}, model {goal.storage_uri}")
        return written, before

    def _prove(self, service: Object, goal: Goal, known: KnownExamples) -> None:
        """Send the known examples to the version that is rolled out."""
        answers, by = routes.way(self._cluster, self._mode(service), service, goal, self._options.route)
        patience = min(smoke.SECONDS_TO_SETTLE, self._order.timeout / 10)
        try:
            seen = smoke.prove(answers, known, patience, self._deadline)
        except WrongAnswer as error:
            raise WrongAnswer(f"{self._name}: the smoke test failed by {by} ({error})") from error
        except (EndpointError, ConnectionError) as error:
            raise RuntimeError(
                f"{self._name}: ready, but the smoke test got no answer ({error}); see --route"
            ) from error
        self._tell(f"{self._name}: {seen}, asked by {by}")

    @contextmanager
    def _restored_on_failure(self, there: Object | None, written: Object) -> Iterator[None]:
        """Leave the service as it was before, if the block fails; a failure says what came of it."""
        try:
            yield
        except Exception as error:
            deadline = time.monotonic() + min(SECONDS_TO_RESTORE, self._order.timeout)
            raise _with_more(error, self._restore(there, written, deadline)) from error
        except BaseException:  # told to end: there is no time to wait
            self._restore(there, written, time.monotonic())
            raise

    def _restore(self, there: Object | None, written: Object, deadline: float) -> str:
        """Leave the service as it was before; says what came of it."""
        try:
            for _ in range(CONFLICTS):
                now = self._get()
                if now is None or now["metadata"].get("deletionTimestamp"):
                    return "nothing to take back, the service is deleted"
                if now["metadata"].get("generation") != written["metadata"].get("generation"):
                    return "not rolled back, since others have changed the service meanwhile"
                if there is None:
                    self._cluster.delete(SERVICE, self._name)
                    return "deleted again, since nothing was served before"
                mode = self._mode(now)
                before = mode.before(now, mode.goal(there, changed=True))
                with suppress(Conflict):
                    restored = self._cluster.patch(SERVICE, self._name, specification.patch(now, there))
                    return self._restored(mode, now, restored, before, deadline)
            return f"not rolled back, since others changed it {CONFLICTS} times in a row"
        except (BadInput, OSError, RuntimeError) as error:
            return f"not rolled back ({error})"

    def _restored(self, mode: DeploymentMode, failed: Object, restored: Object, before: Before, deadline: float) -> str:
        goal = mode.goal(restored, changed=mode.is_new_again(failed, restored))
        what = goal.storage_uri or "the earlier version"
        self._tell(f"{self._name}: rolling back to {what}")
        try:
            self._watch.until_ready(goal, before, deadline)
        except (BadInput, RuntimeError, TimeoutError):
            return f"{what} is specified again, but not ready yet"
        return f"rolled back to {what}"

    def _wait_for_a_deletion(self) -> None:
        """A name is free when the service that had it is gone."""
        there = self._get()
        if there and there["metadata"].get("deletionTimestamp"):
            self._tell(f"{self._name}: waiting until the deletion of {self._where} is done")
            self._wait_until_gone("an earlier deletion is not done yet")

    def _wait_until_gone(self, what: str) -> None:
        if not wait_for(lambda: self._get() is None, self._deadline, pauses()):
            there = self._get() or {"metadata": {}}
            held = there["metadata"].get("finalizers") or ["nothing known"]
            raise TimeoutError(f"{self._where}: {what} after {self._order.timeout} s, held by {', '.join(held)}")

    def _outcome(self, service: Object) -> Outcome:
        mode = self._mode(service)
        served = mode.versions(service) if status.chosen_mode(service) == mode.name else []
        return Outcome(self._name, f"namespace {self._cluster.name}", routes.endpoint(service), tuple(served))


def _with_more(error: Exception, words: str) -> Exception:
    """The same kind of failure, with words added to its message."""
    kind = (
        type(error) if isinstance(error, BadInput | TimeoutError | PermissionError | ConnectionError) else RuntimeError
    )
    return kind(f"{str(error).rstrip('.')}; {words}")
