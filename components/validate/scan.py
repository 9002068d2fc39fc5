"""Look at every image of a data set once: what is measured of it, and a small copy to compare it with others by."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.cli import BadInput
from ..common.datasets import ImageDataset
from ..common.datasets.decoding import image_shape, read_image, resized
from ..common.datasets.encoded import EncodedDataset
from ..common.datasets.png import decode_pngs
from ..common.parallel import processors
from ..common.progress import Progress

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

SIDE = 32
"""Maximum side of the copies in pixels."""
DECODED = (64, 64)
"""Width and height below which a JPEG is not decoded: it can be decoded at a fraction of its size."""
AT_ONCE = 64 * 2**20
"""Bytes of images of an array that are in memory at a time."""
BLANK = 8
"""Difference of the lightest and the darkest pixel, of 255, up to which an image is blank."""
DARK = 50
"""Brightness, of 255, that 99 % of a dark image do not exceed."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in brightness, as in ITU-R BT.601."""
JPEG = b"\xff\xd8\xff"
ORDER = ("train", "validation", "test")
"""Splits, in the order in which an image counts as the original of its copies."""


@dataclass(frozen=True)
class Damaged:
    """An image that cannot be decoded, and why."""

    split: str
    place: int
    reason: str


@dataclass(frozen=True)
class Images:
    """What was measured of the images of a data set: rows in the order of the splits.

    Attributes:
        splits: Names of the splits.
        split: int8, shape (images,): indices into `splits`.
        place: int64, shape (images,): where the image stands in its split, damaged ones counted.
        label: int64, shape (images,): indices into the class names.
        size: int32, shape (images, 2): height and width in pixels, upright.
        brightness: float32, shape (images,): mean, 0 to 255.
        blank: bool, shape (images,).
        dark: bool, shape (images,).
        digest: uint64, shape (images,): equal for images of equal pixels; of a JPEG, of equal files.
        copies: uint8, shape (images, height, width, channels): the images at one small size.
        damaged: Those that cannot be decoded, which have no row.
    """

    splits: list[str]
    split: np.ndarray
    place: np.ndarray
    label: np.ndarray
    size: np.ndarray
    brightness: np.ndarray
    blank: np.ndarray
    dark: np.ndarray
    digest: np.ndarray
    copies: np.ndarray
    damaged: list[Damaged]

    def __len__(self) -> int:
        return len(self.split)

    def of_split(self, name: str) -> np.ndarray:
        """bool, shape (images,): the images of a split."""
        return np.asarray(self.split == (self.splits.index(name) if name in self.splits else -1))


