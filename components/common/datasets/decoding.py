"""Decode image files into one array: the one reader of images for training, evaluation and prediction."""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
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
BITS = 258
"""The tag of a TIFF with its bits a channel."""
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
"""The tag of a TIFF that says what its numbers mean, and its value where 0 is white."""
SAMPLES, SIGNED = 339, 2
"""The tag of a TIFF that says what kind of numbers it holds, and its value for signed ones."""
SUBFILE, PREVIEW = 254, 1
"""The tag of a TIFF that says what its first image is, and its value where this is a small one of another."""
TELL_ORIENTATION = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}
"""Where Pillow keeps what may say it."""
ORIENTATION_IN_PNG = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type exif", b"Raw profile type APP1")
EXIF_IN_HEX = b"Exif".hex()
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""The formats that are read, as Pillow calls them (PPM: PBM and PGM too)."""
KINDS = "an image (PNG, JPEG, WebP, BMP, GIF or TIFF)"
OTHER_KINDS = {
    "HEIC, the format of iPhones": rb"....ftyp(heic|heix|hevc|mif1|msf1)",
    "AVIF": rb"....ftypavi[fs]",
    "a camera's raw file": rb"II\*\0....CR|....ftypcrx|FUJIFILMCCD-RAW|IIR[OS]|MMOR|IIU\0|\0MRM|FOVb",
    "a video": rb"....ftyp|RIFF....AVI |\x1a\x45\xdf\xa3|\0\0\x01\xba",
    "sound": rb"RIFF....WAVE|ID3|fLaC|OggS",
    "DICOM": rb".{128}DICM",
    "SVG, which has no pixels": rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE svg[^>]*>\s*)?<svg",
    "a web page": rb"\s*<(!doctype html|html|head|body)",
    "a PDF": rb"%PDF",
    "a Photoshop file": rb"8BPS",
    "PostScript": rb"%!PS",
    "JPEG 2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "OpenEXR": rb"\x76\x2f\x31\x01",
    "Radiance HDR": rb"#\?RADIANCE|#\?RGBE",
    "a GIMP file": rb"gimp xcf",
    "an icon": rb"\0\0\x01\0|icns",
    "a ZIP archive": rb"PK\x03\x04",
    "a gzip archive": rb"\x1f\x8b",
    "a NumPy array": rb"\x93NUMPY",
    "HDF5": rb"\x89HDF\r\n",
    "a MATLAB file": rb"MATLAB 5.0",
    "a pointer of Git LFS in place of the file": rb"version https://git-lfs",
    "a TIFF that is damaged, or of a compression or a number of bits that is not read": rb"II\*\0|MM\0\*",
    "only zeros": rb"\0{64}",
}
"""What files in place of images are, by a pattern of their first bytes."""
GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of grey images."""
GREY_IN_PNG = (0, 4)
"""PNG's colour types of grey images, and of such with transparency."""


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
        encoded: Image files, at least one.
        shape: (height, width, channels) of the result. With 1 channel all become grey, with 3 RGB; see `read_image`.
        name: What to call the image at an index in messages.
        resize: Whether images of other sizes are brought to this one: bilinear with antialiasing, without cropping, so
            that proportions may change.
        damaged: Where it is given, the indices of damaged images are added, and their pixels stay 0.

    Returns:
        uint8 of shape (images, height, width, channels).

    Raises:
        DamagedImage: an image is damaged, and `damaged` is not given.
        BadInput: an image has another size, or 32 bits a channel.
    """
    if (decoded := decode_pngs(encoded, shape)) is not None:
        return decoded
    images = np.zeros((len(encoded), *shape), np.uint8)

    def decode(indices: range) -> None:
        for index in indices:
            try:
                images[index] = _decode(encoded[index], shape, name(index), resize)
            except DamagedImage as error:
                if damaged is None:
                    raise DamagedImage(f"{error}, or pass --on-corrupt skip") from error
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
    """(height, width, channels) of an encoded image as it is given out: 1 channel for grey images, 3 for all others.

    Raises:
        DamagedImage: it is no image.
    """
    with _opened(content, name) as image:
        width, height = image.size if _orientation(image, content) < 5 else image.size[::-1]
        is_grey = image.mode in GREY or _has_16_bits(image) or (image.format == "PNG" and content[25] in GREY_IN_PNG)
        return height, width, 1 if is_grey else 3


def image_size(content: bytes, name: str) -> tuple[int, int]:
    """(height, width) of an encoded image as it is given out, from its header.

    Raises:
        DamagedImage: it is no image.
    """
    if content.startswith(SIGNATURE) and len(content) > 24 and not any(mark in content for mark in ORIENTATION_IN_PNG):
        width, height = struct.unpack(">II", content[16:24])  # at once, since data sets of PNGs may have very many
        return height, width
    return image_shape(content, name)[:2]


def kind_of(content: bytes) -> str:
    """What a file that is no image is, for a message."""
    if not content:
        return "an empty file"
    kinds = (kind for kind, pattern in OTHER_KINDS.items() if re.match(pattern, content[:1000], re.DOTALL | re.I))
    return next(kinds, "a damaged or other file")


def is_grey(path: str) -> bool:
    """Whether an image file is grey, from its header; one that is damaged may be."""
    with io.FileIO(path) as file:
        header = file.read(26)
        if header.startswith(SIGNATURE) and len(header) == 26:
            return header[25] in GREY_IN_PNG
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


def scaled_down(image: np.ndarray, side: int) -> np.ndarray:
    """An image (height, width, channels) in its proportions, of at most so many pixels a side."""
    height, width = image.shape[:2]
    if max(height, width) <= side:
        return image
    scale = side / max(height, width)
    return resized(image[None], (max(1, round(height * scale)), max(1, round(width * scale))))[0]


def read_image(content: bytes, name: str, channels: int, size: tuple[int, int] | None = None) -> Image.Image:
    """An image as people see it: turned as the camera says, on white where it is transparent, 8 bits a channel.

    This is the only place where the bytes of an image file become pixels. The page of the model server does the same
    (`serve/server/static/pixels.js`).

    Args:
        content: The file.
        name: What to call it in messages.
        channels: 1 for grey, 3 for RGB.
        size: (width, height) that it will be brought to. A JPEG is then decoded at a fraction of its size, never below
            this one, as JPEG itself provides for (Pillow's `draft`).

    Returns:
        Mode L or RGB.

    Raises:
        DamagedImage: it is no image.
        BadInput: it has 32 bits a channel, or numbers with a sign.
    """
    mode = "L" if channels == 1 else "RGB"
    with _opened(content, name) as image:
        if image.mode in ("I", "F") and not _has_16_bits(image):
            raise BadInput(f"{name}: expected 8 or 16 bits a channel, received 32 ({image.mode}); convert it")
        if image.format == "TIFF" and SIGNED in _tag(image, SAMPLES):
            raise BadInput(f"{name}: expected pixels without a sign, received signed ones; convert it")
        if size is not None:
            image.draft(None, size if _orientation(image, content) < 5 else size[::-1])
        image.load()
        orientation = _orientation(image, content)
        _scale_transparency(image, content)
        flat = _on_white(image).convert(mode)
    return flat.transpose(_turns()[orientation]) if orientation in _turns() else flat


def _scale_transparency(image: Image.Image, content: bytes) -> None:
    """Bring the colour of a PNG that is transparent to 8 bits, as Pillow has done with the pixels."""
    transparent = image.info.get("transparency")
    if image.format != "PNG" or transparent is None:
        return
    bits = content[24]
    if image.mode == "L":
        image.info["transparency"] = transparent * 255 // ((1 << bits) - 1)
    elif image.mode == "RGB" and bits == 16:
        image.info["transparency"] = tuple(value >> 8 for value in transparent)


def _on_white(image: Image.Image) -> Image.Image:
    """An image of 8 bits a channel without transparency."""
    from PIL import Image

    if _has_16_bits(image):
        values = np.asarray(image)
        if image.format == "TIFF" and WHITE_IS_ZERO in _tag(image, PHOTOMETRIC):  # of 8 bits Pillow inverts them
            values = _white(image) - values
        grey = np.rint(values * (255 / _white(image))).astype(np.uint8)
        if (transparent := image.info.get("transparency")) is not None:
            grey[values == transparent] = 255
        return Image.fromarray(grey)
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB") or image
    whole = (0, 0, *image.size)
    box = getattr(image, "dispose_extent", None) or whole  # what the first image of a GIF covers
    if box == whole and not image.has_transparency_data:
        return image
    pixels = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    flat = Image.new("RGBA", pixels.size, "white")
    flat.alpha_composite(pixels.crop(box), box[:2])
    return flat


def _has_16_bits(image: Image.Image) -> bool:
    """Whether it is grey with more than 8 bits; a PGM with that many Pillow spreads to 16, in a wider type."""
    return image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM")


def _white(image: Image.Image) -> int:
    """The value of white in a grey image of 16 bits; a TIFF may have 12 in them."""
    bits = _tag(image, BITS) if image.format == "TIFF" else ()
    return (1 << (bits or (16,))[0]) - 1


def _tag(image: Image.Image, tag: int) -> tuple[int, ...]:
    """The values of a tag of a TIFF."""
    values = image.tag_v2.get(tag, ())  # type: ignore[attr-defined]
    return values if isinstance(values, tuple) else (values,)


@cache
def _turns() -> dict[int, Image.Transpose]:
    """What brings an image upright, by its orientation as EXIF numbers them."""
    from PIL import Image

    turn = Image.Transpose
    return {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }


def _decode(content: bytes, shape: tuple[int, int, int], name: str, resize: bool) -> np.ndarray:
    """One image; see `decode_images`."""
    from PIL import Image

    height, width, channels = shape
    image = read_image(content, name, channels, (width, height) if resize else None)
    if image.size != (width, height):
        if not resize:
            raise BadInput(
                f"{name}: expected images of one size, {height} x {width} (height x width) as the first, received "
                f"{image.height} x {image.width}; resize them, or train with --image-size"
            )
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)


def _orientation(image: Image.Image, content: bytes) -> int:
    """How the camera was held, as EXIF or XMP says: 1 upright, from 5 on with width and height swapped."""
    if image.format == "PNG" and any(mark in content for mark in ORIENTATION_IN_PNG):
        image.load()  # it may come after the pixels
    if image.format == "TIFF" and "xmp" in image.info:
        image.load()  # Pillow turns a TIFF by itself, in time for its size only where a tag says how
    profile = image.info.get("Raw profile type APP1", "")  # ImageMagick's name for it
    if EXIF_IN_HEX in profile:
        image.info.setdefault("Raw profile type exif", profile)
    if image.format == "TIFF" or not TELL_ORIENTATION & set(image.info):
        return 1
    orientation = image.getexif().get(ORIENTATION, 1)
    return orientation if orientation in _turns() else 1


@contextmanager
def _opened(content: bytes, name: str) -> Iterator[Image.Image]:
    """An image whose pixels are decoded when they are asked for; of several in a file the first."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.format == "TIFF" and PREVIEW in _tag(image, SUBFILE):
                raise DamagedImage(f"{name}: expected {KINDS}, received a camera's raw file; replace or remove it")
            yield image
    except Image.DecompressionBombError as error:
        raise DamagedImage(
            f"{name}: expected an image of at most {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, received a larger "
            "one; scale it down"
        ) from error
    except BadInput:
        raise
    except Exception as error:  # whatever damaged bytes do to a decoder
        raise DamagedImage(f"{name}: expected {KINDS}, received {kind_of(content)}; replace or remove it") from error
