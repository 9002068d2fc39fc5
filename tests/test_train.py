"""The train step: real networks on the real digits."""

import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.training import npz, train_here, weights
from trainyard.components.common.artifacts.classifier import load_classifier
from trainyard.components.common.artifacts.model import Input, read_card, sha256_of_model
from trainyard.components.common.datasets import Split, open_dataset


@pytest.fixture(scope="module")
def test_split(dataset):
    return open_dataset(dataset).read("test")


def accuracy(model, split):
    return (load_classifier(model).predict(split.images).argmax(1) == split.labels).mean()


def test_the_model_folder_holds_all_that_the_later_steps_need(model, dataset):
    card = read_card(model)
    assert {path.name for path in model.iterdir()} == {"1", "model.keras", "model.tflite", "model.json", "README.md"}
    assert (model / "1" / "saved_model.pb").is_file()
    assert card.input == Input(shape=(28, 28, 1), range=(0, 255))
    assert card.classes == [str(digit) for digit in range(10)]
    assert card.hyperparameters["epochs"] == 20
    assert card.parameters == 28 * 28 * 128 + 128 + 128 * 10 + 10
    assert card.dataset.train_examples == 1437
    assert [epoch.epoch for epoch in card.history] == list(range(1, 21))
    assert card.history[-1].loss < card.history[0].loss
    assert card.litert.max_difference <= 1e-4


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

    from trainyard.components.common.progress import Progress
    from trainyard.components.train import architectures
    from trainyard.components.train.data import LabelledImages
    from trainyard.components.train.fitting import Fit
    from trainyard.components.train.hyperparameters import Hyperparameters

    split = open_dataset(dataset).read("train")
    split = Split(split.images[:333], split.labels[:333])
    keras.utils.set_random_seed(5)
    ours = architectures.build("dense", (28, 28, 1), 10)
    theirs = keras.models.clone_model(ours)
    theirs.set_weights(ours.get_weights())
    fit = Fit(ours, Hyperparameters(epochs=2, batch_size=50, seed=9), LabelledImages.in_memory(split))
    history = list(fit.epochs(Progress("train")))
    theirs.compile(keras.optimizers.Adam(0.001), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    for epoch in history:
        order = np.random.default_rng([9, epoch.epoch - 1]).permutation(333)
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
    assert " images of 13 x 17 x 3, 3 classes; cnn, 8 epochs\n" in done.stderr
    assert read_card(tmp_path / "model").input.shape == (13, 17, 3)
    assert accuracy(tmp_path / "model", open_dataset(data).read("test")) > 0.9


def test_a_second_run_replaces_the_first_and_never_a_folder_of_somebody_else(step, dataset, model, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "model" / "leftover").write_text("of the run before")
    done = step("train", "--dataset", dataset, "--model", tmp_path / "model", "--epochs", 1)
    assert done.returncode == 0, done.stderr
    assert "; dense, 1 epoch\n" in done.stderr
    assert not (tmp_path / "model" / "leftover").exists()
    assert read_card(tmp_path / "model").hyperparameters["epochs"] == 1
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
    described = read_card(tmp_path / "model").dataset
    assert (described.source, described.sha256) == (fetched["source"], fetched["sha256"])


def test_the_log_is_one_tidy_line_per_epoch(step, dataset, tmp_path):
    done = step("train", "--dataset", dataset, "--model", tmp_path / "model", "--epochs", 3)
    lines = done.stderr.splitlines()
    assert all(line.startswith("train     ") for line in lines), done.stderr
    assert [line.split()[2] for line in lines if " epoch " in line] == ["1/3", "2/3", "3/3"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--architecture", "perceptron"],
            "expected one of auto, dense, compact, cnn, squeezenet, resnet18, resnet34, received 'perceptron'",
        ),
        (["--epochs", "-1"], "--epochs: expected at least 0, received -1"),
        (["--batch-size", "-4"], "--batch-size: expected at least 0"),
        (["--learning-rate", "0"], "--learning-rate: expected a number above 0"),
        (["--learning-rate", "nan"], "--learning-rate: expected a number above 0"),
        (["--seed", "-1"], "--seed: expected 0 to"),
        (["--optimizer", "magic"], "--optimizer: expected one of adam, adamw, rmsprop, sgd, received 'magic'"),
        (["--schedule", "zigzag"], "--schedule: expected one of auto, constant, cosine"),
        (
            ["--augmentation", "shift,blur"],
            "--augmentation: expected one of auto, none, shift, rotation, flip, light, received 'blur'",
        ),
        (
            ["--class-weights", "heavy"],
            "--class-weights: expected balanced, or JSON of weights by class, received 'heavy'",
        ),
        (["--class-weights", '{"7": 0}'], "--class-weights: expected numbers above 0"),
        (
            ["--class-weights", '{"ten": 2}'],
            "expected classes of the data set (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), received ten",
        ),
        (["--validation-split", "1"], "--validation-split: expected a share"),
        (["--early-stopping", "2"], "--early-stopping: expected a split 'validation'"),
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


def train_until(words, sign, *options):
    """Start a training and send it a signal when a line with these words came; its exit code and its last line."""
    with subprocess.Popen(
        [sys.executable, "-m", "trainyard.components.train", *map(str, options)], stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr:
            if words in line:
                break
        process.send_signal(sign)
        rest = process.stderr.read().splitlines()
        return process.wait(60), rest[-1] if rest else ""


def test_sigterm_ends_training_cleanly(dataset, tmp_path):
    options = ("--dataset", dataset, "--model", tmp_path / "model", "--epochs", 100_000)
    code, last = train_until("epoch 2/", signal.SIGTERM, *options)
    assert code == 143
    assert "Ended by SIGTERM" in last
    assert [path.name for path in tmp_path.iterdir()] == [".model.checkpoint.npz"]


@pytest.mark.parametrize(
    "chosen",
    [
        {"architecture": "dense", "epochs": 300, "validation_split": 0.2, "early_stopping": 300},
        {"architecture": "cnn", "epochs": 5, "augmentation": "shift", "schedule": "cosine"},
    ],
    ids=["dense", "cnn"],
)
def test_a_killed_training_goes_on_and_ends_in_the_weights_of_one_without_a_break(dataset, tmp_path, chosen):
    """The kill falls into an epoch, and the network with dropout and augmentation draws as it would have drawn."""
    train_here(dataset, tmp_path / "whole", **chosen)
    options = [str(part) for name, value in chosen.items() for part in (f"--{name.replace('_', '-')}", value)]
    code, _ = train_until("epoch 3/", signal.SIGKILL, "--dataset", dataset, "--model", tmp_path / "broken", *options)
    assert code == -signal.SIGKILL
    assert not (tmp_path / "broken").exists()
    lines = train_here(dataset, tmp_path / "broken", **chosen)
    assert "resuming after epoch" in lines
    assert "epoch 1/" not in lines
    for mine, reference in zip(weights(tmp_path / "broken"), weights(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(mine, reference)
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "broken"}


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_seed_others(dataset, tmp_path, step):
    done = step("train", "--dataset", dataset, "--model", tmp_path / "a", "--epochs", 2, "--seed", 7)
    assert done.returncode == 0, done.stderr
    train_here(dataset, tmp_path / "b", epochs=2, seed=7)
    train_here(dataset, tmp_path / "c", epochs=2, seed=8)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all((one == other).all() for one, other in zip(a, b, strict=True))
    assert not all((one == other).all() for one, other in zip(a, c, strict=True))
    a, b, c = (sha256_of_model(tmp_path / name) for name in "abc")  # so that an evaluation of the first fits the second
    assert a == b != c


def test_a_checkpoint_of_other_hyperparameters_is_not_gone_on_with(dataset, tmp_path):
    options = ("--dataset", dataset, "--model", tmp_path / "model", "--epochs", 100_000)
    train_until("epoch 2/", signal.SIGTERM, *options)
    assert "resuming" not in train_here(dataset, tmp_path / "model", epochs=2)


def test_early_stopping_keeps_the_best_weights_on_the_validation_split(dataset, tmp_path):
    chosen = {"validation_split": 0.2, "early_stopping": 3, "learning_rate": 0.01, "epochs": 300}
    lines = train_here(dataset, tmp_path / "model", **chosen)
    history = read_card(tmp_path / "model").history
    losses = [epoch.validation_loss for epoch in history]
    best = losses.index(min(losses))
    assert len(history) == best + 1 + 3 < 300
    assert f"keeping the weights of epoch {best + 1}" in lines

    from trainyard.components.train.data import LabelledImages

    _, held = LabelledImages.in_memory(open_dataset(dataset).read("train")).hold_out(0.2, 0)
    validation = Split(held.held, held.labels)
    assert len(validation.labels) == round(0.2 * 1437)
    assert accuracy(tmp_path / "model", validation) == pytest.approx(history[best].validation_accuracy, abs=0.004)


def test_class_weights_find_the_rare_one(tmp_path):
    """5 images of one class among 200, hardly different from the others: by numbers alone it is best never guessed."""
    random = np.random.default_rng(1)
    labels = np.zeros(200, np.int64)
    labels[:5] = 1
    images = random.integers(100, 140, (200, 6, 6), dtype=np.uint8)
    images[labels == 1] += 6
    data = npz(tmp_path / "data", images, labels)
    found = {}
    by_hand = json.dumps({"0": 200 / (2 * 195), "1": 200 / (2 * 5)})
    for name, chosen in (("same", ""), ("balanced", "balanced"), ("by hand", by_hand)):
        train_here(data, tmp_path / name, epochs=30, class_weights=chosen)
        found[name] = (load_classifier(tmp_path / name).predict(images[:5, ..., None]).argmax(1) == 1).mean()
    assert found["balanced"] > found["same"]
    for mine, reference in zip(weights(tmp_path / "by hand"), weights(tmp_path / "balanced"), strict=True):
        np.testing.assert_array_equal(mine, reference)


def test_a_cosine_schedule_with_warmup_rises_and_falls(dataset):
    from trainyard.components.train.hyperparameters import Hyperparameters
    from trainyard.components.train.tuning import optimizer

    chosen = Hyperparameters(epochs=10, learning_rate=0.01, schedule="cosine", warmup=0.2)
    rates = [float(optimizer(chosen, 10)._learning_rate(step)) for step in range(101)]
    assert rates[0] == 0
    assert max(rates) == pytest.approx(0.01, rel=0.01)
    assert rates.index(max(rates)) == pytest.approx(20, abs=1)
    assert rates[100] == pytest.approx(0, abs=1e-6)
