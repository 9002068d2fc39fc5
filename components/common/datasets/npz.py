"""The layout `npz`: arrays x_train, y_train, x_test, y_test and, if wanted, validation, class_names and columns.

They stand in one `.npz`, in one for each split, or each in an `.npy` or `.npz` of its own that is called as the array.
"""

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from ..cli import BadInput
from ..progress import some_of
from .arrays import ArrayDataset, StoredImages
from .dataset import Column, Options
from .naming import SPLITS, as_text, in_order, splits_in, visible
from .rows import Header, npy_header
from .source import name_of
from .values import numbered_classes

READ_AT_ONCE = 2**20
"""Bytes."""
KINDS = {
    **dict.fromkeys(("x", "images", "image", "imgs", "img", "data", "pixels", "features"), "x"),
    **dict.fromkeys(("y", "labels", "label", "lbls", "targets", "target"), "y"),
}
"""Whether an array holds images (x) or labels (y), by the part of its name that says so."""
JOINED = re.compile(rf"(?P<kind>[xy])(?P<split>{'|'.join(SPLITS)})|(?P<split2>{'|'.join(SPLITS)})(?P<kind2>[xy])")
"""`xtrain` and `trainx`."""
UNREADABLE = (
    ValueError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    LookupError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    OSError,
    OverflowError,
    MemoryError,
)
"""What damaged bytes do to NumPy and zipfile."""


