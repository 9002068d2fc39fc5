"""Arrays in files, of which some rows are read and the others are not."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tokenize import TokenError
from typing import IO, BinaryIO

import numpy as np

from ..cli import BadInput


@dataclass(frozen=True)
class Header:
    """What stands before the numbers of an array.

    Attributes:
        offset: Where the numbers begin, in bytes.
        shape: Rows first.
        dtype: Of each number.
        by_column: Whether the first index changes fastest (Fortran's order), so that rows lie scattered.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    by_column: bool = False


def npy_header(file: IO[bytes]) -> Header:
    """The header of an `.npy` file that is read from its beginning.

    Raises:
        ValueError: it is none.
    """
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, by_column, dtype = read(file)
    except (SyntaxError, TokenError, TypeError) as error:  # it is Python's notation of a dict
        raise ValueError("no header") from error
    if any(size < 0 for size in shape):
        raise ValueError("a negative size")
    return Header(file.tell(), shape, dtype, by_column)


def read_rows(file: BinaryIO, header: Header, places: np.ndarray, path: Path) -> np.ndarray:
    """Rows of an array in a file, those that stand side by side at once.

    The file's own position is not used, so that several threads and processes may read from one.

    Args:
        file: Open for reading.
        header: Where the rows begin, and what they are.
        places: int64, shape (rows,): which.
        path: What to call the file in messages.

    Raises:
        BadInput: the file ends before.
    """
    rows = np.empty((len(places), *header.shape[1:]), header.dtype)
    if not rows.size:
        return rows
    size = rows[0].nbytes
    target = bytes_of(rows)
    begins = [0, *(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)]
    descriptor, at = file.fileno(), (header.offset + places * size).tolist()
    for first, last in pairwise(begins):
        wanted, done = target[first * size : last * size], 0
        while done < len(wanted):
            received = os.preadv(descriptor, [wanted[done:]], at[first] + done)
            if not received:
                raise BadInput(f"{path}: expected {header.shape[0]} images, received fewer; fetch it again")
            done += received
    return rows


def bytes_of(array: np.ndarray) -> memoryview:
    """The bytes of an array whose rows lie side by side, to be read or written."""
    return memoryview(array.reshape(-1).view(np.uint8).data)
