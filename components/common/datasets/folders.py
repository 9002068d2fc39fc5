"""Data sets of PNG and JPEG files: as TFDS prepares them, and in a folder per label."""

import csv
import json
import os
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from ..cli import BadInput
from ..files import files_below
from ..progress import counted
from .dataset import (
    SPLITS,
    ImageDataset,
    Options,
    as_text,
    in_order,
    is_clutter,
    name_of,
    some_of,
    source_of,
)
from .decoding import DamagedImage, decode_images, image_shape, is_grey

ENCODED_AT_ONCE = 16 * 2**20
"""Bytes of encoded images that are held at once while they are decoded."""

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
    _records: dict[str, tuple[list[Path], np.ndarray, np.ndarray]]

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

        from .tfrecord import read_features

        shards, ends, records = self._index(split)
        order = np.argsort(places, kind="stable")
        borders = np.searchsorted(places[order], ends).tolist()
        for shard, first, last in zip(shards, [0, *borders], borders, strict=False):
            if first == last:
                continue
            here = order[first:last]
            with shard.open("rb") as file:
                for position, (offset, length) in zip(here.tolist(), records[places[here]].tolist(), strict=True):
                    try:
                        features = read_features(file, offset, length, small)
                    except DecodeError:
                        if self.options.on_corrupt == "fail":
                            raise BadInput(
                                f"{shard}: expected an example at byte {offset}, received damaged bytes; "
                                "fetch the data set again"
                            ) from None
                        features = None
                    yield position, shard, features

    def _index(self, split: str) -> tuple[list[Path], np.ndarray, np.ndarray]:
        """The shards, where each ends among the examples of the split, and where in its shard each example lies."""
        from .tfrecord import index_records

        if split not in self._records:
            shards = self._shards(split)
            records = [index_records(shard) for shard in shards]
            ends = np.cumsum([len(of_shard) for of_shard in records])
            if ends[-1] != self._on_disk[split]:
                raise BadInput(
                    f"{self.folder}: expected {self._on_disk[split]} examples in {split}, as dataset_info.json says, "
                    f"received {ends[-1]}; fetch the data set again"
                )
            self._records[split] = shards, ends, np.concatenate(records)
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
            values[position] = as_text(bool(value) if boolean else value)
        return values


class FoldersDataset(EncodedDataset):
    """`train/<label>/*.png` and `test/<label>/*.png` (JPEG as well)."""

    layout = "folders"
    METADATA: ClassVar[str] = "metadata.csv"
    _folders: dict[str, Path]
    _files: dict[str, list[str]]
    _class_of: dict[str, np.ndarray]

    @staticmethod
    def find(place: Path) -> list[Path]:
        train = [name for name in _inner(place) if SPLITS.get(name.lower()) == "train"]
        return [place] if any(_inner(place / name) for name in train) else []

    @classmethod
    def open(cls, path: Path, options: Options) -> "FoldersDataset":
        places, others = _split_folders(path)
        images: dict[str, dict[str, list[str]]] = {}
        for split, place in places.items():
            images[split], left_out = _images_by_class(place)
            others += [f"{place.name}/{name}" for name in left_out if name != cls.METADATA]
        return cls._of(path, options, places, images, others)

    @classmethod
    def _of(
        cls,
        path: Path,
        options: Options,
        places: dict[str, Path],
        images: dict[str, dict[str, list[str]]],
        others: list[str],
    ) -> Self:
        """A data set of the images that were found.

        Args:
            path: Where it begins.
            options: How it is read.
            places: Folder of each split.
            images: By split and class, names below the split's folder.
            others: Files that are left out, relative to `path`.
        """
        classes = in_order({label for of_split in images.values() for label in of_split})
        if without := [label for label in classes if not images["train"].get(label)]:
            raise BadInput(
                f"{source_of(path)}: expected PNG or JPEG files of each class in {places['train'].name}/<label>/, "
                f"received none of {some_of(without)}; add or convert them, or rename or remove these folders"
            )
        files = {split: [name for label in classes for name in by.get(label, [])] for split, by in images.items()}
        counts = {split: len(listed) for split, listed in files.items() if listed}
        dataset = cls(path, name_of(path), classes, counts, (0, 0, 0), options)
        dataset._folders, dataset._files = places, files
        dataset._class_of = {
            split: np.repeat(np.arange(len(classes)), [len(by.get(label, [])) for label in classes])
            for split, by in images.items()
        }
        if others:
            told = f"{counted(len(others))} left out, no PNG or JPEG in the folder of a class"
            dataset.notes.append(f"{told}: {some_of(others)}")
        height, width, channels = dataset._first_shape("train")
        if channels == 1 and not all(is_grey(f"{places['train']}/{file}") for file in files["train"]):
            channels = 3  # colour must not be lost because the first image happens to have none
        dataset.image_shape = (*(options.image_size or (height, width)), channels)
        return dataset

    def _labels(self, split: str) -> np.ndarray:
        return self._class_of[split]

    def _examples(self, split: str, places: np.ndarray) -> Iterator[Example]:
        files, labels = self._files[split], self._class_of[split].tolist()
        folder = str(self._folders[split])
        for position, place in enumerate(places.tolist()):
            with FileIO(
                f"{folder}/{files[place]}"
            ) as file:  # a Path would cost as much as the decoding of a small image
                yield position, file.readall(), labels[place]

    def _name_of(self, split: str, place: int) -> str:
        folder = self._folders[split]
        return self._files[split][place] if folder == self.folder else f"{folder.name}/{self._files[split][place]}"

    def _columns(self, split: str) -> list[str]:
        return [name for name in self._metadata(split)[0] if name != "file_name"]

    def _column(self, split: str, name: str) -> list[str]:
        values = {row["file_name"]: row[name] or "" for row in self._metadata(split)[1]}
        return [values.get(file, "") for file in self._files[split]]

    def _metadata(self, split: str) -> tuple[list[str], list[dict[str, str]]]:
        """Names of the columns of metadata.csv and its rows, as Hugging Face's imagefolder has them."""
        path = self._folders[split] / self.METADATA
        if not path.is_file():
            return [], []
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns, rows = list(reader.fieldnames or []), list(reader)
        if "file_name" not in columns:
            raise BadInput(f"{path}: expected a column file_name, received {', '.join(columns) or 'none'}; add it")
        if rows and not {row["file_name"] for row in rows} & set(self._files[split]):
            raise BadInput(
                f"{path}: expected file names below {path.parent.name}/ as {self._files[split][0]}, received "
                f"{rows[0]['file_name']} and no name of an image there; write them with their label's folder"
            )
        return columns, rows


