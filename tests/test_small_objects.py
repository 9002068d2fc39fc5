"""Requests like one of boto3's: they do what boto3's do, and leave to it whatever does not simply succeed."""

import base64
import hashlib
import http.server
import threading
import uuid
import zlib
from collections import Counter
from contextlib import contextmanager

import boto3
import pytest
from botocore.config import Config

from trainyard.components.common.store import s3
from trainyard.components.common.store.small_objects import SmallObjects

KEYS = ["a", "in/folders/a.png", "with space/ü+%~'()*!$&=@,;:?#.txt", "双/🐦", "a//b", "-"]
CONTENT = b"content"
SHA256 = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
HEADERS = {"If-None-Match": "*", "x-amz-checksum-sha256": SHA256, "x-amz-meta-origin": "here"}


@pytest.fixture
def client(store):
    """A client of the test's own, which counts what boto3 itself asks for."""
    client = s3.client(store.environment)
    client.asked = Counter()
    client.meta.events.register("before-call.s3", lambda model, **_: client.asked.update([model.name]))
    return client


@pytest.fixture
def put(client, bucket):
    """Writes objects, once boto3 has written one."""
    series = SmallObjects(client, "PutObject", bucket)
    assert not series.put("first", CONTENT, {})
    client.put_object(Bucket=bucket, Key="first", Body=CONTENT)
    return series.put


@pytest.fixture
def get(client, bucket):
    """Reads objects, once boto3 has read one."""
    client.put_object(Bucket=bucket, Key="first", Body=CONTENT)
    series = SmallObjects(client, "GetObject", bucket)
    assert series.get("first", len(CONTENT)) is None
    client.get_object(Bucket=bucket, Key="first")["Body"].read()
    return series.get


@pytest.mark.parametrize("key", KEYS)
def test_an_object_is_written_as_by_boto3(client, bucket, put, key):
    assert put(key, CONTENT, HEADERS)
    assert client.asked["PutObject"] == 1
    written = client.get_object(Bucket=bucket, Key=key)
    assert written["Body"].read() == CONTENT
    assert written["Metadata"] == {"origin": "here"}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("content", [b"", CONTENT, bytes(range(256)) * 4000], ids=len)
def test_an_object_is_read_as_by_boto3(client, bucket, get, key, content):
    client.put_object(Bucket=bucket, Key=key, Body=content)
    assert get(key, len(content)) == content
    assert client.asked["GetObject"] == 1


def test_an_object_that_is_there_stays_as_it_is(client, bucket, put):
    assert put("once", CONTENT, HEADERS)
    assert not put("once", b"other", {"If-None-Match": "*"})
    assert client.get_object(Bucket=bucket, Key="once")["Body"].read() == CONTENT


