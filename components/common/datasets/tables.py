"""The layout `table`: images in a folder, and a table with their file names and labels (CSV, TSV or JSON lines)."""

import csv
import io
import itertools
import json
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from ..cli import BadInput
from ..progress import counted, some_of
from .dataset import Options
from .files import FilesDataset, FilesOfSplit, image_shape_of
from .image_folders import ENDINGS as IMAGES
from .image_folders import images_below
from .naming import SPLITS, as_text, class_name, in_order, splits_in, visible
from .source import source_of
from .values import numbered

ENDINGS = (".csv", ".tsv", ".jsonl")
FILE_COLUMN = re.compile(
    r"(image|img|file|photo|picture|pic)s?([ _-]?(name|id|path|file|index|number))?|(abs|rel|full|relative)?[ _-]?path"
)
"""A column of file names: `file_name`, `Image Index`, `ImageID`."""
ID_COLUMN = re.compile(r"id([ _-]?code)?|uuid")
"""One that may hold file names where no other does."""
LABELS = ("label", "class", "category", "target", "finding", "breed", "species", "diagnosis", "dx")
"""What labels are called, the likeliest first."""
LABEL_COLUMN = re.compile(rf"(?P<what>{'|'.join(LABELS)})(e?s)?([ _-]?(name|label|id|index))?s?")
"""A column of labels: `label`, `class_name`, `Finding Labels`."""
ANSWERS = re.compile(r"(.*[ _-])?(sample[ _-]?)?submission.*", re.IGNORECASE)
"""A table of a competition with made-up labels, which its answers have to look like."""
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
BITS = ("0", "0.0", "1", "1.0")
"""The flags in columns of one class each."""
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
    named = _Named(images, path)
    found: dict[str, dict[str, Row]] = {}
    without: list[str] = []
    notes: list[str] = []
    for table, rows in _tables(path):
        if not (label := _label_column(table, rows)):
            continue
        file = _file_column(rows)
        told_splits = _told_splits(rows, {file, label}, table, notes)
        files = [row.get(file, "").replace("\\", "/") for row in rows]
        shared = _shared(files)
        for row, told, told_split in zip(rows, files, told_splits, strict=True):
            name = named.find(told, shared, table, told_split or _split_called(table.stem, table))
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
    if list(found) == ["train"] and 1 < len(classes) == len(found["train"]):
        raise BadInput(
            f"{source_of(path)}: expected several images of each class, received one of each of {some_of(classes)}; "
            "pass classes, and numbers only if they are names of classes"
        )
    splits = {split: _files(path, split, rows, classes) for split, rows in sorted(found.items())}
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
    line of names where there are two columns and the first begins with the name of an image. Columns of 0 and 1, one
    for each class, become one column `label`.

    Raises:
        BadInput: it is no table.
    """
    try:
        text = _decoded(path.read_bytes())
        if path.suffix.lower() == ".jsonl":
            lines = [json.loads(line) for line in text.splitlines() if line.strip()]
            return [{key.strip().lower(): as_text(value) for key, value in line.items()} for line in lines]
        if told := re.match(r"sep=(.)\r?\n|(#[^\r\n]*[\r\n]+)+", text):  # Excel's line for itself, comments
            text = text[told.end() :]
        header = re.split(r"[\r\n]", text, maxsplit=1)[0]
        delimiter = max(",;\t|", key=header.count)
        rows: Iterable[list[str]] = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        first = [name.strip() for name in next(iter(rows), [])]
        columns = [name.lower() for name in first]
        if len(first) == 2 and columns[0].endswith(IMAGES):
            columns, rows = ["file_name", "label"], itertools.chain([first], rows)
        values = [[value.strip() for value in row] for row in rows if len(row) == len(columns)]
        columns, values = _without_one_hot(first, columns, values, path)
        return [dict(zip(columns, row, strict=True)) for row in values]
    except (ValueError, csv.Error, AttributeError) as error:
        raise BadInput(
            f"{path}: expected a table, received something else ({error}); save it as CSV in UTF-8"
        ) from None


def _without_one_hot(
    names: list[str], columns: list[str], rows: list[list[str]], path: Path
) -> tuple[list[str], list[list[str]]]:
    """Columns and rows with one column `label` in place of one of 0 and 1 for each class."""
    hot = [
        place
        for place, name in enumerate(columns)
        if not SPLIT_FLAG.fullmatch(name) and rows and all(row[place] in BITS for row in rows)
    ]
    if len(hot) < 2 or path.stem.lower() == METADATA or any(map(LABEL_COLUMN.fullmatch, columns)):
        return columns, rows
    told = [[names[place] for place in hot if FLAGS[row[place]]] for row in rows]
    others = [place for place in range(len(columns)) if place not in hot]
    if wrong := next((row for row, labels in zip(rows, told, strict=True) if len(labels) != 1), None):
        if len(others) > 1:  # they may be flags of anything
            return columns, rows
        raise BadInput(
            f"{path}: expected one class for each image, received {some_of(wrong)} in columns of 0 and 1 for "
            f"{some_of([names[place] for place in hot])}; remove rows of several classes or none, or add a column label"
        )
    return [*(columns[place] for place in others), "label"], [
        [*(row[place] for place in others), *labels] for row, labels in zip(rows, told, strict=True)
    ]


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
    for path in (Path(entry) for entry in visible(place) if entry.is_file()):
        if path.suffix.lower() in (".xlsx", ".xls", ".ods"):
            return f"{path}: expected labels in a CSV file, received a spreadsheet; save it as CSV in UTF-8"
        if not path.name.lower().endswith(ENDINGS):
            continue
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
    """The tables with file names in a folder, in those of splits in it, and in those without images."""
    paths = [Path(entry) for folder in (place, *_folders_of_tables(place)) for entry in visible(folder)]
    for path in paths:
        if path.name.lower().endswith(ENDINGS) and path.is_file() and not ANSWERS.fullmatch(path.stem):
            rows = read_table(path)
            if rows and _file_column(rows):
                yield path, rows


def _folders_of_tables(place: Path) -> list[Path]:
    entries = [Path(entry) for entry in visible(place) if entry.is_dir()]
    splits = splits_in([entry.name for entry in entries], source_of(place)).values()
    return [
        folder
        for folder in entries
        if folder.name in splits
        or (any(entry.name.lower().endswith(ENDINGS) for entry in visible(folder)) and not images_below(folder))
    ]


def _file_column(rows: list[Row]) -> str:
    """The column of file names; nothing where there is none."""
    files = [name for name, value in rows[0].items() if value.lower().endswith(IMAGES)]
    named = [name for kind in (FILE_COLUMN, ID_COLUMN) for name in rows[0] if kind.fullmatch(name)]
    return next((name for name in named if name in files), (files + named + [""])[0])


def _label_column(path: Path, rows: list[Row]) -> str:
    """The column of labels; beside one of files, and of splits, the only other one, whatever its name. Nothing where
    there is none."""
    others = [name for name in rows[0] if name != _file_column(rows)]
    for columns in (others, [name for name in others if name not in SPLIT_COLUMNS and not SPLIT_FLAG.fullmatch(name)]):
        if len(columns) == 1 and path.stem.lower() != METADATA:
            return columns[0]
    told = [match for name in others if (match := LABEL_COLUMN.fullmatch(name))]
    return min(told, key=lambda match: (LABELS.index(match["what"]), match.end()))[0] if told else ""


class _Named:
    """Images by the names that a table may give them."""

    def __init__(self, images: list[str], place: Path) -> None:
        self._place = place
        self._found: dict[str, set[str]] = {}
        for image in images:
            folder, slash, name = image.rpartition("/")  # a Path for each of a million images takes long
            stem = name.rpartition(".")[0] or name
            for key in {image, f"{folder}{slash}{stem}", name, stem}:
                self._found.setdefault(_key(key), set()).add(image)
            if stem.isdecimal() and stem.startswith("0"):
                self._found.setdefault(_without_zeros(stem), set()).add(image)

    def find(self, told: str, shared: int, table: Path, split: str) -> str | None:
        """The image that a row means; None: there is none, or there are several.

        Args:
            told: What the row says.
            shared: How many folders in front may be left out, because all rows have them.
            table: Where it says it.
            split: What split it says, or nothing; of several images the one in the folder of it is meant.
        """
        parts = PurePosixPath(told).parts
        names = [
            os.path.normpath(table.parent.relative_to(self._place) / told),
            *("/".join(parts[first:]) for first in range(min(shared, len(parts) - 1) + 1)),
            *([parts[-1]] if parts and _is_absolute(told) else []),
        ]
        for key in (*map(_key, names), _without_zeros(told)):
            found = self._found.get(key, set())
            if len(found) > 1 and split:
                found = {image for image in found if _split_called(Path(image).parts[0], table) == split}
            if len(found) == 1:
                return next(iter(found))
        return None


def _without_zeros(number: str) -> str:
    """What Excel makes of a name that is a number, marked as such."""
    return f"number {int(number)}" if number.isdecimal() else ""


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).lower()


def _shared(files: list[str]) -> int:
    """How many folders in front all names have in common, up to one that tells a split."""
    levels = zip(*{PurePosixPath(file).parts[:-1] for file in files}, strict=False)
    common = itertools.takewhile(lambda level: len(set(level)) == 1 and not _split_called(level[0], Path()), levels)
    return len(list(common))


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


def _files(folder: Path, split: str, rows: dict[str, Row], classes: list[str]) -> FilesOfSplit:
    names = sorted(rows)
    labels = numbered([rows[name]["label"] for name in names], classes, source_of(folder), split)
    columns = {column: [rows[name].get(column, "") for name in names] for column in rows[names[0]]}
    return FilesOfSplit(folder, names, labels, columns)
