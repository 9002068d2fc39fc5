"""Data sets of PNG and JPEG files: as TFDS prepares them, and in a folder per label."""

import csv
import json
import os
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from components.common.cli import BadInput
from components.common.datasets import ImageDataset, Options, as_text, in_order
from components.common.images import DamagedImage, decode_images, image_shape, is_grey

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

        from components.common.tfrecord import read_features

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
        from components.common.tfrecord import index_records

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
