"""Export: a version is published whole or not at all, never changes, and is refused in plain words."""

import hashlib
import json
import random
import time

import pytest

from tests.made_up import made_up_card, made_up_evaluation
from trainyard.components.common.artifacts.names import model_name_after
from trainyard.components.common.datasets import name_from
from trainyard.components.common.files import files_below
from trainyard.components.export.address import check_address
from trainyard.components.serve.kserve.specification import check_name


def make_model(folder, seed, files=12):
    """A folder laid out like a model, of random bytes."""
    source = random.Random(seed)
    names = ["1/saved_model.pb", "1/variables/variables.index", "model.keras", "model.tflite"]
    for name in [*names, *(f"1/assets/{number}.txt" for number in range(files - len(names)))]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(source.randbytes(source.randrange(1, 60_000)))
    made_up_card(seed=seed).write(folder)
    return folder


def make_evaluation(folder, model, passed=True):
    folder.mkdir()
    made_up_evaluation(model, passed).write(folder)
    (folder / "report.html").write_text("<html></html>")
    return folder


@pytest.fixture
def fake_model(tmp_path):
    return make_model(tmp_path / "model", seed=1)


@pytest.fixture
def other_model(tmp_path):
    return make_model(tmp_path / "other", seed=2)


def keys(store, bucket, prefix=""):
    pages = store.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return sorted(item["Key"] for page in pages for item in page.get("Contents", []))


def read(store, bucket, key):
    return store.client.get_object(Bucket=bucket, Key=key)["Body"].read()


def published(store, bucket, name="mnist"):
    """The published versions, each checked: its objects are those of its manifest, byte for byte."""
    versions = []
    for key in keys(store, bucket, f"{name}/"):
        if not key.endswith("/manifest.json"):
            continue
        prefix = key.removesuffix("manifest.json")
        files = json.loads(read(store, bucket, key))["files"]
        assert keys(store, bucket, prefix) == sorted([key, *(prefix + file["path"] for file in files)])
        for file in files:
            content = read(store, bucket, prefix + file["path"])
            assert (len(content), hashlib.sha256(content).hexdigest()) == (file["size"], file["sha256"])
        versions.append(int(prefix.split("/")[-2]))
    return sorted(versions)


def same(store, bucket, prefix, folder):
    """Whether a published version holds exactly a folder's files (its evaluation and manifest aside)."""
    names = {key.removeprefix(prefix) for key in keys(store, bucket, prefix)} - {"manifest.json"}
    names = {name for name in names if not name.startswith("evaluation/")}
    return names == {path.as_posix() for path in files_below(folder)} and all(
        read(store, bucket, prefix + name) == (folder / name).read_bytes() for name in names
    )


def last_line(done):
    assert "Traceback" not in done.stderr
    return done.stderr.strip().split("\n")[-1]


def test_a_model_is_published_with_its_evaluation_and_manifest(step, store, bucket, fake_model, tmp_path):
    evaluation = make_evaluation(tmp_path / "evaluation", fake_model)
    uri = tmp_path / "outputs" / "uri"
    arguments = ["--model", fake_model, "--evaluation", evaluation, "--bucket", bucket, "--model-uri", uri]
    done = step("export", *arguments, "--model-name", "digits", "--version", "3")
    assert done.returncode == 0, done.stderr
    assert uri.read_text() == f"s3://{bucket}/digits/3/"
    assert last_line(done).startswith(f"export    s3://{bucket}/digits/3/  15 files, ")
    assert published(store, bucket, "digits") == [3]
    assert same(store, bucket, "digits/3/", fake_model)
    assert read(store, bucket, "digits/3/evaluation/report.html") == b"<html></html>"
    manifest = json.loads(read(store, bucket, "digits/3/manifest.json"))
    assert (manifest["format"], manifest["name"], manifest["version"]) == (1, "digits", 3)


def test_the_bucket_is_made_private_when_it_is_missing(step, store, bucket, fake_model):
    name = f"{bucket}-new"
    done = step("export", "--model", fake_model, "--bucket", name)
    assert done.returncode == 0, done.stderr
    assert "unevaluated" in done.stderr
    grants = store.client.get_bucket_acl(Bucket=name)["Grants"]
    assert [grant["Grantee"]["Type"] for grant in grants] == ["CanonicalUser"]


