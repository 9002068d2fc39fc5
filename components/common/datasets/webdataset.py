"""The layout `webdataset`: tars whose files belong together by name, `0001.jpg` and `0001.cls`, packed or not."""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ..cli import BadInput
from ..progress import counted, some_of
from .dataset import Options
from .encoded import EncodedDataset, Example, shape_of_first
from .image_folders import ENDINGS, files_below
from .naming import SPLIT_NAME, SPLITS, in_order, visible
from .shards import CLASS, MOST_TEXT, is_shard, label_in, record_key
from .source import name_of, source_of
from .values import numbered


class Part(NamedTuple):
    """Where the bytes of a file lie: in which file, from where, and how many."""

    path: str
    offset: int
    size: int

    def read(self, most: int = -1) -> bytes:
        """They, or the first of them."""
        with open(self.path, "rb") as file:  # noqa: PTH123 (a Path for each of a million files takes long)
            file.seek(self.offset)
            return file.read(self.size if most < 0 else min(most, self.size))


@dataclass
class Records:
    """The records of a split.

    Attributes:
        names: What to call each.
        images: Where its image lies.
        labels: What it says of its class, as text.
    """

    names: list[str]
    images: list[Part]
    labels: list[str]


def find(place: Path) -> list[Path]:
    """See `opening.Layout`."""
    inner = [Path(entry) for entry in visible(place) if entry.is_dir() and _split_of(entry.name)]
    return [place] if any(map(_holds_records, (place, *inner))) else []


def _holds_records(folder: Path) -> bool:
    """Whether there is a shard in a folder, or a file with the label of an image."""
    entries = visible(folder)
    if any(entry.name.endswith(CLASS) or (entry.name.endswith(".tar") and is_shard(Path(entry))) for entry in entries):
        return True
    images = {record_key(entry.name)[0] for entry in entries if entry.name.lower().endswith(ENDINGS)}
    of_image = (e for e in entries if e.name.endswith(".json") and record_key(e.name)[0] in images)
    first = next(of_image, None)
    return first is not None and _label({"json": Part(first.path, 0, first.stat().st_size)}) != ""


def open_found(path: Path, options: Options) -> "WebDataset":
    """See `opening.Layout`."""
    splits: dict[str, Records] = {}
    without = 0
    for split, record, files in _records(path):
        image = next((part for ending, part in files.items() if f".{ending}".endswith(ENDINGS)), None)
        label = _label(files)
        if image is None or not label:
            without += bool(image or label)  # else it is a file about the data
            continue
        found = splits.setdefault(split, Records([], [], []))
        found.names.append(record)
        found.images.append(image)
        found.labels.append(label)
    if "train" not in splits:
        received = f"those of {some_of(sorted(splits))}" if splits else f"{counted(without)} without"
        raise BadInput(
            f"{source_of(path)}: expected records to learn from, of an image and a .cls, received {received}; write "
            "both, and call the shards train-000000.tar"
        )
    classes = in_order(set(splits["train"].labels))
    notes = [f"{counted(without, 'record')} without an image or a label left out"] if without else []
    train = splits["train"]
    images = zip((f"{path}/{name}" for name in train.names), (part.read() for part in train.images), strict=True)
    shape = shape_of_first(images, options)
    if shape is None:
        raise BadInput(f"{path}: expected images in train, received damaged ones only; fetch it again")
    return WebDataset(path, splits, classes, shape, options, notes)


class WebDataset(EncodedDataset):
    """See `EncodedDataset`."""

    def __init__(
        self,
        folder: Path,
        splits: dict[str, Records],
        class_names: list[str],
        image_shape: tuple[int, int, int],
        options: Options,
        notes: list[str],
    ) -> None:
        """See `ImageDataset`."""
        counts = {split: len(records.names) for split, records in splits.items()}
        super().__init__(folder, name_of(folder), "webdataset", class_names, counts, image_shape, options, notes)
        self._records = splits
        self._numbers = {
            split: numbered(records.labels, class_names, source_of(folder), split) for split, records in splits.items()
        }

    def _labels(self, split: str) -> np.ndarray:
        return self._numbers[split]

    def _examples(self, split: str, places: np.ndarray) -> Iterator[Example]:
        images, labels = self._records[split].images, self._numbers[split]
        for position, place in sorted(enumerate(places.tolist()), key=lambda pair: images[pair[1]]):
            yield position, images[place].read(), int(labels[place])

    def _name_of(self, split: str, place: int) -> str:
        return self._records[split].names[place]


def _records(path: Path) -> Iterator[tuple[str, str, dict[str, Part]]]:
    """Split, name and files by ending of each record."""
    records: dict[tuple[str, str], dict[str, Part]] = {}
    for name in files_below(path):
        file = path / name
        if name.endswith(".tar"):
            inside = list(_members(file))
        else:
            inside = [(PurePosixPath(name).name, Part(str(file), 0, file.stat().st_size))]
        where = name if name.endswith(".tar") else str(PurePosixPath(name).parent)
        of_file = _told(name)
        for member, part in inside:
            key, ending = record_key(member)
            split = of_file or _told(member) or "train"
            records.setdefault((split, f"{where}/{key}".removeprefix("./")), {})[ending] = part
    for (split, record), files in records.items():
        yield split, record, files


def _members(path: Path) -> Iterator[tuple[str, Part]]:
    try:
        with tarfile.open(path, "r:") as archive:
            size = path.stat().st_size
            for member in archive:
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError("it ends before")
                if member.isfile() and not member.issparse():
                    yield member.name, Part(str(path), member.offset_data, member.size)
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise BadInput(
            f"{path}: expected a tar of records, received a damaged or other file ({error}); fetch it again"
        ) from None


def _label(files: dict[str, Part]) -> str:
    """What a record says of its class, as text, the file for that first; empty where it says nothing."""
    told = sorted((ending for ending in files if f".{ending}".endswith((CLASS, ".json"))), key=lambda e: e == "json")
    return next((label for ending in told if (label := label_in(ending, files[ending].read(MOST_TEXT)))), "")


def _told(name: str) -> str:
    """The split of a file, as its shard or its folder tells; empty where none does."""
    path = PurePosixPath(name)
    parts = (path.name if path.suffix == ".tar" else "", *reversed(path.parts[:-1]))
    return next((split for part in parts if (split := _split_of(part))), "")


def _split_of(name: str) -> str:
    """The split that the name of a shard or folder tells, whatever its number; empty where it tells none."""
    plain = re.sub(r"[-_.]?(\d+|\{.*\})", "", name.removesuffix(".tar"))
    told = SPLIT_NAME.fullmatch(plain.lower())
    return SPLITS[told["split"]] if told else ""
