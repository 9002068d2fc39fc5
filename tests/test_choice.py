"""What train chooses unless told: the network, the size of the images, and how long to learn."""

import numpy as np
import pytest
from PIL import Image

from benchmarks.photos import write_photos
from tests.training import npz
from trainyard.components.common.artifacts.evaluation import Evaluation
from trainyard.components.common.artifacts.model import read_card
from trainyard.components.common.datasets import open_dataset
from trainyard.components.train.choice import choose
from trainyard.components.train.hyperparameters import Hyperparameters


def arrays(folder, shape, count=40):
    return npz(folder, np.zeros((count, *shape), np.uint8), np.arange(count) % 2)


def files(folder, *sizes):
    """A data set of two classes with an image of each size (height, width) in each."""
    for label in ("cat", "dog"):
        (folder / "train" / label).mkdir(parents=True)
        for index, (height, width) in enumerate(sizes):
            Image.new("RGB", (width, height), "red").save(folder / "train" / label / f"{index}.jpg")
    return folder


@pytest.mark.parametrize(
    ("shape", "network"),
    [((28, 28, 1), "dense"), ((32, 32), "dense"), ((28, 28, 3), "compact"), ((33, 20, 1), "compact")],
)
def test_small_grey_images_get_the_dense_network_and_all_others_the_compact_one(tmp_path, shape, network):
    chosen, told = choose(Hyperparameters(), open_dataset(arrays(tmp_path / "data", shape)))
    assert chosen.architecture == network
    assert told[0].split(",")[0] == f"architecture {network}"


def test_small_grey_images_are_learned_as_in_the_tutorial(tmp_path):
    chosen, _ = choose(Hyperparameters(), open_dataset(arrays(tmp_path / "data", (28, 28))))
    assert (chosen.epochs, chosen.batch_size, chosen.schedule, chosen.augmentation) == (5, 128, "constant", "")


def test_the_fewer_photos_there_are_the_more_often_they_are_looked_at(tmp_path):
    epochs = []
    for count in (40, 640, 6400, 64000):
        dataset = open_dataset(arrays(tmp_path / str(count), (4, 4, 3), count))
        epochs.append(choose(Hyperparameters(), dataset)[0].epochs)
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] > epochs[1] > epochs[2]


def test_what_is_said_counts_whatever_the_images_are(tmp_path):
    given = Hyperparameters(
        architecture="dense", epochs=3, batch_size=7, schedule="constant", augmentation="none", image_size="300"
    )
    dataset = open_dataset(files(tmp_path / "data", (300, 300), (400, 20)), given.size)
    assert choose(given, dataset) == (given, [])
    assert dataset.image_shape == (300, 300, 3)


@pytest.mark.parametrize(
    ("sizes", "shape", "why"),
    [
        ([(60, 50), (60, 50)], (60, 50, 3), ""),
        ([(60, 50), (60, 51)], (128, 128, 3), "they differ in size"),
        ([(60, 257), (60, 257)], (128, 128, 3), "they are larger than 256 x 256"),
    ],
)
def test_images_of_one_handy_size_keep_it_and_others_are_resized(tmp_path, sizes, shape, why):
    dataset = open_dataset(files(tmp_path / "data", *sizes))
    chosen, told = choose(Hyperparameters(), dataset)
    assert dataset.image_shape == shape
    assert dataset.images("train").shape[1:] == shape
    assert (f"since {why};" in told[0]) if why else chosen.size is None


def test_a_photo_that_lies_on_its_side_has_the_size_that_it_is_seen_in(tmp_path):
    folder = files(tmp_path / "data", (60, 50), (60, 50))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    Image.new("RGB", (60, 50)).save(folder / "train/cat/turned.jpg", exif=exif)
    assert open_dataset(folder).of_one_size()
    Image.new("RGB", (60, 50)).save(folder / "train/cat/lying.png")
    assert not open_dataset(folder).of_one_size()


def test_the_card_says_what_was_chosen_and_why(step, tmp_path):
    data = write_photos(tmp_path / "photos", {"train": 10, "test": 10}, (40, 30))
    done = step("train", "--dataset", data, "--model", tmp_path / "model", "--epochs", 1)
    assert done.returncode == 0, done.stderr
    line = "architecture compact, for colour images; --architecture selects another"
    assert f"train     {line}\n" in done.stderr
    card = read_card(tmp_path / "model")
    assert card.choices[0] == line
    assert card.choices[1].startswith("augmentation shift,flip,light")
    chosen = {name: card.hyperparameters[name] for name in ("architecture", "batch_size", "schedule", "epochs")}
    assert chosen == {"architecture": "compact", "batch_size": 32, "schedule": "cosine", "epochs": 1}
    assert "- architecture compact, for colour images" in (tmp_path / "model" / "README.md").read_text()


def test_a_result_no_better_than_guessing_is_told_with_what_to_try(step, tmp_path):
    random = np.random.default_rng(0)
    data = npz(tmp_path / "noise", random.integers(0, 256, (90, 8, 8), np.uint8), np.arange(90) % 3)
    arrays_of = dict(np.load(data / "data.npz"))
    arrays_of["x_test"] = arrays_of["x_test"][::-1]
    np.savez(data / "data.npz", **arrays_of)
    assert step("train", "--dataset", data, "--model", tmp_path / "model", "--epochs", 1).returncode == 0
    options = ("--dataset", data, "--model", tmp_path / "model", "--report", tmp_path / "report.html")
    done = step("evaluate", *options, "--evaluation", tmp_path / "evaluation")
    told = "answering the largest class every time is right for 33.3%"
    assert f"evaluate  no better than guessing: {told}" in done.stderr
    assert "try --architecture auto" in done.stderr
    assert "<strong>No better than guessing</strong>" in (tmp_path / "report.html").read_text()
    assert Evaluation.read(tmp_path / "evaluation").guessing.startswith(told)


def test_a_good_result_is_not_called_guessing(step, tmp_path):
    images = np.repeat(np.array([0, 128, 255], np.uint8), 30)[:, None, None] * np.ones((8, 8), np.uint8)
    data = npz(tmp_path / "plain", images, np.repeat(np.arange(3), 30))
    chosen = ("--epochs", 30, "--batch-size", 10, "--learning-rate", 0.01)
    assert step("train", "--dataset", data, "--model", tmp_path / "model", *chosen).returncode == 0
    options = ("--dataset", data, "--model", tmp_path / "model", "--report", tmp_path / "report.html")
    done = step("evaluate", *options, "--evaluation", tmp_path / "evaluation")
    assert "guessing" not in done.stderr
    assert "No better than guessing" not in (tmp_path / "report.html").read_text()
    assert Evaluation.read(tmp_path / "evaluation").guessing == ""
