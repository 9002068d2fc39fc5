"""The four layouts of a data set, one reader each, in the order in which they are looked for."""

import gzip
import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from components.common.cli import BadInput
from components.common.datasets import ImageDataset
from components.common.images import decode_images


class Reader(Protocol):
    """What `open_dataset` asks of a layout's class."""

    def find(self, place: Path) -> list[Path]:
        """Where a data set of this layout begins directly in a folder (a folder, or the file that holds it)."""

    def open(self, path: Path) -> ImageDataset:
        """Read the description of the data set at what `find` gave."""


class TfdsDataset(ImageDataset):
    """A data set as TFDS prepares it: dataset_info.json, features.json and TFRecord shards of tf.train.Example."""

    layout = "tfds"
    _info: dict[str, Any]
    _keys: tuple[str, str]

    @staticmethod
    def find(place: Path) -> list[Path]:
        return [place] if (place / "dataset_info.json").is_file() else []

    @classmethod
    def open(cls, path: Path) -> "TfdsDataset":
        info = _json(path / "dataset_info.json")
        features = _json(path / "features.json").get("featuresDict", {}).get("features", {})
        image = next((key for key, feature in features.items() if "image" in feature), None)
        label = next((key for key, feature in features.items() if "classLabel" in feature), None)
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
        names = path / f"{label}.labels.txt"
        count = int(features[label]["classLabel"]["numClasses"])
        classes = names.read_text().splitlines() if names.is_file() else [str(index) for index in range(count)]
        counts = {split["name"]: sum(map(int, split.get("shardLengths", []))) for split in info.get("splits", [])}
        shape = tuple(int(size) for size in features[image]["image"].get("shape", {}).get("dimensions", []))
        dataset = cls(path, info.get("name", path.parent.name), classes, counts, (0, 0, 0))
        dataset._info, dataset._keys = info, (image, label)
        if len(shape) != 3 or min(shape) < 1:  # TFDS leaves open what differs between images; then the first one tells
            split = next((name for name, count in counts.items() if count), None)
            if split is None:
                raise BadInput(f"{path}: expected examples, received none in any split; prepare the data set again")
            record = next(dataset._examples(split))
            shape = decode_images([record[0]], f"{path} ({split})").shape[1:]
        dataset.image_shape = (shape[0], shape[1], shape[2])
        return dataset

    def _read(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        encoded, labels = [], []
        for image, label in self._examples(split):
            encoded.append(image)
            labels.append(label)
        if len(encoded) != self.counts[split]:
            raise BadInput(
                f"{self.folder}: expected {self.counts[split]} examples in {split}, as dataset_info.json says, "
                f"received {len(encoded)}; fetch the data set again"
            )
        return decode_images(encoded, f"{self.folder} ({split})"), np.array(labels, np.int64)

    def _examples(self, split: str) -> Iterator[tuple[bytes, int]]:
        """Encoded image and label of every example."""
        from components.common.tfrecord import example_class, records

        example = example_class()
        image, label = self._keys
        for shard in self._shards(split):
            for record in records(shard):
                features = example.FromString(record).features.feature
                try:
                    yield features[image].bytes_list.value[0], features[label].int64_list.value[0]
                except IndexError:
                    raise BadInput(
                        f"{shard}: expected {image} and {label} in every example, received one without; "
                        "prepare the data set again"
                    ) from None

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


class NpzDataset(ImageDataset):
    """An `.npz` with x_train, y_train, x_test, y_test and, if wanted, class_names."""

    layout = "npz"
    KEYS: ClassVar[tuple[str, ...]] = ("x_train", "y_train", "x_test", "y_test")

    @staticmethod
    def find(place: Path) -> list[Path]:
        return sorted(place.glob("*.npz"))

    @classmethod
    def open(cls, path: Path) -> "NpzDataset":
        with _npz(path) as arrays:
            if missing := [key for key in cls.KEYS if key not in arrays]:
                raise BadInput(
                    f"{path}: expected {', '.join(cls.KEYS)}, received {', '.join(arrays) or 'no arrays'}; "
                    f"add {', '.join(missing)}"
                )
            labels = _labels(arrays["y_train"], path)
            classes = max(int(labels.max(initial=0)) + 1, 2)
            names = (
                [str(name) for name in arrays["class_names"]]
                if "class_names" in arrays
                else list(map(str, range(classes)))
            )
            counts = {"train": len(labels), "test": len(arrays["y_test"])}
            shape = _npy_shape(path, "x_train")
        if len(shape) not in (3, 4):
            raise BadInput(
                f"{path}: expected x_train of shape (n, height, width) or (n, height, width, channels), "
                f"received {shape}; reshape it"
            )
        return cls(path, path.stem, names, counts, (shape[1], shape[2], shape[3] if len(shape) == 4 else 1))

    def _read(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        with _npz(self.folder) as arrays:
            images, labels = _pixels(arrays[f"x_{split}"], self.folder), _labels(arrays[f"y_{split}"], self.folder)
        if images.shape[1:] != self.image_shape:
            raise BadInput(
                f"{self.folder}: expected images of {self.image_shape} as in x_train, received "
                f"{images.shape[1:]} in x_{split}; make them equal"
            )
        return images, labels


class IdxDataset(ImageDataset):
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
    def open(cls, path: Path) -> "IdxDataset":
        counts, shape = {}, (0, 0, 1)
        for split in cls.PREFIXES:
            images, labels = cls._file(path, split, "images"), cls._file(path, split, "labels")
            if images is None or labels is None:
                if split == "train":
                    raise BadInput(f"{path}: expected train-labels-idx1-ubyte beside the images, received none; add it")
                continue
            sizes = _idx_header(images)[0]
            counts[split] = sizes[0]
            if split == "train":
                shape = (*sizes[1:3], 1)
                classes = int(_idx(labels).max(initial=0)) + 1
        return cls(path, path.name, list(map(str, range(max(classes, 2)))), counts, shape)

    def _read(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        images, labels = self._file(self.folder, split, "images"), self._file(self.folder, split, "labels")
        assert images is not None
        assert labels is not None  # `counts` holds a split only when both files are there
        return _idx(images)[..., np.newaxis], _idx(labels).astype(np.int64)


class FoldersDataset(ImageDataset):
    """`train/<label>/*.png` and `test/<label>/*.png` (JPEG as well)."""

    layout = "folders"
    ENDINGS: ClassVar[set[str]] = {".png", ".jpg", ".jpeg"}
    _files: dict[str, list[tuple[Path, int]]]

    @staticmethod
    def find(place: Path) -> list[Path]:
        train = place / "train"
        return [place] if train.is_dir() and any(path.is_dir() for path in train.iterdir()) else []

    @classmethod
    def open(cls, path: Path) -> "FoldersDataset":
        splits = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
        labels = {label.name for split in splits for label in split.iterdir() if label.is_dir()}
        classes = sorted(labels, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))
        files = {
            split.name: [
                (file, index)
                for index, label in enumerate(classes)
                for file in sorted((split / label).glob("*"))
                if file.suffix.lower() in cls.ENDINGS
            ]
            for split in splits
        }
        if not files.get("train"):
            raise BadInput(f"{path}: expected PNG or JPEG files in train/<label>/, received none; add images")
        counts = {split: len(listed) for split, listed in files.items() if listed}
        first = files["train"][0][0]
        shape = decode_images([first.read_bytes()], str(first)).shape[1:]
        dataset = cls(path, path.name, classes, counts, (shape[0], shape[1], shape[2]))
        dataset._files = files
        return dataset

    def _read(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        files = self._files[split]
        images = decode_images(
            [file.read_bytes() for file, _ in files],
            str(self.folder / split),
            [str(file) for file, _ in files],
            self.image_shape,
        )
        return images, np.array([label for _, label in files], np.int64)


READERS: tuple[type[Reader], ...] = (TfdsDataset, NpzDataset, IdxDataset, FoldersDataset)


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise BadInput(
            f"{path}: expected this file of a TFDS-prepared data set, received none; fetch it again"
        ) from None
    except ValueError:
        raise BadInput(f"{path}: expected JSON, received something else; fetch the data set again") from None


def _npz(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, zipfile.BadZipFile, EOFError):
        raise BadInput(f"{path}: expected an .npz archive, received a damaged or other file; fetch it again") from None


def _npy_shape(path: Path, key: str) -> tuple[int, ...]:
    """Shape of an array in an .npz, from its header alone."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return read(file)[0]


def _pixels(array: np.ndarray, path: Path) -> np.ndarray:
    """Images as uint8 (n, h, w, c); other number types are taken when they hold whole numbers 0 to 255."""
    if array.dtype != np.uint8:
        if not (np.issubdtype(array.dtype, np.number) and array.min() >= 0 and array.max() <= 255):
            raise BadInput(f"{path}: expected pixels 0 to 255, received {array.dtype} outside of it; scale them")
        if (array != array.astype(np.uint8)).any():
            raise BadInput(f"{path}: expected whole numbers 0 to 255 as pixels, received fractions; multiply by 255")
        array = array.astype(np.uint8)
    return array[..., np.newaxis] if array.ndim == 3 else array


def _labels(array: np.ndarray, path: Path) -> np.ndarray:
    """Labels as int64 (n,)."""
    if array.ndim == 2 and array.shape[1] == 1:  # as CIFAR's .npz has them
        array = array[:, 0]
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise BadInput(
            f"{path}: expected labels as whole numbers of shape (n,), received {array.dtype} {array.shape}; "
            "number the classes from 0"
        )
    return array.astype(np.int64)


def _idx_header(path: Path) -> tuple[tuple[int, ...], bytes]:
    """Sizes and payload of an IDX file; a gzipped one is unpacked."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zeros, kind, rank = struct.unpack(">HBB", content[:4])
        sizes = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    except (OSError, EOFError, struct.error) as error:
        raise BadInput(f"{path}: expected an IDX file, received a damaged or other file; fetch it again") from error
    payload = content[4 + 4 * rank :]
    if zeros != 0 or kind != 8 or len(payload) != int(np.prod(sizes)):
        raise BadInput(
            f"{path}: expected an IDX file of bytes with {sizes} values, received {len(payload)}; fetch it again"
        )
    return sizes, payload


def _idx(path: Path) -> np.ndarray:
    sizes, payload = _idx_header(path)
    return np.frombuffer(payload, np.uint8).reshape(sizes)
