"""The object store of a run on this machine: started when it is missing, found when it runs, stopped on request.

It is a real one, OpenStack Swift in one process (launch.swift_store), with its data in the folder `store` of the home
folder. A store named by AWS_ENDPOINT_URL is used instead.
"""

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click

from ..components.common.cli import BadInput, command_group, last_line, runnable, say
from ..components.common.state import state_folder
from ..components.common.waiting import wait_for
from .store_folder import ACCESS_KEY, REGION, StoreFolder, write_private

SECONDS_TO_START = 30.0
SECONDS_TO_STOP = 10.0
_WARNING = """\
if command -v flock >/dev/null && flock --nonblock --shared {lock} true; then
  echo "store     these variables name a store that is not running; start it with: trainyard store start" >&2
fi
"""  # for a shell that takes the variables after the store has crashed


@dataclass(frozen=True)
class Store:
    """A store that answers.

    Attributes:
        environment: The variables through which every S3 client finds it: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
            AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION.
    """

    environment: dict[str, str]

    @property
    def url(self) -> str:
        return self.environment["AWS_ENDPOINT_URL"]


def environment(home: Path) -> dict[str, str]:
    """The AWS variables of the store to use: the one that the caller's environment names, or else the one in `home`."""
    named = "AWS_ENDPOINT_URL" in os.environ or "AWS_ENDPOINT_URL_S3" in os.environ
    # A shell that has sourced `home/env` names the store in `home`, which may have stopped since.
    if named and not StoreFolder(home / "store").has_secret(os.environ.get("AWS_SECRET_ACCESS_KEY")):
        return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return start_store(home).environment


def start_store(home: Path) -> Store:
    """Start the store in `home`, or find it running.

    It outlives the caller. Data, secret and log are in `home/store`; `home/env` is a file to `source` in a shell.

    Raises:
        RuntimeError: the store does not come up, or it runs and does not answer; the message says what to do.
        BadInput: AWS_PROFILE names no profile.
    """
    folder = StoreFolder(home / "store")
    folder.make()
    with folder.one_at_a_time():
        folder.make_secret()
        server = None if folder.held() else _launch(folder)
        try:
            store = _wait_until_it_answers(folder, server)
        except RuntimeError:
            if server or folder.held():
                raise
            store = _wait_until_it_answers(folder, _launch(folder))  # the one that was found was about to end
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in store.environment.items()]
    write_private(home / "env", "".join([*lines, runnable(_WARNING.format(lock=shlex.quote(str(folder.lock))))]))
    return store


def stop_store(home: Path) -> bool:
    """Stop the store in `home`; its data stay.

    Returns:
        Whether one was running.
    """
    folder = StoreFolder(home / "store")
    if not folder.path.is_dir():
        return False
    with folder.one_at_a_time():
        running = folder.running()
        if running is None:
            return False
        for number, seconds in ((signal.SIGTERM, SECONDS_TO_STOP), (signal.SIGKILL, 5.0)):
            os.kill(running.pid, number)
            if wait_for(lambda: not folder.held(), time.monotonic() + seconds):
                if number == signal.SIGTERM:
                    folder.forget()  # the next one takes a record that is left for that of a crash
                break
    (home / "env").unlink(missing_ok=True)
    return True


def _launch(folder: StoreFolder) -> subprocess.Popen[bytes]:
    """Start a server process of its own session, so that it outlives this one and its terminal."""
    crashed = folder.forget()
    module = "trainyard.launch.swift_store"
    if importlib.util.find_spec("swift") is None:
        module = "trainyard.launch.moto_store"
        if importlib.util.find_spec("moto") is None:
            raise BadInput('expected a package for the object store of this machine; pip install "trainyard[local]"')
        say(
            "store",
            f"no OpenStack Swift for this platform ({sys.platform}): using moto, an S3 emulation in memory; "
            "what it holds is gone when it stops",
        )
    with folder.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-m", module, str(folder.path), *(["crashed"] if crashed else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait_until_it_answers(folder: StoreFolder, server: subprocess.Popen[bytes] | None) -> Store:
    """Wait for a signed answer to a real S3 request."""
    from ..components.common.store import s3

    def started() -> bool:
        return folder.running() is not None or (server is not None and server.poll() is not None)

    wait_for(started, time.monotonic() + SECONDS_TO_START)
    running = folder.running()
    if running is None:
        said = last_line(folder.log.read_text(errors="replace"))
        raise RuntimeError(f"the object store did not start: {said}; its log is {folder.log}")
    store = Store(
        {
            "AWS_ENDPOINT_URL": running.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": folder.secret(),
            "AWS_DEFAULT_REGION": REGION,
        }
    )
    try:
        with s3.s3_errors(f"the object store at {running.url}"):
            s3.client(store.environment).list_buckets()
    except ConnectionError as error:
        raise RuntimeError(
            f"the object store (process {running.pid}) runs but does not answer at {running.url}; "
            "stop it with `trainyard store stop` and start again"
        ) from error
    return store


@command_group
def main() -> None:
    """Start, stop or show the object store of this machine.

    Its home is the folder in TRAINYARD_HOME (default: .trainyard).
    """
    if click.get_current_context().invoked_subcommand is None:
        click.echo(click.get_current_context().get_help())


@main.command()
def start() -> None:
    """Start the store if it is not running."""
    home = state_folder()
    say("store", f"{start_store(home).url}  (source {home / 'env'} to use it from a shell)")


@main.command()
def stop() -> None:
    """Stop the store; its data is kept."""
    say("store", "stopped" if stop_store(state_folder()) else "was not running")


@main.command()
def status() -> None:
    """Print the store's address."""
    running = StoreFolder(state_folder() / "store").running()
    say("store", f"{running.url}, process {running.pid}" if running else "not running")


if __name__ == "__main__":
    main()
