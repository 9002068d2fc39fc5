"""The layout `hugging face`: Parquet files of a data set of images, or the Arrow files that `save_to_disk` writes."""

import json
import re
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cli import BadInput
from ..progress import counted, some_of
from .dataset import Column, Options
from .encoded import EncodedDataset, Example, shape_of_first
from .naming import as_text, folders_in, in_order, splits_in, visible
from .source import name_of, source_of
from .tables import FILE_COLUMN, ID_COLUMN, LABEL_COLUMN

if TYPE_CHECKING:
    import pyarrow

ENDINGS = (".parquet", ".arrow", ".feather")
IMAGE_TYPES = ("struct", "binary", "large_binary")
LABEL_TYPES = ("int", "uint", "string", "large_string", "dictionary", "bool")
"""How the Arrow types of columns of images and of labels begin."""
ARROW_FILE = b"ARROW1"
"""How a file begins that can be read at any place; others are streams."""
NO_LABELS = (None, -1)
"""What a split without labels has in their place."""
AT_ONCE = 64
"""Rows that are taken from a table at a time."""


def find(place: Path) -> list[Path]:
    """See `opening.Layout`."""
    if (place / "dataset_dict.json").is_file():
        return [place]
    splits = splits_in(folders_in(place), source_of(place)).values()
    folders = (place, *(place / name for name in splits))
    return [place] if any(entry.name.endswith(ENDINGS) for folder in folders for entry in visible(folder)) else []


def open_found(path: Path, options: Options) -> "HuggingFaceDataset":
    """See `opening.Layout`."""
    tables = {split: _table(files) for split, files in _files(path).items()}
    train = tables.get("train")
    if train is None:
        raise BadInput(
            f"{source_of(path)}: expected files of a split train, received those of {', '.join(tables) or 'none'}; "
            "rename them to train-....parquet"
        )
    features = _features(train)
    pictures = [name for name, kind in features.items() if kind == "Image"]
    labels = [name for name, kind in features.items() if isinstance(kind, list)]
    image = _called(FILE_COLUMN, pictures) or _column_of("images", train, path)
    label = _called(LABEL_COLUMN, labels) or _column_of("labels", train, path)
    notes = [
        f"{chosen} is read of the columns {', '.join(all_)}"
        for chosen, all_ in ((image, pictures), (label, labels))
        if len(all_) > 1
    ]
    for split, table in list(tables.items()):
        if split != "train" and not _has_labels(table, label):
            del tables[split]
            notes.append(f"the split {split} has no labels and is left out")
        elif not {image, label} <= set(table.column_names):
            raise BadInput(
                f"{path}: expected columns {image} and {label} in {split}, received {some_of(table.column_names)}; "
                "write them again"
            )
        elif missing := table.column(label).null_count:
            raise BadInput(
                f"{path}: expected a label for each image of {split}, received {counted(missing, 'image')} without; "
                "remove them"
            )
    names = features.get(label)
    if not isinstance(names, list):
        names = in_order({str(value) for value in train.column(label).to_pylist()})
    first = shape_of_first(_images(train, image, str(path)), options)
    if first is None:
        raise BadInput(f"{path}: expected images in train, received damaged ones only; fetch it again")
    return HuggingFaceDataset(path, tables, (image, label), names, first, options, notes)


class HuggingFaceDataset(EncodedDataset):
    """See `EncodedDataset`; the columns that hold one value are its columns."""

    def __init__(
        self,
        folder: Path,
        tables: "dict[str, pyarrow.Table]",
        keys: tuple[str, str],
        class_names: list[str],
        image_shape: tuple[int, int, int],
        options: Options,
        notes: list[str],
    ) -> None:
        """See `ImageDataset`; `keys`: names of the columns of images and labels."""
        counts = {split: table.num_rows for split, table in tables.items()}
        super().__init__(folder, name_of(folder), "hugging face", class_names, counts, image_shape, options, notes)
        self._tables = tables
        self._image, self._label = keys

    def _labels(self, split: str) -> np.ndarray:
        values = self._tables[split].column(self._label).to_pylist()
        if all(isinstance(value, int) for value in values) and not _are_numbers(self.class_names, values):
            return np.array(values, np.int64)
        numbers = {name: number for number, name in enumerate(self.class_names)}
        return np.array([numbers.get(str(value), -1) for value in values], np.int64)

    def _examples(self, split: str, places: np.ndarray) -> Iterator[Example]:
        labels = self._labels(split)[places].tolist()
        column = self._tables[split].column(self._image)
        for first, last in pairwise([*range(0, len(places), AT_ONCE), len(places)]):
            for position, value in enumerate(column.take(places[first:last]).to_pylist(), first):
                yield position, _bytes(value, self.folder), labels[position]

    def _columns(self, split: str) -> dict[str, Column]:
        names = [name for name in self._tables[split].column_names if name != self._image]
        return {name: partial(self._column, split, name) for name in names}

    def _column(self, split: str, name: str) -> list[str]:
        values = self._tables[split].column(name).to_pylist()
        return ["" if value is None else as_text(value) for value in values]


