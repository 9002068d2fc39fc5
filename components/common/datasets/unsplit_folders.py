"""The layout `folders without splits`: `<label>/*.png` (JPEG as well), of which some images are kept for the test."""

import os
from pathlib import Path

from ..cli import BadInput
from ..progress import some_of
from .dataset import Options
from .files import FilesDataset, open_classes
from .folders import images_by_class, is_image, is_image_name
from .naming import SPLITS, folders_in
from .source import source_of

FOR_TEST = slice(1, None, 5)
"""Of the images of a class in the order of their names: begins with the second, so that two are enough."""


def find(place: Path) -> list[Path]:
    """See `opening.Layout`."""
    labels = folders_in(place)
    if any(label.lower() in SPLITS for label in labels):
        return []
    return [place] if sum(any(map(is_image, os.scandir(place / label))) for label in labels) > 1 else []


def open_found(path: Path, options: Options) -> FilesDataset:
    """See `opening.Layout`."""
    images, others = images_by_class(path)
    if single := [label for label, names in images.items() if len(names) == 1]:
        raise BadInput(
            f"{source_of(path)}: expected two images or more of each class, one for the test, received one of "
            f"{some_of(single)}; add images, or remove these folders"
        )
    parts = {
        "test": {label: names[FOR_TEST] for label, names in images.items()},
        "train": {label: sorted(set(names) - set(names[FOR_TEST])) for label, names in images.items()},
    }
    train, test = (sum(map(len, parts[split].values())) for split in ("train", "test"))
    note = (
        f"split here, for want of folders train and test: {train:,} images to learn from, {test:,} for the test "
        "(every fifth of each class)"
    )
    others = [name for name in others if "/" in name or is_image_name(name)]  # a README beside the folders is fine
    places = dict.fromkeys(parts, path)
    return open_classes(path, "folders without splits", places, parts, options, others, [note])
