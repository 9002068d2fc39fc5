"""Data sets that TensorFlow Datasets (TFDS) knows, prepared by TFDS itself."""

import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ..common.cli import BadInput, say
from ..common.native_logs import muted_native_logs
from ..common.progress import readable_size

if TYPE_CHECKING:
    from tensorflow_datasets.core import DatasetBuilder

_SECONDS_TO_CONNECT = 5.0


def prepare(source: str, folder: Path) -> int:
    """Let TFDS download `tfds://name[:version]` and prepare it below a folder.

    Args:
        source: What TFDS calls the data set, after the scheme: `mnist`, `mnist:3.0.1`, `emnist/letters`.
        folder: Becomes TFDS's data directory. What TFDS downloads is kept in it meanwhile.

    Returns:
        The number of bytes downloaded.

    Raises:
        BadInput: TFDS does not know the data set, or a person has to fetch its files.
        ConnectionError: the servers of the data set do not answer.
    """
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError:
        raise BadInput(
            f"--source: expected another source than {source} here, where TensorFlow Datasets is not installed; "
            "use the image whose tag ends in -tf, or install tensorflow-datasets"
        ) from None

    in_a_log = not sys.stderr.isatty()
    if in_a_log:
        tfds.disable_progress_bar()
    builder = _builder(source.removeprefix("tfds://").strip("/"), folder)
    size = sum(info.size for info in builder.url_infos.values())
    _reach(builder.url_infos, source)
    say("download", f"{source} {builder.info.version}, {readable_size(size)} to fetch and prepare")
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".tfds-") as downloads,
        muted_native_logs() if in_a_log else nullcontext(),
    ):
        try:
            builder.download_and_prepare(download_dir=downloads)
        except OSError as error:
            if error.errno is None:  # from the HTTP library below TFDS
                raise ConnectionError(f"{source}: TFDS cannot fetch it ({error})") from error
            raise
    return size


def _builder(name: str, folder: Path) -> "DatasetBuilder":
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=folder)
    except (ValueError, AssertionError) as error:  # of which TFDS makes use for unknown names and versions
        reason = str(error).strip().split("\n")[0].rpartition('": ')[2]
        raise BadInput(f"--source: expected tfds://name[:version], received tfds://{name}: {reason}") from error
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        raise BadInput(
            f"--source: the files of tfds://{name} have to be fetched by hand; prepare it with TFDS and pass the folder"
        )
    return builder


def _reach(urls: Iterable[str], source: str) -> None:
    """Make sure that some server answers: without a network, TFDS itself would try for minutes."""
    hosts = {urlsplit(url)[:2] for url in urls if url.startswith("http")}
    for scheme, host in hosts:
        try:
            urllib.request.urlopen(f"{scheme}://{host}/", timeout=_SECONDS_TO_CONNECT).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            continue
    if hosts:
        names = ", ".join(host for _, host in hosts)
        raise ConnectionError(f"{source}: cannot reach {names}; check the network, or pass the data set as a file")
