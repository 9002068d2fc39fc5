"""What a source is, by its server's words, its name and its first bytes; names in archives; damaged transfers."""

import base64
import bz2
import gzip
import hashlib
import http.server
import io
import lzma
import random
import shutil
import tarfile
import threading
import time
import zipfile
import zlib

import numpy as np
import pytest

from tests.test_download import contents, pack, pack_tar, pack_zip, tar_with, zip_with
from trainyard.components.common.cli import BadInput
from trainyard.components.common.fetching.fetch import fetch

FILES = {"train/a/0.bin": b"zero" * 5000, "test/a/1.bin": b"one"}
PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in - Files</title></head><body>...</body></html>"


class Site:
    """A web server: `.answers` are status, headers and content by path; the last of several is given again."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                path = self.path.partition("?")[0]
                site.asked.append(path)
                answers = site.answers[path]
                status, headers, content = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(content))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def serve(self, path, *contents, status=200, **headers):
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[path] = [(status, told, content) for content in contents]

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def site():
    running = Site()
    yield running
    running.close()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "made"
    made.mkdir()
    return made


@pytest.fixture
def packed(tmp_path):
    """The files in archives of each kind, by ending."""
    endings = (".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz")
    return {ending: pack(tmp_path / f"data{ending}", FILES).read_bytes() for ending in endings}


@pytest.mark.parametrize("path", ["/uc?id=3", "/flowers.zip?dl=0", "/data.npz"])
@pytest.mark.parametrize("media", ["text/html; charset=utf-8", "application/zip"])
def test_a_web_page_in_place_of_the_data_is_called_one(site, folder, path, media):
    site.serve(path.partition("?")[0], PAGE, Content_Type=media)
    with pytest.raises(BadInput, match=r"received a web page 'Sign in - Files'; pass the link of the download itself"):
        fetch(site.url + path, folder)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b'{"error": "quota exceeded"}', r"received JSON \('{\"error\": \"quota exceeded\"}'\)"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "received XML"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "received a pointer of Git LFS"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "received 7z"),
        (b"Rar!\x1a\x07\x01" + bytes(50), "received RAR"),
        (b"d8:announce23:http://tracker.example/", "received a torrent"),
        (
            b'<?xml version="1.0"?>\n<metalink xmlns="urn:ietf:params:xml:ns:metalink">',
            r"a list of mirrors \(Metalink\)",
        ),
        (b"404: Not Found", r"received text \('404: Not Found'\)"),
        (gzip.compress(b"Rate limit exceeded" * 99), "received text"),
        ("Zu viele Anfragen".encode("utf-16"), r"received text \('Zu viele Anfragen'\)"),
        (b"PK\x07\x08PK\x03\x04" + bytes(50), "received the first part of a zip in several"),
    ],
)
@pytest.mark.parametrize("name", ["data.zip", "data.tar.gz", "data"])
def test_what_else_comes_in_place_of_an_archive_is_named(site, folder, name, content, kind):
    if name == "data" and content.startswith(b"\x1f\x8b"):
        pytest.skip("it may be any compressed file")
    site.serve(f"/{name}", content, Content_Type="application/octet-stream")
    with pytest.raises(BadInput, match=kind):
        fetch(f"{site.url}/{name}", folder)


@pytest.mark.parametrize("name", ["data.npz", "train.npy", "digits.parquet", "cat.png", "train-images-idx3-ubyte.gz"])
def test_a_message_in_place_of_a_file_of_data_is_shown(site, folder, name):
    site.serve(f"/{name}", b'{"message": "token expired"}', Content_Type="text/plain")
    with pytest.raises(BadInput, match=r"expected a data set, received JSON .*token expired"):
        fetch(f"{site.url}/{name}", folder)
    site.serve("/labels.csv", b"file_name,label\na.png,cat\n", Content_Type="text/plain")
    assert fetch(f"{site.url}/labels.csv", folder).files == 1


@pytest.mark.parametrize("name", ["data.zip.001", "data.z01", "data.tar.gz.aa", "data.7z.002", "data.part1.rar"])
def test_a_part_of_an_archive_is_named(site, folder, packed, name):
    site.serve(f"/{name}", packed[".zip"][:500])
    with pytest.raises(BadInput, match=f"expected a whole archive, received '{name}', a part of one; join the parts"):
        fetch(f"{site.url}/{name}", folder)


def test_the_last_part_of_a_zip_in_several_is_named(tmp_path, folder, packed):
    end = packed[".zip"].index(b"PK\5\6") + 4
    (tmp_path / "data.zip").write_bytes(packed[".zip"][:end] + b"\2\0" + packed[".zip"][end + 2 :])
    with pytest.raises(BadInput, match=r"expected a whole zip, received the last of several parts; join them"):
        fetch(str(tmp_path / "data.zip"), folder)


@pytest.mark.parametrize(
    ("ending", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_a_data_file_compressed_by_itself_is_unpacked(site, folder, ending, compress):
    array = io.BytesIO()
    np.savez(array, x=np.arange(3))
    whole = compress(array.getvalue())
    site.serve(f"/digits.npz{ending}", whole)
    assert fetch(f"{site.url}/digits.npz{ending}", folder).bytes == len(whole)
    assert contents(folder) == {"digits.npz": array.getvalue()}
    site.serve(f"/digits.npz{ending}", whole[:-9])
    with pytest.raises(BadInput, match=r"it is damaged or truncated"):
        fetch(f"{site.url}/digits.npz{ending}", folder)


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
@pytest.mark.parametrize("name", ["download", "data.zip", "data.tar", "get.php"])
def test_an_archive_is_known_by_its_content_whatever_its_name(site, folder, packed, ending, name):
    if name == "get.php" and ending == ".tar.bz2":
        pytest.skip("its content begins after 900 kB")
    site.serve(f"/{name}", packed[ending])
    fetch(f"{site.url}/{name}", folder)
    assert contents(folder) == FILES


def test_other_files_without_an_ending_get_theirs(site, folder):
    array = io.BytesIO()
    np.savez(array, x=np.arange(3))
    site.serve("/file", array.getvalue())
    fetch(f"{site.url}/file", folder)
    assert [path.name for path in folder.iterdir()] == ["file.npz"]


@pytest.mark.parametrize(
    "said", [{}, {"Content_Disposition": 'attachment; filename="Bücher.zip"'.encode().decode("latin-1")}]
)
def test_a_redirect_is_called_as_its_end(site, folder, packed, said):
    site.serve("/latest", b"", status=302, Location="/files/digits.npz?signature=5ecre7")
    array = io.BytesIO()
    np.savez(array, x=np.arange(3))
    site.serve("/files/digits.npz", packed[".zip"] if said else array.getvalue(), **said)
    fetch(f"{site.url}/latest", folder)
    assert contents(folder) == (FILES if said else {"digits.npz": array.getvalue()})


@pytest.mark.parametrize(("name", "encoded"), [("data.zip", True), ("data.tar.gz", True), ("data.tar.gz", False)])
def test_gzip_that_nobody_asked_for_is_undone(site, folder, packed, name, encoded):
    """Some servers call the gzip of a .tar.gz itself an encoding."""
    content = packed[name.removeprefix("data")]
    site.serve(f"/{name}", gzip.compress(content) if encoded else content, Content_Encoding="gzip")
    fetch(f"{site.url}/{name}", folder)
    assert contents(folder) == FILES


def test_a_transfer_that_was_damaged_is_made_again(site, folder, packed):
    whole = packed[".tar.gz"]
    damaged = [whole[:60] + bytes([whole[60] ^ flip]) + whole[61:] for flip in (1, 2, 4)]
    site.serve("/data.tar.gz", damaged[0], whole)
    assert fetch(f"{site.url}/data.tar.gz", folder).files == 2
    assert contents(folder) == FILES

    site.serve("/data.tar.gz", *damaged)
    with pytest.raises(ConnectionError, match="the transfer damages it, 3 of them gave other bytes each"):
        fetch(f"{site.url}/data.tar.gz", folder)

    site.asked.clear()
    site.serve("/data.tar.gz", damaged[0])
    with pytest.raises(BadInput, match="damaged or truncated"):
        fetch(f"{site.url}/data.tar.gz", folder)
    assert len(site.asked) == 2


def test_a_transfer_whose_gzip_was_damaged_is_made_again(site, folder):
    array = io.BytesIO()
    np.savez(array, x=np.arange(3))
    whole = gzip.compress(array.getvalue())
    site.serve("/data.npz", whole[:-9], whole, Content_Encoding="gzip")
    fetch(f"{site.url}/data.npz", folder)
    assert contents(folder) == {"data.npz": array.getvalue()}
    site.serve("/data.npz", whole[:-9], Content_Encoding="gzip")
    with pytest.raises(BadInput, match="the gzip that its server made for the transfer is damaged or truncated"):
        fetch(f"{site.url}/data.npz", folder)


@pytest.mark.parametrize(
    "part", [{}, {"Content_Range": "bytes 0-9999/10000"}, {"Content_Range": "bytes 3000-9999/10000"}], ids=str
)
def test_a_server_that_sends_another_part_than_asked_for_is_asked_for_the_whole(site, folder, part):
    """Such as one behind a cache that takes the range for done."""
    whole = bytes(range(250)) * 40
    site.serve("/data.bin", whole, ETag='"one"')
    (ok, headers, content), told = (
        site.answers["/data.bin"][0],
        {name.replace("_", "-"): of for name, of in part.items()},
    )
    site.answers["/data.bin"] = [
        (ok, headers | {"Content-Length": "10000"}, content[:2500]),
        (206, headers | told, content),
        (ok, headers, content),
    ]
    fetch(f"{site.url}/data.bin", folder)
    assert contents(folder) == {"data.bin": whole}


def test_a_part_that_nobody_asked_for_and_a_file_being_made_are_not_taken(site, folder, monkeypatch):
    monkeypatch.setattr("trainyard.components.common.fetching.streams._DELAYS", (0.0,))
    for status in (202, 206):
        site.serve("/data.bin", b"\0part", status=status, Content_Range="bytes 0-4/10000")
        with pytest.raises(ConnectionError, match=f"answers {status} .* in place of the whole file"):
            fetch(f"{site.url}/data.bin", folder)


def test_a_busy_server_says_when_to_come_back(site, folder):
    site.serve("/data.bin", b"\0data")
    site.answers["/data.bin"].insert(0, (429, {"Retry-After": "2"}, b""))
    began = time.monotonic()
    fetch(f"{site.url}/data.bin", folder)
    assert time.monotonic() - began >= 2
    site.serve("/later.bin", b"", status=503, Retry_After="9999")
    with pytest.raises(OSError, match=r"answers 503 Service Unavailable and asks to wait 9,999 s; run again then"):
        fetch(f"{site.url}/later.bin", folder)
    assert site.asked.count("/later.bin") == 1


def test_a_file_with_another_digest_is_fetched_again(site, folder):
    site.serve("/data.npz", b"\0damaged", b"\0whole")
    digest = "9c3d6f3ba9f5ad8a5a17d8bd9bf8f4d1c1a9c2d1c8f0f2d0c2d8f0a4c5b6d7e8"
    with pytest.raises(BadInput, match=f"expected {digest}"):
        fetch(f"{site.url}/data.npz", folder, digest)
    assert len(site.asked) == 3


def zip_without_flag(names):
    """A zip whose names are these bytes, without the flag that says which encoding they are in."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index, name in enumerate(names):
            archive.writestr("".join(f"{index}" * len(name)), b"data")
    content = buffer.getvalue()
    for index, name in enumerate(names):
        content = content.replace(f"{index}".encode() * len(name), name)
    return content


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("Löwe/1.jpg".encode(), "Löwe/1.jpg"),
        ("動物/1.jpg".encode(), "動物/1.jpg"),
        ("Löwe/1.jpg".encode("cp437"), "Löwe/1.jpg"),
        (b"train\\cat\\1.jpg", "train/cat/1.jpg"),
        ("動物/1.jpg".encode("gbk"), ""),
        ("犬/1.jpg".encode("shift-jis"), ""),
    ],
)
def test_names_in_a_zip_are_read_right_or_refused(tmp_path, folder, capsys, name, read):
    (tmp_path / "data.zip").write_bytes(zip_without_flag([name]))
    if read:
        fetch(str(tmp_path / "data.zip"), folder)
        assert contents(folder) == {read: b"data"}
        told = f"1 name not in UTF-8 read as code page 437: {read}; if they look wrong"
        assert (told in capsys.readouterr().err) == (name not in (read.encode(), read.replace("/", "\\").encode()))
    else:
        with pytest.raises(BadInput, match=r"data.zip: expected names in UTF-8, received .* in another encoding"):
            fetch(str(tmp_path / "data.zip"), folder)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("Löwe/1.jpg".encode(), "Löwe/1.jpg"),
        ("Löwe/1.jpg".encode("latin-1"), "Löwe/1.jpg"),
        (b"train\\cat\\1.jpg", "train/cat/1.jpg"),
        ("老虎/1.jpg".encode("gbk"), ""),
        ("кот/1.jpg".encode("cp1251"), ""),
        ("Crème brûlée/été.jpg".encode("latin-1"), "Crème brûlée/été.jpg"),
    ],
)
def test_names_in_a_tar_are_read_right_or_refused(tmp_path, folder, capsys, name, read):
    with tarfile.open(tmp_path / "data.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
        member.size = 4
        archive.addfile(member, io.BytesIO(b"data"))
    if read:
        fetch(str(tmp_path / "data.tar"), folder)
        assert contents(folder) == {read: b"data"}
        told = f"1 name not in UTF-8 read as Latin-1: {read}; if they look wrong"
        assert (told in capsys.readouterr().err) == (name not in (read.encode(), read.replace("/", "\\").encode()))
    else:
        with pytest.raises(BadInput, match=r"data.tar: expected names in UTF-8, received .* in another encoding"):
            fetch(str(tmp_path / "data.tar"), folder)


def digest(algorithm, content):
    return zlib.crc32(content).to_bytes(4) if algorithm == "crc32" else hashlib.new(algorithm, content).digest()


@pytest.mark.parametrize(
    ("header", "algorithm", "form"),
    [
        ("x_amz_checksum_sha256", "sha256", "{}"),
        ("Digest", "sha256", "crc32c=AAAAAA==,sha-256={}"),
        ("Repr_Digest", "sha256", "sha-256=:{}:"),
        ("Content_MD5", "md5", "{}"),
        ("x_goog_hash", "md5", "crc32c=AAAAAA==,md5={}"),
        ("Digest", "sha512", "sha-512={}"),
        ("Digest", "sha1", "SHA={}"),
        ("Content_Digest", "sha256", "sha-256=:{}:"),
        ("x_amz_checksum_sha1", "sha1", "{}"),
        ("x_amz_checksum_crc32", "crc32", "{}"),
    ],
)
def test_a_checksum_that_the_server_sends_is_compared(site, folder, packed, header, algorithm, form):
    told = {
        content: form.format(base64.b64encode(digest(algorithm, content)).decode())
        for content in (packed[".zip"], packed[".tar"])
    }
    site.serve("/right.zip", packed[".zip"], **{header: told[packed[".zip"]]})
    fetch(f"{site.url}/right.zip", folder)
    assert contents(folder) == FILES
    site.serve("/wrong.zip", packed[".zip"], **{header: told[packed[".tar"]]})
    with pytest.raises(BadInput, match=f"wrong.zip: expected {algorithm} .* as its server tells, received .*; correct"):
        fetch(f"{site.url}/wrong.zip", folder)


@pytest.mark.parametrize(
    "headers",
    [
        {"x_amz_checksum_sha256": base64.b64encode(bytes(32)).decode() + "-2"},
        {"x_goog_hash": f"md5={base64.b64encode(bytes(16)).decode()}", "x_goog_stored_content_encoding": "gzip"},
    ],
    ids=["of parts", "of the compressed file"],
)
def test_a_checksum_of_something_else_is_not_compared(site, folder, packed, headers):
    site.serve("/data.zip", packed[".zip"], **headers)
    fetch(f"{site.url}/data.zip", folder)
    assert contents(folder) == FILES


def test_a_compression_that_is_not_read_is_named(tmp_path, folder):
    content = bytearray(zip_with("big.bin"))
    for mark, at in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        place = content.index(mark) + at
        content[place : place + 2] = (9).to_bytes(2, "little")
    (tmp_path / "data.zip").write_bytes(content)
    with pytest.raises(BadInput, match=r"received 'big.bin' packed with Deflate64, which Windows' Explorer takes"):
        fetch(str(tmp_path / "data.zip"), folder)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([b"a/1.png", b"a/1.png"], "expected different names, received 'a/1.png' twice; rename one"),
        ([b"a/1.png", b"a//1.png"], "expected different names, received 'a/1.png' twice"),
        ([b"a/1\0.png"], "expected names without control characters"),
    ],
)
def test_names_in_a_zip_that_would_lose_a_file_are_refused(tmp_path, folder, names, why):
    (tmp_path / "data.zip").write_bytes(zip_without_flag(names))
    with pytest.raises(BadInput, match=why):
        fetch(str(tmp_path / "data.zip"), folder)


