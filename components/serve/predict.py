"""Send one image to an endpoint: from a picture, from JSON, or from the test split of a data set."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..common.cli import BadInput
from ..common.files import write_json
from .client import Endpoint, EndpointError


@dataclass(frozen=True)
class Prediction:
    """An image and what the model saw in it.

    Attributes:
        image: uint8, shape (height, width, channels), as it was sent.
        probabilities: One per class, 0 to 1.
        classes: Their names.
        true_label: What it is, where that is known.
        index: Its place in the test split, when it came from a data set.
    """

    image: np.ndarray
    probabilities: list[float]
    classes: list[str]
    true_label: str | None = None
    index: int | None = None

    @property
    def label(self) -> str:
        """The most probable class."""
        return self.classes[self.order[0]]

    @property
    def probability(self) -> float:
        return self.probabilities[self.order[0]]

    @property
    def order(self) -> list[int]:
        """The classes, most probable first."""
        return sorted(range(len(self.classes)), key=lambda index: -self.probabilities[index])

    def as_json(self) -> dict[str, Any]:
        """What `--result` writes."""
        return {
            "label": self.label,
            "probability": self.probability,
            "true_label": self.true_label,
            "index": self.index,
            "probabilities": dict(zip(self.classes, self.probabilities, strict=True)),
        }


def predict_file(endpoint: Endpoint, path: Path, invert: bool) -> Prediction:
    """Send an image file, brought to the model's size and colours.

    Args:
        endpoint: What to ask.
        path: The image; its proportions are kept, and what is missing is filled with the colour of its corner, unless
            the model learned from images that were stretched to its size. Its pixels are read as in training, see
            `decoding.read_image`.
        invert: Swap dark and light.

    Raises:
        BadInput: the file is no image.
        EndpointError: the endpoint does not answer, or does not take images.
    """
    told = endpoint.metadata()
    image = _read_image(path, _input_shape(endpoint.url, told), invert, _resizes(told))
    probabilities = _ask(endpoint, image.tolist())
    return Prediction(image, probabilities, _class_names(told, len(probabilities)))


def predict_json(endpoint: Endpoint, path: Path) -> Prediction:
    """Send an image that stands in a file as a request would hold it: as it is, its numbers untouched.

    Args:
        endpoint: What to ask.
        path: JSON, `{"instances": [image]}` or the image alone; an image is nested lists (height, width, channels).

    Raises:
        BadInput: the file holds no such image.
        EndpointError: the endpoint does not answer, or takes other images.
    """
    instance = _read_instance(path)
    probabilities = _ask(endpoint, instance)
    numbers = np.asarray(instance, np.float32)
    image = np.rint(numbers * (255 if numbers.max() <= 1 else 1)).clip(0, 255).astype(np.uint8)
    return Prediction(image, probabilities, _class_names(_metadata_if_any(endpoint), len(probabilities)))


def predict_example(endpoint: Endpoint, folder: Path, index: int | None = None) -> Prediction:
    """Send an image of the test split of a data set, else of validation: the one at that place, or any.

    Raises:
        BadInput: there is no such data set, or no such image in it.
        EndpointError: the endpoint does not answer, or takes other images.
    """
    from ..common.datasets import open_dataset

    told = _metadata_if_any(endpoint)
    size = _input_shape(endpoint.url, told)[:2] if _resizes(told) else None
    dataset = open_dataset(folder, size)
    split = next((name for name in ("test", "validation") if dataset.counts.get(name)), "")
    if not split:
        raise BadInput(f"--data: expected a data set with test images, received none in {dataset.name}; pass another")
    count = dataset.counts[split]
    if index is None:
        index = random.randrange(count)
    if not 0 <= index < count:
        raise BadInput(
            f"--index: expected 0 to {count - 1} ({dataset.name} has {count} {split} images), received {index}; "
            "choose another"
        )
    image = dataset.images(split, np.array([index]))[0]
    probabilities = _ask(endpoint, image.tolist())
    classes = _class_names(told, len(probabilities), dataset.class_names)
    return Prediction(image, probabilities, classes, dataset.class_names[dataset.labels(split)[index]], index)


def save_result(seen: Prediction, path: Path) -> None:
    """Write the answer as JSON."""
    write_json(path, seen.as_json(), indent=2)


def _ask(endpoint: Endpoint, instance: list[Any]) -> list[float]:
    answer = endpoint.predict([instance])[0]
    if not isinstance(answer, list) or not all(isinstance(value, int | float) for value in answer):
        raise EndpointError(f"{endpoint.url}: expected one probability per class, received {str(answer)[:200]}")
    return answer


def _metadata_if_any(endpoint: Endpoint) -> dict[str, Any]:
    """The metadata; nothing from servers that have none, which is no hindrance where the image is known to fit."""
    try:
        return endpoint.metadata()
    except EndpointError as error:
        if not error.status:
            raise
        return {}


def _input_shape(url: str, told: dict[str, Any]) -> tuple[int, int, int]:
    """(height, width, channels) that the model takes; -1 where it takes any."""
    try:
        signatures = told["metadata"]["signature_def"]["signature_def"]
        tensor = next(iter(signatures["serving_default"]["inputs"].values()))
        shape = tuple(int(dimension["size"]) for dimension in tensor["tensor_shape"]["dim"])
    except (KeyError, TypeError, ValueError, StopIteration):
        raise EndpointError(f"{url}: its metadata does not tell what the model takes; use --data instead") from None
    if len(shape) != 4 or shape[-1] not in (1, 3):
        raise EndpointError(f"{url}: the model takes {list(shape)}, which is no grey or RGB image; send it otherwise")
    return shape[1], shape[2], shape[3]


def _resizes(told: dict[str, Any]) -> bool:
    """Whether the model learned from images that were brought to its size, whatever their proportions."""
    return told.get("metadata", {}).get("card", {}).get("input", {}).get("resized", False)


def _class_names(told: dict[str, Any], count: int, known: Sequence[str] = ()) -> list[str]:
    """Names of the classes: the endpoint's, else those known here if their number fits, else 0, 1, 2, ..."""
    card = told.get("metadata", {}).get("card", {})
    for names in (card.get("classes", []), known):
        if len(names) == count:
            return list(names)
    return [str(index) for index in range(count)]


