"""Images out of JSON: what is read without nested lists is what the nested lists hold."""

import json
import math
import random

import numpy as np
import orjson
import pytest

from trainyard.components.serve.server.protocols.json_arrays import OutOfRange, parse

RANDOM = np.random.default_rng(0)
IMAGES = [
    RANDOM.integers(0, 256, (3, 4, 5, 1)),
    RANDOM.integers(-5, 5, (1, 2, 2, 3)),
    RANDOM.normal(scale=1e-7, size=(2, 1, 3, 2)),
    RANDOM.normal(scale=1e20, size=(1, 1, 1, 1)),
]


@pytest.mark.parametrize("images", IMAGES, ids=lambda images: str(images.shape))
@pytest.mark.parametrize("style", [{}, {"separators": (",", ":")}, {"indent": "\t"}], ids=["plain", "dense", "tabs"])
def test_images_are_read_as_from_nested_lists(images, style):
    read = parse(json.dumps(images.tolist(), **style).encode(), images.shape[1:])
    assert read.dtype == np.float32
    assert np.array_equal(read, images.astype(np.float32))


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "[[]]",
        "[[[[]]]]",
        "[[[1]]]",
        "[[[[1, 2]]]]",
        "[[[[1 2]]]]",
        "[[[[1]]], [[[2]]]",
        "[[[[1]]], [[2]]]",
        "[[[[1]]],]",
        "[[[[01]]]]",
        "[[[0[]]]]",
        "[[[[]0]]]",
        "[[[[1]]], [[2[]]]]",
        "[[[[1]]], [[[] 2]]]",
        "0[[[[]]]]",
        "[[[[1e]]]]",
        "[[[[NaN]]]]",
        "[[[[true]]]]",
        '[[[["1"]]]]',
        '[{"image": [[[1]]]}]',
        "[[[[1]]]] [",
    ],
)
def test_what_is_no_array_of_such_images_is_left_to_others(text):
    assert parse(text.encode(), (1, 1, 1)) is None


@pytest.mark.parametrize("shape", [(2, 2, 1), (1, 3, 2), (1, 1, 1)], ids=str)
def test_a_damaged_text_is_never_read_as_anything_else(shape):
    damage = random.Random(0)
    whole = json.dumps(np.arange(2 * math.prod(shape)).reshape(2, *shape).tolist())
    read = 0
    for _ in range(30_000):
        text = whole
        for _ in range(damage.randrange(1, 4)):
            start = damage.randrange(len(text))
            instead = "".join(damage.choices('[],0123456789.eE+- "{}tn', k=damage.randrange(3)))
            text = text[:start] + instead + text[start + damage.randrange(3) :]
        try:
            images = parse(text.encode(), shape)
        except OutOfRange:
            assert np.abs(np.asarray(orjson.loads(text), np.float64)).max() > np.finfo(np.float32).max
            continue
        if images is not None:
            read += 1
            nested = np.asarray(orjson.loads(text))
            assert nested.shape[1:] == shape
            assert np.array_equal(images, nested.astype(np.float32))
    assert read > 1_000  # harmless damage: other digits, more space
