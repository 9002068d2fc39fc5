"""Command line of the download step."""

from dataclasses import asdict
from pathlib import Path

import click

from ..common.cli import say, step
from ..common.fetching.limits import MAX_BYTES, MAX_FILES
from ..common.options import Output, executor_input, inputs, outputs, section

limits = section("Limits", setting="any")


@step("fetch.check", cached="fetch.is_fixed")
@inputs(
    "--source",
    required=True,
    envvar="TRAINYARD_SOURCE",
    help="What to fetch: s3://bucket/key, http(s)://..., file://..., a path, or tfds://name[:version]. "
    "Archives are unpacked.",
)
@inputs("--sha256", default="", help="Expected SHA-256 of the source; empty: not checked.")
@inputs("--anonymous", type=click.BOOL, default=False, help="Read s3:// without credentials, as public buckets allow.")
@inputs(
    "--requester-pays",
    type=click.BOOL,
    default=False,
    help="Pay for the transfer from a requester-pays s3:// bucket.",
)
@limits("--max-bytes", default=MAX_BYTES, help="Maximum size of the data set, unpacked, in bytes.")
@limits("--max-files", default=MAX_FILES, help="Maximum number of files and folders in it.")
@limits(
    "--allow-host",
    default="",
    metavar="HOST,...",
    help="The only hosts that http(s) sources and their redirects may name, with ports other than 80 and 443; "
    "empty: any.",
)
@inputs(
    "--verify-key",
    default="",
    by_hand=True,
    help="PEM files of public keys, comma-separated, of which one must have signed the source, a published version "
    "(s3://bucket/name/version/); empty: not verified.",
)
@outputs("--dataset", required=True, type=Output("Dataset"), help="Folder to write the data set to.")
@executor_input
def main(
    source: str,
    sha256: str,
    anonymous: bool,
    requester_pays: bool,
    max_bytes: int,
    max_files: int,
    allow_host: str,
    verify_key: str,
    dataset: Path,
    executor_input: str,
) -> None:
    """Fetch a data set, check it and unpack it.

    .zip, .tar, .tar.gz, .tar.bz2 and .tar.xz are unpacked while they arrive; any other file is kept under its name.
    Archives with links, or with names that lead out of the folder, are refused. A folder, and an s3:// prefix that
    ends in '/', is fetched file by file. A connection that breaks off is resumed. A redirect is followed to http(s)
    alone, and takes no credentials to another host.

    The folder also gets download.json: source, bytes, sha256 and number of files. The sha256 is that of the file or
    archive as it was fetched; that of a folder is the one of `sha256sum`'s lines for its files, sorted by path.

    TRAINYARD_SOURCE stands for --source, so that a password in a URL does not show in the process list.

    Store and credentials come from the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_PROFILE, ...), proxies
    (https_proxy, NO_PROXY) and the authority of certificates (SSL_CERT_FILE, for s3:// AWS_CA_BUNDLE) too.

    \b
    Example:
      trainyard download --source s3://datasets/digits.npz --dataset my-data
    """
    from ..common.artifacts.published import verify_folder
    from ..common.fetching.objects import Access
    from ..common.files import DOWNLOAD, atomic_folder, write_json
    from ..common.kfp_outputs import record_artifacts
    from ..common.progress import counted, readable_size
    from .fetch import Terms, fetch

    hosts = tuple(host.strip().lower() for host in allow_host.split(",") if host.strip())
    with atomic_folder(dataset, marker=DOWNLOAD) as folder:
        terms = Terms(max_bytes, max_files, hosts, Access(anonymous, requester_pays))
        fetched = fetch(source, folder, sha256.lower(), terms)
        if verify_key:
            verify_folder(folder, verify_key, fetched.source)
        write_json(folder / DOWNLOAD, asdict(fetched), indent=2)
    record_artifacts(executor_input, {"dataset": asdict(fetched)})
    say("download", f"{counted(fetched.files)}, {readable_size(fetched.bytes)} fetched, sha256 {fetched.sha256}")


if __name__ == "__main__":
    main()
