"""Decode PNG and JPEG images into one array."""

import io
from collections.abc import Sequence

import numpy as np

from components.common.cli import BadInput


def decode_images(
    encoded: Sequence[bytes],
    where: str,
    names: Sequence[str] | None = None,
    shape: tuple[int, int, int] | None = None,
) -> np.ndarray:
    """Decode images of one size.

    Args:
        encoded: PNG or JPEG files, at least one.
        where: What they belong to, for messages.
        names: Name of each, for messages.
        shape: (height, width, channels) they must have; by default that of the first. Channels are 1 for grey images
            and 3 for all others (transparency is dropped).

    Returns:
        uint8 of shape (images, height, width, channels).

    Raises:
        BadInput: an image is damaged or has another size.
    """
    from PIL import Image, UnidentifiedImageError

    from components.common.png import decode_pngs

    decoded = decode_pngs(encoded)
    if decoded is not None and shape in (None, decoded.shape[1:]):
        return decoded

    def name(index: int) -> str:
        return names[index] if names else f"{where}: image {index}"

    images = None
    for index, content in enumerate(encoded):
        try:
            with Image.open(io.BytesIO(content)) as image:
                if image.mode.startswith(("I", "F")):
                    raise BadInput(f"{name(index)}: expected 8 bits a channel, received {image.mode}; convert it")
                channels = shape[2] if shape else (1 if image.mode in ("L", "LA", "1") else 3)
                pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise BadInput(
                f"{name(index)}: expected a PNG or JPEG image, received a damaged or other file; replace or remove it"
            ) from error
        pixels = pixels.reshape(*pixels.shape[:2], channels)
        shape = shape or pixels.shape
        if images is None:
            images = np.empty((len(encoded), *shape), np.uint8)
        if pixels.shape != shape:
            raise BadInput(
                f"{name(index)}: expected images of one size, {shape[1]} x {shape[0]} as the first, received "
                f"{pixels.shape[1]} x {pixels.shape[0]}; resize them"
            )
        images[index] = pixels
    assert images is not None
    return images
