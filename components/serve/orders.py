"""What the serve step is asked to do and what came of it, in the same words for a cluster and for this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..common.artifacts.names import model_name_in
from ..common.cli import BadInput
from ..common.progress import columns
from .analysis import Criteria, Verdict

ACTIONS = ("apply", "promote", "rollback", "delete", "status")


@dataclass(frozen=True)
class Order:
    """What is to be done.

    Attributes:
        action: One of ACTIONS.
        model_name: Name to serve under; empty: see `name`.
        model_uri: Published model; empty for every action but apply.
        canary_percent: Share of the requests that the new version gets, 0 to 100; below 100 the earlier version stays
            beside it, and with 0 it answers at its own address only.
        auto_promote: Promote a canary at once when it has proved itself.
        smoke_test: Send the examples that travelled with the model, and compare the answers.
        direct: Give an update its requests without letting it prove itself first.
        analysis: When a canary is promoted or rolled back by what it answers; None: not by that.
        shadow: Send the new version what the current one is asked, and compare; with `canary_percent` 0.
        replace_different: Let a version with another input or other classes take the place of the one served.
        verify_key: Public keys of which one must have signed the model, see `signing.VerifyKeys`; empty: not verified.
        dry_run: Change nothing, say what would be done.
        timeout: Seconds until the endpoint has to answer.
    """

    action: str
    model_name: str
    model_uri: str
    canary_percent: int = 100
    auto_promote: bool = False
    smoke_test: bool = True
    dry_run: bool = False
    timeout: int = 600
    direct: bool = False
    replace_different: bool = False
    analysis: Criteria | None = None
    shadow: bool = False
    verify_key: str = ""

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise BadInput(f"--action: expected one of {', '.join(ACTIONS)}, received {self.action!r}; choose another")
        if not 0 <= self.canary_percent <= 100:
            raise BadInput(f"--canary-percent: expected 0 to 100, received {self.canary_percent}; choose another")
        if self.auto_promote and self.canary_percent == 100:
            raise BadInput(
                "--auto-promote: expected a canary to promote, received --canary-percent 100; "
                "give the canary a smaller share, or leave --auto-promote out"
            )
        if self.analysis and not (self.action == "apply" and 0 < self.canary_percent < 100 and not self.auto_promote):
            raise BadInput(
                "--analyze: expected --action apply with --canary-percent 1 to 99 and without --auto-promote, received "
                f"{self.action} with {self.canary_percent}; the analysis promotes or rolls back"
            )
        if self.shadow and not (self.action == "apply" and self.canary_percent == 0 and not self.auto_promote):
            raise BadInput(
                "--shadow: expected --action apply with --canary-percent 0 and without --auto-promote, received "
                f"{self.action} with {self.canary_percent}; promote or roll back the version afterwards"
            )
        if self.timeout < 1:
            raise BadInput(
                f"--timeout: expected a number of seconds of at least 1, received {self.timeout}; choose another"
            )
        if self.dry_run and self.action != "apply":
            raise BadInput(f"--dry-run: expected --action apply, received {self.action}; it shows what apply would do")

    @property
    def canary(self) -> bool:
        """Whether the earlier version is to stay beside the new one."""
        return self.canary_percent < 100

    def name(self, otherwise: Callable[[], str]) -> str:
        """Name to serve under: `model_name`, else that in `model_uri`.

        Args:
            otherwise: Tells what else names the model on this target; empty: nothing.

        Raises:
            BadInput: there is none.
        """
        name = self.model_name or model_name_in(self.model_uri) or otherwise()
        if not name:
            besides = f", and none in --model-uri {self.model_uri!r}" if self.model_uri else ""
            raise BadInput(f"--model-name: expected the name of a model, received none{besides}; pass it")
        return name


@dataclass(frozen=True)
class ServedVersion:
    """One version of a service.

    Attributes:
        revision: What tells it from others: its number here, KServe's revision or Deployment there.
        uri: Where its model came from; empty: unknown.
        percent: Share of the requests that it gets, 0 to 100; None: it cannot be known.
        state: How it is, in one word.
        since: ISO 8601 in UTC; empty: unknown.
    """

    revision: str
    uri: str
    percent: int | None
    state: str
    since: str = ""

    @property
    def share(self) -> str:
        """Its share in words."""
        return "unknown" if self.percent is None else f"{self.percent} %"


@dataclass(frozen=True)
class Outcome:
    """A service after an action.

    Attributes:
        name: Of the service.
        where: `this machine` or `namespace NAME`.
        endpoint: Predict URL; empty when nothing answers.
        serving: Its versions, the newest first.
        command: Shell command that sends request.json to it from here; empty: curl with the endpoint.
        text: What a dry run prints.
        verdict: What the analysis of a canary came to; None: there was none.
    """

    name: str
    where: str
    endpoint: str = ""
    serving: tuple[ServedVersion, ...] = ()
    command: str = ""
    text: str = ""
    verdict: Verdict | None = None

    @property
    def revision(self) -> str:
        """The newest version's; empty when there is none."""
        return self.serving[0].revision if self.serving else ""

    def status(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        listed = [asdict(one) for one in self.serving]
        status = {"name": self.name, "where": self.where, "endpoint": self.endpoint, "serving": listed}
        return status | ({"analysis": self.verdict.as_json()} if self.verdict else {})

    @property
    def _place(self) -> str:
        return f"on {self.where}" if self.where == "this machine" else f"in {self.where}"

    def table(self) -> str:
        """The versions in columns, to be read."""
        rows = [(one.revision, one.share, one.state, one.since, one.uri) for one in self.serving]
        return f"{self.name} {self._place}: {self.endpoint or 'no endpoint'}\n" + columns(
            [("REVISION", "SHARE", "STATE", "SINCE", "FROM"), *rows]
        )

    def summary(self) -> str:
        """The same as Markdown, for the page of a pipeline run."""
        if not self.serving:
            return f"## {self.name}\n\nNothing is served under this name {self._place}.\n"
        rows = [f"| {one.revision} | {one.share} | {one.state} | {one.since} | {one.uri} |" for one in self.serving]
        request = '{"instances": [image]}' if self.endpoint.endswith(":predict") else "a request of the protocol"
        lines = [
            f"## {self.name}",
            "",
            f"Served {self._place} at <{self.endpoint}>." if self.endpoint else f"Not ready yet {self._place}.",
            "",
            "| revision | share of requests | state | since | model |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
        if self.verdict:
            lines += [f"Canary {self.verdict}.", ""]
        if self.endpoint:
            lines += [
                f"With `{request}` in `request.json`:",
                "",
                "```sh",
                self.command or f"curl -d @request.json {self.endpoint}",
                "```",
                "",
            ]
        return "\n".join(lines)
