"""A notice about a run, and the webhook that it is posted to."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from ..common.cli import BadInput

URL = "NOTIFY_WEBHOOK_URL"
"""Environment variable with the URL, which is a credential."""
DELAYS = (1.0, 3.0, 9.0)
"""Seconds between four attempts."""
SECONDS = 15.0
"""To connect, and between two bytes."""
MAY_PASS = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
LONGEST = 500
"""Letters of an error that are told."""
ENDINGS = {"SUCCEEDED": "succeeded", "FAILED": "failed", "CANCELLED": "was cancelled", "CANCELED": "was cancelled"}


@dataclass(frozen=True)
class Notice:
    """What is told of a run.

    Attributes:
        text: A sentence, for people.
        run: Its name.
        state: As KFP names it, such as `SUCCEEDED`.
        error: Why it failed; empty: it did not.
    """

    text: str
    run: str
    state: str
    error: str

    @classmethod
    def of(cls, status: Mapping[str, Any], run: str = "", more: str = "") -> Notice:
        """The notice about a run.

        Args:
            status: KFP's PipelineTaskFinalStatus as JSON.
            run: Its name; empty: as the status has it.
            more: Text that follows.
        """
        told = str(status.get("pipelineJobResourceName", "")).rpartition("/")[2]
        name, state = run or told, str(status.get("state", ""))
        error = " ".join(str((status.get("error") or {}).get("message", "")).split())[:LONGEST]
        sentence = f"{name or 'A run'} {ENDINGS.get(state, f'ended: {state}' if state else 'ended')}"
        text = ". ".join(part for part in (f"{sentence}: {error}" if error else sentence, more) if part)
        return cls(text, name, state, error)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected post would be followed as a GET, without the message."""

    def redirect_request(self, *_: Any) -> None:
        """See `HTTPRedirectHandler`."""


def check() -> None:
    """Raise BadInput where the URL in the environment is none; on the machine that starts a run it may be missing."""
    if os.environ.get(URL):
        _url()


def post(notice: Notice) -> str:
    """Post a notice as JSON, and again after a failure that may pass.

    Returns:
        The host that took it.

    Raises:
        BadInput: there is no URL, or the receiver refuses it.
        ConnectionError: the receiver does not take it.
    """
    url = _url()
    host = urlsplit(url).hostname or ""
    body = json.dumps(asdict(notice)).encode()
    opener = urllib.request.build_opener(_NoRedirect)
    for delay in (*DELAYS, None):
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with opener.open(request, timeout=SECONDS):
                return host
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500 and error.code not in MAY_PASS:
                raise BadInput(
                    f"{URL}: expected a webhook that takes JSON, received {error.code} from {host}; check the URL"
                ) from None
            reason = f"answers {error.code}"
        except OSError as error:
            reason = str(getattr(error, "reason", error))
        if delay is not None:
            time.sleep(delay)
    raise ConnectionError(f"{host}: the webhook {reason}; gave up after {len(DELAYS) + 1} attempts")


def _url() -> str:
    url = os.environ.get(URL, "").strip()
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        received = "something else" if url else "none"
        raise BadInput(f"{URL}: expected the http(s) URL of a webhook, received {received}; set it from a secret")
    return url