def test_a_wrong_checksum_is_not_taken_for_success(client, bucket, put):
    assert not put("wrong", b"other", HEADERS)
    keys = [item["Key"] for item in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert keys == ["first"]


def test_what_is_not_there_or_has_changed_is_left_to_boto3(client, bucket, get):
    assert get("missing", 3) is None
    assert get("first", len(CONTENT) + 1) is None


def test_a_request_for_a_part_or_of_another_bucket_is_none_to_learn_from(client, bucket, store):
    other = f"test-{uuid.uuid4().hex[:12]}"
    client.create_bucket(Bucket=other)
    client.put_object(Bucket=other, Key="first", Body=b"of the other bucket")
    client.put_object(Bucket=bucket, Key="first", Body=CONTENT)
    series = SmallObjects(client, "GetObject", bucket)
    client.get_object(Bucket=other, Key="first")["Body"].read()
    assert series.get("first", len(CONTENT)) is None
    client.get_object(Bucket=bucket, Key="first", Range="bytes=0-1")["Body"].read()
    assert series.get("first", len(CONTENT)) == CONTENT


def test_a_secret_that_is_refused_is_left_to_boto3(store, bucket):
    wrong = s3.client(store.environment | {"AWS_SECRET_ACCESS_KEY": "wrong"})
    series = SmallObjects(wrong, "PutObject", bucket)
    with pytest.raises(wrong.exceptions.ClientError):
        wrong.put_object(Bucket=bucket, Key="first", Body=CONTENT)
    assert not series.put("second", CONTENT, HEADERS)


@contextmanager
def scripted(*answers, asked=None):
    """A store that gives these answers in turn, each (status, headers, content); without any left it hangs up.

    The headers of what it is asked go to the list `asked`.
    """
    left = list(answers)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            if asked is not None:
                asked.append(self.headers)
            if not left:
                self.close_connection = True
                return
            status, headers, content = left.pop(0)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield s3.client(
            {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
                "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        )
        server.shutdown()


CRC32 = base64.b64encode(zlib.crc32(CONTENT).to_bytes(4, "big")).decode()


@pytest.mark.parametrize(
    ("answer", "content"),
    [
        ((200, {"x-amz-checksum-crc32": CRC32}, CONTENT), CONTENT),
        ((200, {"x-amz-checksum-crc32": CRC32}, b"CONTENT"), None),
        ((200, {"x-amz-checksum-sha256": SHA256}, CONTENT), CONTENT),
        ((200, {"x-amz-checksum-sha256": SHA256}, b"CONTENT"), None),
        ((200, {"x-amz-checksum-sha256": f"{SHA256}-2"}, CONTENT), CONTENT),
        ((200, {"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="}, CONTENT), CONTENT),
        ((200, {"Content-Length": "9", "Connection": "close"}, CONTENT), None),
        ((206, {}, CONTENT), None),
        ((503, {}, b""), None),
        ((307, {"Location": "http://127.0.0.1:9/"}, b""), None),
        (None, None),
    ],
    ids=[
        "crc32",
        "wrong crc32",
        "sha256",
        "wrong sha256",
        "checksum of checksums",
        "unknown checksum",
        "cut off",
        "a part",
        "busy",
        "elsewhere",
        "hung up",
    ],
)
def test_only_a_whole_and_sound_answer_counts(answer, content):
    first = (200, {}, CONTENT)
    with scripted(first, *([answer] if answer else [])) as client:
        series = SmallObjects(client, "GetObject", "bucket")
        client.get_object(Bucket="bucket", Key="first")["Body"].read()
        assert series.get("second", len(CONTENT)) == content


def test_with_a_proxy_in_between_boto3_makes_all_requests():
    answer = (200, {}, CONTENT)
    with scripted(answer) as proxy, scripted(answer) as store:
        config = Config(proxies={"http": proxy.meta.endpoint_url})
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=store.meta.endpoint_url, config=config, **keys)
        series = SmallObjects(client, "GetObject", "bucket")
        assert client.get_object(Bucket="bucket", Key="first")["Body"].read() == CONTENT
        assert series.get("second", len(CONTENT)) is None


def test_a_connection_that_the_store_has_closed_is_opened_anew():
    closing = (200, {"Connection": "close"}, CONTENT)
    with scripted(*[closing] * 4) as client:
        series = SmallObjects(client, "GetObject", "bucket")
        client.get_object(Bucket="bucket", Key="first")["Body"].read()
        assert [series.get(key, len(CONTENT)) for key in "abc"] == [CONTENT] * 3


def test_a_session_token_goes_along_and_each_request_is_signed(monkeypatch):
    asked = []
    with scripted(*[(200, {}, CONTENT)] * 2, asked=asked) as client:
        monkeypatch.setenv("AWS_ENDPOINT_URL", client.meta.endpoint_url)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"):
            monkeypatch.setenv(name, "us-east-1" if name.endswith("REGION") else name.lower())
        client = s3.client()
        series = SmallObjects(client, "GetObject", "bucket")
        client.get_object(Bucket="bucket", Key="first")["Body"].read()
        assert series.get("second", len(CONTENT)) == CONTENT
    first, second = asked
    assert second["X-Amz-Security-Token"] == "aws_session_token"
    assert second["User-Agent"] == first["User-Agent"]
    for request in asked:
        assert request["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=aws_access_key_id/")
    assert first["Authorization"] != second["Authorization"]
