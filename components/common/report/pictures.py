"""Images in a report."""

from __future__ import annotations

import base64
import io

import numpy as np

PICTURE = 80
"""Maximum side of a picture in pixels; larger images are scaled down."""
SMALL = 40
"""Maximum side in pixels of images that are no photos: they are shown pixel by pixel."""


def picture(image: np.ndarray, side: int = PICTURE) -> str:
    """An image as a data URI, scaled down to at most `side` pixels a side: a PNG, of a photo a JPEG.

    Args:
        image: uint8, shape (height, width, channels): 3 channels are RGB, 4 RGBA; of any other number the mean is
            shown in grey.
        side: Maximum height and width.
    """
    from PIL import Image

    drawn = Image.fromarray(image if image.shape[2] in (3, 4) else image.mean(axis=2).astype(np.uint8))
    drawn.thumbnail((side, side))
    kind = "jpeg" if max(drawn.size) > SMALL else "png"
    if kind == "jpeg" and drawn.mode == "RGBA":
        drawn = Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")
    file = io.BytesIO()
    file.name = f"picture.{kind}"  # for a name, Pillow imports the plugin of its format alone
    drawn.save(file)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
