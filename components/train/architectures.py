"""The networks that `--architecture` names. Each takes raw 0..255 pixels and ends in one logit per class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

MOMENTUM = 0.9
"""Of batch normalisation's averages: Keras's 0.99 lags behind in a training of few steps."""


def build(architecture: str, image_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """An untrained classifier.

    Args:
        architecture: A key of `ARCHITECTURES`.
        image_shape: (height, width, channels).
        classes: Number of classes, at least 2.

    Returns:
        A Keras model from float32 images (batch, height, width, channels), 0 to 255, to probabilities (batch, classes).
        Pixels are scaled inside, so that a client cannot get it wrong. The last layer is the softmax, `probabilities`:
        training takes the logits before it, which is the numerically stable way.
    """
    import keras

    image = keras.Input(image_shape, name="image")
    scaled = keras.layers.Rescaling(1 / 255, name="scaling")(image)
    features = ARCHITECTURES[architecture](scaled)
    logits = keras.layers.Dense(classes, name="logits")(features)
    return keras.Model(image, keras.layers.Softmax(name="probabilities")(logits), name=architecture)


def every_layer(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model and of those inside it."""
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from every_layer(layer)


def dense(images: keras.KerasTensor) -> keras.KerasTensor:
    """One hidden layer of 128 units, as in the MNIST tutorials: 97.4 % there after 5 epochs."""
    from keras import layers

    # With names, the model files are the same whatever this process built before
    return layers.Dense(128, activation="relu", name="hidden")(layers.Flatten(name="flat")(images))


def cnn(images: keras.KerasTensor) -> keras.KerasTensor:
    """Two convolutions with pooling and a hidden layer with dropout: above 99.2 % on MNIST after 5 epochs."""
    from keras import layers

    x = layers.MaxPooling2D()(layers.Conv2D(32, 5, activation="relu", padding="same")(images))
    x = layers.MaxPooling2D()(layers.Conv2D(64, 5, activation="relu", padding="same")(x))
    x = layers.Dropout(0.3)(layers.Flatten()(x))
    x = layers.Dense(128, activation="relu")(x)
    return layers.Dropout(0.5)(x)


def compact(images: keras.KerasTensor) -> keras.KerasTensor:
    """Four convolutions with batch normalisation, averaged over the image: learns from a few hundred photos.

    Averaging makes it indifferent to where in an image something is. Images are first reduced to at most 32 x 32, so
    that a step takes about as long whatever their size.
    """
    from keras import layers

    def convolved(x: keras.KerasTensor, filters: int, size: int = 3, strides: int = 1) -> keras.KerasTensor:
        x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=MOMENTUM)(x))

    side = max(images.shape[1:3])
    x = convolved(images, 32, 5 if side > 64 else 3, 2 if side > 32 else 1)
    while max(x.shape[1:3]) > 32:
        x = layers.MaxPooling2D(padding="same")(x)
    for filters in (64, 128, 192):
        x = convolved(layers.MaxPooling2D(padding="same")(x), filters)
    return layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))


def squeezenet(images: keras.KerasTensor) -> keras.KerasTensor:
    """SqueezeNet 1.1 (https://arxiv.org/abs/1602.07360) with batch normalisation, for small images.

    Fire modules squeeze the channels before they convolve: few parameters for its depth.
    """
    from keras import layers

    def convolved(x: keras.KerasTensor, filters: int, size: int) -> keras.KerasTensor:
        x = layers.Conv2D(filters, size, padding="same", use_bias=False)(x)
        return layers.ReLU()(layers.BatchNormalization(momentum=MOMENTUM)(x))

    def fire(x: keras.KerasTensor, squeezed: int, expanded: int) -> keras.KerasTensor:
        x = convolved(x, squeezed, 1)
        return layers.Concatenate()([convolved(x, expanded, 1), convolved(x, expanded, 3)])

    x = convolved(images, 64, 3)
    for squeezed, expanded in ((16, 64), (32, 128), (48, 192), (64, 256)):
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        x = fire(fire(x, squeezed, expanded), squeezed, expanded)
    return layers.GlobalAveragePooling2D()(layers.Dropout(0.5)(x))


def resnet18(images: keras.KerasTensor) -> keras.KerasTensor:
    """ResNet-18 (https://arxiv.org/abs/1512.03385), its first layers for small images as in section 4.2."""
    return _resnet(images, (2, 2, 2, 2))


def resnet34(images: keras.KerasTensor) -> keras.KerasTensor:
    """ResNet-34 (https://arxiv.org/abs/1512.03385), its first layers for small images as in section 4.2."""
    return _resnet(images, (3, 4, 6, 3))


def _resnet(images: keras.KerasTensor, blocks: tuple[int, ...]) -> keras.KerasTensor:
    """Stages of 64, 128, 256 and 512 filters with so many blocks of two convolutions, each block added to its input."""
    from keras import layers

    def convolved(x: keras.KerasTensor, filters: int, size: int, strides: int = 1) -> keras.KerasTensor:
        x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
        return layers.BatchNormalization(momentum=MOMENTUM)(x)

    x = layers.ReLU()(convolved(images, 64, 3))
    for stage, count in enumerate(blocks):
        for block in range(count):
            strides = 2 if stage and not block else 1
            filters = 64 * 2**stage
            shortcut = convolved(x, filters, 1, strides) if strides > 1 else x
            inner = layers.ReLU()(convolved(x, filters, 3, strides))
            x = layers.ReLU()(layers.Add()([shortcut, convolved(inner, filters, 3)]))
    return layers.GlobalAveragePooling2D()(x)


ARCHITECTURES: dict[str, Callable[[keras.KerasTensor], keras.KerasTensor]] = {
    "dense": dense,
    "compact": compact,
    "cnn": cnn,
    "squeezenet": squeezenet,
    "resnet18": resnet18,
    "resnet34": resnet34,
}