def test_versions_are_numbered_and_the_same_content_keeps_its_number(step, store, bucket, fake_model, other_model):
    def export(model, version="next"):
        done = step("export", "--model", model, "--bucket", bucket, "--version", version)
        assert done.returncode == 0, done.stderr
        return last_line(done)

    assert f"s3://{bucket}/mnist/9/" in export(fake_model, "9")
    assert f"s3://{bucket}/mnist/10/" in export(other_model)
    assert "mnist/10/" in (again := export(other_model))
    assert "already" in again
    assert "mnist/9/" in (again := export(fake_model, "9"))
    assert "already" in again
    assert f"s3://{bucket}/mnist/11/" in export(fake_model)
    assert published(store, bucket) == [9, 10, 11]


def test_a_published_version_refuses_other_content(step, store, bucket, fake_model, other_model):
    assert step("export", "--model", fake_model, "--bucket", bucket, "--version", "3").returncode == 0
    done = step("export", "--model", other_model, "--bucket", bucket, "--version", "3")
    assert done.returncode == 2
    assert f"s3://{bucket}/mnist/3/: " in last_line(done)
    assert "use --version next or 4" in last_line(done)
    assert same(store, bucket, "mnist/3/", fake_model)


@pytest.fixture
def start(start_step, bucket):
    """Start to publish a model as a version."""

    def start(model, version):
        return start_step("export", "--model", model, "--bucket", bucket, "--version", version)

    return start


def finish(*publishers):
    """Wait for publishers: their exit codes, and the last lines they said."""
    lines = [publisher.communicate(timeout=60)[1].strip().split("\n")[-1] for publisher in publishers]
    return [publisher.returncode for publisher in publishers], lines


def test_of_two_publishers_of_different_content_one_gets_the_version(store, bucket, start, fake_model, other_model):
    for version in range(3, 6):
        models = (fake_model, other_model)
        codes, said = finish(*(start(model, version) for model in models))
        assert sorted(codes) == [0, 2], said
        assert f"use --version next or {version + 1}" in said[codes.index(2)]
        assert same(store, bucket, f"mnist/{version}/", models[codes.index(0)])
    assert published(store, bucket) == [3, 4, 5]


def test_of_two_publishers_of_the_next_version_each_gets_one(store, bucket, start, fake_model, other_model):
    for attempt in range(3):
        for model in (fake_model, other_model):
            made_up_card(of=model.name, attempt=attempt).write(model)
        codes, said = finish(start(fake_model, "next"), start(other_model, "next"))
        assert codes == [0, 0], said
    assert published(store, bucket) == [1, 2, 3, 4, 5, 6]


def test_of_many_publishers_of_the_next_version_each_content_gets_one(store, bucket, start, fake_model, other_model):
    for attempt in range(3):
        for model in (fake_model, other_model):
            made_up_card(of=model.name, attempt=attempt).write(model)
        codes, said = finish(*(start(model, "next") for model in (fake_model, other_model) * 2))
        assert codes == [0] * 4, said
        assert len({line.split()[1] for line in said}) == 2, said
    assert published(store, bucket) == [1, 2, 3, 4, 5, 6]


def test_publishers_of_the_same_content_all_succeed(store, bucket, start, fake_model):
    codes, said = finish(*(start(fake_model, 3) for _ in range(3)))
    assert codes == [0, 0, 0], said
    assert published(store, bucket) == [3]
    assert same(store, bucket, "mnist/3/", fake_model)


def test_a_version_is_never_half_there(store, bucket, start, fake_model, other_model):
    """A publisher killed at any moment leaves no version behind; the next one succeeds, unless with other content."""
    make_model(fake_model, seed=1, files=25)
    moments = random.Random(7)
    unfinished = 0
    for version in range(1, 6):
        publisher = start(fake_model, version)
        while not keys(store, bucket, f"mnist/{version}/"):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.15))
        publisher.kill()
        finish(publisher)
        unfinished += f"mnist/{version}/manifest.json" not in keys(store, bucket)

        codes, said = finish(start(other_model, version))
        assert codes == [2], said
        codes, said = finish(start(fake_model, version))
        assert codes == [0], said
    assert unfinished
    assert all(same(store, bucket, f"mnist/{version}/", fake_model) for version in range(1, 6))
    assert published(store, bucket) == [1, 2, 3, 4, 5]


