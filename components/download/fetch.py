"""Fetching of a data set: what common fetches, and data sets that TensorFlow Datasets knows."""

import re
from pathlib import Path

from ..common.cli import BadInput, shown
from ..common.fetching import fetch as fetching
from ..common.fetching.fetch import Fetched, Terms
from ..common.files import files_below, sha256_of_folder

__all__ = ["Fetched", "Terms", "check", "fetch", "is_fixed"]


def check(source: str, sha256: str, max_bytes: int, max_files: int) -> None:
    """Raise BadInput for a source that cannot be fetched, a digest that is none, or a limit that nothing keeps."""
    fetching.check_scheme(source, FETCHERS)
    if sha256 and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise BadInput(f"--sha256: expected 64 hexadecimal digits, received {shown(sha256)}")
    for option, limit in (("--max-bytes", max_bytes), ("--max-files", max_files)):
        if limit < 1:
            raise BadInput(f"{option}: expected a positive number, received {limit}")


def is_fixed(source: str, sha256: str) -> bool:
    """Whether the source has the same content for good: one with a digest, or a version of a TFDS data set."""
    return bool(sha256 or re.fullmatch(r"tfds://[^:]+:\d+\.\d+\.\d+/?", source))


def fetch(source: str, folder: Path, expected_sha256: str, terms: Terms) -> Fetched:
    """Fetch a data set into an existing, empty folder; see `common.fetching.fetch.fetch`.

    Args:
        source: What that takes, or tfds://name[:version].
        folder: What lies beside it and starts with a dot may be used for temporary files.
        expected_sha256: 64 hexadecimal digits; empty: not checked.
        terms: What is fetched at most, from where, and how.
    """
    return fetching.fetch(source, folder, expected_sha256, terms, FETCHERS)


def _fetch_tfds(source: str, folder: Path, _: Terms) -> Fetched:
    from .tfds import prepare

    return Fetched(source, prepare(source, folder), sha256_of_folder(folder), len(files_below(folder)))


FETCHERS: dict[str, fetching.Fetcher] = {"tfds": _fetch_tfds}
