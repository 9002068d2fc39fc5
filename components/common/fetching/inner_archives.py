"""Archives within what was fetched, as ImageNet's tar of tars or the zips that a folder holds."""

import tarfile
from pathlib import Path, PurePosixPath

from ..files import files_below, without_suffix
from .archives import extract, is_archive
from .limits import Room


def unpack_inner(folder: Path, room: Room) -> None:
    """Unpack each archive below a folder into a folder of its name, beside which it goes.

    Shards of a WebDataset stay as they are: they are read so. So does an archive whose folder is there already.

    Raises:
        BadInput: one is damaged, or exceeds what there is room for.
    """
    for path in (path for path in files_below(folder) if is_archive(path.name)):
        target = folder / path.parent / without_suffix(path.name)
        if path.name.startswith(".") or target.exists() or _is_shard(folder / path):
            continue
        target.mkdir()
        with (folder / path).open("rb") as stream:
            extract(path.as_posix(), stream, target, room)
        (folder / path).unlink()


def _is_shard(path: Path) -> bool:
    """Whether a tar holds records of a WebDataset: its first two files differ in their endings alone."""
    if path.suffix.lower() != ".tar":
        return False
    try:
        with tarfile.open(path, "r:") as archive:
            names = [PurePosixPath(member.name) for member in (archive.next(), archive.next()) if member]
    except tarfile.TarError:
        return False
    stems = {str(name.parent / name.name.partition(".")[0]) for name in names}
    return len(names) == 2 and len(stems) == 1 and names[0] != names[1]
