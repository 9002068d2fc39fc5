"""Serve on a cluster: change an InferenceService and wait until this change is the one that answers.

A rollout that fails is taken back: what was served before is specified again, and a service that was not there before
is deleted, so that a model which did not prove itself gets no requests, and a pod that restarts for ever holds no GPU.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from ...common.cli import BadInput
from .. import known_examples
from ..client import EndpointError
from ..known_examples import Known, WrongAnswer
from ..orders import Order, Outcome, Serving
from . import cluster as kubernetes
from . import routes, specification
from .cluster import Cluster, Conflict
from .rollout import Before, Patience, Phase, Verdict, Want, classify, deployment_mode
from .specification import SCALING, TAG_ROUTING, Service

CONFLICTS = 5
SECONDS_BETWEEN_LOOKS = (0.2, 2.0)
"""The first pause and the longest: soon to see what goes fast, seldom enough to spare the API."""
SECONDS_BETWEEN_LINES = 30.0
SECONDS_TO_SETTLE = 10.0
"""How long pods that are going may still answer for the old model."""
SECONDS_TO_RESTORE = 120.0
NOT_IN_THE_DEPLOYMENT = ("canaryTrafficPercent", "timeout", *SCALING)
"""Fields of a predictor that leave its Deployment as it is: KServe hands them to the autoscaler and the ingress."""

Object = dict[str, Any]
Tell = Callable[[str], None]


def act(order: Order, options: Service, tell: Tell) -> Outcome:
    """Do what is asked with one InferenceService.

    Args:
        order: What is to be done.
        options: What only a cluster knows.
        tell: Gets lines of progress.

    Raises:
        BadInput: the options contradict each other or the cluster, or the cluster refuses the InferenceService.
        PermissionError, ConnectionError: the cluster does not allow it, or does not answer.
        RuntimeError: the model cannot be loaded, or answers wrongly; the service is as it was before.
        TimeoutError: the time is up; the service is as it was before.
    """
    specification.check_name(order.model_name)
    if order.action == "apply":
        specification.check_model(order, options)
    if order.dry_run:
        return _dry_run(order, options)
    job = _Job(order, options, tell)
    actions = {
        "apply": job.apply,
        "promote": job.promote,
        "rollback": job.roll_back,
        "delete": job.delete,
        "status": job.status,
    }
    return actions[order.action]()


def _dry_run(order: Order, options: Service) -> Outcome:
    import yaml

    wanted = specification.wanted(order, options, None)
    if order.canary:
        if specification.mode_of(wanted) != "Knative":
            raise BadInput(
                "--dry-run: expected no canary in Standard mode, received --canary-percent; what it would be depends "
                "on what is served already"
            )
        wanted = _with_share(wanted, order.canary_percent)
    return Outcome(order.model_name, "no cluster", text=yaml.safe_dump(wanted, sort_keys=False).rstrip())


class _Job:
    """One action on one service."""

    def __init__(self, order: Order, options: Service, tell: Tell) -> None:
        self._order, self._options, self._tell = order, options, tell
        self._name = order.model_name
        self._cluster = Cluster(options.namespace, options.context)
        self._where = f"{self._cluster.namespace}/{self._name}"
        self._started = time.monotonic()
        self._deadline = self._started + order.timeout
        self._former: Object | None = None

    def apply(self) -> Outcome:
        """Create or update the service, in one go or as a canary."""
        order = self._order
        self._wait_for_a_deletion()
        wanted = specification.wanted(order, self._options, self._get())
        known = self._examples(specification.model_uri_of(wanted["spec"]["predictor"]))

        def plan(there: Object | None) -> Object:
            return self._canary(there) if order.canary else specification.wanted(order, self._options, there)

        outcome = self._roll_out(plan, known)
        if order.auto_promote:
            self._tell(f"{self._name}: the canary has proved itself")
            outcome = self.promote()
        return outcome

    def promote(self) -> Outcome:
        """Give the canary all requests."""

        def plan(there: Object | None) -> Object:
            service = copy.deepcopy(self._with_canary(there, "promote"))
            spec = service["spec"]
            if spec["predictor"].pop("canaryTrafficPercent", None) is None:
                canary = spec.pop("canary")[0]
                spec["predictor"] = specification.overlaid(spec["predictor"], canary["predictor"])
            return service

        there = self._with_canary(self._get(), "promote")
        return self._roll_out(plan, self._examples(_want(there, changed=False).storage_uri))

    def roll_back(self) -> Outcome:
        """Give the version before the canary all requests."""

        def plan(there: Object | None) -> Object:
            service = copy.deepcopy(self._with_canary(there, "rollback"))
            if "canaryTrafficPercent" in service["spec"]["predictor"]:
                return _with_share(service, 0)
            del service["spec"]["canary"]
            return service

        _, service, _ = self._write(plan)
        return self._outcome(self._wait(_want(service, changed=False, back=True), Before(), self._deadline))

    def delete(self) -> Outcome:
        """Delete the service, and wait until it is gone."""
        if self._get() is None:
            self._tell(f"{self._name}: there is no InferenceService {self._where}")
        else:
            self._cluster.delete(kubernetes.SERVICE, self._name)
            self._wait_until_gone("its deletion is not done yet")
            self._tell(f"{self._name}: deleted InferenceService {self._where}")
        return Outcome(self._name, f"namespace {self._cluster.namespace}")

    def status(self) -> Outcome:
        """What is served now."""
        service = self._get()
        if service is None:
            raise BadInput(
                f"--model-name: expected an InferenceService in namespace {self._cluster.namespace}, received "
                f"{self._name!r}, which is not there; check --namespace"
            )
        return self._outcome(service)

    def _get(self) -> Object | None:
        return self._cluster.get(kubernetes.SERVICE, self._name)

    def _examples(self, uri: str) -> Known | None:
        """What the smoke test will send; looked for before anything is changed."""
        if not self._order.smoke_test:
            return None
        try:
            known = known_examples.published(uri)
        except OSError as error:
            raise RuntimeError(
                f"{error}; the smoke test needs the examples at {uri}evaluation/, or pass --smoke-test false"
            ) from error
        if known is None:
            self._tell(f"{self._name}: no examples travelled with {uri or 'this model'}, so its answers are not tested")
        return known

    def _canary(self, there: Object | None) -> Object:
        """The service with the new version beside the one it has."""
        if there is None:
            raise BadInput(
                f"--canary-percent: expected a service to put the canary beside, received {self._where}, which is not "
                "there; roll its first version out without --canary-percent"
            )
        percent = self._order.canary_percent
        wanted = specification.wanted(self._order, self._options, there)
        mode = specification.mode_of(wanted)
        if mode == "Knative":
            if not routes.predictor_status(there).get("latestRolledoutRevision"):
                raise BadInput(
                    f"--canary-percent: expected a version that has had all requests, received {self._where}, where "
                    "none has; KServe would ignore the share"
                )
            return _with_share(wanted, percent)
        stable = there["spec"]["predictor"]
        entry = specification.canary_entry(self._name, stable, wanted["spec"]["predictor"], percent, self._options)
        if others := {key for key in wanted["spec"] if wanted["spec"][key] != there["spec"].get(key)} - {"predictor"}:
            raise BadInput(
                f"--inference-service: expected only another predictor for a canary, received another "
                f"{', '.join(sorted(others))}; roll that out first"
            )
        wanted["spec"] = {**copy.deepcopy(there["spec"]), "canary": [entry]}
        self._check_that_canaries_are_known(there, wanted)
        return wanted

    def _check_that_canaries_are_known(self, there: Object, wanted: Object) -> None:
        """Without the list in its schema the cluster would drop the canary, or give the new version all requests."""
        answer = self._cluster.patch(kubernetes.SERVICE, self._name, _patch(there, wanted), dry_run=True)
        if not answer["spec"].get("canary"):
            raise BadInput(
                "--canary-percent: expected a KServe with canaries in Standard mode (spec.canary, 0.20 and later), "
                "received one without; update it, use --deployment-mode Knative, or leave --canary-percent out"
            )

    def _with_canary(self, there: Object | None, action: str) -> Object:
        spec = (there or {}).get("spec") or {"predictor": {}}
        if there is None or not ("canaryTrafficPercent" in spec["predictor"] or spec.get("canary")):
            raise BadInput(
                f"--action: expected a service with a canary to {action}, received {self._where}, which has none; "
                "see --action status"
            )
        if len(spec.get("canary") or []) > 1:
            names = ", ".join(one["predictor"]["name"] for one in spec["canary"])
            raise BadInput(
                f"--action: expected one canary to {action}, received {names}; remove the others from spec.canary"
            )
        return there

    def _roll_out(self, plan: Callable[[Object | None], Object], known: Known | None) -> Outcome:
        """Write what is planned, wait until it is served and proves itself; else take it back."""
        there, written, before = self._write(plan)
        changed = there is None or _shown(there) != _shown(written)
        self._former = self._former or there  # a canary that is promoted at once goes back to what was before it
        try:
            want = _want(written, changed)
            service = self._wait(want, before, self._deadline)
            if known:
                self._prove(service, want, known)
            outcome = self._outcome(service)
            if not outcome.endpoint:
                raise RuntimeError(f"{self._name}: KServe calls it ready but gives no URL; check its ingress settings")
            return outcome
        except Exception as error:
            words = self._restore(self._former, written, self._deadline_to_restore())
            raise _with_more(error, words) from error
        except BaseException:  # told to end: there is no time to wait
            self._restore(self._former, written, time.monotonic())
            raise

    def _write(self, plan: Callable[[Object | None], Object]) -> tuple[Object | None, Object, Before]:
        """Create or update the service; what it was, what it is, and what ran before."""
        for _ in range(CONFLICTS):
            there = self._get()
            try:
                wanted = plan(there)
                uri = _want(wanted, changed=True).storage_uri
                if there is None:
                    written = self._cluster.create(kubernetes.SERVICE, wanted)
                    self._tell(f"{self._name}: created InferenceService {self._where}, model {uri}")
                    return None, written, Before()
                before = self._before(there, wanted)
                written = self._cluster.patch(kubernetes.SERVICE, self._name, _patch(there, wanted))
            except Conflict:
                continue
            done = "unchanged" if written["spec"] == there["spec"] else "updated"
            self._tell(f"{self._name}: {done} InferenceService {self._where}, model {uri}")
            return there, written, before
        raise RuntimeError(f"{self._where}: others changed it {CONFLICTS} times in a row; try again")

    def _before(self, there: Object, wanted: Object) -> Before:
        deployment = self._deployment(there, _want(wanted, changed=True)) or {"metadata": {}}
        created = routes.predictor_status(there).get("latestCreatedRevision", "")
        return Before(created, deployment["metadata"].get("generation", 0))

    def _deployment(self, service: Object, want: Want) -> Object | None:
        """The Deployment that is rolled out; a Knative cluster need not allow us to read any."""
        if deployment_mode(service) != "Standard":
            return None
        own = {"name": want.canary} if want.canary else service["spec"]["predictor"]
        return self._cluster.get(kubernetes.DEPLOYMENT, specification.deployment_name(self._name, own))

    def _wait(self, want: Want, before: Before, deadline: float) -> Object:
        """Look at the rollout until it is ready; the InferenceService as it then is."""
        patience = Patience(longest=self._order.timeout / 10)
        pauses = _pauses()
        told, told_at = "", self._started
        while True:
            service, verdict = self._look(want, before)
            now = time.monotonic()
            verdict = patience.judge(verdict, now)
            seconds = now - self._started
            if verdict.phase is Phase.READY and service is not None:
                self._tell(f"{self._name}: ready after {seconds:.0f} s")
                return service
            if verdict.phase is Phase.INVALID:
                raise BadInput(f"{self._name}: KServe cannot serve this ({verdict})")
            if verdict.phase is Phase.FAILED:
                raise RuntimeError(f"{self._name}: the rollout failed ({verdict}){self._complaints(service, verdict)}")
            if now > deadline:
                allowed = deadline - self._started
                raise TimeoutError(
                    f"{self._name}: not ready after {allowed:.0f} s ({verdict}){self._complaints(service, verdict)}"
                )
            if verdict.reason != told or now - told_at > SECONDS_BETWEEN_LINES:
                told, told_at = verdict.reason, now
                self._tell(
                    f"{self._name}: not ready yet ({verdict}), {seconds:.0f} s of {deadline - self._started:.0f}"
                )
            time.sleep(next(pauses))

    def _look(self, want: Want, before: Before) -> tuple[Object | None, Verdict]:
        try:
            service = self._get()
            deployment = self._deployment(service, want) if service else None
        except ConnectionError as error:  # it answered when the rollout began
            return None, Verdict(Phase.ROLLING, "Unreachable", str(error))
        return service, classify(service, deployment, want, before)

    def _complaints(self, service: Object | None, verdict: Verdict) -> str:
        """What pods wait for, and what the conditions that are False say, where the verdict has not said it."""
        conditions = ((service or {}).get("status") or {}).get("conditions") or []
        texts = [
            f"{one['type']} {one.get('reason', '')}: {one['message']}"
            for one in conditions
            if one["status"] == "False" and one.get("message") and one["message"] not in verdict.message
        ]
        with suppress(OSError, RuntimeError):  # reading pods is a right that the step can do without
            texts = [*_waiting(self._cluster.pods(f"serving.kserve.io/inferenceservice={self._name}")), *texts]
        return f"; {'; '.join(texts)}" if texts else ""

    def _prove(self, service: Object, want: Want, known: Known) -> None:
        """Send the known examples until the answers are right; ways to a new pod may take a while to open."""
        answers, by = routes.way(self._cluster, service, want, self._options.route)
        patience = min(SECONDS_TO_SETTLE, self._order.timeout / 10)
        wrong_since = None
        pauses = _pauses()
        while True:
            try:
                seen = known_examples.compare(answers, known)
            except WrongAnswer as error:
                now = time.monotonic()
                wrong_since = now if wrong_since is None else wrong_since
                if now - wrong_since > patience:
                    raise WrongAnswer(f"{self._name}: the smoke test failed by {by} ({error})") from error
            except (EndpointError, ConnectionError) as error:
                final = 400 <= getattr(error, "status", 0) < 500 and getattr(error, "status", 0) not in (404, 408, 429)
                if final or time.monotonic() > self._deadline:
                    raise RuntimeError(
                        f"{self._name}: ready, but the smoke test got no answer ({error}); see --route"
                    ) from error
            else:
                self._tell(f"{self._name}: {seen}, asked by {by}")
                return
            time.sleep(next(pauses))

    def _deadline_to_restore(self) -> float:
        return time.monotonic() + min(SECONDS_TO_RESTORE, self._order.timeout)

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
                    self._cluster.delete(kubernetes.SERVICE, self._name)
                    return "deleted again, since nothing was served before"
                before = self._before(now, there)
                with suppress(Conflict):
                    restored = self._cluster.patch(kubernetes.SERVICE, self._name, _patch(now, there))
                    return self._restored(now, restored, before, deadline)
            return f"not rolled back, since others changed it {CONFLICTS} times in a row"
        except (BadInput, OSError, RuntimeError) as error:
            return f"not rolled back ({error})"

    def _restored(self, failed: Object, restored: Object, before: Before, deadline: float) -> str:
        knative = deployment_mode(failed) == "Knative"  # where the same specification again is a new revision
        want = _want(restored, changed=knative and _shown(failed) != _shown(restored))
        what = want.storage_uri or "the earlier version"
        self._tell(f"{self._name}: rolling back to {what}")
        try:
            self._wait(want, before, deadline)
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
        pauses = _pauses()
        while (there := self._get()) is not None:
            if time.monotonic() > self._deadline:
                held = there["metadata"].get("finalizers") or ["nothing known"]
                raise TimeoutError(f"{self._where}: {what} after {self._order.timeout} s, held by {', '.join(held)}")
            time.sleep(next(pauses))

    def _outcome(self, service: Object) -> Outcome:
        endpoint = routes.endpoint(service)
        rows = self._standard_rows(service) if deployment_mode(service) == "Standard" else _knative_rows(service)
        return Outcome(self._name, f"namespace {self._cluster.namespace}", endpoint, tuple(rows))

    def _standard_rows(self, service: Object) -> list[Serving]:
        stable = service["spec"]["predictor"]
        told = {one.get("name"): one for one in service["status"].get("canaryStatuses") or []}
        rows, left = [], 100
        for entry in service["spec"].get("canary") or []:
            predictor = specification.overlaid(stable, entry["predictor"])
            canary = told.get(predictor["name"], {})
            share = canary.get("trafficPercent") or 0
            left -= share
            rows.append(self._row(predictor, share, bool(canary.get("ready"))))
        return [*rows, self._row(stable, left, _is_true(service, "PredictorReady"))]

    def _row(self, predictor: Object, percent: int, ready: bool) -> Serving:
        name = specification.deployment_name(self._name, predictor)
        deployment = self._cluster.get(kubernetes.DEPLOYMENT, name) or {"metadata": {}}
        number = (deployment["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision", "")
        done = [
            one.get("lastUpdateTime", "")
            for one in (deployment.get("status") or {}).get("conditions") or []
            if one.get("reason") == "NewReplicaSetAvailable"
        ]
        revision = f"{name}/{number}" if number else name
        uri = specification.model_uri_of(predictor)
        return Serving(revision, uri, percent, "Ready" if ready else "NotReady", done[0] if done else "")


def _want(service: Object, changed: bool, back: bool = False) -> Want:
    """What a service's specification is to end in."""
    spec = service["spec"]
    if spec.get("canary"):
        entry = spec["canary"][0]
        uri = specification.model_uri_of(specification.overlaid(spec["predictor"], entry["predictor"]))
        return Want(uri, changed, entry["trafficPercent"], entry["predictor"]["name"], back)
    percent = spec["predictor"].get("canaryTrafficPercent", 100)
    return Want(specification.model_uri_of(spec["predictor"]), changed, percent, back=back)


