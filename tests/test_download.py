"""Download: every kind of source gives the same data, and what goes wrong leaves nothing behind."""

import bz2
import contextlib
import functools
import gzip
import hashlib
import http.server
import io
import json
import lzma
import os
import random
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
import urllib.parse
import zipfile
from pathlib import Path

import pytest

from trainyard.components.common.cli import BadInput
from trainyard.components.common.fetching.archives import extract
from trainyard.components.common.fetching.limits import Room
from trainyard.components.common.fetching.paths import list_folder
from trainyard.components.common.files import sha256_of_folder

PROJECT = Path(__file__).parent.parent
LONG = "deep/" * 30 + "name.bin"
FILES = {
    "train/a.bin": random.Random(1).randbytes(300_000),
    "train/ü b.txt": b"text\n" * 1000,
    LONG: b"x",
    "empty": b"",
}


@pytest.fixture
def folder(tmp_path):
    return write_files(tmp_path / "folder", FILES)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "dataset"


@pytest.fixture
def web(tmp_path):
    """A web server for the folder `web`: `.url`, `.folder`, and how it misbehaves."""
    (tmp_path / "web").mkdir()
    with WebServer(tmp_path / "web") as server:
        yield server


def write_files(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def pack_tar(path, files):
    compression = {".gz": "gz", ".tgz": "gz", ".bz2": "bz2", ".xz": "xz"}.get(path.suffix, "")
    with tarfile.open(path, f"w:{compression}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def pack_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def pack(path, files=FILES):
    if path.suffix == ".zip":
        return pack_zip(path, files)
    return pack_tar(path, files)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "download.json"
    }


def assert_refused(done, code, *words, output):
    """It ended with this code and one plain line, and left nothing where the output should have been."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().split("\n")[-1]
    for word in words:
        assert word in last
    assert not output.exists()
    assert not output.parent.exists() or not list(output.parent.iterdir())


# ---------------------------------------------------------------- sources


@pytest.mark.parametrize("name", ["data.tar", "data.tar.gz", "data.tgz", "data.tar.bz2", "data.tar.xz", "data.zip"])
def test_an_archive_is_unpacked_and_described(step, tmp_path, output, name):
    archive = pack(tmp_path / name)
    done = step("download", "--source", archive, "--sha256", sha256(archive).upper(), "--dataset", output)
    assert done.returncode == 0, done.stderr
    assert contents(output) == FILES
    assert json.loads((output / "download.json").read_text()) == {
        "source": str(archive),
        "bytes": archive.stat().st_size,
        "sha256": sha256(archive),
        "files": len(FILES),
    }


@pytest.mark.parametrize("name", ["digits.npz", "train-images-idx3-ubyte.gz", "weights.pt"])
def test_any_other_file_keeps_its_name_and_bytes(step, tmp_path, output, name):
    """Even an .npz, which is a zip, and IDX files, which are gzip."""
    content = pack_zip(tmp_path / "a.zip", FILES).read_bytes()
    content = gzip.compress(content) if name.endswith(".gz") else content
    (tmp_path / name).write_bytes(content)
    assert step("download", "--source", f"file://{tmp_path / name}", "--dataset", output).returncode == 0
    assert contents(output) == {name: content}


def test_a_folder_and_a_prefix_of_a_bucket_are_the_same_data(step, store, bucket, folder, tmp_path):
    for name, content in FILES.items():
        store.client.put_object(Bucket=bucket, Key=f"sets/one/{name}", Body=content)
    store.client.put_object(Bucket=bucket, Key="sets/one/", Body=b"")
    store.client.put_object(Bucket=bucket, Key="sets/one-more/other", Body=b"not this")
    digest = sha256_of_folder(folder)
    for source in (folder, f"file://{folder}", f"s3://{bucket}/sets/one/"):
        output = tmp_path / f"out-{len(str(source))}"
        done = step("download", "--source", source, "--sha256", digest, "--dataset", output)
        assert done.returncode == 0, done.stderr
        assert contents(output) == FILES


def test_a_whole_bucket_is_a_folder(step, store, bucket, output):
    store.client.put_object(Bucket=bucket, Key="a/b", Body=b"x")
    for source in (f"s3://{bucket}", f"s3://{bucket}/"):
        done = step("download", "--source", source, "--dataset", output)
        assert done.returncode == 0, done.stderr
        assert contents(output) == {"a/b": b"x"}


def test_an_object_whose_name_leads_out_of_the_folder_is_refused(step, store, bucket, output):
    store.client.put_object(Bucket=bucket, Key="sets/../escaped", Body=b"x")
    done = step("download", "--source", f"s3://{bucket}/sets/", "--dataset", output)
    assert_refused(done, 2, "received '../escaped'", output=output)


def test_objects_that_would_be_one_file_are_refused(step, store, bucket, output):
    for key in ("sets/a/b", "sets/a//b"):
        store.client.put_object(Bucket=bucket, Key=key, Body=key.encode())
    done = step("download", "--source", f"s3://{bucket}/sets/", "--dataset", output)
    assert_refused(done, 2, "expected different paths", output=output)


def test_an_object_and_a_url_are_fetched_like_a_file(step, store, bucket, web, tmp_path):
    archive = pack(web.folder / "data set.tar.gz")
    store.client.upload_file(str(archive), bucket, "sets/data set.tar.gz")
    for source in (f"s3://{bucket}/sets/data set.tar.gz", f"{web.url}/data%20set.tar.gz", f"{web.url}/data set.tar.gz"):
        output = tmp_path / hashlib.sha256(source.encode()).hexdigest()
        done = step("download", "--source", source, "--sha256", sha256(archive), "--dataset", output)
        assert done.returncode == 0, done.stderr
        assert contents(output) == FILES


def test_credentials_in_a_url_are_used_and_never_shown(step, web, output):
    pack(web.folder / "data.tar")
    web.password = "Basic dXNlcjpzM2NyZXQ="  # user:s3cret
    source = web.url.replace("http://", "http://user:s3cret@") + "/data.tar?X-Amz-Signature=5ecre7"
    done = step("download", "--source", source, "--dataset", output)
    assert done.returncode == 0, done.stderr
    seen = done.stderr + (output / "download.json").read_text()
    assert "s3cret" not in seen
    assert "5ecre7" not in seen

    done = step("download", "--source", f"{web.url}/data.tar", "--dataset", output.with_name("other"))
    assert done.returncode == 1
    assert "the server answers 401" in done.stderr


def test_a_redirect_takes_credentials_to_the_same_host_alone(step, web, tmp_path, output):
    pack(web.folder / "data.tar")
    source = web.url.replace("http://", "http://user:s3cret@") + "/moved"
    (tmp_path / "there").mkdir()
    with WebServer(tmp_path / "there") as other:
        pack(other.folder / "data.tar")
        web.elsewhere = f"{other.url}/data.tar"
        assert step("download", "--source", source, "--dataset", output).returncode == 0
        assert other.users == [None]
        web.elsewhere = "/data.tar"
        assert step("download", "--source", source, "--dataset", tmp_path / "same").returncode == 0
        assert web.users[-1] == "Basic dXNlcjpzM2NyZXQ="


@pytest.mark.parametrize(
    "elsewhere", ["ftp://localhost/x", "file:///etc/passwd", "/moved", "http://u:s3cret@", "gopher:x"]
)
def test_a_redirect_that_leads_nowhere_is_refused(step, web, output, elsewhere):
    web.elsewhere = elsewhere
    done = step("download", "--source", f"{web.url}/moved", "--dataset", output)
    assert_refused(done, 2, "--source: ", output=output)
    assert "s3cret" not in done.stderr
    assert len(web.requests) <= 6


def test_hosts_that_are_not_allowed_are_not_asked(step, web, tmp_path, output):
    pack(web.folder / "data.tar")
    (tmp_path / "there").mkdir()
    with WebServer(tmp_path / "there") as other:
        host = web.url.removeprefix("http://")
        web.elsewhere = f"{other.url}/data.tar"
        done = step(
            "download", "--source", f"{web.url}/moved", "--allow-host", f"example.com,{host}", "--dataset", output
        )
        assert_refused(done, 2, "--allow-host: ", other.url.removeprefix("http://"), output=output)
        done = step("download", "--source", f"{web.url}/data.tar", "--allow-host", "127.0.0.1", "--dataset", output)
        assert_refused(done, 2, "--allow-host: ", output=output)
        assert not other.requests
    done = step("download", "--source", f"{web.url}/data.tar", "--allow-host", host, "--dataset", output)
    assert done.returncode == 0, done.stderr


def test_a_password_in_what_is_no_url_is_not_shown(step, output):
    for source in (
        "ftp://u:s3cret@h/x",
        "http://u:s3cret@h\u2100/x",
        "http://u:s3cret@h:port/x",
        "http://u:s3cret@[x/y",
    ):
        done = step("download", "--source", source, "--dataset", output)
        assert_refused(done, 2, "--source: ", output=output)
        assert "s3cret" not in done.stderr


def test_the_artifact_is_described_to_kfp(step, tmp_path, output):
    archive = pack(tmp_path / "data.tar")
    artifact = {"name": "dataset", "uri": str(output), "type": {"schemaTitle": "system.Dataset"}, "metadata": {}}
    outputs = {"artifacts": {"dataset": {"artifacts": [artifact]}}, "outputFile": str(tmp_path / "out.json")}
    described = json.dumps({"inputs": {}, "outputs": outputs})
    assert step("download", "--source", archive, "--dataset", output, "--executor-input", described).returncode == 0
    written = json.loads((tmp_path / "out.json").read_text())["artifacts"]["dataset"]["artifacts"][0]
    assert written["metadata"]["sha256"] == sha256(archive)


def test_tfds_without_a_network_fails_at_once(step, output):
    pytest.importorskip("tensorflow_datasets")
    nowhere = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    done = step("download", "--source", "tfds://mnist", "--dataset", output, env=nowhere, timeout=30)
    assert_refused(done, 1, "tfds://mnist: cannot reach storage.googleapis.com", output=output)
    done = step("download", "--source", "tfds://mnits", "--dataset", output, env=nowhere, timeout=30)
    assert_refused(done, 2, "Dataset mnits not found", output=output)


# ---------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/nowhere/data.tar", "does not exist"),
        ("gs://bucket/key", "expected s3, http, https, file or tfds"),
        ("http://user@/x", "expected a URL"),
        ("s3://", "expected s3://bucket/key"),
    ],
)
def test_a_source_that_is_none_is_named(step, output, source, words):
    assert_refused(step("download", "--source", source, "--dataset", output), 2, words, output=output)


def test_a_missing_page_object_or_bucket_is_named(step, bucket, web, output):
    for source in (f"{web.url}/none.tar", f"s3://{bucket}/none.tar", "s3://no-such-bucket/x", "s3://no-such-bucket/x/"):
        done = step("download", "--source", source, "--dataset", output)
        assert_refused(done, 2, "--source: ", source, output=output)


def test_a_wrong_sha256_names_both_and_keeps_the_earlier_output(step, tmp_path, output):
    archive = pack(tmp_path / "data.tgz")
    wrong = "0" * 64
    done = step("download", "--source", archive, "--sha256", wrong, "--dataset", output)
    assert_refused(done, 2, wrong, sha256(archive), output=output)

    assert step("download", "--source", archive, "--dataset", output).returncode == 0
    assert step("download", "--source", archive, "--sha256", wrong, "--dataset", output).returncode == 2
    assert contents(output) == FILES
    assert step("download", "--source", archive, "--sha256", "abc", "--dataset", output).returncode == 2


def test_a_source_without_data_is_refused(step, bucket, tmp_path, output):
    (tmp_path / "nothing").mkdir()
    (tmp_path / "empty.npz").touch()
    pack(tmp_path / "empty.zip", {})
    for source in (tmp_path / "nothing", tmp_path / "empty.npz", tmp_path / "empty.zip", f"s3://{bucket}/nothing/"):
        done = step("download", "--source", source, "--dataset", output)
        assert_refused(done, 2, "expected data, received nothing", output=output)


def tar_with(name="x", kind=tarfile.REGTYPE, link="", extra=b""):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("good"))
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        archive.addfile(member)
    return buffer.getvalue() + extra


def sparse_tar(size):
    """A file of holes alone, as GNU tar writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("holes")
        told = {"major": 1, "minor": 0, "name": "holes", "realsize": size}
        member.pax_headers = {f"GNU.sparse.{name}": str(value) for name, value in told.items()}
        member.size = 512
        archive.addfile(member, io.BytesIO(b"0\n".ljust(512, b"\0")))
    return buffer.getvalue()


def large_header_tar():
    """A long name of 100 MB, which is read into memory."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 100 << 20
    return header.tobuf() + b"n" * (1 << 20)


HOSTILE_TARS = {
    "a sparse file of 1 TB": sparse_tar(1 << 40),
    "a long header": large_header_tar(),
    "a name that is no UTF-8": tar_with("\udc80.png"),
    "an escape sequence in a name": tar_with("\x1b[31mred.png"),
    "a line break in a name": tar_with("a\nb.png"),
    "a long name": tar_with("n" * 20_000),
    "a long path": tar_with("folder/" * 60 + "n" * 250 + "/" + "n" * 250 + "/" + "n" * 200),
    "many folders in each other": tar_with("d/" * 65 + "x"),
    "a record that is not ours": tar_with("download.json"),
    "a path upwards": tar_with("../escaped"),
    "a path upwards in the middle": tar_with("a/../../escaped"),
    "an absolute path": tar_with("/tmp/escaped"),
    "a symbolic link": tar_with("link", tarfile.SYMTYPE, "/etc/passwd"),
    "a harmless symbolic link": tar_with("link", tarfile.SYMTYPE, "good"),
    "a hard link": tar_with("link", tarfile.LNKTYPE, "../../etc/passwd"),
    "a device": tar_with("null", tarfile.CHRTYPE),
    "a pipe": tar_with("pipe", tarfile.FIFOTYPE),
    "a file below a file": tar_with("good/below"),
    "no tar": b"this is not a tar" * 100,
    "a page of HTML": b"<html>not found</html>",
    "nothing": b"",
    "garbage after the first member": tar_with()[:512] + b"garbage!" * 64 + tar_with()[1024:],
    "no end": tar_with()[:1024],
}


@pytest.mark.parametrize("case", HOSTILE_TARS)
def test_a_hostile_tar_is_refused(step, tmp_path, output, case):
    (tmp_path / "data.tar").write_bytes(HOSTILE_TARS[case])
    done = step("download", "--source", tmp_path / "data.tar", "--dataset", output)
    assert_refused(done, 2, "download.json" if "record" in case else "data.tar: ", output=output)
    assert len(done.stderr.split("\n")[-2]) < 300
    assert done.stderr.replace("\n", "").isprintable()
    assert not (tmp_path / "escaped").exists()
    assert not (tmp_path / "out" / "escaped").exists()


def zip_with(name="x", mode=stat.S_IFREG, content=b"data"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(name)
        entry.create_system, entry.external_attr = 3, (mode | 0o644) << 16
        archive.writestr(entry, content)
    return buffer.getvalue()


def bomb():
    """A zip whose directory claims 4 GB for some hundred bytes."""
    data = zip_with(content=b"\0" * 1000)
    size = (1000).to_bytes(4, "little")
    return data.replace(size, b"\xf0\xff\xff\xff")


HOSTILE_ZIPS = {
    "a path upwards": zip_with("../escaped"),
    "an absolute path": zip_with("/tmp/escaped"),
    "a path of Windows": zip_with("..\\escaped"),
    "a symbolic link": zip_with("link", stat.S_IFLNK, b"/etc/passwd"),
    "a device": zip_with("null", stat.S_IFCHR),
    "a bomb": bomb(),
    "a wrong checksum": zip_with(content=b"data").replace(b"data", b"DATA"),
    "no zip": b"not a zip",
    "a password": zip_with().replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
}


@pytest.mark.parametrize("case", HOSTILE_ZIPS)
def test_a_hostile_zip_is_refused(step, tmp_path, output, case):
    (tmp_path / "data.zip").write_bytes(HOSTILE_ZIPS[case])
    done = step("download", "--source", tmp_path / "data.zip", "--dataset", output)
    assert_refused(done, 2, "data.zip: ", output=output)
    assert not (tmp_path / "out" / "escaped").exists()


@pytest.mark.parametrize("name", ["data.tar.gz", "data.zip", "folder", "a file", "of unknown size"])
@pytest.mark.parametrize(("option", "limit"), [("--max-bytes", 300_000), ("--max-files", 1)])
def test_more_than_the_limit_is_refused(step, tmp_path, web, folder, output, name, option, limit):
    sources = {
        "folder": folder,
        "a file": folder / "train" / "a.bin",
        "of unknown size": f"{web.url}/data.bin",
    }
    source = sources.get(name, tmp_path / name)
    if name.startswith("data."):
        pack(source)
    if name in ("a file", "of unknown size"):
        if option == "--max-files":
            return
        limit -= 1
    shutil.copy(folder / "train" / "a.bin", web.folder / "data.bin")
    web.told = False
    done = step("download", "--source", source, option, limit, "--dataset", output)
    assert_refused(done, 2, f"expected at most {limit:,} ", f"raise {option}", output=output)


def test_what_an_earlier_download_wrote_can_be_fetched(step, folder, tmp_path, output):
    assert step("download", "--source", folder, "--dataset", tmp_path / "first").returncode == 0
    done = step("download", "--source", tmp_path / "first", "--dataset", output)
    assert done.returncode == 0, done.stderr
    record = json.loads((output / "download.json").read_text())
    assert (record["source"], record["files"]) == (str(tmp_path / "first"), len(FILES))


@pytest.mark.parametrize("name", ["data.tar", "data.tar.gz", "data.tar.bz2", "data.tar.xz", "data.zip"])
def test_an_archive_cut_anywhere_is_refused(step, tmp_path, output, name):
    files = {"a": random.Random(2).randbytes(3000), "b/c": b"text" * 700}
    whole = pack(tmp_path / name, files).read_bytes()
    end = whole.rstrip(b"\0") if name == "data.tar" else whole  # a tar's last zeros are padding
    for length in [*range(0, len(end), max(1, len(end) // 60)), len(end) - 1]:
        folder = tmp_path / f"cut-{length}"
        folder.mkdir()
        with pytest.raises(BadInput, match=f"^{name}: the archive is damaged or truncated"):
            extract(name, io.BytesIO(whole[:length]), folder, Room(folder))
    (tmp_path / name).write_bytes(whole[: len(end) * 2 // 3])
    done = step("download", "--source", tmp_path / name, "--dataset", output)
    assert_refused(done, 2, "damaged or truncated", output=output)


@pytest.mark.parametrize(("ending", "compression"), [("gz", gzip), ("bz2", bz2), ("xz", lzma)])
def test_a_compressed_stream_of_several_members_is_one_archive(tmp_path, ending, compression):
    whole = pack(tmp_path / "data.tar").read_bytes()
    packed = b"".join(compression.compress(whole[start : start + 50_000]) for start in range(0, len(whole), 50_000))
    (tmp_path / "out").mkdir()
    extract(f"data.tar.{ending}", io.BytesIO(packed + b"\0" * 512), tmp_path / "out", Room(tmp_path / "out"))
    assert contents(tmp_path / "out") == FILES
    with pytest.raises(BadInput):
        extract(f"data.tar.{ending}", io.BytesIO(packed + b"garbage"), tmp_path / "out", Room(tmp_path / "out"))


def test_a_hostile_xz_cannot_ask_for_much_memory(tmp_path):
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 30}]
    packed = lzma.LZMACompressor(filters=filters)
    content = packed.compress(pack(tmp_path / "data.tar").read_bytes()) + packed.flush()
    with pytest.raises(BadInput, match="Memory usage limit"):
        extract("data.tar.xz", io.BytesIO(content), tmp_path, Room(tmp_path))


@pytest.mark.parametrize("name", ["photos.7z", "photos.RAR", "photos.tar.zst"])
def test_archives_that_are_not_read_are_refused_at_once(step, tmp_path, output, name):
    (tmp_path / name).write_bytes(b"7z")
    done = step("download", "--source", tmp_path / name, "--dataset", output)
    assert_refused(done, 2, f".tar.xz, .txz, .zip, received '{name}'", output=output)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nothing", "a link to nothing"),
        ("train", "a link to a folder"),
        ("/etc/hostname", "a link to what is not below the source"),
        ("../secret", "a link to what is not below the source"),
    ],
)
def test_a_link_that_would_be_lost_is_refused(step, folder, output, target, words):
    (folder.parent / "secret").write_text("s3cret")
    (folder / "link").symlink_to(target)
    done = step("download", "--source", folder, "--dataset", output)
    assert_refused(done, 2, f"{folder}/link", words, output=output)


def test_a_zip_of_a_version_that_does_not_exist_is_a_damaged_one(tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.txt", "a")
    written = bytearray(content.getvalue())
    written[written.rindex(b"PK\x01\x02") + 6] = 248
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(BadInput, match=r"damaged or truncated \(zip file version 24.8\); fetch or pack it again"):
        extract("data.zip", io.BytesIO(written), folder, Room(folder, max_bytes=1000, max_files=5))


def test_a_folder_that_cannot_be_read_is_refused_and_not_left_out(folder, monkeypatch):
    def closed(path, scandir=os.scandir):
        if Path(path).name == "train":
            raise PermissionError(13, "Permission denied", str(path))  # root, who runs the tests, is denied nothing
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(
        BadInput, match=r"train' cannot be read \(Permission denied\); change its permissions or remove"
    ):
        list_folder(folder)


# ---------------------------------------------------------------- network


class WebServer:
    """A web server that can be told to misbehave.

    Attributes:
        cut: Bytes after which a response breaks off; None: never.
        ranges: Whether it serves a range, or always the whole file.
        tag: The ETag of what it serves; changing it means the file was replaced.
        password: The Authorization header it wants.
        status: Answers of the next requests, before it serves.
        elsewhere: Where the path `/moved` redirects to.
        told: Whether it tells the size of what it serves.
        users: The Authorization headers of its requests.
    """

    def __init__(self, folder):
        self.folder = folder
        self.cut, self.ranges, self.tag, self.password, self.status = None, True, '"one"', None, []
        self.requests, self.users, self.elsewhere, self.told = [], [], "", True
        handler = functools.partial(WebHandler, self)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class WebHandler(http.server.BaseHTTPRequestHandler):
    def __init__(self, web, *args):
        self.web = web
        super().__init__(*args)

    def do_GET(self):
        self.web.requests.append(self.headers.get("Range"))
        path = self.web.folder / urllib.parse.unquote(self.path.partition("?")[0]).lstrip("/")
        self.web.users.append(self.headers.get("Authorization"))
        if path.name == "moved":
            self.send_response(302)
            self.send_header("Location", self.web.elsewhere)
            return self.end_headers()
        if self.web.status:
            return self.send_error(self.web.status.pop(0))
        if self.web.password and self.headers.get("Authorization") != self.web.password:
            return self.send_error(401)
        if not path.is_file():
            return self.send_error(404)
        content = path.read_bytes()
        start = 0
        wanted = self.headers.get("Range")
        if wanted and self.web.ranges and self.headers.get("If-Range", self.web.tag) == self.web.tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if self.web.told:
            self.send_header("Content-Length", str(len(content) - start))
        if self.web.tag:
            self.send_header("ETag", self.web.tag)
        self.end_headers()
        end = None if self.web.cut is None else start + self.web.cut
        self.wfile.write(content[start:end])
        return None

    def log_message(self, *_):
        pass


class CuttingProxy:
    """Passes connections on to a server, and breaks each one off after so many bytes of its answers."""

    def __init__(self, url, cut):
        self._host, self._port = url.removeprefix("http://").split(":")
        self._cut = cut
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection((self._host, int(self._port)))
            threading.Thread(target=self._pass, args=(client, server, 1 << 40), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, self._cut), daemon=True).start()

    @staticmethod
    def _pass(source, target, left):
        with contextlib.suppress(OSError):
            while left > 0 and (data := source.recv(min(left, 65536))):
                target.sendall(data)
                left -= len(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._listener.close()


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("tag", ['"one"', None])
def test_a_broken_connection_is_resumed(step, web, output, ranges, tag):
    archive = pack(web.folder / "data.tar.gz")
    web.ranges, web.tag = ranges, tag
    web.cut = 120_000 if ranges else None
    web.status = [503]
    if not ranges:
        web.cut = 200_000
        threading.Thread(target=lambda: heal(web), daemon=True).start()
    done = step("download", "--source", f"{web.url}/data.tar.gz", "--sha256", sha256(archive), "--dataset", output)
    assert done.returncode == 0, done.stderr
    assert contents(output) == FILES
    assert [wanted for wanted in web.requests if wanted]


def heal(web):
    """Let the server serve whole files once it was asked to resume."""
    while not any(web.requests):
        time.sleep(0.01)
    web.cut = None


def test_a_file_that_is_replaced_meanwhile_is_never_mixed(step, web, output):
    pack(web.folder / "data.tar.gz")
    web.cut = 120_000
    source = f"{web.url}/data.tar.gz"

    def replace():
        while not web.requests:
            time.sleep(0.005)
        time.sleep(0.05)
        web.tag = '"two"'

    threading.Thread(target=replace, daemon=True).start()
    done = step("download", "--source", source, "--dataset", output)
    assert_refused(done, 1, source, "was replaced while it was fetched", output=output)


def test_a_server_that_never_gets_further_is_given_up(step, web, output):
    pack(web.folder / "data.tar.gz")
    web.cut = 0
    done = step("download", "--source", f"{web.url}/data.tar.gz", "--dataset", output)
    assert_refused(done, 1, f"{web.url}/data.tar.gz: ", "gave up after 5 attempts", output=output)


def test_a_broken_connection_to_the_store_is_resumed(step, store, bucket, tmp_path, output):
    files = {"big": random.Random(3).randbytes(5_000_000)}
    archive = pack(tmp_path / "data.tar.gz", files)
    store.client.upload_file(str(archive), bucket, "data.tar.gz")
    proxy = CuttingProxy(store.environment["AWS_ENDPOINT_URL"], cut=2_000_000)
    source = f"s3://{bucket}/data.tar.gz"
    done = step("download", "--source", source, "--dataset", output, env={"AWS_ENDPOINT_URL": proxy.url})
    proxy.close()
    assert done.returncode == 0, done.stderr
    assert contents(output) == files
    assert proxy.connections >= 3


def test_a_store_whose_answers_break_off_in_their_headers_is_given_up_in_one_line(step, store, bucket, output):
    store.client.put_object(Bucket=bucket, Key="data.bin", Body=b"x" * 1000)
    proxy = CuttingProxy(store.environment["AWS_ENDPOINT_URL"], cut=60)
    source = f"s3://{bucket}/data.bin"
    done = step("download", "--source", source, "--dataset", output, env={"AWS_ENDPOINT_URL": proxy.url})
    proxy.close()
    assert_refused(done, 1, "its responses are incomplete", output=output)


def test_a_store_that_refuses_or_is_not_there_is_told_apart(step, bucket, output):
    source = f"s3://{bucket}/data.tar"
    for wrong, words in (
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "AWS_ENDPOINT_URL"),
    ):
        done = step("download", "--source", source, "--dataset", output, env=wrong, timeout=35)
        assert_refused(done, 1, source, words, output=output)
    done = step("download", "--source", source, "--dataset", output, env={"AWS_ENDPOINT_URL": "nonsense"})
    assert_refused(done, 2, "AWS_ENDPOINT_URL", output=output)


# ---------------------------------------------------------------- this machine


def test_memory_stays_flat(tmp_path, output):
    """300 MB pass through less than a third of it."""
    piece = random.Random(4).randbytes(1 << 20)
    with tarfile.open(tmp_path / "data.tar.gz", "w:gz", compresslevel=0) as archive:
        for number in range(3):
            member = tarfile.TarInfo(f"{number}.bin")
            member.size = 100 << 20
            archive.addfile(member, Repeated(piece))
    measure = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
    measure += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    command = ["-m", "trainyard.components.download", "--source", tmp_path / "data.tar.gz", "--dataset", output]
    command = [sys.executable, "-c", measure, sys.executable, *command]
    said = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    assert (output / "2.bin").stat().st_size == 100 << 20
    shutil.rmtree(output)
    (tmp_path / "data.tar.gz").unlink()
    assert int(said) * (1 if sys.platform == "darwin" else 1024) < 100e6


class Repeated:
    """An endless file of one piece."""

    def __init__(self, piece):
        self._piece = piece

    def read(self, size):
        return (self._piece * (size // len(self._piece) + 1))[:size]


@pytest.mark.parametrize("name", ["data.tar.gz", "data.zip", "data.bin"])
def test_a_full_disk_is_said_plainly_and_left_clean(step, tmp_path, small_disk, name):
    content = random.Random(5).randbytes(3_000_000)
    if name == "data.bin":
        (tmp_path / name).write_bytes(content)
    else:
        pack(tmp_path / name, {"big": content})
    done = step("download", "--source", tmp_path / name, "--dataset", small_disk / "dataset")
    assert_refused(done, 1, f"the disk of {small_disk} is full", output=small_disk / "dataset")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ended_by_a_signal_it_leaves_nothing(web, output, number):
    web.cut = 100_000
    pack(web.folder / "data.tar.gz")
    command = [
        sys.executable,
        "-m",
        "trainyard.components.download",
        "--source",
        f"{web.url}/data.tar.gz",
        "--dataset",
        output,
    ]
    process = subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True)
    while not web.requests:
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    assert list(output.parent.iterdir()) == []


def test_killed_at_any_moment_it_shows_no_output(step, web, output):
    archive = pack(web.folder / "data.tar.gz", FILES | {f"{number}": b"x" * 2000 for number in range(2000)})
    command = [
        sys.executable,
        "-m",
        "trainyard.components.download",
        "--source",
        f"{web.url}/data.tar.gz",
        "--dataset",
        output,
    ]
    moments = random.Random(7)
    for _ in range(8):
        process = subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.DEVNULL)
        time.sleep(moments.uniform(0.05, 0.4))
        process.kill()
        process.wait()
        assert not output.exists() or contents(output).keys() >= FILES.keys()
    done = step("download", "--source", f"{web.url}/data.tar.gz", "--sha256", sha256(archive), "--dataset", output)
    assert done.returncode == 0
    assert len(contents(output)) == len(FILES) + 2000
