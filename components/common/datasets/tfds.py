"""The layout `tfds`, as TFDS prepares it: dataset_info.json, features.json and TFRecord shards of tf.train.Example."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..cli import BadInput
from .dataset import Column, Options
from .encoded import EncodedDataset, Example, shape_of_first
from .naming import as_text
from .tfrecord import index_records, read_features

TEMPLATE = ("DATASET", "SPLIT", "FILEFORMAT", "SHARD_X_OF_Y", "SHARD_INDEX", "NUM_SHARDS")
"""What the name of a shard may be made of."""
MOST_CLASSES = 100_000
SHORTEST_RECORD = 16
"""Bytes of a record without content."""


def find(place: Path) -> list[Path]:
    """See `opening.Layout`."""
    of_hugging_face = (place / "state.json").is_file()
    return [place] if (place / "dataset_info.json").is_file() and not of_hugging_face else []


def open_found(path: Path, options: Options) -> "TfdsDataset":
    """See `opening.Layout`."""
    description = Description.read(path)
    records = Records(description, options)
    return TfdsDataset(description, records, _image_shape(description, records, options), options)


@dataclass(frozen=True)
class Description:
    """What TFDS wrote about a data set.

    Attributes:
        folder: Where it lies.
        name: Its name.
        splits: Each split by name, as dataset_info.json has it: its shards' lengths, and how they are called.
        features: By the name they have in an example.
        image: Name of the feature that is the image.
        label: Name of the feature that is the class.
    """

    folder: Path
    name: str
    splits: dict[str, dict[str, Any]]
    features: dict[str, dict[str, Any]]
    image: str
    label: str

    @classmethod
    def read(cls, folder: Path) -> "Description":
        """Read dataset_info.json and features.json.

        Raises:
            BadInput: one is missing or damaged, or it is no image-classification data set in TFRecord files.
        """
        info, described = _json(folder / "dataset_info.json"), _json(folder / "features.json")
        try:
            description = cls._of(folder, info, described)
            description.check()
        except (KeyError, TypeError, AttributeError, ValueError, IndexError, RecursionError):
            raise BadInput(
                f"{folder}: expected dataset_info.json and features.json as TFDS writes them, received others; fetch "
                "the data set again"
            ) from None
        return description

    @classmethod
    def _of(cls, folder: Path, info: dict[str, Any], described: dict[str, Any]) -> "Description":
        features = dict(_leaves(described))
        pair = info.get("supervisedKeys", {}).get("tuple", {}).get("items", [])
        keys = sorted(features, key=lambda key: {"featureKey": key} not in pair)  # what is meant to be learned, first
        image = next((key for key in keys if "image" in features[key]), None)
        label = next((key for key in keys if "classLabel" in features[key]), None)
        if image is None or label is None:
            raise BadInput(
                f"{folder}: expected an image and a class label among its features, received "
                f"{', '.join(features) or 'none'}; pass an image-classification data set"
            )
        if info.get("fileFormat", "tfrecord") != "tfrecord":
            raise BadInput(
                f"{folder}: expected TFRecord files, received {info['fileFormat']}; prepare the data set with "
                "file_format='tfrecord'"
            )
        splits = {split["name"]: split for split in info.get("splits", [])}
        return cls(folder, info.get("name", folder.parent.name), splits, features, image, label)

    def check(self) -> None:
        """Look at what is read of the description later on.

        Raises:
            KeyError, TypeError, AttributeError, ValueError or IndexError: it is none of TFDS's.
        """
        for name, split in self.splits.items():
            _file_template(split).format(**dict.fromkeys(TEMPLATE, ""))
            if any(int(length) < 0 for length in split.get("shardLengths", [])):
                raise ValueError("a negative number of examples")
            files = [path for path in self._paths(name) if path.is_file()]
            size = sum(path.stat().st_size for path in files)
            if len(files) == len(split.get("shardLengths", [])) and size < SHORTEST_RECORD * self.counts[name]:
                raise BadInput(
                    f"{self.folder}: expected {self.counts[name]:,} examples in {name}, as dataset_info.json says, "
                    f"received files of {size:,} bytes; fetch the data set again"
                )
        _ = self.image_dimensions
        for key, feature in self.features.items():
            if "classLabel" in feature:
                self.class_names(key)

    @property
    def image_dimensions(self) -> list[int]:
        """(height, width, channels) of the images, as far as TFDS says: 0 or less, or nothing, where they differ."""
        return [int(size) for size in self.features[self.image]["image"].get("shape", {}).get("dimensions", [])]

    @property
    def counts(self) -> dict[str, int]:
        """Number of examples per split."""
        return {name: sum(map(int, split.get("shardLengths", []))) for name, split in self.splits.items()}

    def class_names(self, key: str) -> list[str]:
        """Names of the classes of a feature; its numbers where they have none."""
        names = self.folder / f"{key.replace('/', '-')}.labels.txt"
        if names.is_file():
            return names.read_text(errors="replace").splitlines()
        count = int(self.features[key]["classLabel"]["numClasses"])
        if count > MOST_CLASSES:
            raise BadInput(
                f"{self.folder}: expected at most {MOST_CLASSES:,} classes of {key}, received {count:,}; correct "
                "numClasses in features.json"
            )
        return [str(index) for index in range(count)]

    def shards(self, split: str) -> list[Path]:
        """The files of a split.

        Raises:
            BadInput: one is missing.
        """
        shards = self._paths(split)
        if missing := [shard.name for shard in shards if not shard.is_file()]:
            raise BadInput(
                f"{self.folder}: expected {len(shards)} shards of {split}, {missing[0]} is missing; fetch it again"
            )
        return shards

    def _paths(self, split: str) -> list[Path]:
        described = self.splits[split]
        total = len(described.get("shardLengths", []))
        template = _file_template(described)
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
        return shards


class Records:
    """The examples in the shards of a data set, any of which can be read without the others."""

    def __init__(self, description: Description, options: Options) -> None:
        self._description = description
        self._skip = options.on_corrupt == "skip"
        self._indexed: dict[str, tuple[list[Path], np.ndarray, np.ndarray]] = {}

    def read(self, split: str, places: np.ndarray, small: bool = False) -> Iterator[tuple[int, Path, Any]]:
        """Position, shard and features of the examples at these places, in the order of the shards.

        The features are None where the record is damaged and that is to be skipped. With `small`, large ones are left
        out.
        """
        from google.protobuf.message import DecodeError

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
                        if not self._skip:
                            raise BadInput(
                                f"{shard}: expected an example at byte {offset}, received damaged bytes; "
                                "fetch the data set again"
                            ) from None
                        features = None
                    yield position, shard, features

    def _index(self, split: str) -> tuple[list[Path], np.ndarray, np.ndarray]:
        """The shards, where each ends among the examples of the split, and where in its shard each example lies."""
        if split not in self._indexed:
            shards = self._description.shards(split)
            records = [index_records(shard) for shard in shards]
            ends = np.cumsum([len(of_shard) for of_shard in records])
            if ends[-1] != (count := self._description.counts[split]):
                raise BadInput(
                    f"{self._description.folder}: expected {count} examples in {split}, as dataset_info.json says, "
                    f"received {ends[-1]}; fetch the data set again"
                )
            self._indexed[split] = shards, ends, np.concatenate(records)
        return self._indexed[split]


class TfdsDataset(EncodedDataset):
    """See `EncodedDataset`; the features that hold one value are its columns."""

    def __init__(
        self, description: Description, records: Records, image_shape: tuple[int, int, int], options: Options
    ) -> None:
        """See `ImageDataset`."""
        classes = description.class_names(description.label)
        super().__init__(
            description.folder, description.name, "tfds", classes, description.counts, image_shape, options
        )
        self._description = description
        self._records = records

    def of_one_size(self) -> bool:
        """See `ImageDataset.of_one_size`."""
        told = self._description.image_dimensions
        return (len(told) == 3 and min(told) > 0) or super().of_one_size()

    def _labels(self, split: str) -> np.ndarray:
        labels = np.zeros(self._on_disk[split], np.int64)
        for position, shard, features in self._records.read(split, np.arange(len(labels)), small=True):
            if features is not None:
                labels[position] = self._label(features, shard)
        return labels

    def _examples(self, split: str, places: np.ndarray) -> Iterator[Example]:
        image = self._description.image
        for position, shard, features in self._records.read(split, places):
            if features is None:
                yield position, b"", 0
            else:
                yield position, b"".join(features[image].bytes_list.value), self._label(features, shard)

    def _label(self, features: Any, shard: Path) -> int:
        label = self._description.label
        if not (values := features[label].int64_list.value):
            raise BadInput(f"{shard}: expected {label} in every example, received one without; prepare it again")
        return int(values[0])

    def _columns(self, split: str) -> dict[str, Column]:
        features = self._description.features.items()
        return {key: partial(self._column, split, key) for key, feature in features if _is_scalar(feature)}

    def _column(self, split: str, name: str) -> list[str]:
        feature = self._description.features[name]
        classes = self._description.class_names(name) if "classLabel" in feature else []
        boolean = feature.get("tensor", {}).get("dtype") == "bool"
        values = [""] * self._on_disk[split]
        for position, _, features in self._records.read(split, np.arange(len(values)), small=True):
            if features is None or name not in features:
                continue
            one = features[name]
            value: Any = next(iter([*one.bytes_list.value, *one.float_list.value, *one.int64_list.value]), "")
            if classes:
                value = classes[value] if 0 <= value < len(classes) else ""
            values[position] = as_text(bool(value) if boolean else value)
        return values


def _image_shape(description: Description, records: Records, options: Options) -> tuple[int, int, int]:
    """Shape of the images: as TFDS says, and where it leaves open what differs between images, that of the first."""
    shape = description.image_dimensions
    if len(shape) != 3 or min(shape) < 1:
        split = next((name for name, count in description.counts.items() if count), None)
        if split is None:
            raise BadInput(
                f"{description.folder}: expected examples, received none in any split; prepare the data set again"
            )
        first = shape_of_first(_images(description, records, split), options)
        if first is None:
            raise BadInput(
                f"{description.folder}: expected images in {split}, received damaged ones only; fetch it again"
            )
        *size, channels = first
        shape = [*size, shape[2] if len(shape) == 3 and shape[2] > 0 else channels]
    return shape[0], shape[1], 1 if shape[2] == 1 else 3


def _images(description: Description, records: Records, split: str) -> Iterator[tuple[str, bytes]]:
    """Name and encoded bytes of the images of a split, in order."""
    for place in range(description.counts[split]):
        _, _, features = next(records.read(split, np.array([place])))
        content = b"" if features is None else b"".join(features[description.image].bytes_list.value)
        yield f"{description.folder}/{split}[{place}]", content


def _file_template(split: dict[str, Any]) -> str:
    template: str = split.get("filepathTemplate") or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    return template


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise BadInput(
            f"{path}: expected this file of a TFDS-prepared data set, received none; fetch it again"
        ) from None
    except ValueError:
        raise BadInput(f"{path}: expected JSON, received something else; fetch the data set again") from None
    return content


def _leaves(feature: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """TFDS's features by the name they have in an example: `age`, and `attributes/smiling` where they are nested."""
    for name, inner in feature.get("featuresDict", {}).get("features", {}).items():
        if "featuresDict" in inner:
            yield from _leaves(inner, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", inner


def _is_scalar(feature: dict[str, Any]) -> bool:
    """Whether an example holds one text, number or class under a TFDS feature."""
    return "text" in feature or "classLabel" in feature or not feature.get("tensor", {"shape": "none"}).get("shape")
