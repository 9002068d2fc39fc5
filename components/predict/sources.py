"""Where the images come from: folders, files and archives of this machine, the web, and the object store."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from ..common.cli import BadInput
from ..common.datasets.image_folders import ENDINGS
from ..common.datasets.naming import is_clutter
from ..common.datasets.unlabelled import Selection, open_files, open_images
from ..common.fetching.archives import CHUNK
from ..common.fetching.fetch import Terms, fetch
from ..common.fetching.streams import ListedFile

READ_AHEAD = 16
"""Objects that are fetched from the store at a time."""


def open_source(source: str, shape: tuple[int, int, int], resize: bool, split: str, scratch: Path) -> Selection:
    """Find the images; what is no folder of this machine, nor a prefix of image files, is fetched first.

    Args:
        source: A path, an archive, s3://bucket/key, s3://bucket/prefix/, http(s)://... or file://...
        shape: See `open_images`.
        resize: See `open_images`.
        split: See `open_images`.
        scratch: An existing, empty folder, for what is fetched.

    Raises:
        BadInput: there are no images.
        OSError: the network or the disk failed.
    """
    path = Path(unquote(urlsplit(source).path) if source.startswith("file://") else source)
    if path.is_dir():
        return open_images(path, shape, resize, split)
    if source.startswith("s3://") and (found := _images_in_store(source)):
        return open_files(list(found), StoredFiles(found), source, shape, resize, split)
    fetch(source, scratch, terms=Terms(keep_shards=False))
    try:
        return open_images(scratch, shape, resize, split)
    except BadInput as error:  # told of the place that the caller knows
        raise BadInput(str(error).replace(str(scratch), source.rstrip("/"))) from error


def _images_in_store(source: str) -> dict[str, ListedFile]:
    """The objects below a prefix, where all of them are images by their names; else nothing."""
    from ..common.fetching.objects import list_objects
    from ..common.store.s3 import parse_uri

    key = parse_uri(source)[1]
    if key and not key.endswith("/"):
        return {}
    listed = list_objects(source)
    files = {file.path: file for file in listed if not any(map(is_clutter, PurePosixPath(file.path).parts))}
    return files if all(name.lower().endswith(ENDINGS) for name in files) else {}


class StoredFiles:
    """Contents of image files in the object store, some fetched ahead of their use."""

    def __init__(self, files: Mapping[str, ListedFile]) -> None:
        self._files = files

    def __call__(self, names: Sequence[str]) -> Iterator[bytes]:
        """The contents of these files, in this order."""
        with ThreadPoolExecutor(READ_AHEAD) as pool:
            waiting = deque(pool.submit(self._content, name) for name in names[:READ_AHEAD])
            for following in names[READ_AHEAD:]:
                yield waiting.popleft().result()
                waiting.append(pool.submit(self._content, following))
            while waiting:
                yield waiting.popleft().result()

    def _content(self, name: str) -> bytes:
        stream, parts = self._files[name].open().stream, []
        while part := stream.read(CHUNK):
            parts.append(part)
        return b"".join(parts)
