"""Secrets: no password, token or key of a URL or a variable gets anywhere but to the server that it is for."""

import os
import stat
import subprocess
import sys

from tests.conftest import PROJECT, outside_aws
from tests.test_download import WebServer
from trainyard.components.common.store import s3
from trainyard.launch.store import start_store, stop_store

SECRETS = {
    "the password": "pa55word-of-url",
    "the signature": "51gnature-of-url",
    "the session token": "t0ken-of-session",
}
CREDENTIALS = ("env", "store/secret", "store/etc/proxy-server.conf")
"""Files of the home folder that hold the key of its store, for their owner alone."""


class WatchingServer(WebServer):
    """A web server that looks at the process list whenever it is asked."""

    def __init__(self, folder):
        super().__init__(folder)
        self.shown = set()

    @property
    def status(self):
        self.shown.update(subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True).stdout.splitlines())
        return []

    @status.setter
    def status(self, _):
        pass


def places_of(content, told):
    """Which secrets a text or file content holds."""
    content = content if isinstance(content, bytes) else content.encode()
    return [name for name, secret in told.items() if secret.encode() in content]


def test_a_run_from_end_to_end_shows_no_secret(tmp_path, digits):
    home, runs = tmp_path / "home", tmp_path / "runs"
    environment = start_store(home).environment
    told = {**SECRETS, "the store's key": environment["AWS_SECRET_ACCESS_KEY"]}
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "digits.npz").write_bytes(digits.read_bytes())
    command = [sys.executable, "-m", "trainyard", "run", "--runs", str(runs), "--epochs", "2"]
    env = {**outside_aws(), **environment, "TRAINYARD_HOME": str(home), "AWS_SESSION_TOKEN": told["the session token"]}
    try:
        with WatchingServer(tmp_path / "web") as web:
            host = web.url.removeprefix("http://")
            url = f"http://user:{told['the password']}@{host}/digits.npz?X-Amz-Signature={told['the signature']}"
            env["TRAINYARD_SOURCE"] = url
            done = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        leaks = {"said": places_of(done.stdout + done.stderr, told)}
        for folder in (runs, home):
            for path in folder.rglob("*"):
                if path.is_file() and path.relative_to(folder).as_posix() not in CREDENTIALS:
                    leaks[str(path)] = places_of(path.read_bytes(), told)
        assert any("trainyard.components.download" in line for line in web.shown)
        leaks |= {f"process: {line}": places_of(line, told) for line in web.shown}
        client = s3.client(environment)
        for key in s3.sizes_below(client, "models", ""):
            leaks[f"s3://models/{key}"] = places_of(s3.content(client, "models", key), told)
        assert {place: found for place, found in leaks.items() if found} == {}
        for name in CREDENTIALS:
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600, name
        assert stat.S_IMODE((home / "store").stat().st_mode) == 0o700
    finally:
        for module in ("components.serve", "launch.store"):
            stop = [sys.executable, "-m", f"trainyard.{module}", "stop"]
            subprocess.run(stop, cwd=PROJECT, env=os.environ | {"TRAINYARD_HOME": str(home)}, capture_output=True)


def test_a_url_that_is_none_is_refused_without_its_password(tmp_path):
    command = [sys.executable, "-m", "trainyard", "run", "--runs", tmp_path / "runs", "--data"]
    done = subprocess.run(
        [*command, "http://user:pa55word-of-url@exa\u2100mple.com/x.npz"],
        env=outside_aws() | {"TRAINYARD_HOME": str(tmp_path / "home")},
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    stop_store(tmp_path / "home")
    assert done.returncode == 2
    assert "expected a URL" in done.stderr
    assert "pa55word" not in done.stdout + done.stderr
