"""Serve on a cluster: change an InferenceService and wait until this change is the one that answers.

A version stands beside the one that is served, with no requests, until it has proved itself; only then it gets them. A
rollout that fails is taken back: what was stable before is served again, and a service that was not there before is
deleted, so that a model which did not prove itself gets no requests, and a pod that restarts for ever holds no GPU.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from ...common.artifacts import published
from ...common.artifacts.published import StorePrefix
from ...common.cli import BadInput
from ...common.waiting import wait_for
from .. import replacement
from ..client import EndpointError
from ..known_examples import KnownExamples, WrongAnswer
from ..orders import Order, Outcome
from ..target import Tell
from . import routes, smoke, specification, status
from .cluster import AUTOSCALER, SERVICE, Conflict, Namespace, Object, pauses
from .deployment_mode import DeploymentMode, Stage
from .modes import mode_of
from .prometheus import PrometheusTraffic
from .rollout import Before, Goal
from .specification import InferenceServiceOptions
from .watch import Watch

CONFLICTS = 5
SECONDS_TO_RESTORE = 120.0
UNCHANGED, UNPROVED = "nothing new is served", "there is nothing to prove it with"


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

    @property
    def _where(self) -> str:
        return f"{self._cluster.name}/{self._name}"

    def apply(self) -> Outcome:
        """See `Target`."""
        if self._order.dry_run:
            return self._foretold()
        if self._order.verify_key:
            self._verify()
        self._wait_for_a_deletion()
        there = self._get()
        wanted = self._wanted(there)
        if self._order.canary:
            self._check_canary(there, wanted)
        if there and not self._order.replace_different:
            self._check_replacement(self._mode(there).stable(there), self._mode(wanted).goal(wanted).storage_uri)
        known = self._examples(wanted)
        if known:
            self._route(wanted).check(there)
        return self._roll_out(self._stages(there, wanted, known), known)

    def promote(self) -> Outcome:
        """See `Target`. The canary proves itself once more before it gets all requests."""
        there = self._with_canary(self._get(), "promote")
        known = self._examples(there)
        if known:
            route = self._route(there)
            route.check(there)
            if route.leads_to_a_canary():
                self._prove(there, self._mode(there).goal(there), known)
        return self._roll_out(self._mode(there).promotion(there), known)

    def rollback(self) -> Outcome:
        """See `Target`."""

        def rolled_back(there: Object | None) -> Object:
            service = self._with_canary(there, "rollback")
            return self._mode(service).rolled_back(service)

        there, written, goal, _ = self._write(Stage(rolled_back, stable=True))
        service = self._watch.until_ready(goal, Before(), self._deadline)
        self._clean_up([there or written], service)
        return self._outcome(service)

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
                f"{self._name!r}, which does not exist; check --namespace"
            )
        return self._outcome(service)

    def traffic(self) -> PrometheusTraffic:
        """See `Target`."""
        canary, stable = (one.revision.partition("/")[0] for one in self.status().serving[:2])
        options = self._options
        return PrometheusTraffic(
            options.prometheus, options.prometheus_metrics, self._cluster.name, stable=stable, canary=canary
        )

    def _verify(self) -> None:
        """Raises BadInput when the version is not signed with one of the keys."""
        published.find(self._order.model_uri, self._order.verify_key)
        if not self._options.image:
            self._tell(
                f"{self._name}: signature verified here; KServe's own model servers do not verify what they load"
            )

    def _get(self) -> Object | None:
        return self._cluster.get(SERVICE, self._name)

    def _mode(self, service: Object) -> DeploymentMode:
        return mode_of(service, self._cluster)

    def _route(self, service: Object) -> routes.Route:
        return routes.Route(self._cluster, self._mode(service), self._options.route)

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

    def _check_canary(self, there: Object | None, wanted: Object) -> None:
        """Raises BadInput when the new version cannot be a canary."""
        if there is None:
            raise BadInput(
                f"--canary-percent: expected an existing service for a canary, {self._where} does not "
                "exist; roll out its first version without --canary-percent"
            )
        self._mode(wanted).check_canary(there, wanted, self._options)
        if self._order.smoke_test:
            self._route(wanted).check_canary()

    def _check_replacement(self, served: str, new: str) -> None:
        """Compare the model cards of what is served and of what is to be served, where both have one.

        Args:
            served: URI of the model, or what else names the stable version.
            new: URI of the model.

        Raises:
            BadInput: input shape or classes differ.
        """
        if served == new or not (served.startswith("s3://") and new.startswith("s3://")):
            return
        try:
            cards = [replacement.card_at(StorePrefix(uri)) for uri in (served, new)]
        except (BadInput, OSError) as error:
            self._tell(f"{self._name}: not compared with the served version, whose card cannot be read ({error})")
            return
        replacement.check(self._name, *cards)

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
        uri = self._mode(wanted).goal(wanted).storage_uri
        known = smoke.examples(uri)
        if known is None:
            self._tell(f"{self._name}: no examples published with {uri or 'this model'}; its answers are not tested")
        elif known.onnx and specification.format_of(wanted["spec"]["predictor"]) == specification.FORMAT:
            raise BadInput(
                f"--model-uri: expected a SavedModel for KServe's TensorFlow Serving, received ONNX in {uri}; pass "
                "--image with trainyard-predictor whose tag ends in -onnx"
            )
        return known

    def _stages(self, there: Object | None, wanted: Object, known: KnownExamples | None) -> Iterator[Stage]:
        """The way of the order's version to its requests."""
        if there is None:
            yield Stage(self._wanted)
            return
        mode, percent = self._mode(wanted), self._order.canary_percent
        if not (why := self._why_not_staged(there, wanted, known)):
            yield Stage(lambda now: mode.staged(now or there, self._wanted(now)))
        elif why not in (UNCHANGED, UNPROVED):
            self._tell(f"{self._name}: rolled out without a test before it gets requests, since {why}")
        if self._order.canary:
            if percent or why:
                yield Stage(lambda now: mode.with_canary(now or there, self._wanted(now), percent))
                self._check_share()
            if not self._order.auto_promote:
                return
            self._tell(f"{self._name}: the canary passed the smoke test")
        if (now := self._get()) and mode.has_canary(now) and (self._order.canary or not why):
            *former, _ = mode.promotion(now)
            yield from former
        yield Stage(self._wanted)

    def _why_not_staged(self, there: Object, wanted: Object, known: KnownExamples | None) -> str:
        """Why the new version does not stand beside the old one first; empty: it does."""
        mode = self._mode(wanted)
        goal = mode.goal(there)
        if mode.runs(there, goal) == mode.runs(wanted, goal) and not mode.has_canary(there):
            return UNCHANGED
        if mode.has_canary(there) and mode.name == "Knative":
            return mode.can_stage(there, wanted)  # without a share all requests would go to the canary at once
        if self._order.direct:
            return "--direct is set"
        if mode.name == "Standard" and known is None:
            return UNPROVED
        if not self._route(wanted).leads_to_a_canary():
            return "the route does not reach a single version (--route api does)"
        return mode.can_stage(there, wanted)

    def _check_share(self) -> None:
        """Find out whether a canary gets the share of the requests that it was given.

        Raises:
            BadInput: it gets none.
        """
        service = self._get() or {}
        mode, asked = self._mode(service), self._order.canary_percent
        until = time.monotonic() + smoke.SECONDS_TO_SETTLE
        if not asked or wait_for(lambda: mode.share_of(service) in (asked, None), until, pauses()):
            if asked and mode.share_of(service) is None:
                self._tell(f"{self._name}: share unknown: no permission to read HTTPRoutes")
            return
        raise BadInput(
            f"--canary-percent: expected a KServe and an ingress that split requests (an HTTPRoute with weights), "
            f"received {asked}, of which the canary gets {mode.share_of(service)}; pass 0, or leave it out"
        )

    def _roll_out(self, stages: Iterable[Stage], known: KnownExamples | None) -> Outcome:
        """Go through the stages, each to its end; if one fails, restore what was stable before the first."""
        seen: list[Object | None] = []
        with self._restored_on_failure(seen):
            for stage in stages:
                there, written, goal, before = self._write(stage)
                seen += [written] if seen else [there, written]
                service = self._wait(there, goal, before)
                if known and stage.proved:
                    self._prove(service, goal, known)
                time.sleep(stage.settle)
            outcome = self._outcome(service)
            if not outcome.endpoint:
                raise RuntimeError(f"{self._name}: KServe reports it ready without a URL; check its ingress settings")
            if known and goal.percent == 100:
                self._prove_from_outside(service, known)
        self._clean_up(filter(None, seen), service)
        return outcome

    def _wait(self, there: Object | None, goal: Goal, before: Before) -> Object:
        """Wait for a stage; where there is no room for a second version, the way out is told."""
        try:
            return self._watch.until_ready(goal, before, self._deadline)
        except RuntimeError as error:
            if there is None or "Unschedulable" not in str(error) or self._order.direct:
                raise
            raise RuntimeError(f"{error}; a second copy needs room: {self._mode(there).without_room}") from error

    def _write(self, stage: Stage) -> tuple[Object | None, Object, Goal, Before]:
        """Create or update the service; what it was, what it is, what has to come of it, and what ran before."""
        for _ in range(CONFLICTS):
            there = self._get()
            with suppress(Conflict):
                return there, *self._written(there, stage.plan(there), stage.stable)
        raise RuntimeError(f"{self._where}: others changed it {CONFLICTS} times in a row; try again")

    def _written(self, there: Object | None, wanted: Object, stable: bool) -> tuple[Object, Goal, Before]:
        """Create or update the service once.

        Raises:
            Conflict: somebody else did in between.
        """
        mode = self._mode(wanted)
        goal, before = mode.goal(wanted, stable), Before()
        if there is None:
            written, done, changed, touched = self._cluster.create(SERVICE, wanted), "created", True, False
        else:
            before = mode.before(there, goal)
            change = specification.patch(there, wanted)
            written = self._cluster.patch(SERVICE, self._name, change)
            done = "unchanged" if written["spec"] == there["spec"] else "updated"
            changed = mode.runs(there, goal) != mode.runs(written, goal)
            touched = bool(change["metadata"].keys() - {"resourceVersion"}) or done == "updated"
        share = f", {goal.percent} % of the requests" if goal.percent < 100 and not goal.back else ""
        what = mode.stable(written) if goal.back else goal.storage_uri
        self._tell(f"{self._name}: {done} InferenceService {self._where}, model {what}{share}")
        generation = written["metadata"].get("generation", 0)
        return written, replace(goal, changed=changed, touched=touched, generation=generation), before

    def _prove(self, service: Object, goal: Goal, known: KnownExamples) -> None:
        """Send the known examples to the version that is rolled out."""
        answers, by = self._route(service).answers(service, goal)
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

    def _prove_from_outside(self, service: Object, known: KnownExamples) -> None:
        """Send the known examples the way that clients take, whose routes may follow a ready service with a delay."""
        try:
            answers, by = self._route(service).from_outside(service)
        except BadInput as error:
            self._tell(f"{self._name}: not tested from outside the cluster ({error})")
            return
        patience = min(smoke.SECONDS_TO_SETTLE, self._order.timeout / 10)
        try:
            seen = smoke.prove_steadily(answers, known, patience, self._deadline)
        except WrongAnswer as error:
            raise WrongAnswer(f"{self._name}: another model answers at {by} ({error})") from error
        except EndpointError as error:
            if smoke.is_final(error):  # as of an ingress that asks for a login
                self._tell(f"{self._name}: not tested from outside the cluster ({error})")
                return
            raise TimeoutError(
                f"{self._name}: ready, but not reachable for clients at {by} after {self._order.timeout} s ({error}); "
                "check the ingress, or label the service networking.kserve.io/visibility=cluster-local"
            ) from error
        self._tell(f"{self._name}: {seen}, asked by {by}")

    def _clean_up(self, seen: Iterable[Object], now: Object) -> None:
        """Delete the autoscalers of canaries that have ended, which KServe forgets."""
        mode = self._mode(now)
        for name in sorted({name for one in seen for name in mode.left_behind(one, now)}):
            try:
                self._cluster.delete(AUTOSCALER, name)
            except (PermissionError, RuntimeError):
                self._tell(f"{self._name}: KServe does not delete the autoscaler hpa/{name}; delete it")

    @contextmanager
    def _restored_on_failure(self, seen: list[Object | None]) -> Iterator[None]:
        """Serve what was stable before, if the block fails; a failure says what came of it.

        Args:
            seen: The service as it was, None when there was none, and then as it was written; empty: nothing was.
        """
        try:
            yield
        except Exception as error:
            if not seen:
                raise
            deadline = time.monotonic() + min(SECONDS_TO_RESTORE, self._order.timeout)
            raise _with_more(error, self._restore(seen, deadline)) from error
        except BaseException:  # told to end: there is no time to wait
            if seen:
                self._restore(seen, time.monotonic())
            raise

    def _restore(self, seen: list[Object | None], deadline: float) -> str:
        """Serve what was stable before; says what came of it."""
        former, *written = seen
        try:
            now = self._get()
            if now is None or now["metadata"].get("deletionTimestamp"):
                return "nothing to take back, the service is deleted"
            if now["metadata"].get("generation") != (written[-1] or now)["metadata"].get("generation"):
                return "not rolled back, since others have changed the service meanwhile"
            if former is None:
                self._cluster.delete(SERVICE, self._name)
                return "deleted again, since nothing was served before"
            what = self._mode(now).stable(former)
            self._tell(f"{self._name}: rolling back to {what}")
            for stage in self._mode(now).restoration(former, now):
                _, service, goal, before = self._write(stage)
                try:
                    service = self._watch.until_ready(goal, before, deadline)
                except (BadInput, RuntimeError, TimeoutError) as error:
                    self._tell(f"{self._name}: {error}")
                    return f"{what} is restored, but not ready yet"
            self._clean_up([one for one in seen if one], service)
            return f"rolled back to {what}"
        except (BadInput, OSError, RuntimeError) as error:
            return f"not rolled back ({error})"

    def _wait_for_a_deletion(self) -> None:
        """A name is free when the service that had it is gone."""
        there = self._get()
        if there and there["metadata"].get("deletionTimestamp"):
            self._tell(f"{self._name}: waiting for the deletion of {self._where}")
            self._wait_until_gone("an earlier deletion is not complete")

    def _wait_until_gone(self, what: str) -> None:
        if not wait_for(lambda: self._get() is None, self._deadline, pauses()):
            there = self._get() or {"metadata": {}}
            held = there["metadata"].get("finalizers") or ["nothing known"]
            raise TimeoutError(f"{self._where}: {what} after {self._order.timeout} s, held by {', '.join(held)}")

    def _outcome(self, service: Object) -> Outcome:
        mode = self._mode(service)
        served = mode.versions(service) if status.chosen_mode(service) == mode.name else []
        command = self._route(service).command(service)
        return Outcome(self._name, f"namespace {self._cluster.name}", routes.endpoint(service), tuple(served), command)


def _with_more(error: Exception, words: str) -> Exception:
    """The same kind of failure, with words added to its message."""
    kind = (
        type(error) if isinstance(error, BadInput | TimeoutError | PermissionError | ConnectionError) else RuntimeError
    )
    return kind(f"{str(error).rstrip('.')}; {words}")
