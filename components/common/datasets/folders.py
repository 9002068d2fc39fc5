"""The layout `folders`: one for each split, in it one for each class: `train/<label>/*.png`, `test/<label>/*.png`."""

from pathlib import Path

from ..cli import BadInput
from ..progress import counted
from . import tables
from .dataset import Options
from .files import METADATA, FilesDataset, open_classes
from .image_folders import files_below, has_images, holds_class, images_by_class, inside_wrappers
from .naming import SPLIT_NAME, SPLITS, folders_in, splits_in
from .source import source_of


def find(place: Path) -> list[Path]:
    """See `opening.Layout`."""
    splits = split_folders(place)
    return [place] if "train" in splits else []


def open_found(path: Path, options: Options) -> FilesDataset:
    """See `opening.Layout`."""
    names = split_folders(path)
    places = {split: inside_wrappers(path / name) for split, name in sorted(names.items())}
    images: dict[str, dict[str, list[str]]] = {}
    left_out, deep = [], 0
    for split, place in places.items():
        images[split], others, deeper = images_by_class(place)
        left_out += [f"{place.relative_to(path)}/{name}" for name in others if name != METADATA]
        deep += deeper
    for name in sorted(set(folders_in(path)) - set(names.values())):
        _check_no_part(path, name, names)
        left_out += [f"{name}/{file}" for file in files_below(path / name)]
    notes = [f"{counted(deep, 'image')} in deeper folders, taken for the class whose folder holds them"] if deep else []
    if tables.find(path):
        notes.append("the folders tell the classes; the labels in the table beside them are not used")
    return open_classes(path, "folders", places, images, options, left_out, notes)


def _check_no_part(path: Path, name: str, names: dict[str, str]) -> None:
    """Refuse a further folder of a split, as `train_2` beside `train_1`."""
    told = SPLIT_NAME.fullmatch(name.lower())
    split = SPLITS[told["split"]] if told else ""
    if told and split in names and _holds_classes(path / name):
        taken = SPLIT_NAME.fullmatch(names[split].lower().strip())
        if taken and taken["prefix"] == told["prefix"]:
            raise BadInput(
                f"{source_of(path)}: expected one folder of the split {split}, received {names[split]} and {name}; "
                "move their images into one"
            )


def split_folders(place: Path) -> dict[str, str]:
    """Names of the folders of splits; one with images and no folders of classes is a class, whatever its name."""
    splits = splits_in(folders_in(place), source_of(place))
    return {split: name for split, name in splits.items() if _holds_classes(place / name)}


def _holds_classes(folder: Path) -> bool:
    inner = folders_in(folder)
    if len(inner) == 1 and SPLIT_NAME.fullmatch(inner[0].lower()) and has_images(folder / inner[0]):
        return False  # a folder in one of its name, without classes
    return any(holds_class(folder / name) for name in inner) or (bool(inner) and not has_images(folder))
