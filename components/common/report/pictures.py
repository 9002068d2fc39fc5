"""Images in a report."""

from __future__ import annotations

import base64
import io

import numpy as np

PICTURE = 80
"""Maximum side of a picture in pixels; larger images are scaled down."""


def picture(image: np.ndarray) -> str:
    """A PNG of an image as a data URI, scaled down to at most PICTURE pixels a side.

    Args:
        image: uint8, shape (height, width, channels): 3 channels are RGB, 4 RGBA; of any other number the mean is
            shown in grey.
    """
    from PIL import Image

    drawn = Image.fromarray(image if image.shape[2] in (3, 4) else image.mean(axis=2).astype(np.uint8))
    drawn.thumbnail((PICTURE, PICTURE))
    file = io.BytesIO()
    file.name = "picture.png"  # for a name, Pillow imports the plugin of its format alone
    drawn.save(file)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
