"""The embedded object store: found, durable, private, and stopped without harm to others."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from trainyard.components.common.cli import BadInput
from trainyard.components.common.store import s3
from trainyard.components.common.waiting import wait_for
from trainyard.launch.store import environment, start_store, stop_store
from trainyard.launch.store_folder import StoreFolder


@pytest.fixture
def home(tmp_path):
    yield tmp_path
    stop_store(tmp_path)


def test_a_running_store_is_found_and_its_data_outlive_it(home):
    first = start_store(home)
    s3.client(first.environment).create_bucket(Bucket="kept")
    s3.client(first.environment).put_object(Bucket="kept", Key="a/b", Body=b"still here")
    assert start_store(home) == first

    assert stop_store(home)
    assert not stop_store(home)
    again = start_store(home)
    assert again.environment["AWS_SECRET_ACCESS_KEY"] == first.environment["AWS_SECRET_ACCESS_KEY"]
    assert s3.client(again.environment).get_object(Bucket="kept", Key="a/b")["Body"].read() == b"still here"


def test_acknowledged_objects_survive_a_killed_store(home):
    client = s3.client(start_store(home).environment)
    client.create_bucket(Bucket="kept")
    for number in range(20):
        client.put_object(Bucket="kept", Key=f"{number:02}", Body=b"x" * 1000)
    kill(home)
    listed = s3.client(start_store(home).environment).list_objects_v2(Bucket="kept")
    assert [item["Key"] for item in listed["Contents"]] == [f"{number:02}" for number in range(20)]


def test_an_object_that_a_killed_store_had_not_listed_yet_is_listed_by_the_next(home):
    """Swift writes an object first and then its place in the listing, here the file that ends in `pending`."""
    client = s3.client(start_store(home).environment)
    client.create_bucket(Bucket="kept")
    for name in ("a", "b"):
        client.put_object(Bucket="kept", Key=f"{name} ä/{name}", Body=name.encode(), Metadata={"of": name})
    kill(home)
    pending = list((home / "store" / "data").glob("d1/containers/**/*.db.pending"))
    assert sum(path.stat().st_size for path in pending) > 0
    for path in pending:
        path.unlink()
    client = s3.client(start_store(home).environment)
    listed = {item["Key"]: item["ETag"] for item in client.list_objects_v2(Bucket="kept")["Contents"]}
    assert listed == {key: client.head_object(Bucket="kept", Key=key)["ETag"] for key in ("a ä/a", "b ä/b")}


def kill(home):
    """Kill the server without warning; the record it leaves behind."""
    folder = StoreFolder(home / "store")
    record = folder.running()
    os.kill(record.pid, signal.SIGKILL)
    assert wait_for(lambda: not folder.held(), time.monotonic() + 10)
    return record


def test_a_store_that_ends_while_it_is_asked_is_started_again(home):
    """As one that was killed a moment ago: it still holds its folder, and answers no more."""
    start_store(home)
    ending = StoreFolder(home / "store").running().pid
    os.kill(ending, signal.SIGSTOP)
    with ThreadPoolExecutor() as pool:
        again = pool.submit(start_store, home)
        time.sleep(1)
        os.kill(ending, signal.SIGKILL)
        assert s3.client(again.result().environment).list_buckets()["Buckets"] == []


def test_two_who_start_a_store_together_share_it(home):
    with ThreadPoolExecutor(4) as pool:
        urls = {store.url for store in pool.map(lambda _: start_store(home), range(4))}
    assert len(urls) == 1


def test_the_store_outlives_its_starter_and_a_shell_can_use_it(home):
    command = [sys.executable, "-m", "trainyard.launch.store"]
    variables = os.environ | {"TRAINYARD_HOME": str(home)}
    subprocess.run([*command, "start"], env=variables, check=True, capture_output=True)
    program = "from trainyard.components.common.store import s3; s3.client().list_buckets()"
    script = f". {home}/env && {sys.executable} -c '{program}'"
    assert not subprocess.run(["sh", "-c", script], check=True, capture_output=True).stderr
    kill(home)
    told = subprocess.run(["sh", "-c", f". {home}/env"], capture_output=True, text=True)
    assert re.search(r"not running; start it with: \S*trainyard store start$", told.stderr.strip())
    subprocess.run([*command, "start"], env=variables, check=True, capture_output=True)
    subprocess.run(["sh", "-c", script], check=True)
    stopped = subprocess.run([*command, "stop"], env=variables, check=True, capture_output=True, text=True)
    assert "stopped" in stopped.stderr
    assert not (home / "env").exists()


def test_an_empty_trainyard_home_means_the_default_folder(tmp_path):
    url = start_store(tmp_path / ".trainyard").url
    try:
        command = [sys.executable, "-m", "trainyard.launch.store", "status"]
        variables = os.environ | {"TRAINYARD_HOME": ""}
        told = subprocess.run(command, cwd=tmp_path, env=variables, check=True, capture_output=True, text=True)
        assert f"{url}, process " in told.stderr
    finally:
        stop_store(tmp_path / ".trainyard")


def test_its_secret_is_checked_and_readable_by_its_owner_alone(home):
    store = start_store(home)
    for file in (home / "env", home / "store" / "secret", home / "store" / "etc" / "proxy-server.conf"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        s3.client(store.environment | {"AWS_SECRET_ACCESS_KEY": "wrong"}).list_buckets()


def test_stopping_never_ends_a_process_that_inherited_the_pid(home):
    """A store was killed, and the pid in its record belongs to somebody else now."""
    start_store(home)
    record = kill(home)
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        (home / "store" / "server.json").write_text(f'{{"pid": {bystander.pid}, "url": "{record.url}"}}')
        assert not stop_store(home)
        time.sleep(0.2)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_server_whose_folder_is_removed_ends(home):
    start_store(home)
    pid = StoreFolder(home / "store").running().pid
    subprocess.run(["rm", "-rf", home / "store"], check=True)
    assert wait_for(lambda: ended(pid), time.monotonic() + 10)


def ended(pid):
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def test_a_store_of_ones_own_is_used_and_nothing_is_touched(home, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://s3.example.com")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    assert environment(home)["AWS_ENDPOINT_URL"] == "https://s3.example.com"
    assert environment(home)["AWS_ACCESS_KEY_ID"] == "mine"
    assert list(home.iterdir()) == []


def test_a_shell_that_knows_an_earlier_start_of_the_store_gets_it_started_again(home, monkeypatch):
    for name, value in start_store(home).environment.items():
        monkeypatch.setenv(name, value)
    stop_store(home)
    s3.client(environment(home)).list_buckets()


def test_a_store_that_cannot_start_says_why(home):
    (home / "store").mkdir()
    (home / "store" / "data").write_text("a file where the folder of the objects should be")
    with pytest.raises(RuntimeError, match=r"did not start: .*data.*its log is"):
        start_store(home)


def test_a_profile_that_is_not_configured_is_what_the_message_is_about(home, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "work")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "no-config"))
    with pytest.raises(BadInput, match=r"AWS_PROFILE: expected a configured profile.*\(work\)"):
        start_store(home)


def test_a_proxy_does_not_stand_between_a_machine_and_itself(store, bucket, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert s3.client(store.environment).list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_of_many_create_only_writers_of_one_object_one_wins(store, bucket):
    def write(number):
        try:
            store.client.put_object(Bucket=bucket, Key="one", Body=b"%d" % number, IfNoneMatch="*")
        except ClientError:
            return None
        return number

    with ThreadPoolExecutor(12) as pool:
        winners = [number for number in pool.map(write, range(12)) if number is not None]
    assert len(winners) == 1
    assert store.client.get_object(Bucket=bucket, Key="one")["Body"].read() == b"%d" % winners[0]


def test_a_small_object_is_sent_without_asking_first(store, bucket):
    asked = {}
    client = s3.client(store.environment)
    client.meta.events.register(
        "before-send.s3.PutObject",
        lambda request, **_: asked.update({request.headers["Content-Length"]: "Expect" in request.headers}),
    )
    for size in (10, 1_000_000):
        client.put_object(Bucket=bucket, Key="asked", Body=b"x" * size)
    assert asked == {"10": False, "1000000": True}


def test_a_wrong_checksum_is_refused(store, bucket):
    with pytest.raises(ClientError, match=r"BadDigest|checksum"):
        store.client.put_object(Bucket=bucket, Key="x", Body=b"sent", ChecksumSHA256="A" * 43 + "=")
    assert "Contents" not in store.client.list_objects_v2(Bucket=bucket)


def test_a_store_that_is_started_again_answers_at_the_address_it_had(tmp_path):
    before = start_store(tmp_path).environment
    kill(tmp_path)
    again = start_store(tmp_path).environment
    stop_store(tmp_path)
    assert again == before
    assert start_store(tmp_path).environment == before
    stop_store(tmp_path)
