"""Random changes of the training images that leave their class as it is.

Pixels keep their values when an image is shifted or mirrored: a change that blurs would teach a network to expect blur.
This module imports Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

SHIFT = 0.1
"""Largest shift, as a share of height and width."""
TURN = 0.05
"""Largest turn, as a share of a full one: 18 degrees."""
CONTRAST, BRIGHTNESS, TINT = 0.3, 40, 0.1
"""Largest changes of light: share of the contrast, levels of the 256, share of each colour."""


class Shift(keras.layers.Layer):
    """Moves each image by whole pixels; its edge is repeated where there is nothing."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = keras.random.SeedGenerator(seed)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Float32 (batch, height, width, channels), and so the result."""
        for axis in (1, 2):
            size = images.shape[axis]
            most = max(1, round(size * SHIFT))
            shift = keras.random.randint((tf.shape(images)[0], 1), -most, most + 1, seed=self._seed)
            images = tf.gather(images, tf.clip_by_value(tf.range(size) + shift, 0, size - 1), axis=axis, batch_dims=1)
        return images


class Light(keras.layers.Layer):
    """Changes contrast and brightness of each image, and slightly its tint."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = keras.random.SeedGenerator(seed)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Float32 (batch, height, width, channels), 0 to 255, and so the result."""
        mean = tf.reduce_mean(images, (1, 2, 3), keepdims=True)
        contrast, brightness = self._around(1, CONTRAST, images, 1), self._around(0, BRIGHTNESS, images, 1)
        changed = (images - mean) * contrast + mean + brightness
        return tf.clip_by_value(changed * self._around(1, TINT, images, images.shape[3]), 0, 255)

    def _around(self, middle: float, width: float, images: tf.Tensor, channels: int) -> tf.Tensor:
        shape = (tf.shape(images)[0], 1, 1, channels)
        return keras.random.uniform(shape, middle - width, middle + width, seed=self._seed)


KINDS: dict[str, Callable[[int], keras.layers.Layer]] = {
    "shift": Shift,
    "rotation": lambda seed: keras.layers.RandomRotation(TURN, fill_mode="nearest", seed=seed),
    "flip": lambda seed: keras.layers.RandomFlip("horizontal", seed=seed),
    "light": Light,
}


def layers(kinds: Sequence[str], seed: int) -> list[keras.layers.Layer]:
    """The layers that change a batch, in this order; `kinds`: keys of KINDS."""
    return [KINDS[kind](seed) for kind in kinds]