class UnsplitFoldersDataset(FoldersDataset):
    """`<label>/*.png` (JPEG as well): every fifth image of a class is for the test, the others to learn from."""

    layout = "folders without splits"
    FOR_TEST: ClassVar[slice] = slice(1, None, 5)
    """Of the images of a class in the order of their names: begins with the second, so that two are enough."""

    @staticmethod
    def find(place: Path) -> list[Path]:
        labels = _inner(place)
        if any(label.lower() in SPLITS for label in labels):
            return []
        return [place] if sum(any(map(_is_image, os.scandir(place / label))) for label in labels) > 1 else []

    @classmethod
    def open(cls, path: Path, options: Options) -> "UnsplitFoldersDataset":
        images, others = _images_by_class(path)
        if single := [label for label, names in images.items() if len(names) == 1]:
            raise BadInput(
                f"{source_of(path)}: expected two images or more of each class, one for the test, received one of "
                f"{some_of(single)}; add images, or remove these folders"
            )
        parts = {
            "test": {label: names[cls.FOR_TEST] for label, names in images.items()},
            "train": {label: sorted(set(names) - set(names[cls.FOR_TEST])) for label, names in images.items()},
        }
        others = [name for name in others if "/" in name or _is_image_name(name)]  # a README beside the folders is fine
        dataset = cls._of(path, options, dict.fromkeys(parts, path), parts, others)
        dataset.notes.insert(
            0,
            f"split here, for want of folders train and test: {dataset.counts['train']:,} images to learn from, "
            f"{dataset.counts['test']:,} for the test (every fifth of each class)",
        )
        return dataset


def _split_folders(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The folder of each split, and the files in other folders beside these."""
    places: dict[str, Path] = {}
    others = []
    for name in _inner(folder):
        split = SPLITS.get(name.lower())
        if split is None:
            others += [f"{name}/{file.as_posix()}" for file in files_below(folder / name)]
        elif split in places:
            raise BadInput(
                f"{source_of(folder)}: expected one folder of the split {split}, received {places[split].name} and "
                f"{name}; move their images into one"
            )
        else:
            places[split] = folder / name
    return dict(sorted(places.items())), others


def _images_by_class(folder: Path) -> tuple[dict[str, list[str]], list[str]]:
    """By the folder of a class, the images in it, and all other files; names below the given folder, in order."""
    images: dict[str, list[str]] = {}
    others = []
    for label in _visible(folder):
        if not label.is_dir():
            others.append(label.name)
            continue
        images[label.name] = []
        for file in _visible(label):
            name = f"{label.name}/{file.name}"
            if _is_image(file):
                images[label.name].append(name)
            elif file.is_dir():
                others += [
                    f"{name}/{inner.as_posix()}" for inner in files_below(Path(file)) if not is_clutter(inner.name)
                ]
            else:
                others.append(name)
    return images, others


def _is_image(file: "os.DirEntry[str]") -> bool:
    """Whether it is a PNG or JPEG, by its name; a link to nothing is none."""
    return _is_image_name(file.name) and not is_clutter(file.name) and file.is_file()


def _is_image_name(name: str) -> bool:
    return name.lower().endswith((".png", ".jpg", ".jpeg"))


def _visible(folder: "Path | os.DirEntry[str]") -> "list[os.DirEntry[str]]":
    """Entries of a folder by name, without what systems leave there."""
    return sorted((entry for entry in os.scandir(folder) if not is_clutter(entry.name)), key=lambda entry: entry.name)


def _inner(folder: Path) -> list[str]:
    """Names of the folders in a folder, without what systems leave there."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_clutter(entry.name))


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
