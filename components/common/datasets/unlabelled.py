"""Images to predict, whose class nobody has to know: files in folders or in the object store, arrays, data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import FileIO
from pathlib import Path, PurePosixPath

import numpy as np

from ..cli import BadInput
from ..files import DOWNLOAD
from ..progress import counted, readable_shape, some_of
from . import hugging_face, idx, npz, tables, tfds
from .arrays import ArrayDataset, StoredImages
from .dataset import ImageDataset, Options
from .encoded import EncodedDataset, Example
from .image_folders import files_below, images_below
from .naming import SPLITS, splits_in
from .opening import find
from .others import other_kind
from .source import source_of

ALL = "images"
"""Name of the split of images that are in none."""
DESCRIBED = (hugging_face, tfds, npz, idx, tables)
"""The layouts that tell the class of each image by other means than folders."""

ReadAll = Callable[[Sequence[str]], Iterable[bytes]]
"""The contents of image files by their names, in this order."""


@dataclass(frozen=True)
class Selection:
    """Some images of a data set.

    Attributes:
        dataset: It may have no classes; then the labels are 0.
        split: Which of its splits.
        places: int64, shape (images,): which of the split.
        folders: Name of the folder that holds each image of the split; empty where the data set knows the classes.
    """

    dataset: ImageDataset
    split: str
    places: np.ndarray
    folders: Sequence[str] = ()

    def share(self, number: int, of: int) -> Selection:
        """One of several shares without gaps, 1 to `of`: joined in this order they are the whole."""
        begin, end = (len(self.places) * part // of for part in (number - 1, number))
        return replace(self, places=self.places[begin:end])

    @property
    def names(self) -> list[str]:
        """What to call each image."""
        return [self.dataset.name_of(self.split, place) for place in self.places.tolist()]


def open_images(folder: Path, shape: tuple[int, int, int], resize: bool, split: str) -> Selection:
    """Find images in a folder: a data set with labels, an array of images alone, or image files however they lie.

    Args:
        folder: Read in this order: Hugging Face, TFDS, `.npz` or IDX with labels, a table; an `.npz` or `.npy` with one
            array, or IDX images alone; image files in the folder and below it.
        shape: (height, width, channels) of the images as they are given out.
        resize: Whether images of other sizes are brought to this one.
        split: Which split of data that has some; empty: `test`; `all`: every image.

    Raises:
        BadInput: there are no images, or several data sets; they have another shape; there is no such split.
    """
    if described := find(folder, DESCRIBED, lambda layout, path: layout is not npz or npz.has_labels(path)):
        layout, path = described
        dataset = layout.open_found(path, Options(shape[:2] if resize else None))
        _check_shape(dataset, shape)
        return _of_split(dataset, split)
    names = images_below(folder)
    if arrays := _arrays(folder):
        if names:
            both = some_of([names[0], *(str(path.relative_to(folder)) for path in arrays)])
            raise BadInput(
                f"{source_of(folder)}: expected image files or an array of images, received {both}; pass one"
            )
        if len(arrays) > 1:
            listed = some_of([str(path.relative_to(folder)) for path in arrays])
            raise BadInput(f"{source_of(folder)}: expected one array of images, received {listed}; pass one of them")
        dataset = _of_array(arrays[0], Options(shape[:2] if resize else None))
        _check_shape(dataset, shape)
        return _whole(dataset, split)
    where = f"{source_of(folder)}/"
    if not names and (kind := other_kind(folder)):
        raise BadInput(f"{where}: expected image files, received {kind}")
    selection = open_files(names, partial(_contents, folder), where, shape, resize, split)
    others = sorted({*files_below(folder)} - {*names, DOWNLOAD})
    if others:
        selection.dataset.notes.append(f"{counted(len(others))} left out, no image: {some_of(others)}")
    return selection


def open_files(
    names: Sequence[str], read: ReadAll, where: str, shape: tuple[int, int, int], resize: bool, split: str
) -> Selection:
    """Image files by their names.

    Args:
        names: Paths, with `/` between their parts. Folders that are named as splits are splits.
        read: Their contents.
        where: What stands before a name in messages.
        shape: See `open_images`.
        resize: See `open_images`.
        split: See `open_images`.

    Raises:
        BadInput: there are no images, or none of this split.
    """
    if not names:
        raise BadInput(
            f"{where}: expected image files, an .npz, .npy or IDX file of images, or a data set, received none; "
            "check the path"
        )
    names = sorted(names)
    dataset = ImageFiles(names, read, where, shape, resize)
    splits = splits_in({parts[0] for name in names if len(parts := PurePosixPath(name).parts) > 1}, where)
    if not {"train", "test"} <= splits.keys():
        splits = {}
    wanted = split or ("test" if splits else "all")
    if wanted != "all" and wanted not in splits:
        raise _no_split(where, wanted, list(splits))
    chosen = [place for place, name in enumerate(names) if wanted == "all" or name.startswith(f"{splits[wanted]}/")]
    folders = [PurePosixPath(name).parent.name for name in names]
    return Selection(dataset, ALL, np.array(chosen, np.int64), folders)


class ImageFiles(EncodedDataset):
    """Image files without labels, in a folder or elsewhere."""

    def __init__(
        self, names: Sequence[str], read: ReadAll, where: str, shape: tuple[int, int, int], resize: bool
    ) -> None:
        """See `open_files`."""
        options = Options(shape[:2] if resize else None)
        super().__init__(Path(where), where, ALL, [], {ALL: len(names)}, shape, options)
        self._names = names
        self._contents = read
        self._where = where

    def _labels(self, split: str) -> np.ndarray:
        return np.zeros(len(self._names), np.int64)

    def _examples(self, split: str, places: np.ndarray) -> Iterator[Example]:
        names = [self._names[place] for place in places.tolist()]
        for position, content in enumerate(self._contents(names)):
            yield position, content, 0

    def _name_of(self, split: str, place: int) -> str:
        return self._names[place]

    def _address(self, split: str, place: int) -> str:
        return f"{self._where}{self._names[place]}"


def _contents(folder: Path, names: Sequence[str]) -> Iterator[bytes]:
    for name in names:
        with FileIO(f"{folder}/{name}") as file:
            yield file.readall()


def _arrays(folder: Path) -> list[Path]:
    """Arrays of images without labels, the nearest first."""
    paths = [Path(name) for name in files_below(folder)]
    found = [folder / path for ending in (".npz", ".npy") for path in paths if path.suffix.lower() == ending]
    return found or idx.images_alone(folder)


def _of_array(path: Path, options: Options) -> ArrayDataset:
    """The images of an array alone."""
    stored: StoredImages = (npz.images_alone if path.suffix in (".npz", ".npy") else idx.stored)(path)
    labels = {ALL: np.zeros(stored.header.shape[0], np.int64)}
    return ArrayDataset(path, path.stem, ALL, [], {ALL: stored}, labels, options)


def _check_shape(dataset: ImageDataset, shape: tuple[int, int, int]) -> None:
    if dataset.image_shape != shape:
        raise BadInput(
            f"{dataset.folder}: expected images of {readable_shape(shape)}, which the model takes, received "
            f"{readable_shape(dataset.image_shape)}; pass images of that size, or train with --image-size"
        )


def _of_split(dataset: ImageDataset, split: str) -> Selection:
    """A split of a data set with labels; one that has only train is not split at all."""
    if list(dataset.counts) == ["train"] and split in ("", "all"):
        return _whole(dataset, split)
    wanted = SPLITS.get(split, split) or "test"
    if wanted == "all" or not dataset.counts.get(wanted):
        raise _no_split(f"{source_of(dataset.folder)}", wanted, list(dataset.counts))
    return Selection(dataset, wanted, np.arange(dataset.counts[wanted]))


def _whole(dataset: ImageDataset, split: str) -> Selection:
    [only] = dataset.counts
    if split not in ("", "all"):
        raise _no_split(str(dataset.folder), split, [])
    return Selection(dataset, only, np.arange(dataset.counts[only]))


def _no_split(where: str, wanted: str, there: list[str]) -> BadInput:
    received = ", ".join(there) if there else "images without splits"
    return BadInput(f"--split: expected a split of {where}, received {wanted!r}; there are {received}")
