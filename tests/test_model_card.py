"""What train tells of a model: the card for people, and the curves for TensorBoard."""

import json
import re

import numpy as np
import pytest

from tests.training import npz, train_here
from trainyard.components.common.artifacts.model import (
    About,
    Card,
    Epoch,
    Input,
    LiteRT,
    TrainedOn,
    read_card,
    sha256_of_model,
)
from trainyard.components.common.cli import BadInput

HOSTILE = "<script>alert(1)</script> *bold* [link](javascript:alert(1)) `code` | cell & more\n\n# heading"


def points(folder):
    """Every point in the event files below a folder, as TensorFlow reads them: run, curve, step, value."""
    import tensorflow as tf

    return [
        (path.parent.name, value.tag, event.step, value.simple_value)
        for path in sorted(folder.rglob("*tfevents*"))
        for record in tf.data.TFRecordDataset(str(path))
        for event in [tf.compat.v1.Event.FromString(record.numpy())]
        for value in event.summary.value
    ]


def expected(card):
    """The points that a card's history amounts to."""
    curves = {
        "train": {"epoch_loss": "loss", "epoch_accuracy": "accuracy", "epoch_learning_rate": "learning_rate"},
        "validation": {"epoch_loss": "validation_loss", "epoch_accuracy": "validation_accuracy"},
    }
    return sorted(
        (run, tag, epoch.epoch, pytest.approx(getattr(epoch, name), rel=1e-6))
        for epoch in card.history
        for run, tags in curves.items()
        for tag, name in tags.items()
        if getattr(epoch, name) is not None
    )


