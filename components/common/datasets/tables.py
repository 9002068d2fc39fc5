"""The layout `table`: images in a folder, and a table with their file names and labels (CSV, TSV or JSON lines)."""

import csv
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PureWindowsPath

import numpy as np

from ..cli import BadInput
from ..progress import counted, some_of
from .dataset import Options
from .files import FilesDataset, FilesOfSplit, image_shape_of
from .image_folders import ENDINGS as IMAGES
from .image_folders import images_below
from .naming import SPLITS, as_text, class_name, in_order, splits_in, visible
from .source import source_of

ENDINGS = (".csv", ".tsv", ".jsonl")
FILE_COLUMNS = ("file_name", "filename", "file", "image", "image_id", "image_path", "image_name", "path", "img", "id")
LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "target", "label_name")
SPLIT_COLUMNS = ("split", "subset", "set", "partition", "usage", "phase", "data_split", "fold")
SPLIT_VALUES = {"publictest": "validation", "privatetest": "test"}
"""Values of such a column that only tables have, besides the names of splits."""
SPLIT_FLAG = re.compile(
    r"(is_?)?(?P<split>train|training|test|testing|val|validation|(?<=is_)valid)(_?(set|image|img))?"
)
"""A column of yes and no for one split: `is_train`, `is_training_image`, `test`."""
FLAGS = {
    **dict.fromkeys(("1", "1.0", "true", "yes", "t", "y"), True),
    **dict.fromkeys(("0", "0.0", "false", "no", "f", "n"), False),
}
METADATA = "metadata"
"""A table of this name may tell more of images without their labels, as Hugging Face's imagefolder has it."""

Row = dict[str, str]


def find(place: Path) -> list[Path]:
    """See `opening.Layout`."""
    try:
        return [place] if any(_label_column(path, rows) for path, rows in _tables(place)) else []
    except BadInput:  # a table of something else
        return []


def open_found(path: Path, options: Options) -> FilesDataset:
    """See `opening.Layout`."""
    images = images_below(path)
    by_name = _by_name(images)
    found: dict[str, dict[str, Row]] = {}
    without: list[str] = []
    notes: list[str] = []
    for table, rows in _tables(path):
        if not (label := _label_column(table, rows)):
            continue
        file = _file_column(rows)
        told_splits = _told_splits(rows, {file, label}, table, notes)
        for row, told_split in zip(rows, told_splits, strict=True):
            told = row.get(file, "").replace("\\", "/")
            names = (
                table.parent.relative_to(path) / told,
                Path(told),
                *([Path(Path(told).name)] if _is_absolute(told) else []),
            )
            name = next((by_name[key] for key in map(_key, names) if key in by_name), None)
            if name is None or row.get(label, "").lower() in ("", "nan"):
                without.append(told)
                continue
            rows_of_split = found.setdefault(told_split or _split_of(table, name, path), {})
            told_label = class_name(row[label], table)
            if name in rows_of_split and rows_of_split[name]["label"] != told_label:
                raise BadInput(
                    f"{table}: expected one label for each image, received {rows_of_split[name]['label']} and "
                    f"{told_label} for {name}; correct one"
                )
            rows_of_split[name] = {**row, "label": told_label}
    if not found.get("train"):
        raise BadInput(
            f"{source_of(path)}: expected a table that names images to learn from, received rows as "
            f"{some_of(without) or 'none'} and images as {some_of(images) or 'none'}; make the names equal"
        )
    classes = in_order({row["label"] for row in found["train"].values()})
    splits = {split: _files(path, rows, classes) for split, rows in sorted(found.items())}
    unnamed = set(images) - {name for rows in found.values() for name in rows}
    notes += (
        [f"{counted(len(without), 'row')} of the table without an image or a label: {some_of(without)}"]
        if without
        else []
    )
    notes += (
        [f"{counted(len(unnamed), 'image')} that no table labels left out: {some_of(sorted(unnamed))}"]
        if unnamed
        else []
    )
    return FilesDataset(path, "table", classes, splits, image_shape_of(splits["train"], options), options, notes)


def read_table(path: Path) -> list[Row]:
    """The rows of a table by the names of its columns, which are stripped and in lower case.

    UTF-8 or UTF-16 with or without a byte order mark, else Windows-1252; commas, semicolons, tabs or bars. Without a
    line of names where there are two columns and the first begins with the name of an image.

    Raises:
        BadInput: it is no table.
    """
    try:
        text = _decoded(path.read_bytes())
        if path.suffix.lower() == ".jsonl":
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
            return [{key.strip().lower(): as_text(value) for key, value in line.items()} for line in lines]
        if told := re.match(r"sep=(.)\r?\n", text):  # Excel's line for itself
            text = text[told.end() :]
        header = re.split(r"[\r\n]", text, maxsplit=1)[0]
        delimiter = max(",;\t|", key=header.count)
        rows: Iterable[list[str]] = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        first = [name.strip() for name in next(iter(rows), [])]
        columns = [name.lower() for name in first]
        if len(first) == 2 and columns[0].endswith(IMAGES):
            columns, rows = ["file_name", "label"], itertools.chain([first], rows)
        return [
            dict(zip(columns, [value.strip() for value in row], strict=False))
            for row in rows
            if len(row) == len(columns)
        ]
    except (ValueError, csv.Error, AttributeError) as error:
        raise BadInput(
            f"{path}: expected a table, received something else ({error}); save it as CSV in UTF-8"
        ) from None


