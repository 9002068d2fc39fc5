"""Data that is none of the layouts: what it is, in words."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path, PurePath

from ..files import DOWNLOAD
from ..progress import some_of
from .image_folders import IMAGE_FOLDER, RAW, files_below, holds_class, images_below
from .naming import SPLIT_NAME, SPLITS, folders_in, is_clutter
from .source import source_of

KINDS: dict[str, tuple[str, ...]] = {
    "PyTorch or pickle files, which can run code of their own; save the arrays with numpy.savez": (
        ".pt",
        ".pth",
        ".ckpt",
        ".pkl",
        ".pickle",
    ),
    "MATLAB files; save their arrays with numpy.savez": (".mat",),
    "HDF5 files; save their arrays with numpy.savez": (".h5", ".hdf5"),
    "videos; save the frames as images in a folder for each class": (".mp4", ".avi", ".mov", ".mkv", ".webm"),
    "sound; this library is for the classification of images": (".wav", ".mp3", ".flac", ".ogg"),
    "TFRecord files without dataset_info.json; prepare them with TensorFlow Datasets": (
        ".tfrecord",
        ".tfrecords",
        ".tfrec",
    ),
    "arrays that are not called as images and labels; save x_train, y_train, x_test, y_test": (".npy", ".npz"),
    "tables without image files; this library is for the classification of images": (".csv", ".tsv", ".xlsx", ".xls"),
    "archives of a kind that is not read; pack their files as zip or tar": (
        *(".7z", ".rar", ".zst", ".tzst", ".lz4", ".z", ".lzma", ".lz", ".cab", ".iso", ".dmg"),
    ),
    "compressed files; unpack them": (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz"),
    "text; this library is for the classification of images": (".txt", ".json", ".jsonl", ".xml", ".md"),
}
"""What data is and what to do about it, by how the names of at least half of its files end."""
FIRST = 5
"""Files whose first bytes are looked at."""
LOOKED_AT = 10_000
"""Files whose names are looked at."""


def why_not(folder: Path, places: Iterable[Path]) -> str:
    """What is wrong with folders that nearly are a data set, and what to do; empty where nothing is known.

    Args:
        folder: That was given.
        places: The folders in it where a data set may begin, nearest first.
    """
    from . import tables
    from .folders import split_folders

    where, images = source_of(folder), bool(images_below(folder))
    for place in places if images else ():
        if splits := split_folders(place):
            told = some_of(sorted(splits.values()))
            return f"{where}: expected a folder train beside {told}, received none; add it, or rename one to train"
        if wrong := tables.why_not(place):
            return wrong
        classes = [name for name in folders_in(place) if holds_class(place / name)]
        if len(classes) == 1 and not _is_no_class(classes[0]):
            return (
                f"{where}: expected a folder for each of two classes or more, received {classes[0]} alone; add others"
            )
    return f"{where}: expected images with a class each, received {_unsorted(folder)}" if images else ""


def remedy(found: Sequence[Path]) -> str:
    """What to do about several data sets in one folder."""
    from .folders import split_folders

    if all(
        path.is_dir()
        and folders_in(path)
        and set(map(str.lower, folders_in(path))) <= set(SPLITS) - set(split_folders(path))
        for path in found
    ):
        return "put the classes into the splits, <split>/<class>/, in place of the splits into the classes"
    if all(re.search(r"train|test|val|eval", path.name.lower()) for path in found):
        return "if they are splits, rename them to train and test; else pass the folder of one"
    classes = [set(folders_in(path)) for path in found if path.is_dir() and not split_folders(path)]
    if len(classes) != len(found) or not all(classes):
        return "pass the folder of one"
    if all(names == classes[0] for names in classes):
        return "if they are parts of one, move them into train and test; else pass the folder of one"
    if sum(map(len, classes)) == len(set().union(*classes)):
        return "if they are one, move the folders of all classes into one; else pass the folder of one"
    return "pass the folder of one"


def _is_no_class(folder: str) -> bool:
    """Whether a folder is called as one of images, or of a split, is."""
    return folder.lower() in IMAGE_FOLDER or SPLIT_NAME.fullmatch(folder.lower()) is not None


def _unsorted(folder: Path) -> str:
    """What images without classes are, and what to do; where their names may tell classes, these."""
    images = images_below(folder)
    told = sorted({re.sub(r"[\W\d_]*$", "", PurePath(image).stem) for image in images} - {""})
    hint = f" as their names tell ({some_of(told)})" if 1 < len(told) <= len(images) / 2 else ""
    return (
        f"images without, as {images[0]}; sort them into a folder for each class{hint}, or add a table labels.csv of "
        "file_name and label"
    )


def other_kind(folder: Path) -> str:
    """What the files below a folder are, and what to do; empty where neither names nor contents tell."""
    from .decoding import OTHER_KINDS, kind_of

    names = (name for _, _, files in os.walk(folder) for name in files if name != DOWNLOAD and not is_clutter(name))
    endings = Counter(PurePath(name).suffix.lower() for name in islice(names, LOOKED_AT))
    for told, ending in KINDS.items():
        if 2 * sum(endings[one] for one in ending) >= endings.total() > 0:
            return told
    paths = sorted((path for path in files_below(folder) if path != DOWNLOAD), key=lambda path: "/" not in path)
    for path in paths[:FIRST]:
        with (folder / path).open("rb") as file:
            kind = "a camera's raw file" if path.lower().endswith(RAW) else kind_of(file.read(1000))
        if kind in OTHER_KINDS:
            advice = "unpack it" if kind.endswith("archive") else "save them as PNG or JPEG"
            return f"{kind}, as {path}; {advice}"
    return ""