def _shown(service: Object) -> Object:
    """What of the newest version's predictor makes a new revision or another Deployment when it changes."""
    spec = service["spec"]
    predictor = spec["predictor"]
    if spec.get("canary"):
        predictor = specification.overlaid(predictor, spec["canary"][0]["predictor"])
    knative = specification.mode_of(service) == "Knative"
    left_out = ("canaryTrafficPercent",) if knative else NOT_IN_THE_DEPLOYMENT
    return {key: value for key, value in predictor.items() if key not in left_out}


def _with_share(service: Object, percent: int) -> Object:
    """The same in Knative mode with a share for the newest revision, which gets an address of its own beside it."""
    result = copy.deepcopy(service)
    result["spec"]["predictor"]["canaryTrafficPercent"] = percent
    result["metadata"].setdefault("annotations", {})[TAG_ROUTING] = "true"
    return result


def _patch(there: Object, wanted: Object) -> Object:
    """The merge patch from one to the other, refused when somebody else has changed the service in between."""
    metadata: Object = {"resourceVersion": there["metadata"]["resourceVersion"]}
    for name in ("annotations", "labels"):
        was, will = there["metadata"].get(name) or {}, wanted["metadata"].get(name) or {}
        if changes := specification.difference(was, will):
            metadata[name] = changes
    patch = {"metadata": metadata}
    if changes := specification.difference(there["spec"], wanted["spec"]):
        patch["spec"] = changes
    return patch


