"""Decode PNG and JPEG images into one array."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from ..cli import BadInput
from ..parallel import processors
from .png import SIGNATURE, decode_pngs

if TYPE_CHECKING:
    from PIL import Image

AT_ONCE = 8
"""Most images that a thread decodes before it takes more; small ones cost less than being handed over."""
ORIENTATION = 0x0112
"""The EXIF tag by which a camera says how it was held."""


class DamagedImage(BadInput):
    """These bytes are no image."""


def decode_images(
    encoded: Sequence[bytes],
    shape: tuple[int, int, int],
    name: Callable[[int], str],
    resize: bool = False,
    damaged: list[int] | None = None,
) -> np.ndarray:
    """Decode images of one size, or brought to one.

    Args:
        encoded: PNG or JPEG files, at least one.
        shape: (height, width, channels) of the result. With 1 channel all become grey, with 3 RGB (transparency is
            dropped).
        name: What to call the image at an index in messages.
        resize: Whether images of other sizes are brought to this one: bilinear with antialiasing, without cropping, so
            that proportions may change.
        damaged: Where it is given, the indices of damaged images are added, and their pixels stay 0.

    Returns:
        uint8 of shape (images, height, width, channels).

    Raises:
        DamagedImage: an image is damaged, and `damaged` is not given.
        BadInput: an image has another size, or more than 8 bits a channel.
    """
    if (decoded := decode_pngs(encoded, shape)) is not None:
        return decoded
    images = np.zeros((len(encoded), *shape), np.uint8)

    def decode(indices: range) -> None:
        for index in indices:
            try:
                images[index] = _decode(encoded[index], shape, name(index), resize)
            except DamagedImage:
                if damaged is None:
                    raise
                damaged.append(index)

    count = len(encoded)
    threads = min(processors(), count)
    size = min(AT_ONCE, max(1, count // (4 * threads)))
    portions = [range(at, min(at + size, count)) for at in range(0, count, size)]
    if threads == 1:
        decode(range(count))
    else:
        from concurrent.futures import ThreadPoolExecutor

        # Pillow decodes and resizes outside of Python's lock
        with ThreadPoolExecutor(threads) as pool:
            try:
                for _ in pool.map(decode, portions):  # in this order, so that the first of several failures is told
                    pass
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return images


def image_shape(content: bytes, name: str) -> tuple[int, int, int]:
    """(height, width, channels) of an encoded image, from its header: 1 channel for grey images, 3 for all others.

    Raises:
        DamagedImage: it is no image.
    """
    with _opened(content, name) as image:
        width, height = image.size if _orientation(image) < 5 else image.size[::-1]
        return height, width, 1 if image.mode in ("L", "LA", "1") else 3


def is_grey(path: str) -> bool:
    """Whether an image file is grey, from its header; one that is damaged may be."""
    with io.FileIO(path) as file:
        header = file.read(26)
        if header.startswith(SIGNATURE) and len(header) == 26:
            return header[25] in (0, 4)  # PNG's colour types grey, and grey with transparency
        try:
            return image_shape(header + file.readall(), path)[2] == 1
        except DamagedImage:
            return True


def resized(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Images of any number of channels, each brought to (height, width) as `decode_images` does it."""
    if images.shape[1:3] == size:
        return images
    from PIL import Image

    result = np.empty((len(images), *size, images.shape[3]), np.uint8)
    for image, target in zip(images, result, strict=True):
        for channel in range(images.shape[3]):
            band = Image.fromarray(image[..., channel])
            target[..., channel] = np.asarray(band.resize(size[::-1], Image.Resampling.BILINEAR))
    return result


def _decode(content: bytes, shape: tuple[int, int, int], name: str, resize: bool) -> np.ndarray:
    """One image; see `decode_images`."""
    from PIL import Image, ImageOps

    height, width, channels = shape
    with _opened(content, name) as image:
        if image.mode.startswith(("I", "F")):
            raise BadInput(f"{name}: expected 8 bits a channel, received {image.mode}; convert it")
        if _orientation(image) != 1:
            ImageOps.exif_transpose(image, in_place=True)
        if image.size != (width, height) and not resize:
            raise BadInput(
                f"{name}: expected images of one size, {height} x {width} (height x width) as the first, received "
                f"{image.height} x {image.width}; resize them, or train with --image-size"
            )
        upright = image.convert("L" if channels == 1 else "RGB")
    if upright.size != (width, height):
        upright = upright.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(upright).reshape(shape)


def _orientation(image: Image.Image) -> int:
    """How the camera was held: 1 upright, from 5 on with width and height swapped."""
    return image.getexif().get(ORIENTATION, 1) if "exif" in image.info else 1


@contextmanager
def _opened(content: bytes, name: str) -> Iterator[Image.Image]:
    """An image whose pixels are decoded when they are asked for."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            yield image
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DamagedImage(
            f"{name}: expected a PNG or JPEG image, received a damaged or other file; replace or remove it, or pass "
            "--on-corrupt skip"
        ) from error
