"""Hostile archives, evaluations that lie, and flipped bits: refused in one line, or read."""

import io
import json
import shutil
import tarfile
import zipfile

import pytest

from tests.made_up import made_up_evaluation
from tests.serving import publish
from tests.test_download import HOSTILE_TARS, HOSTILE_ZIPS
from tests.test_export import make_model
from trainyard.components.common.artifacts import published
from trainyard.components.common.artifacts.evaluation import EVALUATION, Evaluation
from trainyard.components.common.cli import LONGEST_LINE, BadInput
from trainyard.components.common.fetching.archives import extract
from trainyard.components.common.fetching.limits import Room

HOSTILE = ["../x", "/x", "a/../../x", "\udcff", "n" * 300, "d/" * 80 + "x", "\x07", "x\ny", "", ".", "b\\c"]
NAMES = [*HOSTILE, *["a", "b/c", "a/b", "ü", "b"] * 6]
KINDS = [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
ODD_HEADERS = [{name: value} for name in ("path", "size", "GNU.sparse.realsize") for value in ("-1", "9" * 30)]


def told(error):
    """The outcome of a refusal."""
    return "refused in one line" if len(str(error)) < LONGEST_LINE else f"refused in {len(str(error)):,} characters"


def random_tar(chance):
    buffer = io.BytesIO()
    formats = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
    with tarfile.open(fileobj=buffer, mode="w", format=chance.choice(formats)) as archive:
        for _ in range(chance.randrange(1, 6)):
            member = tarfile.TarInfo(chance.choice(NAMES))
            member.type, member.linkname = chance.choice([tarfile.REGTYPE] * 30 + KINDS), chance.choice(NAMES)
            content = chance.randbytes(chance.randrange(2000)) if member.isreg() else b""
            member.size = len(content)
            if chance.random() < 0.1:
                member.pax_headers = chance.choice(ODD_HEADERS)
            try:
                archive.addfile(member, io.BytesIO(content))
            except (ValueError, UnicodeError):  # a name that this format cannot hold
                continue
    return buffer.getvalue()


def random_zip(chance):
    buffer = io.BytesIO()
    compression = chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for number in range(chance.randrange(1, 6)):
            name = chance.choice(NAMES).encode(errors="replace").decode()
            entry = zipfile.ZipInfo(name or str(number))
            entry.external_attr = chance.choice([0, 0o100644] * 8 + [0o120777, 0o40755, 0o20666]) << 16
            archive.writestr(entry, chance.randbytes(chance.randrange(2000)))
    return buffer.getvalue()


def damaged(content, chance):
    """The content with some bytes changed, cut off, or put twice."""
    content = bytearray(content)
    for _ in range(chance.choice([0, 0, 1, 3, 20])):
        if content:
            content[chance.randrange(len(content))] = chance.randrange(256)
    if chance.random() < 0.2:
        del content[chance.randrange(len(content) + 1) :]
    return bytes(content)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_archive_puts_nothing_outside_and_says_one_line(tmp_path, chance, rounds, note):
    given = [("data.tar", content) for content in HOSTILE_TARS.values()]
    given += [("data.zip", content) for content in HOSTILE_ZIPS.values()]
    for _ in rounds(brief=200, full=2000):
        if chance.random() < 0.5:
            given.append(("data.tar", damaged(random_tar(chance), chance)))
        else:
            given.append(("data.zip", damaged(random_zip(chance), chance)))
    for name, content in given:
        folder = tmp_path / "inside" / "folder"
        folder.mkdir(parents=True)
        try:
            extract(name, io.BytesIO(content), folder, Room(folder, max_bytes=100_000, max_files=50))
            outcome = "unpacked"
        except BadInput as error:
            outcome = told(error)
        assert [path.name for path in tmp_path.iterdir()] == ["inside"]
        assert [path.name for path in folder.parent.iterdir()] == ["folder"]
        assert not [path for path in folder.rglob("*") if path.is_symlink() or not (path.is_file() or path.is_dir())]
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 100_000
        shutil.rmtree(tmp_path / "inside")
        note("hostile archives", outcome)


def lies(written, chance):
    """An evaluation with some of its values replaced, dropped, or nested without end."""
    values = [None, True, -1, 10**400, float("nan"), "x" * 10_000, [], {}, "\x1b[2J", 1e308, "0.97"]
    for name in chance.sample(sorted(written), chance.randrange(1, 4)):
        if chance.random() < 0.3:
            del written[name]
        else:
            written[name] = chance.choice(values)
    content = json.dumps(written)
    return chance.choice([content] * 8 + [content[: len(content) // 2], "[" * 100_000, "7", "", "null"])


def test_an_evaluation_that_lies_is_refused_in_one_line(tmp_path, chance, rounds, note):
    model = make_model(tmp_path / "model", seed=1)
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    made_up_evaluation(model, passed=False).write(evaluation)
    truth = (evaluation / EVALUATION).read_text()
    for _ in rounds(brief=200, full=2000):
        (evaluation / EVALUATION).write_text(lies(json.loads(truth), chance))
        try:
            assert not Evaluation.of(model, evaluation).passed
            outcome = "read, and the gate holds"
        except BadInput as error:
            outcome = told(error)
        note("evaluations that lie", outcome)


def test_a_flipped_bit_in_a_published_version_is_found(tmp_path, chance, rounds, note):
    model = make_model(tmp_path / "model", seed=1)
    uri = publish(model, tmp_path / "published" / "1", 1)
    files = [path for path in (tmp_path / "published").rglob("*") if path.is_file()]
    for _ in rounds(brief=40, full=400):
        path = chance.choice(files)
        content = path.read_bytes()
        place = chance.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << chance.randrange(8))]) + content[place + 1 :])
        try:
            published.fetch(published.find(uri), tmp_path / "fetched")
            assert path.name == "manifest.json"  # a name or number that nothing in the version contradicts
            outcome = "in a name or number of the manifest"
            shutil.rmtree(tmp_path / "fetched")
        except (BadInput, RuntimeError):
            outcome = "found"
        assert not (tmp_path / "fetched").exists()
        path.write_bytes(content)
        note("bits flipped in published versions", outcome)
