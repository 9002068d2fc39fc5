"""The layouts of a data set, in the order in which they are looked for."""

from pathlib import Path
from typing import Protocol

from components.common.array_layouts import IdxDataset, NpzDataset
from components.common.datasets import ImageDataset, Options
from components.common.file_layouts import FoldersDataset, TfdsDataset, UnsplitFoldersDataset


class Reader(Protocol):
    """What `open_dataset` asks of a layout's class."""

    def find(self, place: Path) -> list[Path]:
        """Where a data set of this layout begins directly in a folder (a folder, or the file that holds it)."""

    def open(self, path: Path, options: Options) -> ImageDataset:
        """Read the description of the data set at what `find` gave."""


READERS: tuple[type[Reader], ...] = (TfdsDataset, NpzDataset, IdxDataset, FoldersDataset, UnsplitFoldersDataset)
