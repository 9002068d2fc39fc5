"""What passes between the steps as files: what is written is read back, and what cannot be read is told."""

import json
from dataclasses import replace

import pytest

from tests.made_up import made_up_card, made_up_evaluation
from trainyard.components.common.artifacts.evaluation import AnsweredExample, AnsweredExamples, Evaluation
from trainyard.components.common.artifacts.model import About, Card, Epoch, Input, LiteRT, TrainedOn
from trainyard.components.common.artifacts.published import File, Manifest
from trainyard.components.common.cli import BadInput

FULL = Card(
    architecture="cnn",
    about=About(owner="vision team"),
    hyperparameters={"epochs": 1, "learning_rate": 0.001},
    dataset=TrainedOn(
        name="digits",
        layout="npz",
        source=None,
        sha256="0f" * 32,
        train_examples=9,
        test_examples=3,
        skipped=1,
        train_counts=[4, 4],
    ),
    input=Input(shape=(28, 28, 1), resized=True),
    classes=["cat", "dog"],
    history=[Epoch(epoch=1, loss=1, accuracy=0.5, seconds=2.5, learning_rate=1e-3, validation_loss=0.25)],
    libraries={"keras": "3.15.0"},
    parameters=7,
    litert=LiteRT(written=True, max_difference=0.0),
)


def test_what_a_card_does_not_know_is_not_in_its_json(tmp_path):
    replace(made_up_card(), dataset=None).write(tmp_path)
    assert json.loads((tmp_path / "model.json").read_text()) == {
        "format": 1,
        "architecture": "made-up",
        "about": {},
        "hyperparameters": {},
        "input": {"shape": [1, 1, 1], "range": [0, 255]},
        "classes": ["0", "1"],
        "history": [],
        "libraries": {},
        "parameters": 7,
        "choices": [],
    }
    written = FULL.as_json()
    assert written["dataset"]["source"] is None
    assert written["history"] == [
        {"epoch": 1, "loss": 1, "accuracy": 0.5, "seconds": 2.5, "learning_rate": 1e-3, "validation_loss": 0.25}
    ]
    assert written["litert"] == {"written": True, "max_difference": 0.0}


def test_what_is_written_is_read_back_as_it_was(tmp_path):
    FULL.write(tmp_path)
    assert Card.read(tmp_path) == FULL
    evaluation = made_up_evaluation(tmp_path)
    evaluation.write(tmp_path)
    assert Evaluation.read(tmp_path) == evaluation
    answered = AnsweredExamples([AnsweredExample(index=3, instance=[[[0]]], label="cat", prediction="dog")])
    answered.write(tmp_path)
    assert AnsweredExamples.read(tmp_path) == answered
    manifest = Manifest("digits", 3, [File("1/saved_model.pb", 7, "0f" * 32)])
    assert Manifest.parse(manifest.as_text(), "s3://models/digits/3/") == manifest


def test_a_newer_format_is_refused_and_fields_nobody_knows_are_ignored(tmp_path):
    path = tmp_path / "model.json"
    told = FULL.as_json() | {"colour": "red"}
    path.write_text(json.dumps(told))
    assert Card.read(tmp_path) == FULL
    del told["format"]
    path.write_text(json.dumps(told))
    assert Card.read(tmp_path) == FULL
    path.write_text(json.dumps(told | {"format": 2}))
    with pytest.raises(BadInput, match=r"model.json: expected format 1 or older, received format 2; use the newer"):
        Card.read(tmp_path)
    with pytest.raises(BadInput, match=r"s3://models/digits/3/manifest.json: expected format 1 or older"):
        Manifest.parse(json.dumps({"format": 2}), "s3://models/digits/3/")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"input": {"shape": [28, 28]}}, r"input.shape is \[28, 28\]"),
        ({"classes": ["cat", 3]}, r"classes\[1\] is 3"),
        ({"parameters": True}, "parameters is true"),
        ({"dataset": {"name": "digits"}}, "dataset.layout is missing"),
        ({"history": [{"epoch": 1, "loss": "low"}]}, r"history\[0\].loss is \"low\""),
        ({"libraries": []}, r"libraries is \[\]"),
        ({"format": "new"}, 'format is "new"'),
    ],
)
def test_a_value_that_does_not_fit_is_named(changed, words, tmp_path):
    (tmp_path / "model.json").write_text(json.dumps(FULL.as_json() | changed))
    with pytest.raises(BadInput, match=rf"received another \({words}\); train the model again"):
        Card.read(tmp_path)


@pytest.mark.parametrize("content", ["", "no JSON", "[]", '"text"', b"\xff\xfe\x00"])
def test_other_files_are_refused_in_one_sentence(content, tmp_path):
    for name, read in (("model.json", Card.read), ("evaluation.json", Evaluation.read)):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(BadInput, match=r"^\S+: expected .*, received .*; "):
            read(tmp_path)


@pytest.mark.parametrize("path", ["/etc/passwd", "../model.json", "1/../../x"])
def test_a_manifest_cannot_name_a_file_outside_its_version(path):
    content = Manifest("digits", 3, [File(path, 1, "0f" * 32)]).as_text()
    with pytest.raises(BadInput, match=r"expected a manifest.json as export writes it"):
        Manifest.parse(content, "s3://models/digits/3/")
