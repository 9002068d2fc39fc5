"""Archives within what was fetched, as ImageNet's tar of tars or the zips that a folder holds."""

from pathlib import Path

from ..datasets.shards import is_shard
from ..files import files_below, without_suffix
from .archives import extract, is_archive
from .limits import Room

_LEVELS = 3
"""How deep archives may lie in each other."""


def unpack_inner(folder: Path, room: Room, keep_shards: bool = True) -> None:
    """Unpack each archive below a folder into a folder of its name, beside which it goes.

    So are the archives in these, to a depth of three. Shards of a WebDataset stay as they are, if they are to be kept.
    So does an archive whose folder is there already.

    Raises:
        BadInput: one is damaged, or exceeds what there is room for.
    """
    for _ in range(_LEVELS):
        if not _unpack_each(folder, room, keep_shards):
            return


def _unpack_each(folder: Path, room: Room, keep_shards: bool) -> bool:
    """Unpack the archives below a folder; whether there were any."""
    unpacked = False
    for path in (path for path in files_below(folder) if is_archive(path.name)):
        target = folder / path.parent / without_suffix(path.name)
        kept = keep_shards and path.suffix.lower() == ".tar" and is_shard(folder / path)
        if path.name.startswith(".") or target.exists() or kept:
            continue
        target.mkdir()
        with (folder / path).open("rb") as stream:
            extract(path.as_posix(), stream, target, room)
        (folder / path).unlink()
        unpacked = True
    return unpacked
