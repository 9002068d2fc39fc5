"""Command line of the download step."""

from dataclasses import asdict
from pathlib import Path

from ..common.cli import say, step
from ..common.options import Output, executor_input, inputs, outputs


@step("fetch.check", cached="fetch.is_fixed")
@inputs(
    "--source",
    required=True,
    help="What to fetch: s3://bucket/key, http(s)://..., file://..., a path, or tfds://name[:version]. "
    "Archives are unpacked.",
)
@inputs("--sha256", default="", help="Expected SHA-256 of the source; empty: not checked.")
@outputs("--dataset", required=True, type=Output("Dataset"), help="Folder to write the data set to.")
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
    from ..common.files import atomic_folder, write_json
    from ..common.kfp_outputs import record_artifacts
    from ..common.progress import counted, readable_size
    from .fetch import fetch

    with atomic_folder(dataset, marker="download.json") as folder:
        fetched = fetch(source, folder, sha256.lower())
        write_json(folder / "download.json", asdict(fetched), indent=2)
    record_artifacts(executor_input, {"dataset": asdict(fetched)})
    say("download", f"{counted(fetched.files)}, {readable_size(fetched.bytes)} fetched, sha256 {fetched.sha256}")


if __name__ == "__main__":
    main()