Measured = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Of some images: size, lightest minus darkest pixel, digest, copies, and their places among those asked for."""


def scan(dataset: ImageDataset, progress: Progress) -> Images:
    """Measure every image of a data set, damaged ones apart.

    Args:
        dataset: Opened with `on_corrupt` skip, so that damaged images do not end it.
        progress: Told how far it is.

    Raises:
        BadInput: a label lies outside the classes, or no image can be decoded.
    """
    splits = [name for name in ORDER if len(dataset.stored_places(name))]
    side = (min(SIDE, dataset.image_shape[0]), min(SIDE, dataset.image_shape[1]))
    total = sum(len(dataset.stored_places(name)) for name in splits)
    damaged: list[Damaged] = []
    parts: list[tuple[int, np.ndarray, np.ndarray, Measured]] = []
    done = 0
    for number, split in enumerate(splits):
        places, labels = dataset.stored_places(split), dataset.stored_labels(split)
        for measured in _measured(dataset, split, places, side, damaged):
            kept = measured[-1]
            parts.append((number, places[kept], labels[kept], measured))
            done += len(kept)
            progress.show(done / total, partial("{:,} / {:,} images".format, done, total))
    if not parts or not done:
        raise BadInput(f"{dataset.folder}: expected images, received damaged ones only; fetch them again")
    copies = np.concatenate([part[3][3] for part in parts])
    grey = _brightness(copies)
    return Images(
        splits=splits,
        split=np.concatenate([np.full(len(part[1]), part[0], np.int8) for part in parts]),
        place=np.concatenate([part[1] for part in parts]),
        label=np.concatenate([part[2] for part in parts]),
        size=np.concatenate([part[3][0] for part in parts]),
        brightness=grey.mean(axis=1, dtype=np.float32),
        blank=np.concatenate([part[3][1] for part in parts]) <= BLANK,
        dark=np.partition(grey, math.ceil(0.99 * grey.shape[1]) - 1)[:, math.ceil(0.99 * grey.shape[1]) - 1] < DARK,
        digest=np.concatenate([part[3][2] for part in parts]),
        copies=copies,
        damaged=damaged,
    )


def original(dataset: ImageDataset, split: str, place: int) -> np.ndarray:
    """One image as a report shows it: uint8, shape (height, width, channels), in its own proportions."""
    if not isinstance(dataset, EncodedDataset):
        at = int(np.searchsorted(dataset.places(split), place))
        return np.asarray(dataset.images(split, np.array([at]))[0])
    _, (content,) = next(iter(dataset.encoded(split, np.array([place]))))
    image = read_image(content, dataset.name_of(split, place), dataset.image_shape[2], (160, 160))
    return np.asarray(image).reshape(image.height, image.width, -1)


def _measured(
    dataset: ImageDataset, split: str, places: np.ndarray, side: tuple[int, int], damaged: list[Damaged]
) -> Iterator[Measured]:
    """The images of a split, some at a time."""
    if not isinstance(dataset, EncodedDataset):
        at, some = 0, max(1, AT_ONCE // math.prod(dataset.image_shape))
        for part in dataset.parts(split, some):
            yield _of_array(part.images, np.arange(at, at + len(part.images)), side)
            at += len(part.images)
        return
    where = {place: index for index, place in enumerate(places.tolist())}
    with ThreadPoolExecutor(processors()) as pool:
        for stored, encoded in dataset.encoded(split, places):
            positions = np.array([where[place] for place in stored])
            if (images := decode_pngs(encoded, dataset.image_shape)) is not None:
                yield _of_array(images, positions, side)
                continue
            names = [dataset.name_of(split, place) for place in stored]
            channels = [dataset.image_shape[2]] * len(stored)
            found = list(pool.map(_of_file, encoded, names, channels, [side] * len(stored)))
            damaged += [
                Damaged(split, place, one) for place, one in zip(stored, found, strict=True) if isinstance(one, str)
            ]
            whole = [index for index, one in enumerate(found) if not isinstance(one, str)]
            if whole:
                sizes, ranges, digests, copies = zip(*(found[index] for index in whole), strict=True)
                yield (
                    np.array(sizes, np.int32),
                    np.array(ranges),
                    np.array(digests, np.uint64),
                    np.stack(copies),
                    positions[whole],
                )


def _of_array(images: np.ndarray, positions: np.ndarray, side: tuple[int, int]) -> Measured:
    """The same of images of one size."""
    count, height, width, channels = images.shape
    flat = images.reshape(count, -1)
    digests = np.array([_digest(row.data, (height, width, channels)) for row in flat], np.uint64)
    ranges = np.ptp(images.reshape(count, height * width, channels), axis=1).max(axis=1)
    sizes = np.tile(np.array([height, width], np.int32), (count, 1))
    return sizes, ranges, digests, resized(images, side), positions


def _of_file(content: bytes, name: str, channels: int, side: tuple[int, int]) -> tuple[object, ...] | str:
    """Size, range, digest and copy of an image file; or what is wrong with it."""
    from PIL import Image

    try:
        height, width, _ = image_shape(content, name)
        image = read_image(content, name, channels, DECODED)
    except BadInput as error:
        return str(error)
    extrema: Any = image.getextrema()  # of one band a pair, of several a pair each
    bands = [extrema] if channels == 1 else extrema
    pixels = content if content.startswith(JPEG) else image.tobytes()
    copy = np.asarray(image.resize(side[::-1], Image.Resampling.BILINEAR)).reshape(*side, channels)
    return (height, width), max(high - low for low, high in bands), _digest(pixels, (height, width, channels)), copy


def _digest(pixels: Buffer, shape: tuple[int, int, int]) -> int:
    """64 bits that tell these bytes as an image of this shape from any other: of a million images, two agree by chance
    with a probability of 3 in 10^8."""
    told = hashlib.blake2b(pixels, digest_size=8, person="x".join(map(str, shape)).encode()[:16])
    return int.from_bytes(told.digest())


def _brightness(images: np.ndarray) -> np.ndarray:
    """Brightness of each pixel: shape (images, pixels), 0 to 255."""
    channels = images.shape[3]
    if channels == 3:
        bright = np.empty(images.shape[:3], np.uint8)
        for at in range(0, len(images), 4096):
            bright[at : at + 4096] = np.rint(images[at : at + 4096] @ LUMA)
        return bright.reshape(len(images), -1)
    return (images[..., 0] if channels == 1 else images.mean(axis=3).astype(np.uint8)).reshape(len(images), -1)
