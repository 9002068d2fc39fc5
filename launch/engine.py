"""The container engine, through its own client: DOCKER (by default `docker`), which has to bring BuildKit."""

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import click

from ..components.common.cli import BadInput, last_line


def client() -> str:
    """The engine's client."""
    return os.environ.get("DOCKER") or "docker"


def engine(*arguments: str) -> str:
    """Run the engine's client and return what it wrote to stdout.

    Raises:
        BadInput, RuntimeError: it failed; the message says in one line why, and what to do.
    """
    environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
    try:
        done = subprocess.run(
            [client(), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise BadInput(
            f"expected a container engine's client, received none at {client()!r}; install Docker Engine, "
            "or name a client with DOCKER=..."
        ) from None
    if done.returncode:
        raise failure([client(), *arguments], done.stderr)
    return done.stdout.strip()


IN_THE_DOCKERFILE = r"executor failed running|did not complete successfully"
"""A command of a build failed; whatever it said is not of the engine."""

FAILURES: dict[str, tuple[type[Exception], str]] = {
    r"permission denied .*(docker\.sock|daemon socket)": (
        BadInput,
        "no permission on the engine's socket; join its group (docker), or run as a user who may",
    ),
    r"cannot connect to the docker daemon|is the docker daemon running|error during connect": (
        RuntimeError,
        "no container engine answers; start it, or name it in DOCKER_HOST",
    ),
    r"buildx component is missing|unknown flag: --secret": (
        BadInput,
        "this client has no BuildKit; install buildx, or name another client with DOCKER=...",
    ),
    r"failed to (solve|create LLB).*(not found|no such host|refused|timeout|unauthorized|denied|no basic auth)": (
        BadInput,
        "the base image cannot be had; name one with BASE=..., or check the way to its registry",
    ),
    r"no basic auth credentials|unauthorized|authentication required|denied: ": (
        BadInput,
        "the registry refuses these credentials; log in (docker login REGISTRY) as somebody who may push there",
    ),
    r"manifest unknown|pull access denied|manifest .* not found": (
        BadInput,
        "the registry has no such image; make push puts it there",
    ),
    r"connection refused|no such host|i/o timeout|eof$|server gave http response": (
        RuntimeError,
        "the registry does not answer; check REGISTRY and that it is up",
    ),
    r"no such image|does not exist locally": (BadInput, "there is no such image here; make build first"),
}
"""What the engine says, and what that means."""


def failure(command: Sequence[str], said: str) -> Exception:
    """What a failure of a client means, as an exception with a plain message."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    what, last = f"{Path(command[0]).name} {command[1]}", last_line(said)
    if not re.search(IN_THE_DOCKERFILE, said):
        for pattern, (kind, meaning) in FAILURES.items():
            if re.search(pattern, said, re.IGNORECASE):
                return kind(f"{what}: {meaning} ({last})")
    click.echo("\n".join(lines[-40:]), err=True)
    return RuntimeError(f"{what} failed ({last}); its output is above")
