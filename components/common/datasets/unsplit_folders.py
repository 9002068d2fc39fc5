"""The layout `folders without splits`: `<label>/*.png` of two classes and more."""

from pathlib import Path

from ..cli import BadInput
from ..progress import some_of
from .dataset import Options
from .files import FilesDataset, open_classes
from .folders import split_folders
from .image_folders import ENDINGS, holds_class, images_by_class
from .naming import folders_in, tell_splits
from .source import source_of


def find(place: Path) -> list[Path]:
    """See `opening.Layout`."""
    if split_folders(place):
        return []
    return [place] if sum(holds_class(place / label) for label in folders_in(place)) > 1 else []


def open_found(path: Path, options: Options) -> FilesDataset:
    """See `opening.Layout`."""
    images, others, _ = images_by_class(path)
    if tell_splits(label for label, names in images.items() if names):
        raise BadInput(
            f"{source_of(path)}: expected a folder for each class in {some_of(list(images))}, received images without "
            "one; move them into <split>/<class>/, or add a table labels.csv of file_name and label"
        )
    if single := [label for label, names in images.items() if len(names) == 1]:
        raise BadInput(
            f"{source_of(path)}: expected two images or more of each class, one for the test, received one of "
            f"{some_of(single)}; add images, or remove these folders"
        )
    others = [name for name in others if "/" in name or name.lower().endswith(ENDINGS)]  # a README is fine
    return open_classes(path, "folders without splits", {"train": path}, {"train": images}, options, others)
