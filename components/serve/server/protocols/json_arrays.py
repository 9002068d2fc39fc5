"""Images out of JSON: without a Python list for every row, column and pixel, and in slices.

Making nested lists takes longer than everything else that a prediction needs: 0.12 ms for an image of 28 x 28, 300 ms
for 1,024 of them. Where the brackets and commas of the text are exactly those of images of the known shape, the
numbers can be read as one flat list: 0.04 ms and 60 ms. That list is made for a slice of the text at a time, so that a
large request takes little more memory than its numbers, and other threads run between two slices.
"""

from __future__ import annotations

import math
import re
import secrets
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson

from .request import Refused

SLICE = 2**17
"""Bytes of text that are read at a time: 4 ms."""
MOST_VALUES = 1_000_000
"""In JSON that is read as a whole; each takes up to 100 bytes of memory."""

_SPACE = b" \t\r\n"
_NUMBER = b"\\"  # between the codes of [ and ]: only from "number [" and "] number" it is one step down to the next
_OUTLINE = bytes.maketrans(b"0123456789+-.eE", _NUMBER * 15)
_ONE_DOWN = b"\xff"  # -1
_FLAT = bytes.maketrans(b"[]", b"  ")  # spaces, so that numbers with nothing but a bracket between them stay two
_BEFORE_ARRAY = re.compile(rb'"\w+"\s*:\s*(?=\[)')
_HOLE = secrets.token_hex(16)  # in place of an array that was cut out; no client can know it


class OutOfRange(ValueError):
    """A number does not fit its type."""


class WrongShape(ValueError):
    """Nested lists are not the numbers that were expected; the message says what they are."""


class Cut(NamedTuple):
    """JSON whose largest array was cut out.

    Attributes:
        rest: The parsed JSON around the array.
        start: Where the array begins in the text.
        stop: Where it ends.
    """

    rest: Any
    start: int
    stop: int


def load(text: bytes) -> Any:
    """Parse JSON of a limited number of values.

    Raises:
        Refused: 413, there are more.
        orjson.JSONDecodeError: it is no JSON.
    """
    if len(text) > MOST_VALUES:
        marks = np.frombuffer(text, np.uint8)
        parts = (marks[at : at + SLICE] for at in range(0, len(marks), SLICE))
        values = sum(int(np.count_nonzero((one == ord(",")) | (one == ord("[")) | (one == ord("{")))) for one in parts)
        if values > MOST_VALUES:
            raise Refused(
                413,
                f"expected one array of images of the model's shape, or other JSON of at most {MOST_VALUES:,} values, "
                f"received {values:,}",
            )
    return orjson.loads(text)


def cut(text: bytes, key: str) -> Cut | None:
    """Cut the array of numbers under a key out of JSON, unread.

    Returns:
        The rest, in which `is_hole` tells where the array was; None: there is no such array, or no JSON around it.
    """
    name = text.find(f'"{key}"'.encode())
    if name < 0 or text[name - 1 : name] == b"\\":
        return None
    colon = _BEFORE_ARRAY.match(text, name)
    if not colon:
        return None
    start = colon.end()
    ends = [end for end in (text.find(mark, start) for mark in (b'"', b"}")) if end >= 0]
    if not ends:
        return None
    near = max(start, min(ends) - 1000)
    stop = near + len(text[near : min(ends)].rstrip(_SPACE + b","))
    if text[stop - 1 : stop] != b"]":
        return None
    try:
        rest = load(b'%b"%b"%b' % (text[:start], _HOLE.encode(), text[stop:]))
    except orjson.JSONDecodeError:
        return None
    return Cut(rest, start, stop)


def is_hole(value: object) -> bool:
    """Whether a value in `Cut.rest` stands for the array that was cut out."""
    return value == _HOLE


@lru_cache(16)
def _period(shape: tuple[int, ...]) -> bytes:
    """Brackets and commas of an image and the comma behind it."""
    image = b""
    for size in reversed(shape):
        image = b"[" + b",".join([image] * size) + b"]"
    return image + b","