def _read_instance(path: Path) -> list[Any]:
    try:
        content = json.loads(path.read_bytes())
        instances = content["instances"] if isinstance(content, dict) else [content]
        shapes = [np.asarray(instance, np.float32).shape for instance in instances]
    except OSError as error:
        raise BadInput(f"--json: expected a file, received {str(path)!r} ({error.strerror}); check the path") from None
    except (ValueError, KeyError, TypeError):
        shapes = []
    if len(shapes) != 1 or len(shapes[0]) != 3 or shapes[0][2] not in (1, 3):
        raise BadInput(
            f'--json: expected {{"instances": [image]}} with one grey or RGB image as nested lists (height, width, '
            f"channels), received something else in {path}; take the curl line of the server's page as an example"
        )
    return instances[0]


def _read_image(path: Path, shape: tuple[int, ...], invert: bool, stretch: bool = False) -> np.ndarray:
    from PIL import Image, ImageOps

    from ..common.datasets.decoding import read_image

    height, width, channels = shape
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"--image: {path} does not exist; check the path") from None
    except IsADirectoryError:
        raise BadInput(f"--image: expected an image file, received the folder {path}; pass a file in it") from None
    size = (width, height) if stretch and min(width, height) > 0 else None
    image = read_image(content, f"--image: {path}", channels, size)
    if invert:
        image = ImageOps.invert(image)
    size = (width if width > 0 else image.width, height if height > 0 else image.height)
    if stretch:
        image = image.resize(size, Image.Resampling.BILINEAR)
    else:
        colour: Any = image.getpixel((0, 0))
        image = ImageOps.pad(image, size, Image.Resampling.LANCZOS, color=colour)
    return np.asarray(image, np.uint8).reshape(size[1], size[0], channels)
