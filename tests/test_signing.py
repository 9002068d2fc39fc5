"""Signed versions: what export signs, the upstream tool accepts; what is not signed is not served."""

import json
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.conftest import PROJECT, outside_aws
from trainyard.components.common.artifacts.published import find, verify_folder
from trainyard.components.common.cli import BadInput


def key_pair(folder, name, key=None):
    """A private and a public key, as PEM files."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path):
    """Our key, and another."""
    return key_pair(tmp_path, "ours"), key_pair(tmp_path, "other")


@pytest.fixture
def publish(step, bucket, model):
    """Publish a model, signed or not; its URI."""

    def published(name, *options):
        done = step("export", "--model", model, "--bucket", bucket, "--model-name", name, *options)
        assert done.returncode == 0, done.stderr
        return f"s3://{bucket}/{name}/1/"

    return published


@pytest.fixture
def fetched(step, tmp_path):
    """A published version on this machine, without what download adds."""

    def fetch(uri):
        folder = tmp_path / "fetched"
        assert step("download", "--source", uri, "--dataset", folder).returncode == 0
        (folder / "download.json").unlink()
        return folder

    return fetch


def test_the_upstream_tool_accepts_what_is_published_and_nothing_that_was_changed(publish, fetched, keys):
    pytest.importorskip("model_signing")
    (private, public), (_, other) = keys
    folder = fetched(publish("digits", "--signing-key", private))

    def verify(key):
        command = [sys.executable, "-m", "model_signing", "verify", "key", "--signature", folder / "model.sig"]
        return subprocess.run([*command, "--public_key", key, folder], capture_output=True, text=True)

    done = verify(public)
    assert done.returncode == 0, done.stderr + done.stdout
    assert verify(other).returncode != 0
    (folder / "model.keras").write_bytes(b"other")
    assert verify(public).returncode != 0


def test_an_unsigned_a_changed_or_a_strangers_version_is_not_fetched(publish, step, store, bucket, keys, tmp_path):
    (private, public), (_, other) = keys
    signed, unsigned = publish("digits", "--signing-key", private), publish("plain")

    def refused(uri, key):
        done = step("download", "--source", uri, "--dataset", tmp_path / "data", "--verify-key", key)
        assert not (tmp_path / "data").exists()
        assert done.returncode == 2
        return done.stderr.splitlines()[-1]

    assert "received one without model.sig" in refused(unsigned, public)
    assert f"{signed}: expected a signature by a key of --verify-key" in refused(signed, other)
    card = store.client.get_object(Bucket=bucket, Key="digits/1/model.json")["Body"].read()
    store.client.put_object(Bucket=bucket, Key="digits/1/model.json", Body=card + b" ")
    assert "received model.json changed" in refused(signed, public)
    store.client.put_object(Bucket=bucket, Key="digits/1/model.json", Body=card)
    done = step("download", "--source", signed, "--dataset", tmp_path / "data", "--verify-key", f"{other},{public}")
    assert done.returncode == 0, done.stderr  # while keys are changed, one of several is enough


def test_serve_refuses_what_is_not_signed_on_every_target_before_anything_is_served(
    publish, step, store, bucket, keys, tmp_path
):
    (private, public), _ = keys
    publish("digits", "--signing-key", private)
    unsigned = publish("plain")
    for target in ("process", "docker", "kserve"):
        home = {"TRAINYARD_HOME": str(tmp_path / "home"), "KUBECONFIG": str(tmp_path / "none")}
        options = ("--model-uri", unsigned, "--target", target, "--verify-key", public)
        done = step("serve", *options, env=home)
        assert done.returncode == 2, done.stderr
        assert "without model.sig" in done.stderr.splitlines()[-1]
    manifest = json.loads(store.client.get_object(Bucket=bucket, Key="digits/1/manifest.json")["Body"].read())
    manifest["version"] = 2  # an old version in the place of a new one
    store.client.put_object(Bucket=bucket, Key="digits/1/manifest.json", Body=json.dumps(manifest).encode())
    done = step("serve", "--model-uri", f"s3://{bucket}/digits/1/", "--target", "process", "--verify-key", public)
    assert "received that of digits/1" in done.stderr.splitlines()[-1]


def test_the_predictor_verifies_what_it_is_given(publish, fetched, keys, tmp_path):
    (private, public), (_, other) = keys
    folder = fetched(publish("digits", "--signing-key", private))
    (folder / "added.txt").write_text("?")
    command = [sys.executable, "-m", "trainyard.components.serve.predictor", "--model", folder, "--port", "0"]
    for given, said in ((public.read_text(), "added.txt changed, added or removed"), (str(other), "another key")):
        environment = outside_aws() | {"TRAINYARD_VERIFY_KEY": given}
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=30)
        assert done.returncode == 2
        assert said in done.stderr.splitlines()[-1]


def test_predict_takes_a_signed_version_with_its_validation_and_no_other(publish, step, dataset, model, keys, tmp_path):
    (private, public), (_, other) = keys
    folders = ("--validation", tmp_path / "validation"), ("--evaluation", tmp_path / "evaluation")
    assert step("validate", "--dataset", dataset, *folders[0]).returncode == 0
    assert step("evaluate", "--dataset", dataset, "--model", model, *folders[1]).returncode == 0
    uri = publish("digits", "--signing-key", private, *folders[0], *folders[1])
    options = ("--model", uri, "--source", dataset, "--predictions", tmp_path / "predictions", "--verify-key")
    done = step("predict", *options, other)
    assert done.returncode == 2
    assert "another key" in done.stderr.splitlines()[-1]
    done = step("predict", *options, public)
    assert done.returncode == 0, done.stderr


def test_predict_takes_a_version_that_download_fetched(publish, step, dataset, model, keys, tmp_path):
    """download adds a record of its own, which is neither signed nor a part of the model."""
    private, public = keys[0]
    assert step("evaluate", "--dataset", dataset, "--model", model, "--evaluation", tmp_path / "e").returncode == 0
    uri = publish("digits", "--signing-key", private, "--evaluation", tmp_path / "e")
    fetched = tmp_path / "fetched"
    done = step("download", "--source", uri, "--dataset", fetched, "--verify-key", public)
    assert done.returncode == 0, done.stderr
    options = ("--source", dataset, "--predictions", tmp_path / "predictions", "--verify-key", public)
    done = step("predict", "--model", fetched, *options)
    assert done.returncode == 0, done.stderr


def test_the_predictor_on_a_cluster_gets_the_public_keys(publish, step, keys, tmp_path):
    (private, public), _ = keys
    uri = publish("digits", "--signing-key", private)
    options = (
        "--model-uri",
        uri,
        "--verify-key",
        public,
        "--image",
        "registry.example.com/predictor:1",
        "--dry-run",
        "true",
    )
    done = step("serve", *options)
    assert done.returncode == 0, done.stderr
    assert "TRAINYARD_VERIFY_KEY" in done.stdout
    assert "BEGIN PUBLIC KEY" in done.stdout
    assert "PRIVATE" not in done.stdout


def test_the_same_content_published_again_keeps_its_signature_and_an_unsigned_version_gets_one(
    publish, store, bucket, keys
):
    private = keys[0][0]

    def signature():
        return store.client.get_object(Bucket=bucket, Key="digits/1/model.sig")["Body"].read()

    uri = publish("digits")
    publish("digits", "--signing-key", private)
    first = signature()
    publish("digits", "--signing-key", private)
    assert signature() == first
    manifest = json.loads(store.client.get_object(Bucket=bucket, Key="digits/1/manifest.json")["Body"].read())
    assert "model.sig" not in {file["path"] for file in manifest["files"]}
    assert uri == f"s3://{bucket}/digits/1/"


def test_a_folder_that_was_never_published_is_told_from_one_that_is_not_there(keys, tmp_path):
    _, public = keys[0]
    with pytest.raises(BadInput, match="expected a published version, signed, received a model folder"):
        verify_folder(tmp_path, str(public))
    with pytest.raises(BadInput, match="received nothing there"):
        verify_folder(tmp_path / "nowhere", str(public))


@pytest.mark.parametrize("size", [ec.SECP384R1(), ec.SECP521R1()])
def test_longer_keys_sign_as_well(publish, store, keys, tmp_path, monkeypatch, size):
    private, public = key_pair(tmp_path, "long", ec.generate_private_key(size))
    uri = publish("digits", "--signing-key", private)
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    assert find(uri, str(public)).number == 1
    with pytest.raises(BadInput, match="another key"):
        find(uri, str(keys[1][1]))


def test_what_is_no_key_is_refused_in_one_line_and_nothing_is_published(step, bucket, store, model, tmp_path):
    rsa_key, _ = key_pair(tmp_path, "rsa", rsa.generate_private_key(65537, 2048))
    for path in (rsa_key, tmp_path / "none.pem", PROJECT / "README.md"):
        done = step("export", "--model", model, "--bucket", bucket, "--signing-key", path)
        assert done.returncode == 2
        assert done.stderr.startswith("--signing-key: expected a private key of P-256")
        assert len(done.stderr.splitlines()) == 1
    assert "Contents" not in store.client.list_objects_v2(Bucket=bucket)
