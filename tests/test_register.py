"""The register step, run as a process with the real client against a double of the registry's REST API."""

import pytest

from tests.made_up import made_up_card, made_up_evaluation
from tests.model_registry_api import model_registry


@pytest.fixture
def uri(step, bucket, tmp_path):
    """A published model that passed its evaluation: version 3 of `digits`."""
    model = tmp_path / "model"
    (model / "1").mkdir(parents=True)
    (model / "1" / "saved_model.pb").write_bytes(b"model")
    made_up_card().write(model)
    (tmp_path / "evaluation").mkdir()
    made_up_evaluation(model).write(tmp_path / "evaluation")
    options = ["--model", model, "--evaluation", tmp_path / "evaluation", "--bucket", bucket]
    done = step("export", *options, "--model-name", "digits", "--version", 3)
    assert done.returncode == 0, done.stderr
    return f"s3://{bucket}/digits/3/"


def value_of(custom_property):
    """A custom property's value, as the registry types it."""
    [value] = (value for key, value in custom_property.items() if key != "metadataType")
    return value if not isinstance(value, str) or not value.lstrip("-").isdigit() else int(value)


def test_a_published_model_is_entered_with_what_is_known_of_it(step, uri, tmp_path):
    with model_registry() as registry:
        options = ["--model-uri", uri, "--registry", registry.url, "--run", "run-7", "--registered", tmp_path / "id"]
        done = step("register", *options)
        assert done.returncode == 0, done.stderr
        again = step("register", *options)
        assert again.returncode == 0, again.stderr
    kept = (registry.models, registry.versions, registry.artifacts)
    [model], [version], [artifact] = (list(entries.values()) for entries in kept)
    assert (model["name"], version["name"], version["registeredModelId"]) == ("digits", "3", model["id"])
    assert (artifact["uri"], artifact["modelFormatName"]) == (uri, "tensorflow")
    told = {name: value_of(one) for name, one in version["customProperties"].items()}
    assert told["accuracy"] == 0.97
    assert told["passed"] is True
    assert told["run"] == "run-7"
    assert told["dataset"] == "mnist"
    assert len(told["model_sha256"]) == 64
    assert (tmp_path / "id").read_text() == version["id"]
    assert "registered already" in again.stderr


def test_what_was_begun_is_completed(step, uri):
    with model_registry() as registry:
        options = ["--model-uri", uri, "--registry", registry.url]
        assert step("register", *options).returncode == 0
        registry.artifacts.clear()
        done = step("register", *options)
        assert done.returncode == 0, done.stderr
        assert len(registry.versions) == len(registry.artifacts) == 1


def test_a_version_of_another_uri_is_refused(step, uri):
    with model_registry() as registry:
        options = ["--model-uri", uri, "--registry", registry.url]
        assert step("register", *options).returncode == 0
        next(iter(registry.artifacts.values()))["uri"] = "s3://elsewhere/digits/3/"
        done = step("register", *options)
    assert done.returncode == 2
    assert "digits version 3: expected s3://elsewhere/digits/3/, as registered" in done.stderr.splitlines()[-1]


def test_the_token_comes_from_a_file_and_its_refusal_is_told(step, uri, tmp_path):
    (tmp_path / "token").write_text("t0ken")
    with model_registry("t0ken") as registry:
        options = ["--model-uri", uri, "--registry", registry.url]
        refused = step("register", *options, env={"KF_PIPELINES_SA_TOKEN_PATH": str(tmp_path / "none")})
        done = step("register", *options, env={"KF_PIPELINES_SA_TOKEN_PATH": str(tmp_path / "token")})
    assert refused.returncode == 1
    assert "the registry refuses the token" in refused.stderr.splitlines()[-1]
    assert done.returncode == 0, done.stderr
    assert "t0ken" not in done.stderr


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--registry", "registry:8080"], 2, "--registry: expected http(s)://host[:port]"),
        (["--registry", "http://127.0.0.1:1"], 1, "the registry does not answer"),
        (["--model-uri", "model"], 2, "--model-uri: expected s3://bucket/name/version/"),
    ],
)
def test_what_cannot_be_registered_is_told_in_one_line(step, uri, options, code, words):
    done = step("register", "--model-uri", uri, "--registry", "http://127.0.0.1:1", *options)
    assert done.returncode == code, done.stderr
    assert words in done.stderr.splitlines()[-1]
