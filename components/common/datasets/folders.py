"""The layout `folders`: `train/<label>/*.png` and `test/<label>/*.png` (JPEG as well)."""

import os
from pathlib import Path

from ..cli import BadInput
from ..files import files_below
from .dataset import Options
from .files import METADATA, FilesDataset, open_classes
from .naming import SPLITS, folders_in, is_clutter, visible
from .source import source_of


def find(place: Path) -> list[Path]:
    """See `opening.Layout`."""
    train = [name for name in folders_in(place) if SPLITS.get(name.lower()) == "train"]
    return [place] if any(folders_in(place / name) for name in train) else []


def open_found(path: Path, options: Options) -> FilesDataset:
    """See `opening.Layout`."""
    places, others = _split_folders(path)
    images: dict[str, dict[str, list[str]]] = {}
    for split, place in places.items():
        images[split], left_out = images_by_class(place)
        others += [f"{place.name}/{name}" for name in left_out if name != METADATA]
    return open_classes(path, "folders", places, images, options, others)


def _split_folders(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The folder of each split, and the files in other folders beside these."""
    places: dict[str, Path] = {}
    others = []
    for name in folders_in(folder):
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


def images_by_class(folder: Path) -> tuple[dict[str, list[str]], list[str]]:
    """By the folder of a class, the images in it, and all other files; names below the given folder, in order."""
    images: dict[str, list[str]] = {}
    others = []
    for label in visible(folder):
        if not label.is_dir():
            others.append(label.name)
            continue
        images[label.name] = []
        for file in visible(label):
            name = f"{label.name}/{file.name}"
            if is_image(file):
                images[label.name].append(name)
            elif file.is_dir():
                others += [
                    f"{name}/{inner.as_posix()}" for inner in files_below(Path(file)) if not is_clutter(inner.name)
                ]
            else:
                others.append(name)
    return images, others


def is_image(file: "os.DirEntry[str]") -> bool:
    """Whether it is a PNG or JPEG, by its name; a link to nothing is none."""
    return is_image_name(file.name) and not is_clutter(file.name) and file.is_file()


def is_image_name(name: str) -> bool:
    return name.lower().endswith((".png", ".jpg", ".jpeg"))
