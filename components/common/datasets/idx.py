"""The layout `idx`: the files MNIST was first published in (http://yann.lecun.com/exdb/mnist/), gzipped or not."""

import gzip
import math
import re
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
from ..progress import some_of
from .arrays import ArrayDataset, StoredImages
from .dataset import Options
from .naming import visible
from .rows import Header
from .source import name_of, source_of
from .values import numbered_classes

NAME = re.compile(
    r"(?P<set>.*?)[-_.]?(?P<split>train|t10k|test)[-_.](?P<kind>images|labels)[-._]idx(?P<rank>\d)[-_]ubyte(\.gz)?",
    re.IGNORECASE,
)
"""Name of a file: `train-images-idx3-ubyte.gz`, or `emnist-letters-test-labels-idx1-ubyte` of one set of several."""
SPLITS = {"train": "train", "t10k": "test", "test": "test"}
Files = dict[tuple[str, str], Path]
"""Files by split and kind, `images` or `labels`."""


def find(place: Path) -> list[Path]:
    """See `opening.Layout`."""
    return [place] if any(("train", "images") in files for files in _sets(place).values()) else []


def open_found(path: Path, options: Options) -> ArrayDataset:
    """See `opening.Layout`."""
    sets = {name: files for name, files in _sets(path).items() if ("train", "images") in files}
    if len(sets) > 1:
        raise BadInput(
            f"{source_of(path)}: expected the files of one data set, received those of {some_of(sorted(sets))}; move "
            "one into a folder of its own"
        )
    [(name, files)] = sets.items()
    if ("train", "labels") not in files:
        raise BadInput(f"{path}: expected train-labels-idx1-ubyte next to the images, received none; add it")
    splits = [split for split in ("train", "test") if {(split, "images"), (split, "labels")} <= set(files)]
    images = {split: stored(files[split, "images"]) for split in splits}
    numbered = numbered_classes({split: _labels(files[split, "labels"]) for split in splits})
    notes = [numbered.note] if numbered.note else []
    return ArrayDataset(path, name or name_of(path), "idx", numbered.names, images, numbered.labels, options, notes)


def images_alone(folder: Path) -> list[Path]:
    """The files of images in a folder that have no labels beside them."""
    sets = _sets(folder).values()
    return [files[split, "images"] for files in sets for split in ("train", "test") if (split, "images") in files]


def _sets(place: Path) -> dict[str, Files]:
    """The files in a folder by the name of their data set; some archives hold each in a folder of its own name."""
    sets: dict[str, Files] = {}
    for entry in visible(place):
        if told := NAME.fullmatch(entry.name):
            path = Path(entry) / entry.name if entry.is_dir() else Path(entry)
            if path.is_file():
                sets.setdefault(told["set"], {}).setdefault((SPLITS[told["split"].lower()], told["kind"].lower()), path)
    return sets


def _labels(path: Path) -> np.ndarray:
    header = _header(path)
    with _opened(path) as file:
        labels = np.frombuffer(file.read(), np.uint8)[header.offset :].astype(np.int64)
    if header.shape != labels.shape:
        raise BadInput(f"{path}: expected {header.shape} labels as it says, received {len(labels)}; fetch it again")
    return labels


def stored(path: Path) -> StoredImages:
    """The images in an IDX file."""
    header = _header(path)
    unpack = partial(_numbers, path, header.offset) if _is_gzip(path) else None
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
            yield cast(IO[bytes], gzip.GzipFile(fileobj=file)) if _is_gzip(path) else file
    except (gzip.BadGzipFile, EOFError, zlib.error, struct.error) as error:
        raise BadInput(f"{path}: expected an IDX file, received a damaged or other file; fetch it again") from error


def _is_gzip(path: Path) -> bool:
    """Whether a file is packed, whatever its ending: browsers unpack some, and leave the name."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _header(path: Path) -> Header:
    with _opened(path) as file:
        zeros, kind, rank = struct.unpack(">HBB", file.read(4))
        header = Header(4 + 4 * rank, struct.unpack(f">{rank}I", file.read(4 * rank)), np.dtype(np.uint8))
    length = math.prod(header.shape)
    stored = length if _is_gzip(path) else path.stat().st_size - header.offset
    if zeros != 0 or kind != 8 or rank not in (1, 3) or stored != length:
        raise BadInput(
            f"{path}: expected an IDX file of bytes with {header.shape} values, received {stored}; fetch it again"
        )
    return header
