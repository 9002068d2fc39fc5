"""What the numbers in arrays mean: pixels in any of the usual ranges, and labels as people number them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..cli import BadInput
from ..progress import some_of

DARKEST = 200
"""A split whose largest number is less than this part of white has another scale than train."""
DIM = 127
"""Where the brightest pixel of train has at most this of 255, white may be another number."""
SLACK = 1e-3
"""How far rounding may take a pixel beyond its range."""


@dataclass(frozen=True)
class Scale:
    """How numbers become pixels of 0 to 255.

    Attributes:
        low: The number that is black.
        high: The number that is white.
        brightest: The largest number in train where it is far from white.
    """

    low: float = 0
    high: float = 255
    brightest: float = field(default=255, compare=False)

    def pixels(self, array: np.ndarray, path: Path) -> np.ndarray:
        """Images as uint8.

        Raises:
            BadInput: a number lies outside the scale.
        """
        if array.dtype == np.uint8 and self == Scale():
            return array
        if array.size and not (self.low - SLACK <= array.min() and array.max() <= self.high + SLACK):  # NaN is neither
            raise BadInput(
                f"{path}: expected pixels {self.low:g} to {self.high:g} as in train, received {array.min():g} to "
                f"{array.max():g}; scale them alike"
            )
        scaled = (array.astype(np.float32) - self.low) * (255 / (self.high - self.low))
        pixels: np.ndarray = np.rint(scaled).clip(0, 255).astype(np.uint8)
        return pixels

    def check(self, parts: Iterable[np.ndarray], dtype: np.dtype, path: Path, split: str) -> None:
        """Raise BadInput where the images of another split are so much darker that their scale must be another one, or
        have nothing below zero where train has.

        Args:
            parts: The images, some at a time; of bytes no more are read than up to the first that tells.
            dtype: Of the numbers.
            path: What to call the file in messages.
            split: Its name, for messages.
        """
        low, high = np.inf, 0.0
        for part in parts if dtype.kind in "biuf" else ():
            low, high = min(low, float(part.min())), max(high, float(part.max(initial=0)))
            if dtype == np.uint8 and self.low == 0 and high * DARKEST > self.high:
                return
        if self.low < 0 <= low < np.inf:
            raise BadInput(
                f"{path}: expected pixels {self.low:g} to {self.high:g} in {split} as in train, received {low:g} to "
                f"{high:g}; scale them alike"
            )
        if 0 < high * DARKEST < self.high:
            raise BadInput(
                f"{path}: expected pixels {self.low:g} to {self.high:g} in {split} as in train, received at most "
                f"{high:g}; scale them alike"
            )

    @property
    def told(self) -> str:
        """What a person should know; nothing where the numbers are pixels already."""
        if self != Scale():
            return f"pixels of {self.low:g} to {self.high:g} are read as 0 to 255"
        if self.brightest > DIM:
            return ""
        return f"the brightest pixel is {self.brightest:g} of 255; if that is white, scale the images"


def scale_of(parts: Iterable[np.ndarray], dtype: np.dtype, path: Path) -> Scale:
    """The scale of images, from their smallest and largest number.

    Args:
        parts: The images, some at a time; of bytes no more are read than up to the first bright one.
        dtype: Of the numbers.
        path: What to call the file in messages.

    Raises:
        BadInput: the numbers are in no usual range.
    """
    if dtype == np.bool_:
        return Scale(0, 1)
    if dtype.kind not in "iuf":
        raise BadInput(f"{path}: expected numbers as pixels, received {dtype}; save them as uint8")
    low, high = np.inf, -np.inf
    for part in parts:
        low, high = min(low, float(part.min(initial=0))), max(high, float(part.max(initial=0)))
        if dtype == np.uint8 and high > DIM:
            return Scale()
        if np.isnan(part.sum(dtype=np.float64)):
            raise BadInput(f"{path}: expected numbers as pixels, received NaN or infinity; correct or remove them")
    if low >= 0 and high <= 1:
        return Scale(0, 1) if high > 0 else Scale(brightest=0)
    if low >= -1 - SLACK and high <= 1 + SLACK:
        half = 0.5 if low >= -0.5 - SLACK and high <= 0.5 + SLACK else 1
        return Scale(-half, half) if low < -SLACK else Scale(0, 1)
    if low >= 0 and high <= 255 and (dtype.kind in "iu" or high > 2):  # up to 2: of 0 to 1, brightened
        return Scale(brightest=high)
    if dtype.kind in "iu" and low >= 0 and 4095 < high <= 65535:
        return Scale(0, 65535)
    raise BadInput(
        f"{path}: expected pixels 0 to 255, 0 to 65535, 0 to 1, -0.5 to 0.5 or -1 to 1, received {low:g} to {high:g}; "
        "scale them"
    )


@dataclass(frozen=True)
class Numbered:
    """Classes that have numbers for names.

    Attributes:
        names: Of the classes.
        labels: By split, int64, indices into the names; numbers that train does not have lie outside.
        note: What a person should know, or nothing.
    """

    names: list[str]
    labels: dict[str, np.ndarray]
    note: str = ""


def numbered_classes(labels: dict[str, np.ndarray]) -> Numbered:
    """The numbers in the training labels as classes, so that gaps between them and large ones make no empty classes."""
    present = np.unique(labels["train"])
    if len(present) == 0 or present[0] < 0 or np.array_equal(present, np.arange(len(present))):
        return Numbered(list(map(str, range(max(2, len(present))))), labels)
    names = list(map(str, present.tolist()))
    found = {split: _indices(of_split, present) for split, of_split in labels.items()}
    note = f"labels are not 0 to {len(present) - 1}; the classes are those of train: {some_of(names)}"
    return Numbered(names, found, note)


def _indices(labels: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Where labels stand among those that are present; the number of these where they do not."""
    indices = np.searchsorted(present, labels)
    known = present[np.minimum(indices, len(present) - 1)] == labels
    return np.where(known, indices, len(present)).astype(np.int64)


def numbered(labels: Sequence[str], classes: Sequence[str], where: str, split: str) -> np.ndarray:
    """The labels of a split as indices into the names of the classes: int64.

    Args:
        labels: Names.
        classes: Those of train.
        where: What to call the data set in messages.
        split: Its name, for messages.

    Raises:
        BadInput: one is not among the classes.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    if unknown := sorted(set(labels) - set(classes)):
        raise BadInput(
            f"{where}: expected in {split} the classes of train, {some_of(classes)}, received {some_of(unknown)} as "
            "well; add images of them to train, or remove them"
        )
    return np.array([numbers[label] for label in labels], np.int64)