def test_a_name_in_unicode_beside_the_one_of_a_zip_is_read(tmp_path, folder):
    """As Info-ZIP writes it, with the checksum of the other name: a file that was renamed since has another."""
    for name, read in ((b"_/1.jpg", "Löwe/1.jpg"), (b"b/1.jpg", "b/1.jpg")):
        entry = zipfile.ZipInfo(name.decode())
        said = b"\1" + zlib.crc32(b"_/1.jpg").to_bytes(4, "little") + "Löwe/1.jpg".encode()
        entry.extra = b"\x75\x70" + len(said).to_bytes(2, "little") + said
        with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
            archive.writestr(entry, b"data")
        fetch(str(tmp_path / "data.zip"), folder)
        assert read in contents(folder)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_in_any_compression_of_a_zip_is_damage(tmp_path, folder, method):
    with zipfile.ZipFile(tmp_path / "whole.zip", "w", method) as archive:
        archive.writestr("big.bin", random.Random(3).randbytes(3000))
    whole = (tmp_path / "whole.zip").read_bytes()
    for place in (60, 80, 1500, 2500):
        (tmp_path / "data.zip").write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        with pytest.raises(BadInput, match=r"data\.zip: the archive is damaged or truncated"):
            fetch(str(tmp_path / "data.zip"), folder)


def test_archives_in_archives_and_in_folders_are_unpacked(tmp_path, folder):
    """As in ImageNet's tar, which holds a tar for each class."""
    (tmp_path / "parts").mkdir()
    inner = {f"{name}.tar": pack_tar(tmp_path / f"{name}.tar", {"0.bin": name.encode()}) for name in "ab"}
    pack_zip(tmp_path / "parts" / "train.zip", {name: path.read_bytes() for name, path in inner.items()})
    fetch(str(tmp_path / "parts"), folder)
    assert contents(folder) == {"train/a/0.bin": b"a", "train/b/0.bin": b"b"}
    shutil.rmtree(folder / "train")
    fetch(str(tmp_path / "parts" / "train.zip"), folder)
    assert contents(folder) == {"a/0.bin": b"a", "b/0.bin": b"b"}


def test_a_damaged_archive_in_an_archive_is_named_and_limits_hold(tmp_path, folder):
    pack_zip(tmp_path / "data.zip", {"a.tar": tar_with("../escaped")})
    with pytest.raises(BadInput, match=r"a.tar: expected names below the root"):
        fetch(str(tmp_path / "data.zip"), folder)
