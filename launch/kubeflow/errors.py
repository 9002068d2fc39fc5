"""What can go wrong between here and the Kubeflow Pipelines API, in plain words."""

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ...components.common.cli import BadInput


class Away(ConnectionError):
    """The API does not answer, or is out of order: the same call may succeed later."""


class NotKfp(BadInput):
    """Something else than the Kubeflow Pipelines API answers."""


class SignIn(BadInput):
    """The API, or what stands before it, wants another sign-in."""


class NotFound(BadInput):
    """The API has no such object."""


SIGN_IN = "sign in with --token-file or --cookie-file"
CORRECT_HOST = "correct --host (of a full Kubeflow it ends in /pipeline)"


def refused(host: str, status: int, reason: str, body: str, headers: Mapping[str, str]) -> Exception:
    """The exception for an answer that is not 2xx."""
    said = f"{host}: the Kubeflow Pipelines API answered {status} {reason}".rstrip()
    message = api_message(body)
    if 300 <= status < 400:
        to = urlsplit(headers.get("location", ""))
        if to.scheme == "https" and host == f"http://{to.netloc}":
            return NotKfp(f"{host}: expected a Kubeflow Pipelines API, received a redirect to https; put it before it")
        where = f"{to.netloc}{to.path}"[:80]  # without its query, which may hold a secret
        return SignIn(f"{host}: expected a Kubeflow Pipelines API, received a redirect to {where}; {SIGN_IN}")
    if status == 429 or status >= 500:
        return Away(f"{said}{f': {message}' if message else ''}; try again later")
    if "HTTP request to an HTTPS server" in body:
        return NotKfp(f"{host}: expected a Kubeflow Pipelines API, received 'HTTPS only'; put https:// before it")
    if not message and not (status in (401, 403) and not _is_store(body)):
        return not_kfp(host, body, status)
    if status in (401, 403):
        return SignIn(f"{said}{f': {message}' if message else ''}; {SIGN_IN}, or ask for the right to do this")
    if status == 404:
        return NotFound(f"{said}: {message}; check the name or ID, and --host")
    if "empty namespace" in message:
        return BadInput(f"{said}: {message}; pass --kfp-namespace, the namespace of your Kubeflow profile")
    return BadInput(f"{said}: {message}; correct what it names")


def not_kfp(host: str, body: str, status: int = 200) -> NotKfp:
    """The exception for an answer that the API would not give."""
    if _is_store(body):
        received, advice = "the answer of an object store", CORRECT_HOST
    elif body.lstrip().startswith("<"):
        received, advice = "a web page", f"{CORRECT_HOST}, or {SIGN_IN}"
    else:
        start = " ".join(body.split())[:40]
        received, advice = repr(start) if start else "an empty answer", CORRECT_HOST
    code = "" if status == 200 else f" ({status})"
    return NotKfp(f"{host}: expected a Kubeflow Pipelines API, received {received}{code}; {advice}")


def unreachable(host: str, error: Exception) -> Exception:
    """The exception for a request that urllib3 could not get answered."""
    text = str(error)
    expected = f"{host}: expected a Kubeflow Pipelines API"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        why = re.search(r"CERTIFICATE_VERIFY_FAILED\] ([^(]+)", text)
        detail = (why[1] if why else "").strip().replace("certificate verify failed: ", "")
        return BadInput(f"{expected} with a known certificate, received another ({detail}); pass --ca-file")
    if "SSL" in type(error).__name__ or "SSLError" in text:
        if host.startswith("https://") and re.search("WRONG_VERSION_NUMBER|record layer|HTTP_REQUEST", text):
            return NotKfp(f"{expected} behind TLS, received plain HTTP; put http:// before it")
        return Away(f"{expected}, TLS failed ({' '.join(text.split())[:100]}); check --host and --ca-file")
    if "Timeout" in type(error).__name__ or "timed out" in text:
        return Away(f"{expected}, received no answer in time; check --host")
    if re.search("NewConnection|NameResolution", type(error).__name__):
        return Away(f"{expected}, nothing answers there; check --host")
    return Away(f"{expected}, the connection broke; check --host")


def api_message(body: str) -> str:
    """The API's own text of an error, for its users; empty if it is not the API's."""
    try:
        told: Any = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(told, dict) or not isinstance(told.get("message"), str):
        return ""
    details = told.get("details")
    short = [one["message"] for one in details or [] if isinstance(one, dict) and one.get("message")]
    return " ".join(str(short[0] if short else told["message"]).split())[:300]


def _is_store(body: str) -> bool:
    return body.lstrip().startswith("<?xml") and ("<Error>" in body or "ListAllMyBucketsResult" in body)
