"""Data that is none of the layouts: what it is, in words."""

import os
from collections import Counter
from itertools import islice
from pathlib import Path, PurePath

from .image_folders import has_images
from .naming import is_clutter
from .source import DOWNLOAD

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
    "TFRecord files without dataset_info.json; prepare them with TensorFlow Datasets": (".tfrecord", ".tfrecords"),
    "tables without image files; this library is for the classification of images": (".csv", ".tsv", ".xlsx", ".xls"),
    "text; this library is for the classification of images": (".txt", ".json", ".jsonl", ".xml", ".md"),
}
"""What data is and what to do about it, by how the names of at least half of its files end."""
UNSORTED = "images without a class each; sort them into a folder for each class, or add a table labels.csv"
LOOKED_AT = 10_000
"""Files."""


def other_kind(folder: Path) -> str:
    """What the files below a folder are, and what to do; empty where their names do not tell."""
    if has_images(folder):
        return UNSORTED
    names = (name for _, _, files in os.walk(folder) for name in files if name != DOWNLOAD and not is_clutter(name))
    endings = Counter(PurePath(name).suffix.lower() for name in islice(names, LOOKED_AT))
    for told, ending in KINDS.items():
        if 2 * sum(endings[one] for one in ending) >= endings.total() > 0:
            return told
    return ""