def _decoded(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    if content[1::2].count(0) * 4 > len(content):  # every other byte of most letters is 0
        return content.decode("utf-16-le")
    if content[::2].count(0) * 4 > len(content):
        return content.decode("utf-16-be")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252")


def why_not(place: Path) -> str:
    """What is wrong with the tables in a folder, and what to do; empty where there is none."""
    for path in (Path(entry) for entry in visible(place) if entry.is_file() and entry.name.lower().endswith(ENDINGS)):
        try:
            rows = read_table(path)
        except BadInput as error:
            return str(error)
        if not rows:
            return f"{path}: expected rows of file_name and label, received none; fill it"
        columns = some_of(list(rows[0])) or "none"
        return f"{path}: expected a column file_name and a column label, received {columns}; rename them"
    return ""


def _tables(place: Path) -> Iterator[tuple[Path, list[Row]]]:
    """The tables with file names in a folder, and in those of splits in it."""
    entries = visible(place)
    splits = splits_in([entry.name for entry in entries if entry.is_dir()], source_of(place)).values()
    paths = [Path(entry) for folder in (place, *(place / name for name in splits)) for entry in visible(folder)]
    for path in paths:
        if path.name.lower().endswith(ENDINGS) and path.is_file():
            rows = read_table(path)
            if rows and _file_column(rows):
                yield path, rows


def _file_column(rows: list[Row]) -> str:
    return next((name for name in FILE_COLUMNS if name in rows[0]), "")


def _label_column(path: Path, rows: list[Row]) -> str:
    """The column of labels; beside one of files, and of splits, the only other one, whatever its name. Nothing where
    there is none."""
    others = [name for name in rows[0] if name != _file_column(rows)]
    for columns in (others, [name for name in others if name not in SPLIT_COLUMNS and not SPLIT_FLAG.fullmatch(name)]):
        if len(columns) == 1 and path.stem.lower() != METADATA:
            return columns[0]
    return next((name for name in LABEL_COLUMNS if name in others), "")


def _by_name(images: list[str]) -> dict[str, str]:
    """Images by their path, and where it is theirs alone by their name with and without its ending."""
    found: dict[str, set[str]] = {}
    for image in images:
        path = Path(image)
        for key in {_key(path), _key(path.with_suffix("")), _key(Path(path.name)), _key(Path(path.stem))}:
            found.setdefault(key, set()).add(image)
    return {key: next(iter(names)) for key, names in found.items() if len(names) == 1}


def _key(path: Path) -> str:
    return class_name(path.as_posix(), path).lower()


def _is_absolute(told: str) -> bool:
    """Whether a table tells where an image lay on the machine of its author."""
    return told.startswith("/") or PureWindowsPath(told).is_absolute() or "://" in told


def _told_splits(rows: list[Row], taken: set[str], table: Path, notes: list[str]) -> list[str]:
    """The split of each row as columns tell it, empty where none does; of a column that is not used, a note."""
    others = [name for name in rows[0] if name not in taken]
    flags = {
        SPLITS[told["split"]]: name
        for name in others
        if (told := SPLIT_FLAG.fullmatch(name)) and all(row.get(name, "").lower() in FLAGS for row in rows)
    }
    if flags:
        rest = next((split for split in ("train", "test", "validation") if split not in flags), "")
        return [next((split for split, name in flags.items() if FLAGS[row[name].lower()]), rest) for row in rows]
    for column in (name for name in SPLIT_COLUMNS if name in others):
        values = {row.get(column, "") for row in rows} - {""}
        splits = {value: _split_called(value, table) for value in values}
        if unknown := sorted(value for value in values if not splits[value]):
            notes.append(
                f"{table.name}: the values {some_of(unknown)} of the column {column} name no split and are ignored; "
                "write train, validation or test"
            )
        if any(splits.values()):
            return [splits.get(row.get(column, ""), "") for row in rows]
    return [""] * len(rows)


def _split_called(name: str, table: Path) -> str:
    """The split that a name tells; empty: none."""
    return SPLIT_VALUES.get(name.lower()) or next(iter(splits_in([name], str(table))), "")


def _split_of(table: Path, image: str, place: Path) -> str:
    """The split of a row that no column tells: by the name of the table, or the folder of the image."""
    names = (table.stem, table.parent.name if table.parent != place else "", Path(image).parts[0])
    return next((split for name in names if (split := _split_called(name, table))), "train")


def _files(folder: Path, rows: dict[str, Row], classes: list[str]) -> FilesOfSplit:
    numbers = {name: number for number, name in enumerate(classes)}
    names = sorted(rows)
    labels = np.array([numbers.get(rows[name]["label"], len(classes)) for name in names], np.int64)
    columns = {column: [rows[name].get(column, "") for name in names] for column in rows[names[0]]}
    return FilesOfSplit(folder, names, labels, columns)