def _are_numbers(names: list[str], values: list[int]) -> bool:
    """Whether the classes are called as the labels are, which then need not begin at 0."""
    return set(map(str, values)) <= set(names) and names != [str(index) for index in range(len(names))]


def _files(path: Path) -> dict[str, list[Path]]:
    """The files by split: as their name or that of their folder tells, else all are of train."""
    files: dict[str, list[Path]] = {}
    entries = [Path(entry) for entry in visible(path)]
    below = [Path(entry) for folder in entries if folder.is_dir() for entry in visible(folder)]
    for file in [*entries, *below]:
        if file.name.endswith(ENDINGS) and file.is_file():
            told = splits_in([file.stem.split("-")[0]], str(path)) or splits_in([file.parent.name], str(path))
            files.setdefault(next(iter(told), "train"), []).append(file)
    return files


def _table(files: list[Path]) -> "pyarrow.Table":
    import pyarrow
    import pyarrow.parquet

    parts = []
    for file in files:
        try:
            if file.suffix == ".parquet":
                parts.append(pyarrow.parquet.read_table(file, memory_map=True))
            else:
                source = pyarrow.memory_map(str(file))
                is_file = source.read(len(ARROW_FILE)) == ARROW_FILE
                source.seek(0)
                parts.append((pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream)(source).read_all())
        except (pyarrow.ArrowException, OSError):
            kind = "a Parquet" if file.suffix == ".parquet" else "an Arrow"
            raise BadInput(
                f"{file}: expected {kind} file of Hugging Face, received a damaged or other file; save it again"
            ) from None
    try:
        return pyarrow.concat_tables(parts, promote_options="permissive")
    except pyarrow.ArrowException as error:
        told = str(error).partition("\n")[0]
        raise BadInput(
            f"{files[0]}: expected files of the same columns, received others ({told}); write them again"
        ) from None


def _features(table: "pyarrow.Table") -> dict[str, Any]:
    """By column, `Image`, or the class names of a label, as Hugging Face wrote them into the file."""
    metadata = (table.schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(metadata)["info"]["features"] if metadata else {}
    except (ValueError, KeyError, TypeError):
        features = {}
    told = {}
    for name, feature in features.items() if isinstance(features, dict) else ():
        if isinstance(feature, dict) and isinstance(names := feature.get("names"), list):
            told[name] = list(map(str, names))
        elif isinstance(feature, dict):
            told[name] = feature.get("_type", "")
    return told


def _called(kind: re.Pattern[str], columns: list[str]) -> str:
    """The first column that is called so, else the first; empty where there is none."""
    return next(filter(kind.fullmatch, columns), columns[0] if columns else "")


def _column_of(what: str, table: "pyarrow.Table", path: Path) -> str:
    """The column of `images` or `labels` by its type and, if several could be it, its name.

    Raises:
        BadInput: there is none, or none of several is called so.
    """
    types = {field.name: str(field.type) for field in table.schema}
    kinds, called = (IMAGE_TYPES, FILE_COLUMN) if what == "images" else (LABEL_TYPES, LABEL_COLUMN)
    found = [name for name, told in types.items() if told.startswith(kinds) and not ID_COLUMN.fullmatch(name.lower())]
    named = [name for name in found if called.fullmatch(name.lower())]
    if len(found) != 1 and not named:
        told = some_of([f"{name} ({kind})" for name, kind in types.items()])
        raise BadInput(
            f"{path}: expected a column of {what}, received {told}; write them as datasets.Image and ClassLabel"
        )
    return (named or found)[0]


def _has_labels(table: "pyarrow.Table", label: str) -> bool:
    return label in table.column_names and any(
        value not in NO_LABELS for value in table.column(label).unique().to_pylist()
    )


def _bytes(value: Any, folder: Path) -> bytes:
    """An image as a column holds it: its bytes, or where its file is."""
    if isinstance(value, dict):
        if value.get("bytes") is None and value.get("path") and (folder / value["path"]).is_file():
            return Path(folder, value["path"]).read_bytes()
        value = value.get("bytes")
    return value if isinstance(value, bytes) else b""


def _images(table: "pyarrow.Table", image: str, path: str) -> Iterator[tuple[str, bytes]]:
    column = table.column(image)
    for place in range(table.num_rows):
        yield f"{path}/train[{place}]", _bytes(column[place].as_py(), Path(path))
