"""Find the data set below a folder: which layout it has, and where it begins."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from ..cli import BadInput
from ..files import DOWNLOAD
from ..progress import some_of
from .dataset import ON_CORRUPT, ImageDataset, Options
from .naming import is_clutter
from .others import other_kind, remedy, why_not
from .source import source_of

LAYOUTS = """a TFDS-prepared folder (dataset_info.json), an .npz with x_train, y_train, x_test, y_test, IDX files \
(train-images-idx3-ubyte ...), train/<label>/*.png and test/<label>/*.png, <label>/*.png of two classes and \
more, or images with a table labels.csv of file_name and label"""
DESCRIBING = (".csv", ".tsv", ".json", ".jsonl", ".npz", ".npy", ".parquet", ".arrow", ".tar", ".cls")
"""What the names of files end in that may describe a data set though they lie among images."""
DEEPEST = 8
"""How many folders below the given one a data set may begin."""


class Layout(Protocol):
    """What a module of this package that reads a layout gives."""

    def find(self, place: Path) -> list[Path]:
        """Where a data set of this layout begins directly in a folder (a folder, or the file that holds it)."""

    def open_found(self, path: Path, options: Options) -> ImageDataset:
        """Read the description of the data set at what `find` gave.

        Raises:
            BadInput: it is incomplete or damaged.
        """


def open_dataset(folder: Path, image_size: tuple[int, int] | None = None, on_corrupt: str = "fail") -> ImageDataset:
    """Find the data set below a folder and read what describes it; images are read later.

    A TFDS-prepared data set wins over an `.npz` beside it, that over IDX files, those over folders of images, and of
    these such with splits over such without.

    Args:
        folder: At most DEEPEST folders above it.
        image_size: (height, width) to bring every image to: bilinear with antialiasing, without cropping, so that
            proportions may change. None: all must have one size.
        on_corrupt: With `skip`, damaged images are left out; `ImageDataset.skipped` names them. To find them, each
            split is decoded once when it is first asked for.

    Raises:
        BadInput: there is no data set of a known layout below the folder, or several of one layout; or `on_corrupt` is
            neither.
    """
    if on_corrupt not in ON_CORRUPT:
        raise BadInput(f"--on-corrupt: expected {' or '.join(ON_CORRUPT)}, received {on_corrupt!r}; choose one of them")
    if not folder.is_dir():
        raise BadInput(
            f"{folder}: expected a data set folder, received {'a file' if folder.exists() else 'nothing'}; "
            "pass the folder that download wrote"
        )
    if found := find(folder, _layouts()):
        layout, path = found
        dataset = layout.open_found(path, Options(image_size, on_corrupt))
        if list(dataset.counts) == ["train"]:
            _check_no_split_apart(folder, layout, path)
            dataset.hold_out_test()
        return dataset
    if wrong := why_not(folder, _folders_below(folder)):
        raise BadInput(wrong)
    if kind := other_kind(folder):
        raise BadInput(f"{source_of(folder)}: expected images with a class each, received {kind}")
    names = sorted(path.name for path in folder.iterdir() if path.name != DOWNLOAD and not is_clutter(path.name))
    raise BadInput(
        f"{source_of(folder)}: expected {LAYOUTS}, received {some_of(names) or 'an empty folder'}; arrange the data in "
        "one of these layouts"
    )


def _check_no_split_apart(folder: Path, layout: Layout, found: Path) -> None:
    """Refuse a split that would be left out because its folder does not stand beside one called train."""
    from . import folders, tables, unsplit_folders

    if layout not in (folders, tables, unsplit_folders):
        return
    for place in _folders_below(folder):
        splits = {} if found in (place, *place.parents) else folders.split_folders(place)
        if splits and "train" not in splits:
            told = some_of([str((place / name).relative_to(folder)) for name in sorted(splits.values())])
            other = found.relative_to(folder)
            raise BadInput(
                f"{source_of(folder)}: expected a folder train beside {told}, received {other}; move it there as "
                f"train, or remove {told}"
            )


def find(
    folder: Path, layouts: Iterable[Layout], wanted: Callable[[Layout, Path], bool] = lambda layout, path: True
) -> tuple[Layout, Path] | None:
    """The data set below a folder: its layout, and where it begins; None: there is none.

    Args:
        folder: At most DEEPEST folders above it.
        layouts: In the order in which they are looked for.
        wanted: Whether one that was found counts.

    Raises:
        BadInput: there are several of one layout.
    """
    places = _folders_below(folder)
    for layout in layouts:
        found = [
            path
            for path in _outermost([path for place in places for path in layout.find(place)])
            if wanted(layout, path)
        ]
        if len(found) > 1:
            listed = ", ".join(str(path.relative_to(folder)) for path in sorted(found)[:5])
            what = remedy(found)
            raise BadInput(f"{source_of(folder)}: expected one data set, received {len(found)}: {listed}; {what}")
        if found:
            return layout, found[0]
    return None


def _layouts() -> tuple[Layout, ...]:
    """The layouts, in the order in which they are looked for. Their modules import NumPy, hence here."""
    from . import cifar, folders, hugging_face, idx, npz, tables, tfds, unsplit_folders, webdataset

    return hugging_face, tfds, npz, idx, cifar, webdataset, folders, tables, unsplit_folders


def _outermost(found: list[Path]) -> list[Path]:
    """Those that lie in no other: archives hold some files twice, and a class may be called as a split is."""
    return [path for path in found if not set(path.parents) & set(found)]


def _folders_below(folder: Path) -> list[Path]:
    """The folder and those below it where a data set may begin, nearest first; image folders are not walked."""
    from .folders import split_folders
    from .image_folders import ENDINGS

    places = []
    for place, inner, files in os.walk(folder, followlinks=True):
        path = Path(place)
        of_images = any(name.lower().endswith(ENDINGS) for name in files)
        if path == folder or not of_images or any(name.lower().endswith(DESCRIBING) for name in files):
            places.append(path)
        splits = split_folders(path)
        if of_images or "train" in splits or len(path.relative_to(folder).parts) == DEEPEST:
            inner.clear()
        inner[:] = sorted(name for name in set(inner) - set(splits.values()) if not is_clutter(name))
    return sorted(places, key=lambda path: (len(path.parts), path))
