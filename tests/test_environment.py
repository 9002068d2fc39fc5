"""Credentials, proxies and certificates of the environment that a source is fetched in."""

import http.server
import ssl
import subprocess
import threading
from contextlib import contextmanager

import pytest

from trainyard.components.common.cli import without_secrets
from trainyard.components.common.proxies import proxy_for, through_proxy

TOKEN = "FwoGZXIvYXdzEBYaDHNlY3JldA=="
DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>'
LISTED = (
    b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>'
    b"<Contents><Key>set/a.bin</Key><Size>4</Size></Contents></ListBucketResult>"
)


@contextmanager
def server(allows=lambda headers: True, certificate=None):
    """A store with the objects set/a.bin and b.bin for those whose headers it allows; its URL."""

    class Store(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            allowed = allows(self.headers)
            content = (LISTED if "list-type" in self.path else b"data") if allowed else DENIED
            self.send_response(200 if allowed else 403)
            self.send_header("ETag", '"one"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        running.socket = context.wrap_socket(running.socket, server_side=True)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    try:
        yield f"http{'s' if certificate else ''}://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        running.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate that nobody but itself vouches for, with its key."""
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path.with_suffix(".key"), "-out", path]
    subprocess.run(made, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_suffix(".key").read_bytes())
    return path


@pytest.fixture
def fetch(step, tmp_path):
    """Download from a store with no credentials but those that are given; the process, and what was fetched."""

    def run(source, **environment):
        keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "")
        nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path), "AWS_DEFAULT_REGION": "us-east-1"}
        return step("download", *source.split(), "--dataset", tmp_path / "out", env=keys | nowhere | environment)

    return run


KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret-of-this-test"}


@pytest.mark.parametrize("name", [*KEYS, "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"])
def test_a_secret_that_ends_in_a_newline_is_named_and_never_shown(fetch, name):
    with server() as url:
        given = {**KEYS, "AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1", "AWS_SESSION_TOKEN": TOKEN}
        done = fetch("--source s3://b/b.bin", **{**given, name: given[name] + "\n"})
    assert done.returncode == 2
    assert done.stderr.startswith(f"{name}: expected a value without white space around it, received a newline")
    assert TOKEN not in done.stderr


def test_a_token_is_shown_in_no_message(fetch, monkeypatch):
    with server() as url:
        environment = {**KEYS, "AWS_ENDPOINT_URL": url, "AWS_SESSION_TOKEN": f"{TOKEN}\nmore"}
        done = fetch("--debug --source s3://b/b.bin", **environment)
    assert done.returncode == 1
    assert TOKEN not in done.stderr
    monkeypatch.setenv("MY_TOKEN", TOKEN)
    assert (
        without_secrets(f"cannot send {TOKEN} to http://me:word@host/") == "cannot send $MY_TOKEN to http://...@host/"
    )


def test_a_public_bucket_needs_no_credentials(fetch, tmp_path):
    def unsigned(headers):
        return "Authorization" not in headers

    with server(unsigned) as url:
        for source in ("s3://open/b.bin", "s3://open/set/"):
            assert fetch(f"--source {source}", AWS_ENDPOINT_URL=url).returncode == 0
            done = fetch(f"--source {source}", AWS_ENDPOINT_URL=url, **KEYS)
            assert done.returncode == 1
            assert "for a public bucket, pass --anonymous true" in done.stderr
            done = fetch(f"--source {source} --anonymous true", AWS_ENDPOINT_URL=url, **KEYS)
            assert done.returncode == 0, done.stderr
        assert (tmp_path / "out" / "a.bin").read_bytes() == b"data"
    with server(lambda headers: False) as url:
        done = fetch("--source s3://closed/b.bin", AWS_ENDPOINT_URL=url)
    assert done.returncode == 1
    assert "no credentials for the store" in done.stderr


def test_who_pays_for_the_transfer_is_said_when_it_is_asked_for(fetch):
    with server(lambda headers: headers["x-amz-request-payer"] == "requester") as url:
        for source in ("s3://b/b.bin", "s3://b/set/"):
            done = fetch(f"--source {source}", AWS_ENDPOINT_URL=url, **KEYS)
            assert done.returncode == 1
            assert "where the reader pays, pass --requester-pays true" in done.stderr
            done = fetch(f"--source {source} --requester-pays true", AWS_ENDPOINT_URL=url, **KEYS)
            assert done.returncode == 0, done.stderr