def rendered(text):
    """The HTML that a Markdown reader makes of it."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table").render(text)


@pytest.fixture(scope="module")
def told(dataset, tmp_path_factory):
    """A model whose owners said what there is to say, in a folder with its event files."""
    folder = tmp_path_factory.mktemp("told")
    about = About(intended_use="Read digits that people wrote.", owner=HOSTILE)
    chosen = {"epochs": 3, "validation_split": 0.2, "schedule": "cosine"}
    train_here(dataset, folder / "model", about=about, tensorboard=folder / "events", **chosen)
    return folder


def test_the_card_tells_people_what_the_model_is_made_of(told):
    card, page = read_card(told / "model"), rendered((told / "model" / "README.md").read_text())
    assert card.about == About(intended_use="Read digits that people wrote.", owner=HOSTILE)
    assert "Read digits that people wrote." in page
    assert "train --limitations" in page  # what nobody said is not passed over
    rows = [re.findall("<td[^>]*>(.*?)</td>", row) for row in re.findall("<tr>.*?</tr>", page, re.DOTALL)]
    assert ["Training images", "1,437"] in rows
    for name, count in zip(card.classes, card.dataset.train_counts, strict=True):
        assert [name, f"{count:,}", f"{100 * count / 1437:.1f} %"] in rows
    assert ["Learning rate", "0.001"] in rows
    last = card.history[-1]
    names = ("loss", "accuracy", "validation_loss", "validation_accuracy")
    assert ["3", *(f"{getattr(last, name):.4f}" for name in names)] in rows
    assert ["keras", card.libraries["keras"]] in rows
    assert "shape (n, 28, 28, 1)" in page


def test_what_people_write_into_the_card_stands_there_as_text(told):
    from html import unescape

    page = rendered((told / "model" / "README.md").read_text())
    paragraph = next(line for line in page.splitlines() if "Owner" in line)
    assert unescape(paragraph) == f"<p>Owner: {' '.join(HOSTILE.split())}</p>"
    assert "<script" not in page
    assert "<a " not in page


def test_names_of_classes_cannot_break_the_tables():
    from trainyard.components.train.model_card import plain

    for name in ("a|b", "- 1", "1. x", "*", "_x_", "~~y~~", "<i>", "`", "=", "\\|", "a\nb", "&amp;", "![](x)"):
        page = rendered(f"| a | b |\n| --- | --- |\n| {plain(name)} | 2 |\n\n{plain(name)}\n")
        from html import unescape

        told = re.findall("<td>(.*?)</td>", page, re.DOTALL)
        assert [unescape(cell) for cell in told] == [" ".join(name.split()), "2"]
        assert unescape(page).endswith(f"<p>{' '.join(name.split())}</p>\n")


def test_long_histories_and_many_classes_are_thinned():
    from trainyard.components.train.model_card import CLASSES, EPOCHS, markdown

    history = [Epoch(epoch=at, loss=1 / at, accuracy=0.5, seconds=1, learning_rate=0.1) for at in range(1, 301)]
    card = Card(
        architecture="dense",
        input=Input(shape=(8, 8, 1)),
        classes=[f"class {at}" for at in range(500)],
        parameters=7,
        hyperparameters={"epochs": 300},
        dataset=TrainedOn(
            name="n",
            layout="npz",
            source=None,
            sha256=None,
            train_examples=10**6,
            test_examples=9,
            train_counts=[*range(500)],
        ),
        history=history,
        litert=LiteRT(written=False),
    )
    text = markdown(card)
    assert len(re.findall(r"^\| class \d+ \|", text, re.MULTILINE)) == CLASSES
    assert "| class 0 | 0 |" in text
    assert f"The {CLASSES} rarest of 500 classes." in text
    shown = [int(epoch) for epoch in re.findall(r"^\| (\d+) \| [\d.]+ \| 0\.5000 \|$", text, re.MULTILINE)]
    assert len(shown) == EPOCHS
    assert (shown[0], shown[-1]) == (1, 300)


def test_event_files_hold_every_epoch_once_with_the_numbers_of_the_card(told):
    card = read_card(told / "model")
    assert sorted(points(told / "events")) == expected(card)
    assert card.history[-1].learning_rate == pytest.approx(0, abs=1e-9)  # a cosine ends there


def test_event_files_are_written_epoch_by_epoch_and_a_resumed_training_writes_none_twice(dataset, tmp_path):
    class Killed(Exception):
        pass

    def kill(line):
        if "epoch 3/" in line:  # this epoch is in the checkpoint, and not yet in the event files
            raise Killed

    chosen = {"epochs": 5, "validation_split": 0.2, "tensorboard": tmp_path / "events"}
    with pytest.raises(Killed):
        train_here(dataset, tmp_path / "model", kill, **chosen)
    assert {step for _, _, step, _ in points(tmp_path / "events")} == {1, 2}
    assert "resuming after epoch 3" in train_here(dataset, tmp_path / "model", **chosen)
    assert sorted(points(tmp_path / "events")) == expected(read_card(tmp_path / "model"))

    (tmp_path / "events" / "train" / "events.out.tfevents.1.of-somebody").write_bytes(b"")
    train_here(dataset, tmp_path / "model", epochs=1, tensorboard=tmp_path / "events")
    assert sorted(points(tmp_path / "events")) == expected(read_card(tmp_path / "model"))
    assert (tmp_path / "events" / "train" / "events.out.tfevents.1.of-somebody").exists()


def test_event_files_inside_the_model_are_refused_before_training(dataset, tmp_path):
    with pytest.raises(BadInput, match="--tensorboard: expected a folder outside of"):
        train_here(dataset, tmp_path / "model", tensorboard=tmp_path / "model" / "events")
    assert list(tmp_path.iterdir()) == []


def test_kubeflow_is_told_of_card_and_curves(step, dataset, tmp_path):
    """As the launcher calls the step; the viewer of event files needs their URI, not a path inside the pod."""
    outputs = ("model", "model_card", "tensorboard", "mlpipeline_ui_metadata")
    artifacts = {
        name: {"artifacts": [{"name": name, "uri": f"s3://kfp/run/{name}", "type": {"schemaTitle": "system.Artifact"}}]}
        for name in outputs
    }
    executor_input = {"outputs": {"outputFile": str(tmp_path / "executor.json"), "artifacts": artifacts}}
    paths = [part for name in outputs for part in (f"--{name.replace('_', '-')}", tmp_path / "out" / name)]
    done = step("train", "--dataset", dataset, "--epochs", 1, *paths, "--executor-input", json.dumps(executor_input))
    assert done.returncode == 0, done.stderr
    views = json.loads((tmp_path / "out" / "mlpipeline_ui_metadata").read_text())["outputs"]
    text = (tmp_path / "out" / "model_card").read_text()
    assert views == [
        {"type": "markdown", "storage": "inline", "source": text},
        {"type": "tensorboard", "source": "s3://kfp/run/tensorboard"},
    ]
    assert text == (tmp_path / "out" / "model" / "README.md").read_text()
    assert set(json.loads((tmp_path / "executor.json").read_text())["artifacts"]) == set(outputs)
    assert points(tmp_path / "out" / "tensorboard")


def test_the_card_is_part_of_what_is_evaluated_and_published(step, store, bucket, dataset, model, tmp_path):
    done = step("evaluate", "--dataset", dataset, "--model", model, "--evaluation", tmp_path / "evaluation")
    assert done.returncode == 0, done.stderr
    verdict = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert verdict["model_sha256"] == sha256_of_model(model)
    places = ["--bucket", bucket, "--model-name", "mnist"]
    done = step("export", "--model", model, "--evaluation", tmp_path / "evaluation", *places)
    assert done.returncode == 0, done.stderr
    published = store.client.get_object(Bucket=bucket, Key="mnist/1/README.md")["Body"].read()
    assert published == (model / "README.md").read_bytes()


def test_damaged_images_are_left_out_and_told(tmp_path):
    """In the log, in the card's counts and in the card for people."""
    from PIL import Image

    for at in range(12):
        path = tmp_path / "data" / "train" / f"class {at % 2}" / f"{at}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 9 + at % 3), 20 * at, np.uint8)).save(path)
    (tmp_path / "data" / "train" / "class 1" / "11.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    test = tmp_path / "data" / "test" / "class 0"
    test.mkdir(parents=True)
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(test / "0.png")
    lines = train_here(
        tmp_path / "data", tmp_path / "model", image_size="8x10", on_corrupt="skip", epochs=1, batch_size=4
    )
    card = read_card(tmp_path / "model")
    assert "1 damaged image left out" in lines
    assert "11.png" in lines
    assert card.dataset.train_counts == [6, 5]
    assert card.dataset.skipped == 1
    assert card.input == Input(shape=(8, 10, 1), range=(0, 255), resized=True)
    page = rendered((tmp_path / "model" / "README.md").read_text())
    assert "<td>Images left out as damaged</td>\n<td>1</td>" in page


def test_without_the_option_no_event_files_are_written(dataset, tmp_path):
    data = npz(tmp_path / "data", np.zeros((4, 5, 5), np.uint8), np.arange(4) % 2)
    train_here(data, tmp_path / "model", epochs=1)
    assert not list(tmp_path.rglob("*tfevents*"))
