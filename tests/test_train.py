"""The train step: real networks on the real digits."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from components.common.datasets import open_dataset
from components.common.models import load_classifier, read_card


@pytest.fixture(scope="module")
def test_split(dataset):
    return open_dataset(dataset).read("test")


def accuracy(model, split):
    return (load_classifier(model).predict(split.images).argmax(1) == split.labels).mean()


def npz(folder, images, labels):
    folder.mkdir()
    np.savez(folder / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    return folder


def test_the_model_folder_holds_all_that_the_later_steps_need(model, dataset):
    card = read_card(model)
    assert {path.name for path in model.iterdir()} == {"1", "model.keras", "model.tflite", "model.json"}
    assert (model / "1" / "saved_model.pb").is_file()
    assert card["input"] == {"shape": [28, 28, 1], "range": [0, 255]}
    assert card["classes"] == [str(digit) for digit in range(10)]
    assert card["hyperparameters"]["epochs"] == 20
    assert card["parameters"] == 28 * 28 * 128 + 128 + 128 * 10 + 10
    assert card["dataset"]["train_examples"] == 1437
    assert [epoch["epoch"] for epoch in card["history"]] == list(range(1, 21))
    assert card["history"][-1]["loss"] < card["history"][0]["loss"]
    assert card["litert"]["max_difference"] <= 1e-4


def test_it_learns(model, test_split):
    assert accuracy(model, test_split) >= 0.95


def test_savedmodel_keras_file_and_litert_give_the_same_answers_to_raw_pixels(model, test_split, tmp_path):
    import keras

    images = test_split.images[:50]
    litert = load_classifier(model)
    bare = tmp_path / "bare"
    shutil.copytree(model, bare)
    (bare / "model.tflite").unlink()
    saved = load_classifier(bare)
    assert (litert.backend, saved.backend) == ("LiteRT", "TensorFlow")
    np.testing.assert_allclose(saved.predict(images), litert.predict(images), atol=1e-4)
    from_file = keras.models.load_model(model / "model.keras").predict(images.astype("float32"), verbose=0)
    np.testing.assert_allclose(from_file, litert.predict(images), atol=1e-4)
    np.testing.assert_allclose(litert.predict(images).sum(1), 1, atol=1e-5)


def test_one_epoch_is_the_same_mathematics_as_keras_fit(dataset):
    """The compiled epoch against Model.fit: same start, same order of images, a last batch that is smaller."""
    import keras

    from components.common.datasets import Split
    from components.train import architectures, training

    split = open_dataset(dataset).read("train")
    split = Split(split.images[:333], split.labels[:333])
    keras.utils.set_random_seed(5)
    ours = architectures.build("dense", (28, 28, 1), 10)
    theirs = keras.models.clone_model(ours)
    theirs.set_weights(ours.get_weights())
    history = training.fit(ours, split, 2, 50, 0.001, 9, lambda epoch: None)
    theirs.compile(keras.optimizers.Adam(0.001), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    shuffle = np.random.default_rng(9)
    for epoch in history:
        order = shuffle.permutation(333)
        images, labels = split.images[order].astype("float32"), split.labels[order]
        fitted = theirs.fit(images, labels, 50, 1, shuffle=False, verbose=0).history
        assert epoch.loss == pytest.approx(fitted["loss"][0], rel=1e-3)
        assert epoch.accuracy == pytest.approx(fitted["accuracy"][0], abs=1e-6)
    for mine, reference in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, reference, atol=2e-4)


def test_colour_images_of_any_size_and_named_classes_train_a_convolutional_network(step, tmp_path):
    random = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = random.integers(0, 60, (90, 13, 17, 3), dtype=np.uint8)
    images[np.arange(90), :, :, labels] += 150  # the class is the colour
    data = npz(tmp_path / "data", images, labels)
    done = step("train", "--dataset", data, "--model", tmp_path / "model", "--architecture", "cnn", "--epochs", 8)
    assert done.returncode == 0, done.stderr
    assert read_card(tmp_path / "model")["input"]["shape"] == [13, 17, 3]
    assert accuracy(tmp_path / "model", open_dataset(data).read("test")) > 0.9


def test_a_second_run_replaces_the_first_and_never_a_folder_of_somebody_else(step, dataset, model, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / "leftover").write_text("of the run before")
    done = step("train", "--dataset", dataset, "--model", tmp_path / "model", "--epochs", 1)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "model" / "leftover").exists()
    assert read_card(tmp_path / "model")["hyperparameters"]["epochs"] == 1
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters.txt").write_text("dear")
    done = step("train", "--dataset", dataset, "--model", tmp_path / "home", "--epochs", 1)
    assert done.returncode == 2
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letters.txt"]


def test_the_card_names_source_and_digest_of_the_download(step, dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "data")
    fetched = {"source": "s3://datasets/digits.npz", "bytes": 1, "sha256": "ab" * 32, "files": 1}
    (tmp_path / "data" / "download.json").write_text(json.dumps(fetched))
    done = step("train", "--dataset", tmp_path / "data", "--model", tmp_path / "model", "--epochs", 1)
    assert done.returncode == 0, done.stderr
    described = read_card(tmp_path / "model")["dataset"]
    assert (described["source"], described["sha256"]) == (fetched["source"], fetched["sha256"])


def test_the_log_is_one_tidy_line_per_epoch(step, dataset, tmp_path):
    done = step("train", "--dataset", dataset, "--model", tmp_path / "model", "--epochs", 3)
    lines = done.stderr.splitlines()
    assert all(line.startswith("train     ") for line in lines), done.stderr
    assert [line.split()[2] for line in lines if " epoch " in line] == ["1/3", "2/3", "3/3"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--architecture", "perceptron"], "expected one of dense, cnn, received 'perceptron'"),
        (["--epochs", "0"], "--epochs: expected at least 1, received 0"),
        (["--batch-size", "-4"], "--batch-size: expected at least 1"),
        (["--learning-rate", "0"], "--learning-rate: expected a number above 0"),
        (["--learning-rate", "nan"], "--learning-rate: expected a number above 0"),
        (["--seed", "-1"], "--seed: expected 0 to"),
        (["--epochs", "many"], "Invalid value for '--epochs'"),
        (["--dataset", "nowhere"], "nowhere: expected a data set folder, received nothing"),
        (["--learning-rate", "1e30", "--epochs", "3"], "expected a finite loss"),
    ],
)
def test_bad_options_end_with_one_plain_sentence(step, dataset, tmp_path, options, words):
    done = step("train", "--dataset", dataset, "--model", tmp_path / "model", *options)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_class_alone_is_refused(step, tmp_path):
    data = npz(tmp_path / "data", np.zeros((20, 5, 5), np.uint8), np.zeros(20, np.int64))
    done = step("train", "--dataset", data, "--model", tmp_path / "model")
    assert done.returncode == 2
    assert "expected at least two classes" in done.stderr.splitlines()[-1]


def test_a_full_disk_is_told_in_one_line_and_leaves_nothing(step, dataset, small_disk):
    done = step("train", "--dataset", dataset, "--model", small_disk / "model", "--epochs", 1)
    assert done.returncode == 1
    assert "the disk is full" in done.stderr.splitlines()[-1]
    assert list(small_disk.iterdir()) == []


def test_sigterm_ends_training_cleanly(store, dataset, tmp_path):
    command = [sys.executable, "-m", "components.train", "--dataset", dataset, "--model", tmp_path / "model"]
    with subprocess.Popen([*command, "--epochs", "100000"], stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "epoch 2/" in line:
                break
        process.terminate()
        last = process.stderr.read().splitlines()[-1]
        assert process.wait(60) == 143
    assert "ended by SIGTERM" in last
    assert list(tmp_path.iterdir()) == []
