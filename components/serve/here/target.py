"""Serve on this machine: one model server per model name, a process or a container, which outlives the step.

A rollout never takes an answer away: the new version is loaded beside the old one, proves itself on the known examples,
and only then gets the requests. If anything fails before that, the service is left as it was.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from ...common.artifacts import published
from ...common.artifacts.model import Card, read_card
from ...common.artifacts.names import name_for
from ...common.cli import BadInput
from .. import known_examples, replacement
from ..client import Endpoint
from ..orders import Order, Outcome, ServedVersion
from ..target import Tell
from . import containers
from .model_server import ModelServer
from .service import LOADING, Front, ServerState, ServiceFolder, WantedVersion
from .traffic import ServerTraffic

HERE = "this machine"


@dataclass(frozen=True)
class ServerOptions:
    """What a model server of this machine is to be.

    Attributes:
        port: Its port; 0: any free one.
        front: What it shows in a browser, and to whom.
        image: Image that it is a container of; empty: it is a process.
        server_image: Image of the containers that hold the models, with TensorFlow Serving's interface; empty: it loads
            them itself.
    """

    port: int = 0
    front: Front = field(default_factory=lambda: Front(page=True))
    image: str = ""
    server_image: str = ""


@dataclass(frozen=True)
class Rollout:
    """What an apply changes.

    Attributes:
        version: The version to fetch.
        new: The same as it is to be loaded.
        before: What is served now, the stable version before its canary.
        after: What is to be served, likewise.
    """

    version: published.PublishedVersion
    new: WantedVersion
    before: list[WantedVersion]
    after: list[WantedVersion]

    @property
    def promoted(self) -> list[WantedVersion]:
        """What is served when the canary is promoted at once."""
        return [replace(self.after[-1], percent=100, shadow=False)]


class MachineTarget:
    """One service of this machine, see `Target`."""

    def __init__(self, order: Order, options: ServerOptions, tell: Tell) -> None:
        """Args:
        order: What to do.
        options: What a server is to be that is started for it.
        tell: Gets lines of progress.

        Raises:
            BadInput: the order names no model, or one whose name cannot be a folder here.
        """
        if order.action == "apply" and not order.model_uri:
            raise BadInput(
                "--model-uri: expected the URI of a published model, received none; pass what export printed"
            )
        self._order, self._options, self._tell = order, options, tell
        self._deadline = time.monotonic() + order.timeout
        self._service = ServiceFolder.named(order.name(lambda: _name_in_folder(order.model_uri)))
        self._server = ModelServer(self._service)
        self._name = self._service.name

    def apply(self) -> Outcome:
        """See `Target`."""
        version = published.find(self._order.model_uri, self._order.verify_key)
        if self._order.dry_run:
            return self._foretell(self._plan(version))
        with self._service.alone(self._deadline):
            running = self._service.state()
            self._check(running)
            rollout = self._plan(version)
            try:
                served = self._roll_out(rollout, running)
            except BaseException:
                self._server.restore(rollout.before, running)
                raise
            self._server.tidy()
            self._tell(f"{self._name}: {_in_words(served, rollout.before)} at {self._url()}")
            return self._outcome(served)

    def promote(self) -> Outcome:
        """See `Target`."""
        with self._service.alone(self._deadline):
            stable, canary = self._with_canary()
            return self._keep(canary, without=stable)

    def rollback(self) -> Outcome:
        """See `Target`."""
        with self._service.alone(self._deadline):
            stable, canary = self._with_canary()
            return self._keep(stable, without=canary)

    def delete(self) -> Outcome:
        """See `Target`."""
        with self._service.alone(self._deadline):
            self._server.remove(self._tell)
        return Outcome(self._name, HERE)

    def status(self) -> Outcome:
        """See `Target`."""
        return self._outcome(self._served())

    def traffic(self) -> ServerTraffic:
        """See `Target`."""
        stable, canary = self._with_canary()
        if stable.version == canary.version:
            raise BadInput(
                f"--analyze: expected two versions of {self._name} with different numbers, received {canary.version} "
                "twice; publish the canary under a number of its own"
            )
        return ServerTraffic(self._server.state().url, stable.version, canary.version)

    def _served(self) -> list[WantedVersion]:
        """The versions that answer, the stable one before its canary."""
        served = self._service.served()
        if not served:
            raise BadInput(f"--model-name: expected a model that is served here, received {self._name!r}; see `status`")
        return served

    def _with_canary(self) -> tuple[WantedVersion, WantedVersion]:
        """The stable version and its canary."""
        served = self._served()
        if len(served) < 2:
            raise BadInput(
                f"--action: expected a canary of {self._name} to promote or roll back, received version "
                f"{served[0].version} alone; apply one with --canary-percent"
            )
        return served[0], served[1]

    def _keep(self, kept: WantedVersion, without: WantedVersion) -> Outcome:
        """Give all requests to one of two versions."""
        served = [replace(kept, percent=100, shadow=False)]
        self._server.serve(served, self._options.port, self._deadline)
        self._server.tidy()
        self._tell(f"{self._name}: version {kept.version} gets all requests, version {without.version} is removed")
        return self._outcome(served)

    def _check(self, running: ServerState | None) -> None:
        """Refuse what the server that runs cannot become."""
        image = self._options.image
        self._service.check_port(self._options.port)
        if running and bool(image) != bool(self._service.image()):
            other = "container" if self._service.image() else "process"
            raise BadInput(
                f"--target: {self._name} is served by a {other} already, received the other; "
                f"keep to it, or run `trainyard serve stop --model-name {self._name}` first"
            )

    def _plan(self, version: published.PublishedVersion) -> Rollout:
        new, before = self._wanted(version), self._service.served()
        if before and not self._order.replace_different:
            served = Card.read(self._service.versions / before[0].folder)
            replacement.check(self._name, served, replacement.card_at(version.source))
        return Rollout(version, new, before, self._shared(new, before))

    def _wanted(self, version: published.PublishedVersion) -> WantedVersion:
        """A published version as it is to be loaded; held by a container, it has a folder and a server of its own."""
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        wanted = WantedVersion(version.number, version.uri, version.folder_name, percent=0, since=now)
        if not (image := self._options.server_image):
            return wanted
        folder = f"{wanted.folder}-{hashlib.sha256(image.encode()).hexdigest()[:6]}"
        known = next((one.url for one in self._service.wanted() if one.folder == folder), "")
        url = known or self._service.url(containers.free_address(), wanted.version)
        return replace(wanted, folder=folder, url=url)

    def _shared(self, new: WantedVersion, before: list[WantedVersion]) -> list[WantedVersion]:
        """What is to be served: the new version alone, or as a canary beside the stable one."""
        percent = self._order.canary_percent
        if not self._order.canary:
            return [replace(new, percent=100)]
        if self._order.shadow:
            new = replace(new, shadow=True)
        if not before:
            raise BadInput(
                f"--canary-percent: expected a served version of {self._name} to compare with, received none and "
                f"{percent} %; leave it out for the first version"
            )
        stable = before[0]
        if stable.folder == new.folder:  # as when a promotion is tried again
            return [replace(stable, percent=100)]
        return [replace(stable, percent=100 - percent), replace(new, percent=percent)]

    def _foretell(self, rollout: Rollout) -> Outcome:
        """What `_roll_out` would do."""
        after = rollout.promoted if self._order.auto_promote else rollout.after
        shares = ", ".join(f"version {one.version} with {one.percent} % of the requests" for one in after)
        return Outcome(self._name, HERE, text=f"{self._name} on this machine: {shares}, from {rollout.new.uri}")

    def _roll_out(self, rollout: Rollout, running: ServerState | None) -> list[WantedVersion]:
        """Load the new version, let it prove itself, and give it its requests; what is served then."""
        port, canary = self._options.port, len(rollout.after) > 1
        self._load(rollout, running)
        self._prove(rollout.new)
        self._server.serve(rollout.after, port, self._deadline, self._options.front)
        if not (self._order.auto_promote and canary):
            return rollout.after
        self._tell(f"{self._name}: version {rollout.new.version} with {self._order.canary_percent} % of the requests")
        self._prove(rollout.new)
        self._server.serve(rollout.promoted, port, self._deadline)
        return rollout.promoted

    def _load(self, rollout: Rollout, running: ServerState | None) -> None:
        """Fetch the new version and have it loaded beside those that answer."""
        new, options = rollout.new, self._options
        folder = self._service.versions / new.folder
        if not folder.is_dir():
            published.fetch(rollout.version, folder)
            files = len(rollout.version.files)
            self._tell(f"{self._name}: version {new.version}, {files} files, from {new.uri}")
        if not running:
            self._service.run_as(options.image)
        if new.url:
            self._server.start_model(new, options.server_image, self._deadline)
        if new.folder not in {one.folder for one in rollout.before}:
            front = None if rollout.before else options.front
            self._service.want([*rollout.before, replace(new, on_trial=True)], front)
        if self._service.state() is None:
            self._server.start(options.port, self._deadline)
        backend = self._server.wait_until_loaded(new, self._deadline)
        self._tell(f"{self._name}: version {new.version} loaded, on {backend}")

    def _prove(self, new: WantedVersion) -> None:
        """Ask the new version itself for the known examples."""
        if self._order.smoke_test:
            seen = known_examples.check(Endpoint(self._url(new.version)), self._service.versions / new.folder)
            self._tell(f"{self._name}: version {new.version} {seen}")

    def _url(self, version: int | None = None) -> str:
        return self._service.url(self._server.state().url, version)

    def _outcome(self, served: list[WantedVersion]) -> Outcome:
        state = self._service.state()
        rows = []
        for one in reversed(served):
            told = state and state.of(one.folder)
            percent = told.percent if told else one.percent
            word = told.state if told else LOADING if state else "STOPPED"
            rows.append(ServedVersion(str(one.version), one.uri, percent, word, one.since))
        return Outcome(self._name, HERE, self._service.url(state.url) if state else "", tuple(rows))


def _name_in_folder(model_uri: str) -> str:
    """A name after the data set of the model in a folder of this machine; empty: the URI is that of no folder.

    Raises:
        BadInput: there is no model at that place.
    """
    if not model_uri or model_uri.startswith("s3://"):
        return ""
    folder = Path(published.find(model_uri).uri)
    return name_for(read_card(folder))


def _in_words(served: list[WantedVersion], before: list[WantedVersion]) -> str:
    """What is served now."""
    if len(served) > 1:
        return " and ".join(f"version {one.version} with {one.percent} % of the requests" for one in served)
    gone = ", ".join(str(one.version) for one in before if one.folder != served[0].folder)
    return f"version {served[0].version}" + (f" in place of {gone}" if gone else "")