@dataclass(frozen=True)
class Stored:
    """Where an array is.

    Attributes:
        path: An `.npz`, or an `.npy` file.
        key: Its name in the `.npz`; None: the file is the array.
    """

    path: Path
    key: str | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return self.key or self.path.name

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The bytes of its `.npy` file, unpacked while they are read.

        Raises:
            BadInput: the file is damaged, here or in the block.
        """
        kind = "an .npz archive" if self.key else "an .npy file"
        with _readable(self.path, kind):
            if self.key is None:
                with self.path.open("rb") as file:
                    yield file
            else:
                with zipfile.ZipFile(self.path) as archive, archive.open(f"{self.key}.npy") as member:
                    yield member

    def header(self) -> Header:
        """What stands before its numbers."""
        with self.open() as file:
            return npy_header(file)


def find(place: Path) -> list[Path]:
    """See `opening.Layout`."""
    if _parts(place):
        return [place]
    files = [Path(entry) for entry in visible(place) if entry.is_file()]
    archives = [path for path in files if path.suffix.lower() == ".npz"]
    singles = [path for path in archives if len(_keys_or_none(path)) == 1]
    single_arrays = [*singles, *(path for path in files if path.suffix.lower() == ".npy")]
    whole = [path for path in archives if path not in singles]
    return whole if whole or not any(map(_role, (path.stem for path in single_arrays))) else [place]


def open_found(path: Path, options: Options) -> ArrayDataset:
    """See `opening.Layout`."""
    arrays = _arrays(path)
    named = _named(arrays)
    splits = _splits(path, list(arrays), named)
    stored = {role: arrays[key] for role, key in named.items()}
    images = {split: _images(stored[f"x_{split}"]) for split in splits}
    labels = {split: _plain_labels(stored[f"y_{split}"]) for split in splits}
    names = list(map(as_text, _array(arrays["class_names"]).ravel().tolist())) if "class_names" in arrays else []
    one_hot = stored["y_train"].header().shape[1:]
    columns = _columns({key: arrays[key] for key in arrays if key not in named.values()}, named, labels)
    if any(of_split.dtype.kind == "U" for of_split in labels.values()):
        names = names or in_order(set(labels["train"].astype(str).tolist()))
        labels = {split: _numbered(of_split.astype(str), names, path) for split, of_split in labels.items()}
    notes = []
    if not names and one_hot and one_hot != (1,):
        names = list(map(str, range(max(2, *one_hot))))
    if not names:
        numbered = numbered_classes(labels)
        names, labels, notes = numbered.names, numbered.labels, [numbered.note] if numbered.note else []
    _check_shape(images["train"].header.shape, named["x_train"], path)
    name = path.stem if path.is_file() else name_of(path)
    return ArrayDataset(path, name, "npz", names, images, labels, options, notes, columns)


def _arrays(path: Path) -> dict[str, Stored]:
    """By name, the arrays in an `.npz`, or those in a folder that have a file of their own."""
    if path.is_file():
        return {key: Stored(path, key) for key in _keys(path)}
    if parts := _parts(path):
        return {f"{key}_{split}": array for split, part in parts.items() for key, array in _arrays(part).items()}
    arrays = {}
    for entry in visible(path):
        file = Path(entry)
        if file.suffix.lower() == ".npy":
            arrays[file.stem] = Stored(file)
        elif file.suffix.lower() == ".npz":
            arrays[file.stem] = Stored(file, _keys(file)[0])
    return arrays


def _parts(place: Path) -> dict[str, Path]:
    """By split, the `.npz` of each or the folder with the arrays of each; nothing where arrays lie otherwise."""
    entries = {entry.name.removesuffix(".npz"): Path(entry) for entry in visible(place)}
    told = {split: entries[name] for split, name in splits_in(entries, str(place)).items()}
    parts = {split: path for split, path in told.items() if _holds_several(path)}
    return parts if "train" in parts and len(parts) > 1 else {}


def _holds_several(path: Path) -> bool:
    """Whether there are several arrays in an `.npz` or in the files of a folder."""
    if path.is_dir():
        return sum(entry.name.lower().endswith((".npy", ".npz")) for entry in visible(path)) > 1
    return path.suffix == ".npz" and len(_keys_or_none(path)) > 1


def _keys(path: Path) -> list[str]:
    with _readable(path, "an .npz archive"), zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _keys_or_none(path: Path) -> list[str]:
    try:
        return _keys(path)
    except BadInput:
        return []


def has_labels(path: Path) -> bool:
    """Whether there are labels in what `find` gave, to learn from or to compare answers with."""
    return any(role.startswith("y_") for role in _named(_arrays(path)))


def images_alone(path: Path) -> StoredImages:
    """The images in an `.npz` with one array of them and no labels, or in an `.npy` file.

    Raises:
        BadInput: there is no such array, or there are several.
    """
    arrays = [Stored(path, key) for key in _keys(path)] if path.suffix.lower() == ".npz" else [Stored(path)]
    shapes = {array: array.header().shape for array in arrays}
    found = [array for array, shape in shapes.items() if len(shape) in (3, 4)]
    if len(found) != 1:
        told = some_of([f"{array.name} {shape}" for array, shape in shapes.items()]) or "none"
        raise BadInput(
            f"{path}: expected one array of shape (n, height, width) or (n, height, width, channels), received {told}; "
            "save the images alone"
        )
    stored = _images(found[0])
    _check_shape(stored.header.shape, found[0].name, path)
    return stored


def _columns(
    others: Mapping[str, Stored], named: Mapping[str, str], labels: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Column]]:
    """By split and name, the arrays that hold a value for each of its examples; `others`: those that may."""
    shapes = {key: array.header().shape for key, array in others.items()}
    unsplit = "_" not in named["x_train"] and list(labels) == ["train"]
    return {
        split: {
            key.removesuffix(f"_{split}"): partial(_column, others[key])
            for key, shape in shapes.items()
            if (unsplit or key.endswith(f"_{split}")) and shape == (len(of_split),)
        }
        for split, of_split in labels.items()
    }


def _column(array: Stored) -> list[str]:
    return list(map(as_text, _array(array).tolist()))


def _role(key: str) -> str:
    """What the name of an array says it is: `x_train`, `y_test`, `x` where no split is told; empty: something else."""
    words = re.split(r"[-_. ]+", key.lower())
    if joined := JOINED.fullmatch(words[-1]):
        return f"{joined['kind'] or joined['kind2']}_{SPLITS[joined['split'] or joined['split2']]}"
    kinds = {KINDS[word] for word in words if word in KINDS}
    splits = {SPLITS[word] for word in words if word in SPLITS}
    if len(kinds) != 1 or len(splits) > 1 or (not splits and len(words) > 1):
        return ""
    return "_".join([*kinds, *splits])


def _named(keys: Iterable[str]) -> dict[str, str]:
    """By x_train, y_train and so on, what the array is called: X_train, train_images, or images where nothing is split.

    Of several that could be meant, the one that is called so or has the fewest words.
    """
    named: dict[str, str] = {}
    for key in sorted(keys, key=lambda key: (len(re.split(r"[-_. ]+", key)), key)):
        if role := _role(key):
            named[role] = key if role not in named or key == role else named[role]
    for kind in "xy":
        whole = named.pop(kind, None)
        if whole and f"{kind}_train" not in named:
            named[f"{kind}_train"] = whole
    return named


def _splits(path: Path, keys: list[str], named: Mapping[str, str]) -> list[str]:
    """The splits that are there, each with images and labels."""
    there = {role.partition("_")[2] for role in named}
    splits: list[str] = [split for split in ("train", "test", "validation") if split == "train" or split in there]
    expected = [f"{letter}_{split}" for split in splits for letter in "xy"]
    if missing := [role for role in expected if role not in named]:
        wanted = ", ".join(expected if named else ["x_train", "y_train", "x_test", "y_test"])
        raise BadInput(
            f"{path}: expected {wanted}, received {', '.join(keys) or 'no arrays'}; "
            + (f"add {', '.join(missing)}" if named else "rename them")
        )
    return splits


def _check_shape(shape: tuple[int, ...], key: str, path: Path) -> None:
    if len(shape) == 4 and shape[1] in (1, 3, 4) and shape[3] not in (1, 3, 4):
        raise BadInput(
            f"{path}: expected images of shape (n, height, width, channels), received {shape}, channels first; "
            f"transpose them: {key}.transpose(0, 2, 3, 1), the others likewise"
        )


@contextmanager
def _readable(path: Path, kind: str) -> Iterator[None]:
    """Turns what damaged bytes do to NumPy and zipfile into BadInput."""
    try:
        yield
    except UNREADABLE:
        raise BadInput(f"{path}: expected {kind}, received a damaged or other file; fetch it again") from None


def _images(array: Stored) -> StoredImages:
    """Images as they lie in the file, or to be unpacked."""
    header, path = array.header(), array.path
    if header.dtype.hasobject:
        raise BadInput(
            f"{path}: expected numbers in {array.name}, received Python objects; make all images of one size"
        )
    size = header.offset + math.prod(header.shape) * header.dtype.itemsize
    lies_open, begins = array.key is None, 0
    if array.key is None:
        received = path.stat().st_size
    else:
        with _readable(path, "an .npz archive"), zipfile.ZipFile(path) as archive:
            entry = archive.getinfo(f"{array.key}.npy")
            received, lies_open = entry.file_size, entry.compress_type == zipfile.ZIP_STORED
            with path.open("rb") as file:
                file.seek(
                    entry.header_offset + 26
                )  # the lengths of name and extra field end the 30 bytes of its header
                name, extra = struct.unpack("<HH", file.read(4))
            begins = entry.header_offset + 30 + name + extra
    if received != size:
        raise BadInput(
            f"{path}: expected {header.shape} numbers in {array.name}, received fewer or more; save it again"
        )
    if not lies_open or header.by_column:
        return StoredImages(path, header, partial(_numbers, array))
    check = partial(_check_sum, array) if array.key else None
    return StoredImages(path, replace(header, offset=begins + header.offset), check=check)


def _check_sum(array: Stored) -> None:
    with array.open() as member:
        while member.read(READ_AT_ONCE):  # zipfile compares it at the end
            pass


@contextmanager
def _numbers(array: Stored) -> Iterator[IO[bytes]]:
    """The numbers of an array, unpacked while they are read."""
    with array.open() as file:
        npy_header(file)
        yield file


def _array(stored: Stored) -> np.ndarray:
    """A small array, whole."""
    name = stored.name
    if stored.header().dtype.hasobject:
        raise BadInput(
            f"{stored.path}: expected numbers or text in {name}, received Python objects; save {name}.astype(str)"
        )
    with stored.open() as file:
        array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        if file.read(1):  # and so to the end, where the checksum is
            raise BadInput(f"{stored.path}: expected {array.shape} values in {name}, received more; save it again")
    return array


def _plain_labels(stored: Stored) -> np.ndarray:
    """Labels of shape (n,), int64 or text."""
    array, path = _array(stored), stored.path
    if array.ndim == 2 and array.shape[1] == 1:  # as CIFAR's .npz has them
        array = array[:, 0]
    kind = array.dtype.kind
    if array.ndim == 1 and kind in "US":
        return array if kind == "U" else _decoded(array, path)
    if array.ndim == 2 and kind in "biuf" and np.isin(array, (0, 1)).all() and (array.sum(axis=1) == 1).all():
        array = array.argmax(axis=1)  # one-hot, as Keras's to_categorical makes them
    with np.errstate(invalid="ignore"):
        whole = array.astype(np.int64) if kind in "biuf" else None
    if whole is None or array.ndim != 1 or not (array == whole).all():
        raise BadInput(
            f"{path}: expected labels as names or whole numbers of shape (n,), or one-hot, received {array.dtype} "
            f"{array.shape}; number the classes from 0"
        )
    return whole


def _decoded(labels: np.ndarray, path: Path) -> np.ndarray:
    """Names of classes that are stored as bytes."""
    try:
        return np.char.decode(labels, "utf-8")
    except UnicodeDecodeError:
        raise BadInput(
            f"{path}: expected the names of classes in UTF-8, received others in bytes; save them as text"
        ) from None


def _numbered(labels: np.ndarray, names: list[str], path: Path) -> np.ndarray:
    """Names of classes as their numbers."""
    numbers = {name: number for number, name in enumerate(names)}
    if unknown := sorted(set(labels.tolist()) - set(names)):
        raise BadInput(
            f"{path}: expected labels among {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}, received "
            f"{unknown[0]!r}; correct the labels, or name all classes in class_names"
        )
    return np.array([numbers[label] for label in labels.tolist()], np.int64)