def test_profiles_and_endpoints_per_service_count(fetch, tmp_path):
    (tmp_path / ".aws").mkdir()
    with server(lambda headers: "AKIAPROFILE" in headers.get("Authorization", "")) as url:
        (tmp_path / ".aws" / "config").write_text(
            "[profile team]\naws_access_key_id = AKIAPROFILE\naws_secret_access_key = x\n"
            "[profile other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = x\n"
        )
        profile = {"AWS_ENDPOINT_URL_S3": url, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
        done = fetch("--source s3://b/b.bin", AWS_PROFILE="team", **profile)
        assert done.returncode == 0, done.stderr
        done = fetch("--source s3://b/b.bin", AWS_PROFILE="other", **profile)
        assert done.returncode == 1
        assert "the store denies access with the key of AWS_PROFILE other" in done.stderr
    done = fetch("--source s3://b/b.bin", AWS_ENDPOINT_URL_S3="http://127.0.0.1:9", **KEYS)
    assert done.returncode == 1
    assert "check AWS_ENDPOINT_URL_S3" in done.stderr


def test_a_certificate_that_is_not_trusted_is_told_at_once(fetch, certificate):
    with server(certificate=certificate) as url:
        for source, store, variable in (
            (f"{url}/b.bin", {}, "SSL_CERT_FILE"),
            ("s3://b/b.bin", {**KEYS, "AWS_ENDPOINT_URL": url}, "AWS_CA_BUNDLE"),
        ):
            done = fetch(f"--source {source}", **store)
            assert done.returncode == 1
            assert "certificate is not trusted here (self-signed certificate)" in done.stderr
            assert f"name the file of its authority in {variable}" in done.stderr
            assert "gave up after" not in done.stderr
            done = fetch(f"--source {source}", **store, **{variable: str(certificate)})
            assert done.returncode == 0, done.stderr


def test_a_proxy_that_was_used_is_named_without_its_password(fetch):
    proxy = {"http_proxy": "http://me:pass-of-this-test@127.0.0.1:9", "no_proxy": ""}
    for source, store in (
        ("http://files.test/b.bin", {}),
        ("s3://b/b.bin", {**KEYS, "AWS_ENDPOINT_URL": "http://store.test"}),
    ):
        done = fetch(f"--source {source}", **proxy, **store)
        assert done.returncode == 1
        assert "through the proxy http://127.0.0.1:9" in done.stderr
        assert "pass-of-this-test" not in done.stderr


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://10.1.2.3:9000/x", None),
        ("http://192.168.7.9/x", None),
        ("http://11.1.2.3/x", "http://proxy:3128"),
        ("http://store.corp.test/x", None),
        ("http://[fd00::5]/x", None),
        ("http://store.test/x", "http://proxy:3128"),
        ("https://store.test/x", "http://proxy:3128"),
        ("http://127.0.0.1/x", None),
    ],
)
def test_no_proxy_names_networks_too(monkeypatch, url, expected):
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "10.0.0.0/8, 192.168.7.0/24,.corp.test,fd00::/8")
    assert proxy_for(url) == expected
    assert through_proxy(url) == (f" through the proxy {expected}" if expected else "")


def test_objects_that_mark_folders_are_passed_over_and_others_named(step, store, bucket, tmp_path):
    for key in ("data", "data/train", "data/train/a", "data/train_$folder$", "data/test/"):
        store.client.put_object(Bucket=bucket, Key=key, Body=b"")
    store.client.put_object(Bucket=bucket, Key="data/train/a/0.bin", Body=b"x")
    done = step("download", "--source", f"s3://{bucket}/data/", "--dataset", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "out").rglob("*.bin")] == ["0.bin"]
    store.client.put_object(Bucket=bucket, Key="data/train", Body=b"something")
    done = step("download", "--source", f"s3://{bucket}/data/", "--dataset", tmp_path / "out")
    assert done.returncode == 2
    assert f"expected a file or a folder, received both as s3://{bucket}/data/train" in done.stderr
