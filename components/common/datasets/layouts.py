"""The layouts of a data set, in the order in which they are looked for."""

from pathlib import Path
from typing import Protocol

from .arrays import IdxDataset, NpzDataset
from .dataset import ImageDataset, Options
from .folders import FoldersDataset, TfdsDataset, UnsplitFoldersDataset


class Reader(Protocol):
    """What `open_dataset` asks of a layout's class."""

    def find(self, place: Path) -> list[Path]:
        """Where a data set of this layout begins directly in a folder (a folder, or the file that holds it)."""

    def open(self, path: Path, options: Options) -> ImageDataset:
        """Read the description of the data set at what `find` gave."""


READERS: tuple[type[Reader], ...] = (TfdsDataset, NpzDataset, IdxDataset, FoldersDataset, UnsplitFoldersDataset)