def _pauses() -> Iterator[float]:
    """Seconds between looks, ever longer."""
    pause, longest = SECONDS_BETWEEN_LOOKS
    while True:
        yield pause
        pause = min(longest, pause * 1.3)


def _is_true(service: Object, name: str) -> bool:
    conditions = (service.get("status") or {}).get("conditions") or []
    return any(one["type"] == name and one["status"] == "True" for one in conditions)


def _knative_rows(service: Object) -> list[Serving]:
    """The revisions that get requests, and one that is not ready yet. KServe tells the model of the newest only."""
    predictor = routes.predictor_status(service)
    uri = specification.model_uri_of(service["spec"]["predictor"])
    created, ready = predictor.get("latestCreatedRevision", ""), predictor.get("latestReadyRevision", "")
    conditions = (service.get("status") or {}).get("conditions") or []
    since = {one["type"]: one.get("lastTransitionTime", "") for one in conditions}.get("LatestDeploymentReady", "")
    rows = []
    if created and created != ready:
        rows.append(Serving(created, uri, 0, "NotReady"))
    for target in predictor.get("traffic") or []:
        newest = target.get("revisionName") == created
        name, share = target.get("revisionName") or ready, target.get("percent") or 0
        rows.append(Serving(name, uri if newest else "", share, "Ready", since if newest else ""))
    return rows


def _waiting(pods: list[Object]) -> Iterator[str]:
    """Why containers wait: an image that cannot be pulled, a crash, a missing secret."""
    for pod in pods:
        status = pod.get("status") or {}
        for one in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
            waiting = (one.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
                words = " ".join(waiting.get("message", "").split())
                yield f"pod {pod['metadata']['name']}: {waiting['reason']}{f': {words}' if words else ''}"
        for one in status.get("conditions") or []:
            if one["type"] == "PodScheduled" and one["status"] == "False":
                yield f"pod {pod['metadata']['name']}: {one.get('reason', '')}: {one.get('message', '')}"


def _with_more(error: Exception, words: str) -> Exception:
    """The same kind of failure, with words added to its message."""
    kind = (
        type(error) if isinstance(error, BadInput | TimeoutError | PermissionError | ConnectionError) else RuntimeError
    )
    return kind(f"{str(error).rstrip('.')}; {words}")
