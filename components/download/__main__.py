"""Command line of the download step."""

import re
from dataclasses import asdict
from pathlib import Path

import click

from ..common.cli import BadInput, executor_input, say, step


@step
@click.option(
    "--source",
    required=True,
    help="What to fetch: s3://bucket/key, http(s)://..., file://..., a path, or tfds://name[:version]. "
    "Archives are unpacked.",
)
@click.option("--sha256", default="", help="SHA-256 that the source must have; empty: not checked.")
@click.option(
    "--dataset",
    required=True,
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Folder to write the data set into.",
)
@executor_input
def main(source: str, sha256: str, dataset: Path, executor_input: str) -> None:
    """Fetch a data set, check it and unpack it.

    .zip, .tar, .tar.gz, .tar.bz2 and .tar.xz are unpacked while they arrive; any other file is kept under its name.
    Archives with links, or with names that lead out of the folder, are refused. A folder, and an s3:// prefix that
    ends in '/', is fetched file by file. A connection that breaks off is resumed.

    The folder also gets download.json: source, bytes, sha256 and number of files. The sha256 is that of the file or
    archive as it was fetched; that of a folder is the one of `sha256sum`'s lines for its files, sorted by path.

    Store and credentials come from the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...), proxies too.

    \b
    Example:
      trainyard download --source s3://datasets/digits.npz --dataset my-data
    """
    if sha256 and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise BadInput(f"--sha256: expected 64 hexadecimal digits, received {sha256!r}")
    import json

    from ..common.files import atomic_folder
    from ..common.kfp_outputs import record_artifacts
    from ..common.progress import counted, readable_size
    from .fetch import fetch

    with atomic_folder(dataset, marker="download.json") as folder:
        fetched = fetch(source, folder, sha256.lower())
        (folder / "download.json").write_text(json.dumps(asdict(fetched), indent=2) + "\n")
    record_artifacts(executor_input, {"dataset": asdict(fetched)})
    say("download", f"{counted(fetched.files)}, {readable_size(fetched.bytes)} fetched, sha256 {fetched.sha256}")


if __name__ == "__main__":
    main()
