"""The networks that train names, on images as unlike MNIST's as can be."""

import numpy as np
import pytest

from tests.training import npz, train_here
from trainyard.components.common.artifacts.classifier import load_classifier
from trainyard.components.common.artifacts.model import read_card


@pytest.mark.parametrize("architecture", ["dense", "compact", "cnn", "squeezenet", "resnet18", "resnet34"])
def test_every_architecture_takes_small_colour_images_that_are_not_square(tmp_path, architecture):
    labels = np.arange(12) % 3
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 12, 3), dtype=np.uint8)
    data = npz(tmp_path / "data", images, labels)
    train_here(data, tmp_path / "model", architecture=architecture, epochs=1, batch_size=8)
    card = read_card(tmp_path / "model")
    assert card.architecture == architecture
    assert card.litert.written, card.litert
    answers = load_classifier(tmp_path / "model").predict(images)
    assert answers.shape == (12, 3)
    np.testing.assert_allclose(answers.sum(1), 1, atol=1e-5)