def test_a_begun_version_of_other_content_is_passed_over(step, store, bucket, fake_model):
    store.client.put_object(Bucket=bucket, Key="mnist/4/1/variables/variables.index", Body=b"left behind")
    done = step("export", "--model", fake_model, "--bucket", bucket)
    assert done.returncode == 0, done.stderr
    assert published(store, bucket) == [5]
    assert read(store, bucket, "mnist/4/1/variables/variables.index") == b"left behind"


def test_an_object_of_somebody_else_in_a_version_is_refused(step, store, bucket, fake_model):
    """It was put there between our first look and our upload."""
    from trainyard.components.common.store import s3
    from trainyard.components.export import publish

    entries = publish.collect(fake_model, None)
    publication = publish._Publication(s3.client(store.environment), bucket, "mnist", 3, entries)
    upload = publication._upload_files

    def upload_beside_somebody():
        store.client.put_object(Bucket=bucket, Key="mnist/3/1/stranger", Body=b"x")
        upload()

    publication._upload_files = upload_beside_somebody
    with pytest.raises(publish.Taken, match="holds 1/stranger, which is not of this model"):
        publication.publish()
    assert published(store, bucket) == []


def test_a_model_that_did_not_pass_is_refused_with_the_rule(step, store, bucket, fake_model, tmp_path):
    evaluation = make_evaluation(tmp_path / "evaluation", fake_model, passed=False)
    done = step("export", "--model", fake_model, "--evaluation", evaluation, "--bucket", bucket)
    assert done.returncode == 2
    assert "accuracy 0.9700 >= 0.95: failed" in last_line(done)
    assert keys(store, bucket) == []


def test_the_evaluation_of_another_model_is_refused(step, store, bucket, fake_model, other_model, tmp_path):
    evaluation = make_evaluation(tmp_path / "evaluation", other_model)
    done = step("export", "--model", fake_model, "--evaluation", evaluation, "--bucket", bucket)
    assert done.returncode == 2
    assert last_line(done).endswith("received that of another; evaluate again")
    assert step("export", "--model", fake_model, "--evaluation", tmp_path, "--bucket", bucket).returncode == 2
    assert keys(store, bucket) == []


def test_an_empty_file_is_refused(step, store, bucket, fake_model):
    (fake_model / "1" / "empty").touch()
    done = step("export", "--model", fake_model, "--bucket", bucket)
    assert done.returncode == 2
    assert "empty file" in last_line(done)
    assert keys(store, bucket) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--model-name", "Mnist"),
        ("--model-name", "a/b"),
        ("--model-name", "-a"),
        ("--model-name", "a" * 64),
        ("--bucket", "Models"),
        ("--bucket", "a/b"),
        ("--bucket", "ab"),
        ("--version", "0"),
        ("--version", "-1"),
        ("--version", "03"),
        ("--version", "latest"),
        ("--model", "/nowhere"),
    ],
)
def test_a_bad_option_is_named(step, fake_model, option, value):
    options = {"--model": fake_model} | {option: value}
    done = step("export", *(word for pair in options.items() for word in pair))
    assert done.returncode == 2
    assert value in last_line(done)


def test_a_store_that_refuses_or_is_not_there_is_told_apart(step, store, bucket, fake_model):
    for wrong, words in (
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "AWS_ENDPOINT_URL"),
    ):
        done = step("export", "--model", fake_model, "--bucket", bucket, env=wrong, timeout=35)
        assert done.returncode == 1
        assert f"s3://{bucket}/: " in last_line(done)
        assert words in last_line(done)
    assert keys(store, bucket) == []


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("/home/me/My Photos.tar.gz", "my-photos"),
        ("s3://datasets/2024/cats+dogs/", "cats-dogs"),
        ("https://example.com:8080/CIFAR-10.zip?expires=1&by=/me", "cifar-10"),
        ("fashion_mnist", "fashion-mnist"),
        ("2024", "data-2024"),
        ("/data/猫.tgz", "data"),
        ("/data/" + 9 * "numbers-", "numbers-numbers-numbers-numbers-numbers"),
    ],
)
def test_a_model_without_a_name_is_named_after_its_data_set(data, name):
    assert model_name_after(name_from(data)) == name
    check_address(name, "models", "next")
    check_name(name)
