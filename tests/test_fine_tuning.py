"""Fine-tuning: networks of Keras Applications with weights from a file, a frozen base, and what it gains."""

import numpy as np
import pytest

from benchmarks.photos import write_photos
from tests.training import npz, train_here
from trainyard.components.common.artifacts.classifier import load_classifier
from trainyard.components.common.artifacts.model import read_card
from trainyard.components.common.cli import BadInput
from trainyard.components.train.hyperparameters import Hyperparameters
from trainyard.components.train.pretrained import APPLICATIONS, application

SIDE = 32


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """Weights of MobileNetV3Small as people have them: in a file, without the top layer."""
    import keras

    keras.utils.set_random_seed(3)
    network = keras.applications.MobileNetV3Small(weights=None, include_top=False, input_shape=(SIDE, SIDE, 3))
    path = tmp_path_factory.mktemp("weights") / "small_no_top.weights.h5"
    network.save_weights(path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos") / "photos", {"train": 20, "test": 10}, (SIDE, SIDE))


def base_of(model):
    import keras

    loaded = keras.saving.load_model(model / "model.keras", compile=False)
    return next(layer for layer in loaded.layers if isinstance(layer, keras.Model))


def test_all_networks_of_keras_applications_are_known():
    import keras

    there = {name for name, one in vars(keras.applications).items() if name[0].isupper() and callable(one)}
    assert set(APPLICATIONS) == there


def test_a_pretrained_network_begins_with_its_weights_and_takes_raw_pixels(photos, weights_file, tmp_path):
    import keras

    chosen = {"base_model": "keras://MobileNetV3Small", "base_weights": str(weights_file)}
    lines = train_here(photos, tmp_path / "model", epochs=1, freeze=True, **chosen)
    assert "fine-tuning MobileNetV3Small, with a new last layer for 5 classes" in lines
    expected = keras.applications.MobileNetV3Small(weights=None, include_top=False, input_shape=(SIDE, SIDE, 3))
    expected.load_weights(weights_file)
    for mine, theirs in zip(base_of(tmp_path / "model").get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    card = read_card(tmp_path / "model")
    assert card.architecture == "MobileNetV3Small"
    assert card.hyperparameters["base_model"] == "keras://MobileNetV3Small"
    assert len(card.hyperparameters["base_weights_sha256"]) == 64
    assert card.litert.written, card.litert
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)
    assert load_classifier(tmp_path / "model").predict(pixels).shape == (3, 5)


@pytest.mark.parametrize("name", ["ResNet50", "DenseNet121", "MobileNetV2"])
def test_the_preprocessing_of_a_network_becomes_part_of_the_model(name, tmp_path):
    """One of each kind: means of BGR, means and deviations of RGB, -1 to 1."""
    import sys

    import keras

    network = application(f"keras://{name}", "")
    image = keras.Input((SIDE, SIDE, 3), name="image")
    keras.Model(image, network._prepare(image)).save(tmp_path / "prepared.keras")
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3)).astype("float32")
    prepared = keras.saving.load_model(tmp_path / "prepared.keras").predict(pixels, verbose=0)
    module = sys.modules[getattr(keras.applications, name).__module__]
    np.testing.assert_allclose(prepared, module.preprocess_input(pixels.copy()), atol=1e-4)


def test_grey_photos_are_shown_to_a_pretrained_network_in_three_equal_colours(weights_file):
    network = application("keras://MobileNetV3Small", str(weights_file))
    model = network.build((SIDE, SIDE, 1), ["cat", "dog"], print)
    grey = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 1)).astype("float32")
    base = next(layer for layer in model.layers if layer.name.startswith("MobileNetV3"))
    *_, dense, softmax = model.layers
    expected = softmax(dense(base(np.repeat(grey, 3, axis=3), training=False)))
    np.testing.assert_allclose(model(grey), expected, atol=1e-5)


