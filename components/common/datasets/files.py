"""Data sets of image files, whose class the folder or a table says."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from io import FileIO
from pathlib import Path

import numpy as np

from ..cli import BadInput
from ..progress import counted, some_of
from .dataset import Column, Options
from .decoding import OTHER_KINDS, is_grey, kind_of
from .encoded import EncodedDataset, Example, shape_of_first
from .image_folders import FIRST_BYTES, RAW
from .naming import in_order
from .source import name_of, readable, source_of

METADATA = "metadata.csv"
"""The table of columns in the folder of a split, as Hugging Face's imagefolder has it."""


@dataclass(frozen=True)
class FilesOfSplit:
    """The images of a split.

    Attributes:
        folder: Where they lie.
        names: Of the image files, below the folder.
        labels: int64, shape (files,).
        columns: What a table tells of each file; None: read `metadata.csv` when it is asked for.
    """

    folder: Path
    names: list[str]
    labels: np.ndarray
    columns: Mapping[str, list[str]] | None = None


class FilesDataset(EncodedDataset):
    """A data set of image files; the columns of `metadata.csv` are its columns."""

    def __init__(
        self,
        folder: Path,
        layout: str,
        class_names: list[str],
        splits: Mapping[str, FilesOfSplit],
        image_shape: tuple[int, int, int],
        options: Options,
        notes: Sequence[str] = (),
    ) -> None:
        """See `ImageDataset`; `splits`: those with images."""
        counts = {split: len(files.names) for split, files in splits.items()}
        super().__init__(folder, name_of(folder), layout, class_names, counts, image_shape, options, notes)
        self._splits = dict(splits)

    def _labels(self, split: str) -> np.ndarray:
        return self._splits[split].labels

    def _examples(self, split: str, places: np.ndarray) -> Iterator[Example]:
        files = self._splits[split]
        labels, folder = files.labels.tolist(), str(files.folder)
        for position, place in enumerate(places.tolist()):
            # a Path would cost as much as the decoding of a small image
            with FileIO(f"{folder}/{files.names[place]}") as file:
                yield position, file.readall(), labels[place]

    def _name_of(self, split: str, place: int) -> str:
        files = self._splits[split]
        return readable((files.folder / files.names[place]).relative_to(self.folder).as_posix())

    def _columns(self, split: str) -> dict[str, Column]:
        if (columns := self._splits[split].columns) is not None:
            return {name: partial(list, values) for name, values in columns.items()}
        names = self._metadata(split)[0]
        return {name: partial(self._column, split, name) for name in names if name != "file_name"}

    def _column(self, split: str, name: str) -> list[str]:
        values = {row["file_name"]: row[name] or "" for row in self._metadata(split)[1]}
        return [values.get(file, "") for file in self._splits[split].names]

    def _metadata(self, split: str) -> tuple[list[str], list[dict[str, str]]]:
        """Names of the columns of the metadata and its rows."""
        files = self._splits[split]
        path = files.folder / METADATA
        if not path.is_file():
            return [], []
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file)
                columns, rows = list(reader.fieldnames or []), list(reader)
        except (UnicodeDecodeError, csv.Error) as error:
            raise BadInput(f"{path}: expected CSV in UTF-8, received other content ({error}); save it so") from None
        if "file_name" not in columns:
            raise BadInput(f"{path}: expected a column file_name, received {', '.join(columns) or 'none'}; add it")
        if rows and not {row["file_name"] for row in rows} & set(files.names):
            raise BadInput(
                f"{path}: expected file names below {path.parent.name}/ as {files.names[0]}, received "
                f"{rows[0]['file_name']} and no name of an image there; write them with their label's folder"
            )
        return columns, rows


def open_classes(
    path: Path,
    layout: str,
    places: Mapping[str, Path],
    images: Mapping[str, Mapping[str, list[str]]],
    options: Options,
    left_out: Sequence[str],
    notes: Sequence[str] = (),
) -> FilesDataset:
    """A data set of image files that were found by split and class.

    Args:
        path: Where it begins.
        layout: What to call its layout.
        places: Folder of each split.
        images: By split and class, names below the folder of the split.
        options: How it is read.
        left_out: Files that are no images of a class, relative to `path`.
        notes: What a person should know.

    Raises:
        BadInput: a class has no images to learn from, or all are damaged.
    """
    classes = in_order({label for of_split in images.values() for label in of_split})
    if without := [label for label in classes if not images["train"].get(label)]:
        others = [name for name in left_out if not {*without}.isdisjoint(name.split("/")[:-1])]
        received = f"none of {some_of(without)}"
        if others:
            received += f" but {_kind(path / others[0]) or 'other files'}, as {others[0]}"
        raise BadInput(
            f"{source_of(path)}: expected images of each class in {places['train'].name}/<label>/, received "
            f"{received}; add or convert them, or rename or remove these folders"
        )
    splits = {
        split: _files_of(places[split], classes, by_class)
        for split, by_class in images.items()
        if any(by_class.values())
    }
    if left_out:
        told = f"{counted(len(left_out))} left out, no image in the folder of a class"
        kind = _kind(path / left_out[0])
        notes = [*notes, f"{told}: {some_of(left_out)}{kind and f' ({kind})'}"]
    return FilesDataset(path, layout, classes, splits, image_shape_of(splits["train"], options), options, notes)


def _kind(path: Path) -> str:
    """What a file is that is not read; empty where it is an image or nothing tells."""
    if path.suffix.lower() in RAW:
        return "a camera's raw file"
    with path.open("rb") as file:
        head = file.read(1000)
    kind = kind_of(head)
    return kind if kind in OTHER_KINDS and not FIRST_BYTES.match(head) else ""


def _files_of(folder: Path, classes: list[str], by_class: Mapping[str, list[str]]) -> FilesOfSplit:
    of_class = [by_class.get(label, []) for label in classes]
    labels = np.repeat(np.arange(len(classes)), list(map(len, of_class)))
    return FilesOfSplit(folder, [name for names in of_class for name in names], labels)


def image_shape_of(files: FilesOfSplit, options: Options) -> tuple[int, int, int]:
    """Size of the first image; grey where all are, so that no colour is lost because the first happens to have none."""
    paths = [f"{files.folder}/{name}" for name in files.names]
    first = shape_of_first(((path, Path(path).read_bytes()) for path in paths), options)
    if first is None:
        raise BadInput(f"{files.folder}: expected images, received damaged ones only; fetch them again")
    height, width, channels = first
    return height, width, 1 if channels == 1 and all(map(is_grey, paths)) else 3
