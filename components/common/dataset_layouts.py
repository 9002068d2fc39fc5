"""The four layouts of a data set, one reader each, in the order in which they are looked for."""

import csv
import gzip
import json
import math
import os
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol

import numpy as np

from components.common.arrays import Header, npy_header, read_rows
from components.common.cli import BadInput
from components.common.datasets import ImageDataset, Options
from components.common.images import DamagedImage, decode_images, image_shape, is_grey, resized

ENCODED_AT_ONCE = 8 * 2**20
"""Bytes of encoded images that are held at once while they are decoded."""
CHANGED_AT_ONCE = 16 * 2**20
"""Bytes of an array that are held at once while its images are resized, or made bytes."""
UNPACKED_AT_ONCE = 2**20
"""Bytes of an array that are held at once while it is unpacked."""


class Reader(Protocol):
    """What `open_dataset` asks of a layout's class."""

    def find(self, place: Path) -> list[Path]:
        """Where a data set of this layout begins directly in a folder (a folder, or the file that holds it)."""

    def open(self, path: Path, options: Options) -> ImageDataset:
        """Read the description of the data set at what `find` gave."""


Example = tuple[int, bytes, int]
"""An image's position among those that were asked for, the encoded image, and its label."""


class EncodedDataset(ImageDataset):
    """A data set of PNG or JPEG files, each on its own in a file or a record."""

    def _examples(self, split: str, places: np.ndarray) -> Iterator[Example]:
        """The examples at these places, in the order that is quickest."""
        raise NotImplementedError

    def _read(self, split: str, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images = np.empty((len(places), *self.image_shape), np.uint8)
        labels = np.empty(len(places), np.int64)
        for positions, encoded, of_them in _groups(self._examples(split, places)):
            labels[positions] = of_them
            images[positions] = self._decoded(split, places[positions], encoded)
        return images, labels

    def _damaged(self, split: str) -> list[int]:
        found = []
        for positions, encoded, _ in _groups(self._examples(split, np.arange(self._on_disk[split]))):
            damaged: list[int] = []
            self._decoded(split, np.array(positions), encoded, damaged)
            found += [positions[index] for index in damaged]
        return sorted(found)

    def _decoded(
        self, split: str, places: np.ndarray, encoded: list[bytes], damaged: list[int] | None = None
    ) -> np.ndarray:
        return decode_images(
            encoded,
            self.image_shape,
            lambda index: f"{self.folder}/{self._name_of(split, int(places[index]))}",
            resize=self.options.image_size is not None,
            damaged=damaged,
        )

    def _first_shape(self, split: str) -> tuple[int, int, int]:
        """Shape of the first image that is not damaged."""
        for place in range(self._on_disk[split]):
            _, content, _ = next(self._examples(split, np.array([place])))
            try:
                return image_shape(content, f"{self.folder}/{self._name_of(split, place)}")
            except DamagedImage:
                if self.options.on_corrupt == "fail":
                    raise
        raise BadInput(f"{self.folder}: expected images in {split}, received damaged ones only; fetch it again")


def _groups(examples: Iterable[Example]) -> Iterator[tuple[list[int], list[bytes], list[int]]]:
    """Positions, encoded images and labels of some examples at a time."""
    positions, encoded, labels, size = [], [], [], 0
    for position, content, label in examples:
        positions.append(position)
        encoded.append(content)
        labels.append(label)
        size += len(content)
        if size >= ENCODED_AT_ONCE:
            yield positions, encoded, labels
            positions, encoded, labels, size = [], [], [], 0
    if positions:
        yield positions, encoded, labels


class TfdsDataset(EncodedDataset):
    """A data set as TFDS prepares it: dataset_info.json, features.json and TFRecord shards of tf.train.Example."""

    layout = "tfds"
    _info: dict[str, Any]
    _features: dict[str, dict[str, Any]]
    _keys: tuple[str, str]
    _records: dict[str, tuple[np.ndarray, np.ndarray]]

    @staticmethod
    def find(place: Path) -> list[Path]:
        return [place] if (place / "dataset_info.json").is_file() else []

    @classmethod
    def open(cls, path: Path, options: Options) -> "TfdsDataset":
        info = _json(path / "dataset_info.json")
        features = dict(_leaves(_json(path / "features.json")))
        pair = info.get("supervisedKeys", {}).get("tuple", {}).get("items", [])
        keys = sorted(features, key=lambda key: {"featureKey": key} not in pair)  # what is meant to be learned, first
        image = next((key for key in keys if "image" in features[key]), None)
        label = next((key for key in keys if "classLabel" in features[key]), None)
        if image is None or label is None:
            raise BadInput(
                f"{path}: expected an image and a class label among its features, received "
                f"{', '.join(features) or 'none'}; pass an image-classification data set"
            )
        if info.get("fileFormat", "tfrecord") != "tfrecord":
            raise BadInput(
                f"{path}: expected TFRecord files, received {info['fileFormat']}; prepare the data set with "
                "file_format='tfrecord'"
            )
        counts = {split["name"]: sum(map(int, split.get("shardLengths", []))) for split in info.get("splits", [])}
        shape = [int(size) for size in features[image]["image"].get("shape", {}).get("dimensions", [])]
        dataset = cls(
            path, info.get("name", path.parent.name), _class_names(path, label, features), counts, (0, 0, 0), options
        )
        dataset._info, dataset._features, dataset._keys, dataset._records = info, features, (image, label), {}
        if len(shape) != 3 or min(shape) < 1:  # TFDS leaves open what differs between images; then the first one tells
            split = next((name for name, count in counts.items() if count), None)
            if split is None:
                raise BadInput(f"{path}: expected examples, received none in any split; prepare the data set again")
            *size, channels = dataset._first_shape(split)
            shape = [*size, shape[2] if len(shape) == 3 and shape[2] > 0 else channels]
        height, width = options.image_size or shape[:2]
        dataset.image_shape = (height, width, 1 if shape[2] == 1 else 3)
        return dataset

    def _labels(self, split: str) -> np.ndarray:
        labels = np.zeros(self._on_disk[split], np.int64)
        for position, shard, features in self._parsed(split, np.arange(len(labels)), small=True):
            if features is not None:
                labels[position] = self._label(features, shard)
        return labels

    def _examples(self, split: str, places: np.ndarray) -> Iterator[Example]:
        image = self._keys[0]
        for position, shard, features in self._parsed(split, places):
            if features is None:
                yield position, b"", 0
            else:
                yield position, b"".join(features[image].bytes_list.value), self._label(features, shard)

    def _label(self, features: Any, shard: Path) -> int:
        label = self._keys[1]
        if not (values := features[label].int64_list.value):
            raise BadInput(f"{shard}: expected {label} in every example, received one without; prepare it again")
        return values[0]

    def _parsed(self, split: str, places: np.ndarray, small: bool = False) -> Iterator[tuple[int, Path, Any]]:
        """Position, shard and features of the examples at these places, in the order of the shards.

        The features are None where the record is damaged and that is to be skipped. With `small`, large ones are left
        out.
        """
        from google.protobuf.message import DecodeError

        from components.common.tfrecord import read_features

        shards, (ends, records) = self._shards(split), self._index(split)
        order = np.argsort(places, kind="stable")
        shard_of = np.searchsorted(ends, places[order], side="right")
        for number in np.unique(shard_of).tolist():
            here = order[shard_of == number]
            with shards[number].open("rb") as file:
                for position, (offset, length) in zip(here.tolist(), records[places[here]].tolist(), strict=True):
                    try:
                        features = read_features(file, offset, length, small)
                    except DecodeError:
                        if self.options.on_corrupt == "fail":
                            raise BadInput(
                                f"{shards[number]}: expected an example at byte {offset}, received damaged bytes; "
                                "fetch the data set again"
                            ) from None
                        features = None
                    yield position, shards[number], features

    def _index(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Where each shard ends among the examples of the split, and where in its shard each example lies."""
        from components.common.tfrecord import index_records

        if split not in self._records:
            records = [index_records(shard) for shard in self._shards(split)]
            ends = np.cumsum([len(of_shard) for of_shard in records])
            if ends[-1] != self._on_disk[split]:
                raise BadInput(
                    f"{self.folder}: expected {self._on_disk[split]} examples in {split}, as dataset_info.json says, "
                    f"received {ends[-1]}; fetch the data set again"
                )
            self._records[split] = ends, np.concatenate(records)
        return self._records[split]

    def _shards(self, split: str) -> list[Path]:
        described = next(part for part in self._info["splits"] if part["name"] == split)
        total = len(described["shardLengths"])
        template = described.get("filepathTemplate") or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        shards = []
        for index in range(total):
            words = {
                "DATASET": self.name,
                "SPLIT": split,
                "FILEFORMAT": "tfrecord",
                "SHARD_X_OF_Y": f"{index:05d}-of-{total:05d}",
                "SHARD_INDEX": f"{index:05d}",
                "NUM_SHARDS": f"{total:05d}",
            }
            shards.append(self.folder / template.format(**words))
        missing = [shard.name for shard in shards if not shard.is_file()]
        if missing:
            raise BadInput(
                f"{self.folder}: expected {total} shards of {split}, {missing[0]} is missing; fetch it again"
            )
        return shards

    def _columns(self, split: str) -> list[str]:
        return [key for key, feature in self._features.items() if _is_scalar(feature)]

    def _column(self, split: str, name: str) -> list[str]:
        feature = self._features[name]
        classes = _class_names(self.folder, name, self._features) if "classLabel" in feature else []
        boolean = feature.get("tensor", {}).get("dtype") == "bool"
        values = [""] * self._on_disk[split]
        for position, _, features in self._parsed(split, np.arange(len(values)), small=True):
            if features is None or name not in features:
                continue
            one = features[name]
            value = next(iter([*one.bytes_list.value, *one.float_list.value, *one.int64_list.value]), "")
            if classes:
                value = classes[value] if 0 <= value < len(classes) else ""
            values[position] = _text(bool(value) if boolean else value)
        return values


class ArrayDataset(ImageDataset):
    """A data set whose images are the rows of one array per split."""

    def __init__(
        self,
        folder: Path,
        name: str,
        class_names: list[str],
        arrays: dict[str, tuple[Path, Header, bool]],
        labels: dict[str, np.ndarray],
        options: Options,
    ) -> None:
        """Args:
        arrays: By split, the file of its images, what it holds, and whether it must be unpacked first.
        labels: By split, int64, shape (examples,).
        """
        counts = {split: len(of_split) for split, of_split in labels.items()}
        self._row = _as_image(arrays["train"][1].shape[1:])
        super().__init__(folder, name, class_names, counts, self._row, options)
        self._arrays = arrays
        self._all_labels = labels
        self._unpacked: dict[str, BinaryIO] = {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_unpacked": {}}

    def _labels(self, split: str) -> np.ndarray:
        path, header, _ = self._arrays[split]
        labels = self._all_labels[split]
        if header.shape[0] != len(labels):
            raise BadInput(
                f"{path}: expected a label for each image of {split}, received {header.shape[0]} and "
                f"{len(labels)} labels; make them equal"
            )
        if _as_image(header.shape[1:]) != self._row:
            raise BadInput(
                f"{path}: expected images of {self._row} as in train, received {_as_image(header.shape[1:])} in "
                f"{split}; make them equal"
            )
        return labels

    def _read(self, split: str, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = self._labels(split)[places]
        path, header, _ = self._arrays[split]
        if self._row == self.image_shape and header.dtype == np.uint8:
            return self._rows(split, places).reshape(-1, *self._row), labels
        images = np.empty((len(places), *self.image_shape), np.uint8)
        some = max(1, CHANGED_AT_ONCE // (header.dtype.itemsize * math.prod(self._row)))
        for at in range(0, len(places), some):
            rows = self._rows(split, places[at : at + some]).reshape(-1, *self._row)
            images[at : at + some] = resized(_pixels(rows, path), self.image_shape[:2])
        return images, labels

    def _rows(self, split: str, places: np.ndarray) -> np.ndarray:
        path, header, packed = self._arrays[split]
        if not packed:
            with path.open("rb") as file:
                return read_rows(file, header, places, path)
        if split not in self._unpacked:
            if np.array_equal(places, np.arange(header.shape[0])):
                return self._whole(split)
            file = tempfile.TemporaryFile()  # noqa: SIM115 (it has no name and goes with this object)
            if header.by_column:
                np.ascontiguousarray(self._whole(split)).tofile(file)
            else:
                with self._numbers(split) as numbers:
                    shutil.copyfileobj(numbers, file, UNPACKED_AT_ONCE)
            file.flush()
            self._unpacked[split] = file
        return read_rows(self._unpacked[split], replace(header, offset=0), places, path)

    def _whole(self, split: str) -> np.ndarray:
        """The array of a split, unpacked into memory."""
        path, header, _ = self._arrays[split]
        stored = np.empty(header.shape[::-1] if header.by_column else header.shape, header.dtype)
        target, done = memoryview(stored.reshape(-1).view(np.uint8)), 0
        with self._numbers(split) as numbers:
            while done < len(target) and (content := numbers.read(min(UNPACKED_AT_ONCE, len(target) - done))):
                target[done : done + len(content)] = content
                done += len(content)
        if done < len(target):
            raise BadInput(f"{path}: expected {header.shape[0]} images, received fewer; fetch it again")
        return stored.T if header.by_column else stored

    def _numbers(self, split: str) -> AbstractContextManager[BinaryIO]:
        """The array of a split as a file that is unpacked while it is read, without its header."""
        raise NotImplementedError


class NpzDataset(ArrayDataset):
    """An `.npz` with x_train, y_train, x_test, y_test and, if wanted, class_names and further columns."""

    layout = "npz"
    KEYS: ClassVar[tuple[str, ...]] = ("x_train", "y_train", "x_test", "y_test")

    @staticmethod
    def find(place: Path) -> list[Path]:
        return sorted(path for path in place.glob("*.npz") if not path.name.startswith("."))

    @classmethod
    def open(cls, path: Path, options: Options) -> "NpzDataset":
        with _archive(path) as archive:
            keys = _keys(archive)
            if missing := [key for key in cls.KEYS if key not in keys]:
                raise BadInput(
                    f"{path}: expected {', '.join(cls.KEYS)}, received {', '.join(keys) or 'no arrays'}; "
                    f"add {', '.join(missing)}"
                )
            arrays = {split: (path, *_stored(archive, f"x_{split}", path)) for split in ("train", "test")}
            labels = {split: _plain_labels(_array(archive, f"y_{split}", path), path) for split in arrays}
            names = [_text(name) for name in _array(archive, "class_names", path)] if "class_names" in keys else []
            one_hot = _header(archive, "y_train").shape[1:]
        if any(of_split.dtype.kind == "U" for of_split in labels.values()):
            names = names or in_order(set(labels["train"].astype(str).tolist()))
            labels = {split: _numbered(of_split.astype(str), names, path) for split, of_split in labels.items()}
        names = names or list(map(str, range(max(2, *one_hot, int(labels["train"].max(initial=0)) + 1))))
        shape = arrays["train"][1].shape
        if len(shape) not in (3, 4):
            raise BadInput(
                f"{path}: expected x_train of shape (n, height, width) or (n, height, width, channels), "
                f"received {shape}; reshape it"
            )
        return cls(path, path.stem, names, arrays, labels, options)

    @contextmanager
    def _numbers(self, split: str) -> Iterator[BinaryIO]:
        with _archive(self.folder) as archive, archive.open(f"x_{split}.npy") as member:
            npy_header(member)
            yield member

    def _columns(self, split: str) -> list[str]:
        ending = f"_{split}"
        with _archive(self.folder) as archive:
            keys = [key for key in _keys(archive) if key.endswith(ending) and key not in self.KEYS]
            shapes = {key: _header(archive, key).shape for key in keys}
        return [key.removesuffix(ending) for key, shape in shapes.items() if shape == (self._on_disk[split],)]

    def _column(self, split: str, name: str) -> list[str]:
        with _archive(self.folder) as archive:
            return [_text(value) for value in _array(archive, f"{name}_{split}", self.folder)]


class IdxDataset(ArrayDataset):
    """The four files MNIST was first published in (http://yann.lecun.com/exdb/mnist/), gzipped or not."""

    layout = "idx"
    PREFIXES: ClassVar[dict[str, str]] = {"train": "train", "test": "t10k"}

    @staticmethod
    def find(place: Path) -> list[Path]:
        return [place] if IdxDataset._file(place, "train", "images") else []

    @staticmethod
    def _file(place: Path, split: str, kind: str) -> Path | None:
        rank = 3 if kind == "images" else 1
        pattern = f"{IdxDataset.PREFIXES[split]}-{kind}[-.]idx{rank}-ubyte"
        return next(iter(sorted([*place.glob(pattern), *place.glob(f"{pattern}.gz")])), None)

    @classmethod
    def open(cls, path: Path, options: Options) -> "IdxDataset":
        arrays, all_labels = {}, {}
        for split in cls.PREFIXES:
            images, labels = cls._file(path, split, "images"), cls._file(path, split, "labels")
            if images is None or labels is None:
                if split == "train":
                    raise BadInput(f"{path}: expected train-labels-idx1-ubyte beside the images, received none; add it")
                continue
            header = _idx_header(images)
            arrays[split] = images, replace(header, shape=(*header.shape, 1)), images.suffix == ".gz"
            with _idx(labels) as file:
                all_labels[split] = np.frombuffer(file.read(), np.uint8)[_idx_header(labels).offset :].astype(np.int64)
        classes = int(all_labels["train"].max(initial=0)) + 1
        return cls(path, path.name, list(map(str, range(max(classes, 2)))), arrays, all_labels, options)

    @contextmanager
    def _numbers(self, split: str) -> Iterator[BinaryIO]:
        path, header, _ = self._arrays[split]
        with _idx(path) as file:
            file.read(header.offset)
            yield file


class FoldersDataset(EncodedDataset):
    """`train/<label>/*.png` and `test/<label>/*.png` (JPEG as well)."""

    layout = "folders"
    ENDINGS: ClassVar[tuple[str, ...]] = (".png", ".jpg", ".jpeg")
    METADATA: ClassVar[str] = "metadata.csv"
    _files: dict[str, list[str]]
    _class_of: dict[str, np.ndarray]

    @staticmethod
    def find(place: Path) -> list[Path]:
        train = place / "train"
        return [place] if train.is_dir() and any(path.is_dir() for path in train.iterdir()) else []

    @classmethod
    def open(cls, path: Path, options: Options) -> "FoldersDataset":
        splits = _inner(path)
        classes = in_order({label for split in splits for label in _inner(path / split)})
        files: dict[str, list[str]] = {split: [] for split in splits}
        class_of: dict[str, list[int]] = {split: [] for split in splits}
        for split in splits:
            for index, label in enumerate(classes):
                place = path / split / label
                names = sorted(entry.name for entry in os.scandir(place)) if place.is_dir() else []
                images = [
                    f"{label}/{name}"
                    for name in names
                    if name.lower().endswith(cls.ENDINGS) and not name.startswith(".")
                ]
                files[split] += images
                class_of[split] += [index] * len(images)
        if not files.get("train"):
            raise BadInput(f"{path}: expected PNG or JPEG files in train/<label>/, received none; add images")
        counts = {split: len(listed) for split, listed in files.items() if listed}
        dataset = cls(path, path.name, classes, counts, (0, 0, 0), options)
        dataset._files = files
        dataset._class_of = {split: np.array(numbers, np.int64) for split, numbers in class_of.items()}
        height, width, channels = dataset._first_shape("train")
        if channels == 1 and not all(is_grey(f"{path}/train/{file}") for file in files["train"]):
            channels = 3  # colour must not be lost because the first image happens to have none
        dataset.image_shape = (*(options.image_size or (height, width)), channels)
        return dataset

    def _labels(self, split: str) -> np.ndarray:
        return self._class_of[split]

    def _examples(self, split: str, places: np.ndarray) -> Iterator[Example]:
        files, labels = self._files[split], self._class_of[split].tolist()
        folder = str(self.folder / split)
        for position, place in enumerate(places.tolist()):
            with FileIO(
                f"{folder}/{files[place]}"
            ) as file:  # a Path would cost as much as the decoding of a small image
                yield position, file.readall(), labels[place]

    def _name_of(self, split: str, place: int) -> str:
        return f"{split}/{self._files[split][place]}"

    def _columns(self, split: str) -> list[str]:
        return [name for name in self._metadata(split)[0] if name != "file_name"]

    def _column(self, split: str, name: str) -> list[str]:
        values = {row["file_name"]: row[name] or "" for row in self._metadata(split)[1]}
        return [values.get(file, "") for file in self._files[split]]

    def _metadata(self, split: str) -> tuple[list[str], list[dict[str, str]]]:
        """Names of the columns of metadata.csv and its rows, as Hugging Face's imagefolder has them."""
        path = self.folder / split / self.METADATA
        if not path.is_file():
            return [], []
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns, rows = list(reader.fieldnames or []), list(reader)
        if "file_name" not in columns:
            raise BadInput(f"{path}: expected a column file_name, received {', '.join(columns) or 'none'}; add it")
        if rows and not {row["file_name"] for row in rows} & set(self._files[split]):
            raise BadInput(
                f"{path}: expected file names below {split}/ as {self._files[split][0]}, received "
                f"{rows[0]['file_name']} and no name of an image there; write them with their label's folder"
            )
        return columns, rows


READERS: tuple[type[Reader], ...] = (TfdsDataset, NpzDataset, IdxDataset, FoldersDataset)


def in_order(names: Iterable[str]) -> list[str]:
    """Class names as they are numbered: numbers by value, then the others by letter."""
    return sorted(names, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))


def _inner(folder: Path) -> list[str]:
    """Names of the folders in a folder; hidden ones are none of the data set's."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise BadInput(
            f"{path}: expected this file of a TFDS-prepared data set, received none; fetch it again"
        ) from None
    except ValueError:
        raise BadInput(f"{path}: expected JSON, received something else; fetch the data set again") from None


def _leaves(feature: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """TFDS's features by the name they have in an example: `age`, and `attributes/smiling` where they are nested."""
    for name, inner in feature.get("featuresDict", {}).get("features", {}).items():
        if "featuresDict" in inner:
            yield from _leaves(inner, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", inner


def _class_names(folder: Path, key: str, features: dict[str, dict[str, Any]]) -> list[str]:
    """Names of a TFDS class label; its numbers where it has none."""
    names = folder / f"{key.replace('/', '-')}.labels.txt"
    count = int(features[key]["classLabel"]["numClasses"])
    return names.read_text().splitlines() if names.is_file() else [str(index) for index in range(count)]


def _is_scalar(feature: dict[str, Any]) -> bool:
    """Whether an example holds one text, number or class under a TFDS feature."""
    return "text" in feature or "classLabel" in feature or not feature.get("tensor", {"shape": "none"}).get("shape")


def _text(value: Any) -> str:
    """A value of a column, or the name of a class, as text."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float | np.floating) else str(value)


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """An .npz, open."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (ValueError, zipfile.BadZipFile, EOFError, zlib.error):
        raise BadInput(f"{path}: expected an .npz archive, received a damaged or other file; fetch it again") from None


def _keys(archive: zipfile.ZipFile) -> list[str]:
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _header(archive: zipfile.ZipFile, key: str) -> Header:
    with archive.open(f"{key}.npy") as member:
        return npy_header(member)


def _stored(archive: zipfile.ZipFile, key: str, path: Path) -> tuple[Header, bool]:
    """The header of an array in an .npz, and whether it must be unpacked; if not, its offset is that in the archive."""
    header, entry = _header(archive, key), archive.getinfo(f"{key}.npy")
    if header.dtype.hasobject:
        raise BadInput(f"{path}: expected numbers in {key}, received Python objects; make all images of one size")
    if entry.compress_type != zipfile.ZIP_STORED or header.by_column:
        return header, True
    with path.open("rb") as file:
        file.seek(entry.header_offset + 26)  # the lengths of name and extra field end the 30 bytes of a local header
        name, extra = struct.unpack("<HH", file.read(4))
    return replace(header, offset=entry.header_offset + 30 + name + extra + header.offset), False


def _array(archive: zipfile.ZipFile, key: str, path: Path) -> np.ndarray:
    """A small array in an .npz, whole."""
    if _header(archive, key).dtype.hasobject:
        raise BadInput(f"{path}: expected numbers or text in {key}, received Python objects; save {key}.astype(str)")
    with archive.open(f"{key}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _as_image(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(height, width, channels) of images that may stand without channels."""
    return shape if len(shape) == 3 else (*shape, 1)


def _pixels(array: np.ndarray, path: Path) -> np.ndarray:
    """Images as uint8; other number types are taken when they hold whole numbers 0 to 255."""
    if array.dtype != np.uint8:
        if not (np.issubdtype(array.dtype, np.number) and array.min() >= 0 and array.max() <= 255):
            raise BadInput(f"{path}: expected pixels 0 to 255, received {array.dtype} outside of it; scale them")
        if (array != array.astype(np.uint8)).any():
            raise BadInput(f"{path}: expected whole numbers 0 to 255 as pixels, received fractions; multiply by 255")
        array = array.astype(np.uint8)
    return array


def _plain_labels(array: np.ndarray, path: Path) -> np.ndarray:
    """Labels of shape (n,), int64 or text."""
    if array.ndim == 2 and array.shape[1] == 1:  # as CIFAR's .npz has them
        array = array[:, 0]
    kind = array.dtype.kind
    if array.ndim == 1 and kind in "US":
        return array if kind == "U" else np.char.decode(array, "utf-8")
    if array.ndim == 2 and kind in "biuf" and np.isin(array, (0, 1)).all() and (array.sum(axis=1) == 1).all():
        array = array.argmax(axis=1)  # one-hot, as Keras's to_categorical makes them
    if array.ndim != 1 or kind not in "biuf" or not (array == np.trunc(array)).all():
        raise BadInput(
            f"{path}: expected labels as names or whole numbers of shape (n,), or one-hot, received {array.dtype} "
            f"{array.shape}; number the classes from 0"
        )
    return array.astype(np.int64)


def _numbered(labels: np.ndarray, names: list[str], path: Path) -> np.ndarray:
    """Names of classes as their numbers."""
    numbers = {name: number for number, name in enumerate(names)}
    if unknown := sorted(set(labels.tolist()) - set(names)):
        raise BadInput(
            f"{path}: expected labels among {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}, received "
            f"{unknown[0]!r}; correct the labels, or name all classes in class_names"
        )
    return np.array([numbers[label] for label in labels.tolist()], np.int64)


@contextmanager
def _idx(path: Path) -> Iterator[BinaryIO]:
    """An IDX file, open; a gzipped one is unpacked while it is read."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file
    except (gzip.BadGzipFile, EOFError, zlib.error, struct.error) as error:
        raise BadInput(f"{path}: expected an IDX file, received a damaged or other file; fetch it again") from error


def _idx_header(path: Path) -> Header:
    with _idx(path) as file:
        zeros, kind, rank = struct.unpack(">HBB", file.read(4))
        header = Header(4 + 4 * rank, struct.unpack(f">{rank}I", file.read(4 * rank)), np.dtype(np.uint8))
    length = math.prod(header.shape)
    stored = length if path.suffix == ".gz" else path.stat().st_size - header.offset
    if zeros != 0 or kind != 8 or stored != length:
        raise BadInput(
            f"{path}: expected an IDX file of bytes with {header.shape} values, received {stored}; fetch it again"
        )
    return header