def test_without_a_network_the_missing_weights_are_told_in_a_sentence(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(RuntimeError, match=r"expected its ImageNet weights from storage.*pass a file or an s3:// URI"):
        train_here(photos, tmp_path / "model", base_model="keras://ConvNeXtTiny", epochs=1)
    assert not (tmp_path / "model").exists()


def test_weights_of_another_network_are_refused(photos, weights_file, tmp_path):
    with pytest.raises(BadInput, match="--base-weights: expected those of MobileNetV3Large without its top layer"):
        train_here(
            photos, tmp_path / "model", base_model="keras://MobileNetV3Large", base_weights=str(weights_file), epochs=1
        )


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"freeze": True}, "--freeze: expected a --base-model to fine-tune, received none"),
        ({"base_model": "m", "epochs": 3, "unfreeze_after": 3}, "--unfreeze-after: expected fewer than the 3 epochs"),
        ({"base_model": "m", "base_weights": "w.h5"}, "--base-weights: expected a --base-model as keras://"),
        ({"base_model": "m", "base_learning_rate": -1.0}, "--base-learning-rate: expected a number of at least 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(chosen, said):
    with pytest.raises(BadInput, match=said):
        Hyperparameters(**chosen)


def test_a_network_that_there_is_not_is_refused_with_the_likeliest_one():
    with pytest.raises(BadInput, match="received 'mobilenetv3small'; did you mean keras:"):
        application("keras://mobilenetv3small", "")
    with pytest.raises(BadInput, match="--base-weights: expected a file or an s3:// URI of one"):
        application("keras://VGG16", "no.h5")


@pytest.fixture(scope="module")
def base(dataset, tmp_path_factory):
    """A model of the digits 0 to 4."""
    folder = tmp_path_factory.mktemp("base")
    half = folder / "half"
    images, labels = digits(dataset, range(5))
    train_here(npz(half, images, labels), folder / "model", architecture="cnn", epochs=6, batch_size=32)
    return folder / "model"


def digits(dataset, chosen, count=None):
    from trainyard.components.common.datasets import open_dataset

    split = open_dataset(dataset).read("train")
    places = np.flatnonzero(np.isin(split.labels, list(chosen)))[:count]
    return split.images[places], np.unique(split.labels[places], return_inverse=True)[1]


def weights(model):
    import keras

    return keras.saving.load_model(model / "model.keras", compile=False).get_weights()


def test_a_frozen_base_stays_as_it_is_and_can_learn_again_later(base, dataset, tmp_path):
    import keras

    data = npz(tmp_path / "data", *digits(dataset, range(5, 10), 60))
    train_here(data, tmp_path / "model", base_model=str(base), epochs=2, batch_size=16, freeze=True)
    *kept, kernel, _ = weights(tmp_path / "model")
    *before, _, _ = weights(base)
    for mine, theirs in zip(kept, before, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert np.abs(kernel).max() > 0
    model = keras.saving.load_model(tmp_path / "model/model.keras", compile=False)
    assert all(layer.trainable for layer in model.layers)


def test_a_base_that_is_unfrozen_learns_from_that_epoch_on_at_its_own_rate(base, dataset, tmp_path):
    data = npz(tmp_path / "data", *digits(dataset, range(5, 10), 60))
    chosen = {"base_model": str(base), "batch_size": 16, "unfreeze_after": 1}
    train_here(data, tmp_path / "model", epochs=2, **chosen)
    train_here(data, tmp_path / "still", epochs=2, base_learning_rate=1e-9, **chosen)
    before = weights(base)
    assert any(np.abs(a - b).max() > 1e-5 for a, b in zip(weights(tmp_path / "model")[:-2], before, strict=False))
    for a, b in zip(weights(tmp_path / "still")[:-2], before, strict=False):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_base_that_was_trained_on_half_of_the_classes_helps_with_few_images_of_the_others(base, dataset, tmp_path):
    images, labels = digits(dataset, range(5, 10))
    data = tmp_path / "data"
    data.mkdir()
    np.savez(data / "few.npz", x_train=images[:40], y_train=labels[:40], x_test=images[40:], y_test=labels[40:])
    chosen = {"epochs": 15, "batch_size": 8}
    train_here(data, tmp_path / "tuned", base_model=str(base), **chosen)
    train_here(data, tmp_path / "anew", architecture="cnn", **chosen)
    tuned, anew = (
        (load_classifier(tmp_path / name).predict(images[40:]).argmax(1) == labels[40:]).mean()
        for name in ("tuned", "anew")
    )
    assert tuned > anew


def test_a_killed_fine_tuning_goes_on_to_the_same_weights(base, dataset, tmp_path):
    data = npz(tmp_path / "data", *digits(dataset, range(5, 10), 60))
    chosen = {"base_model": str(base), "epochs": 4, "batch_size": 16, "unfreeze_after": 2}
    train_here(data, tmp_path / "whole", **chosen)

    class Killed(Exception):
        pass

    def kill(line):
        if line.startswith("epoch 3/4"):
            raise Killed

    with pytest.raises(Killed):
        train_here(data, tmp_path / "broken", say=kill, **chosen)
    assert "resuming after epoch 3" in train_here(data, tmp_path / "broken", **chosen)
    for mine, theirs in zip(weights(tmp_path / "broken"), weights(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(mine, theirs)
