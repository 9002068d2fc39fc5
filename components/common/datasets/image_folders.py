"""Image files in folders: which files are images, and whose class they tell."""

import os
import re
from pathlib import Path

from .naming import class_name, folders_in, is_clutter, visible

ENDINGS = (
    ".png",
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".webp",
    ".bmp",
    ".dib",
    ".gif",
    ".tif",
    ".tiff",
    ".pgm",
    ".ppm",
    ".pbm",
)
"""What the names of images end in."""
RAW = (".nef", ".dng", ".arw", ".cr2", ".pef", ".srw", ".3fr", ".nrw", ".sr2", ".rwl")
"""What the names of cameras' raw files end in that begin as a TIFF does, and hold a small preview before the image."""
FIRST_BYTES = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|II\*\0|MM\0\*|RIFF....WEBP|P[1-6]\s[\s\d#]"
    rb"|BM....\0{4}....[\x0c\x28\x34\x38\x6c\x7c]\0{3}",  # BMP: two numbers that are 0, and the size of its header
    re.DOTALL,
)
"""How images begin whose names end in something else."""
IMAGE_FOLDER = ("image", "images", "img", "imgs", "photos", "pictures", "jpg", "jpeg", "png")
"""Folders in that of a class which stand for nothing but its images."""


def is_image(file: "os.DirEntry[str]") -> bool:
    """Whether it is an image, by its name or its first bytes; a link to nothing is none."""
    if is_clutter(file.name) or not file.is_file():
        return False
    if file.name.lower().endswith(ENDINGS):
        return True
    if file.name.lower().endswith(RAW):
        return False
    with open(file.path, "rb") as opened:  # noqa: PTH123 (a Path for each of a million files takes long)
        return FIRST_BYTES.match(opened.read(18)) is not None


def has_images(folder: Path) -> bool:
    """Whether there are images directly in a folder."""
    with os.scandir(folder) as entries:
        return any(map(is_image, entries))


def holds_class(folder: Path) -> bool:
    """Whether a folder can be that of a class: with images in it, or in a folder that stands for nothing else."""
    if has_images(folder):
        return True
    inner = [name for name in folders_in(folder) if name.lower() in IMAGE_FOLDER or name.lower().endswith(ENDINGS)]
    return any(has_images(folder / name) for name in inner)


def inside_wrappers(folder: Path) -> Path:
    """The folder of the classes in a folder, which may hold nothing but one that holds them (`train/images/cat/`)."""
    inner = folders_in(folder)
    while len(inner) == 1 and folders_in(folder / inner[0]) and not has_images(folder / inner[0]):
        folder = folder / inner[0]
        inner = folders_in(folder)
    return folder


def images_by_class(folder: Path) -> tuple[dict[str, list[str]], list[str], int]:
    """The images in each folder of a class and below it.

    Returns:
        By class, names of the images below the given folder, in order; all other files; how many images lie deeper
        than directly in the folder of a class.
    """
    images: dict[str, list[str]] = {}
    others, deep = [], 0
    labels = folders_in(folder)
    for label in visible(folder):
        if not label.is_dir():
            others.append(label.name)
            continue
        if is_copy(label.path, labels):
            others += [f"{label.name}/{name}" for name in files_below(Path(label))]
            continue
        found, left_out = _images_below(label)
        images.setdefault(class_name(label.name, folder), []).extend(f"{label.name}/{name}" for name in found)
        others += [f"{label.name}/{name}" for name in left_out]
        deep += sum("/" in name for name in found)
    return images, others, deep


def is_copy(folder: str, classes: list[str]) -> bool:
    """Whether a folder among those of classes is a copy of them all: archives hold some folders twice."""
    others = set(classes) - {Path(folder).name}
    return len(others) > 1 and others <= set(folders_in(Path(folder)))


def _images_below(folder: "os.DirEntry[str]") -> tuple[list[str], list[str]]:
    """Names below a folder, in order: the images, and the other files."""
    images, others = [], []
    for entry in visible(folder):
        if entry.is_dir():
            if not _is_loop(entry):
                deeper = _images_below(entry)
                images += [f"{entry.name}/{name}" for name in deeper[0]]
                others += [f"{entry.name}/{name}" for name in deeper[1]]
        elif is_image(entry):
            images.append(entry.name)
        else:
            others.append(entry.name)
    return images, others


def images_below(folder: Path) -> list[str]:
    """Names of the images in a folder and below it, in order."""
    found = [entry.name for entry in visible(folder) if is_image(entry)]
    for entry in visible(folder):
        if entry.is_dir() and not _is_loop(entry):
            found += [f"{entry.name}/{name}" for name in _images_below(entry)[0]]
    return found


def _is_loop(folder: "os.DirEntry[str]") -> bool:
    """Whether it is a link to a folder that holds it."""
    if not folder.is_symlink():
        return False
    above = Path(folder.path).parent.resolve()
    return Path(folder.path).resolve() in (above, *above.parents)


def files_below(folder: Path) -> list[str]:
    """All files below a folder but hidden ones, by name."""
    found = []
    for entry in visible(folder):
        found += [f"{entry.name}/{name}" for name in files_below(Path(entry))] if entry.is_dir() else [entry.name]
    return found
