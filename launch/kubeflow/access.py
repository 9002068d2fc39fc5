"""Where the Kubeflow Pipelines API is and how to sign in: from options, the environment, and what a pod has."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial, wraps
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from ...components.common.cli import BadInput
from ...components.common.options import section

IN_CLUSTER = "http://ml-pipeline.kubeflow.svc.cluster.local:8888"
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
POD_TOKEN = Path("/var/run/secrets/kubeflow/pipelines/token")
"""Token of the pod's service account for the audience pipelines.kubeflow.org, where the pod mounts one."""
KFP_CONTEXT = Path("~/.config/kfp/context.json")
"""Where kfp's own client keeps the namespace, the cookie and a header."""


@dataclass(frozen=True)
class Access:
    """What the options of `access_options` say; empty: not given."""

    host: str = ""
    ui: str = ""
    kfp_namespace: str = ""
    token_file: str = ""
    cookie_file: str = ""
    ca_file: str = ""


OPTIONS = tuple(field.name for field in fields(Access))


def access_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Access`, which it receives as `access`."""

    @wraps(command)
    def with_access(*args: Any, **options: Any) -> None:
        given = {name: options.pop(name) or "" for name in OPTIONS}
        command(*args, access=Access(**given), **options)

    file = click.Path(exists=True, dir_okay=False)
    option = partial(section("Kubeflow Pipelines"), show_envvar=True)
    options = [
        option("--host", envvar="KF_PIPELINES_ENDPOINT", metavar="URL", help="Kubeflow Pipelines API."),
        option("--ui", envvar="KF_PIPELINES_UI_ENDPOINT", metavar="URL", help="Its UI, for links to runs."),
        option(
            "--kfp-namespace",
            envvar="KF_PIPELINES_NAMESPACE",
            help="Namespace of the runs (your Kubeflow profile), where an installation has several users.",
        ),
        option(
            "--token-file",
            envvar="KF_PIPELINES_SA_TOKEN_PATH",
            type=file,
            help="File with a bearer token, read for each request. KF_PIPELINES_TOKEN may hold the token itself.",
        ),
        option(
            "--cookie-file",
            envvar="KF_PIPELINES_COOKIE_FILE",
            type=file,
            help="File with the cookie of a signed-in browser, NAME=VALUE. KF_PIPELINES_COOKIE may hold it itself.",
        ),
        option(
            "--ca-file",
            envvar=["KF_PIPELINES_CA_FILE", "SSL_CERT_FILE"],
            type=file,
            help="Certificates (PEM) of the authority that signed the host's.",
        ),
    ]
    decorated: Callable[..., None] = with_access
    for add in reversed(options):
        decorated = add(decorated)
    return decorated


def find_host(access: Access) -> str:
    """URL of the API, without a slash at the end.

    Raises:
        BadInput: none is given outside of a cluster, or it is not a URL.
    """
    if not access.host:
        if POD_NAMESPACE.is_file():
            return IN_CLUSTER
        raise BadInput(
            "--host: expected the URL of a Kubeflow Pipelines API, received none; "
            "e.g. http://localhost:8080 after kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80"
        )
    return _url("--host", access.host)


def find_ui(access: Access) -> str:
    """URL of the UI if given."""
    return _url("--ui", access.ui) if access.ui else ""


def _url(option: str, given: str) -> str:
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        shown = given if "@" not in given else "one with a user name"  # a password may follow it
        raise BadInput(f"{option}: expected a URL (http://...), received {shown!r}; put the scheme before it")
    if parts.username or parts.password:
        raise BadInput(f"{option}: expected a URL without user and password; use --token-file or --cookie-file")
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")  # without the #/runs of a browser's address


def find_namespace(access: Access) -> str:
    """Namespace of the runs: given, kept by kfp's own client, or the pod's own; empty if none of them."""
    if access.kfp_namespace:
        return access.kfp_namespace
    kept = _kfp_context().get("namespace")
    if kept:
        return str(kept)
    return POD_NAMESPACE.read_text().strip() if POD_NAMESPACE.is_file() else ""


def find_token(access: Access) -> Callable[[], str] | None:
    """A function that reads the bearer token, which may be renewed in its file; None: sign in without one.

    Raises:
        BadInput: the token cannot be one.
    """
    if access.token_file:
        return partial(_read, Path(access.token_file), "--token-file")
    if given := os.environ.get("KF_PIPELINES_TOKEN"):
        token = _checked(given, "KF_PIPELINES_TOKEN")
        return lambda: token
    if POD_TOKEN.is_file():
        return partial(_read, POD_TOKEN, str(POD_TOKEN))
    if client_id := os.environ.get("KF_PIPELINES_IAP_OAUTH2_CLIENT_ID"):
        from kfp.client.auth import get_auth_token  # Google's Identity-Aware Proxy, as kfp's own client has it

        names = ("KF_PIPELINES_APP_OAUTH2_CLIENT_ID", "KF_PIPELINES_APP_OAUTH2_CLIENT_SECRET")
        issued, _ = get_auth_token(client_id, *(os.environ.get(name) for name in names))
        return (lambda: issued) if issued else None
    return None


def find_cookie(access: Access) -> str:
    """The cookie to send; empty if none is given.

    Raises:
        BadInput: it cannot be one.
    """
    if access.cookie_file:
        return _read(Path(access.cookie_file), "--cookie-file", spaces=True)
    if given := os.environ.get("KF_PIPELINES_COOKIE"):
        return _checked(given, "KF_PIPELINES_COOKIE", spaces=True)
    return str(_kfp_context().get("client_authentication_cookie") or "")


def find_header() -> tuple[str, str] | None:
    """A header that tells who the user is, where kfp's own client was given one."""
    context = _kfp_context()
    name, value = (context.get(f"client_authentication_header_{part}") for part in ("name", "value"))
    return (str(name), str(value)) if name and value else None


def _read(path: Path, what: str, spaces: bool = False) -> str:
    return _checked(path.read_text(errors="replace"), what, spaces)


def _checked(secret: str, what: str, spaces: bool = False) -> str:
    """What goes into a header, which an HTTP library would print if it could not be sent."""
    stripped = secret.strip()
    if not re.fullmatch("[ -~]+" if spaces else "[!-~]+", stripped):
        raise BadInput(f"{what}: expected {'a cookie' if spaces else 'a token'} of one line, received something else")
    return stripped


def _kfp_context() -> dict[str, Any]:
    try:
        context = json.loads(KFP_CONTEXT.expanduser().read_text())
    except (OSError, ValueError):
        return {}
    return context if isinstance(context, dict) else {}