def parse(
    text: bytes, shape: tuple[int, ...], dtype: type = np.float32, start: int = 0, stop: int | None = None
) -> np.ndarray | None:
    """Read a JSON array of images.

    Args:
        text: Holds the array.
        shape: (height, width, channels) of an image; () for an array of plain numbers.
        dtype: float32 or uint8.
        start: Where the array begins in the text.
        stop: Where it ends; None: with the text.

    Returns:
        Shape (images, height, width, channels); None: it is no array of such images, or no JSON.

    Raises:
        OutOfRange: a number does not fit `dtype`.
    """
    stop = len(text) if stop is None else stop
    period = _period(shape)
    pattern = period * (min(stop - start, SLICE) // len(period) + 2)
    result: np.ndarray = np.empty(
        (stop - start) // 2 + 1, dtype
    )  # as many as there can be: each takes a digit and a comma
    seen = count = 0  # brackets and commas, and numbers
    at = start
    while at < stop:
        end = stop if stop - at <= SLICE else text.rfind(b",", at + 1, at + SLICE)
        if end < 0:
            return None  # a number of that length
        part = text[at:end]
        outline = part.translate(_OUTLINE, _SPACE)
        brackets = outline.translate(None, _NUMBER)
        if (at == start and brackets[:1] != b"[") or (end == stop and brackets[-1:] != b"]"):
            return None
        inner = brackets[at == start : len(brackets) - (end == stop)]
        phase = (seen - 1) % len(period) if seen else 0
        if pattern[phase : phase + len(inner)] != inner:
            return None
        marks = np.frombuffer(outline, np.uint8)
        if _ONE_DOWN in (marks[1:] - marks[:-1]).tobytes():
            return None  # a number outside of its brackets
        # Now the text is one of images, if there is just one number between two commas.
        try:
            numbers = orjson.loads(b"[" + part[at > start :].translate(_FLAT) + b"]")
        except orjson.JSONDecodeError:
            return None
        result[count : count + len(numbers)] = _array(numbers, dtype)
        seen += len(brackets)
        count += len(numbers)
        at = end
    images, partial = divmod(seen - 1, len(period))
    if partial or not images or count != images * math.prod(shape):
        return None
    return result[:count].reshape(images, *shape)


def _array(numbers: list[int | float], dtype: type) -> np.ndarray:
    """Numbers as float32 or uint8; OutOfRange: one of them does not fit."""
    try:
        return np.frombuffer(bytes(numbers), np.uint8).astype(dtype)  # type: ignore[arg-type] # pixels, five times as fast
    except (TypeError, ValueError):
        return _fitting(np.fromiter(numbers, np.float64, len(numbers)), dtype)


def _fitting(values: np.ndarray, dtype: type) -> np.ndarray:
    """Numbers as float32 or uint8.

    Raises:
        OutOfRange: one of them does not fit.
    """
    if dtype is np.uint8:
        if not ((values >= 0) & (values <= 255) & (values == np.floor(values))).all():
            raise OutOfRange("expected integers from 0 to 255")
        return values.astype(np.uint8)
    with np.errstate(over="ignore"):
        result = values.astype(np.float32)
    if not np.isfinite(result).all():
        raise OutOfRange("expected finite numbers within the range of float32")
    return result


def flattened(values: list[Any], shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """Nested lists as an array.

    Args:
        values: What JSON held.
        shape: Of one of them.
        dtype: float32 or uint8.

    Returns:
        Shape (len(values), *shape).

    Raises:
        WrongShape: they are no such lists, or not of numbers.
        OutOfRange: a number does not fit `dtype`.
    """
    level = values
    for size in shape:
        if set(map(type, level)) != {list}:
            raise WrongShape(_received(values))
        lengths = set(map(len, level))
        if lengths != {size}:
            raise WrongShape("lists of different lengths" if len(lengths) > 1 else _received(values))
        level = list(chain.from_iterable(level))
    if not set(map(type, level)) <= {int, float}:
        raise WrongShape(_received(values))
    return _array(level, dtype).reshape(len(values), *shape)


def _received(values: Any) -> str:
    """What nested lists are that are not as expected."""
    shape: list[str] = []
    while isinstance(values, list) and len(shape) < 8:
        shape.append(str(len(values)))
        values = values[0] if values else 0
    if isinstance(values, list):
        shape.append("...")
    if isinstance(values, list) or type(values) in (int, float):
        return f"shape [{','.join(shape)}]"
    return "a value that is not of expected type: float"
