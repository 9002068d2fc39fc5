"""The layout `idx`: the files MNIST was first published in (http://yann.lecun.com/exdb/mnist/), gzipped or not."""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, cast

import numpy as np

from ..cli import BadInput
from .arrays import ArrayDataset, StoredImages
from .dataset import Options
from .rows import Header
from .source import name_of

PREFIXES = {"train": "train", "test": "t10k"}
"""What the names of the files of a split begin with."""


def find(place: Path) -> list[Path]:
    """See `opening.Layout`."""
    return [place] if _file(place, "train", "images") else []


def open_found(path: Path, options: Options) -> ArrayDataset:
    """See `opening.Layout`."""
    stored, all_labels = {}, {}
    for split in PREFIXES:
        images, labels = _file(path, split, "images"), _file(path, split, "labels")
        if images is None or labels is None:
            if split == "train":
                raise BadInput(f"{path}: expected train-labels-idx1-ubyte beside the images, received none; add it")
            continue
        stored[split] = _stored(images)
        with _opened(labels) as file:
            all_labels[split] = np.frombuffer(file.read(), np.uint8)[_header(labels).offset :].astype(np.int64)
    classes = int(all_labels["train"].max(initial=0)) + 1
    names = list(map(str, range(max(classes, 2))))
    return ArrayDataset(path, name_of(path), "idx", names, stored, all_labels, options)


def _file(place: Path, split: str, kind: str) -> Path | None:
    rank = 3 if kind == "images" else 1
    pattern = f"{PREFIXES[split]}-{kind}[-.]idx{rank}-ubyte"
    return next(iter(sorted([*place.glob(pattern), *place.glob(f"{pattern}.gz")])), None)


def _stored(path: Path) -> StoredImages:
    header = _header(path)
    unpack = partial(_numbers, path, header.offset) if path.suffix == ".gz" else None
    return StoredImages(path, replace(header, shape=(*header.shape, 1)), unpack)


@contextmanager
def _numbers(path: Path, offset: int) -> Iterator[IO[bytes]]:
    """The numbers of a gzipped IDX file, unpacked while they are read."""
    with _opened(path) as file:
        file.read(offset)
        yield file


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """An IDX file, open; a gzipped one is unpacked while it is read."""
    try:
        with path.open("rb") as file:
            yield cast(IO[bytes], gzip.GzipFile(fileobj=file)) if path.suffix == ".gz" else file
    except (gzip.BadGzipFile, EOFError, zlib.error, struct.error) as error:
        raise BadInput(f"{path}: expected an IDX file, received a damaged or other file; fetch it again") from error


def _header(path: Path) -> Header:
    with _opened(path) as file:
        zeros, kind, rank = struct.unpack(">HBB", file.read(4))
        header = Header(4 + 4 * rank, struct.unpack(f">{rank}I", file.read(4 * rank)), np.dtype(np.uint8))
    length = math.prod(header.shape)
    stored = length if path.suffix == ".gz" else path.stat().st_size - header.offset
    if zeros != 0 or kind != 8 or stored != length:
        raise BadInput(
            f"{path}: expected an IDX file of bytes with {header.shape} values, received {stored}; fetch it again"
        )
    return header
