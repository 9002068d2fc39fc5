"""The layout `cifar`: the batches of CIFAR-10 and CIFAR-100 as they were published, for Python or binary.

See https://www.cs.toronto.edu/~kriz/cifar.html. The batches for Python are pickles, which may run any code: here they
are read by an unpickler that knows NumPy's arrays of bytes and nothing else.
"""

import codecs
import pickle
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..cli import BadInput
from .arrays import ArrayDataset, StoredImages
from .dataset import Options
from .naming import as_text, visible
from .rows import Header
from .source import name_of
from .values import numbered_classes

SHAPE = (3, 32, 32)
"""Channels, height, width of an image as it is stored."""
PIXELS = 3 * 32 * 32
SPLITS = {
    "train": ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "train"),
    "test": ("test_batch", "test"),
}
"""Names of the batches, with or without `.bin`."""
NAMES = ("batches.meta", "meta", "batches.meta.txt", "fine_label_names.txt")
"""Files with the names of the classes."""
LABELS = (b"labels", b"fine_labels")
NAMES_IN_META = (b"label_names", b"fine_label_names")


def find(place: Path) -> list[Path]:
    """See `opening.Layout`."""
    names = {entry.name.removesuffix(".bin") for entry in visible(place) if entry.is_file()}
    ten, hundred = "data_batch_1" in names, {"train", "test"} <= names and names & {"meta", "fine_label_names.txt"}
    return [place] if ten or hundred else []


def open_found(path: Path, options: Options) -> ArrayDataset:
    """See `opening.Layout`."""
    batches = {split: found for split, names in SPLITS.items() if (found := _files(path, names))}
    if "train" not in batches:
        raise BadInput(f"{path}: expected data_batch_1 to 5, or train, received none; fetch it again")
    read = {split: [_batch(file) for file in files] for split, files in batches.items()}
    labels = {split: np.concatenate([batch.labels for batch in of_split]) for split, of_split in read.items()}
    names = _class_names(path)
    notes = []
    if not names:
        numbered = numbered_classes(labels)
        names, labels, notes = numbered.names, numbered.labels, [numbered.note] if numbered.note else []
    images = {
        split: StoredImages(
            files[0], Header(0, (len(labels[split]), 32, 32, 3), np.dtype(np.uint8)), partial(_pixels, files)
        )
        for split, files in batches.items()
    }
    return ArrayDataset(path, name_of(path), "cifar", names, images, labels, options, notes)


class _Batch:
    """Images uint8 (n, 32, 32, 3) and labels int64 (n,) of a file."""

    def __init__(self, path: Path, pixels: np.ndarray, labels: np.ndarray) -> None:
        if len(pixels) != len(labels) * PIXELS or not len(labels):
            raise _damaged(path)
        self.images = pixels.reshape(-1, *SHAPE).transpose(0, 2, 3, 1)
        self.labels = labels.astype(np.int64)


def _files(path: Path, names: Sequence[str]) -> list[Path]:
    return [file for name in names for file in (path / name, path / f"{name}.bin") if file.is_file()]


def _batch(path: Path) -> _Batch:
    if path.suffix == ".bin":
        stored = np.frombuffer(path.read_bytes(), np.uint8)
        row = PIXELS + (2 if path.stem in ("train", "test") else 1)  # CIFAR-100 tells a coarse label first
        if len(stored) % row:
            raise _damaged(path)
        rows = stored.reshape(-1, row)
        return _Batch(path, rows[:, row - PIXELS :].reshape(-1), rows[:, row - PIXELS - 1])
    content = _unpickled(path)
    labels: list[Any] = next((content[key] for key in LABELS if isinstance(content.get(key), list)), [])
    array = content.get(b"data")
    if not isinstance(array, _Array) or not all(isinstance(label, int) and abs(label) < 2**31 for label in labels):
        raise _damaged(path)
    return _Batch(path, np.frombuffer(array.content, np.uint8), np.array(labels, np.int64))


@contextmanager
def _pixels(files: Sequence[Path]) -> Iterator[IO[bytes]]:
    """The pixels of batches, one after another."""
    with tempfile.TemporaryFile() as pixels:
        for file in files:
            np.ascontiguousarray(_batch(file).images).tofile(pixels)
        pixels.seek(0)
        yield pixels


def _class_names(path: Path) -> list[str]:
    """Names of the classes; none where no file tells them."""
    for file in (path / name for name in NAMES):
        if file.is_file() and file.suffix == ".txt":
            return file.read_text(errors="replace").split()
        if file.is_file():
            content = _unpickled(file)
            names: list[Any] = next((content[key] for key in NAMES_IN_META if isinstance(content.get(key), list)), [])
            if names:
                return list(map(as_text, names))
    return []


class _Array:
    """An array of bytes in a pickle: `content`, once its state was set."""

    content = b""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_column, content = state
        size = int(np.prod(shape, dtype=np.int64))
        if not isinstance(content, bytes) or len(content) != size or by_column or kind.name not in ("u1", b"u1"):
            raise pickle.UnpicklingError("not an array of bytes")
        self.content = content


class _Dtype:
    """NumPy's description of numbers in a pickle."""

    def __init__(self, name: Any, *_: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        pass


def _encoded(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into a pickle for Python 2."""
    if codecs.lookup(encoding).name != "iso8859-1":
        raise pickle.UnpicklingError("not Latin-1")
    return text.encode("latin-1")


KNOWN: Mapping[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encoded,
}
"""What a pickle may name; all of it is ours."""


class _Unpickler(pickle.Unpickler):
    """Reads dicts, lists, numbers, text and arrays of bytes; runs nothing that a file names."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return KNOWN[module, name]


def _unpickled(path: Path) -> dict[Any, Any]:
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
    except Exception as error:  # whatever damaged bytes do to a pickle
        raise _damaged(path) from error
    if not isinstance(content, dict):
        raise _damaged(path)
    return content


def _damaged(path: Path) -> BadInput:
    return BadInput(f"{path}: expected a batch of CIFAR, received a damaged or other file; fetch it again")
