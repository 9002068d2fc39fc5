"""Command line of the benchmarks: `make bench`."""

import importlib.util
import json
import os
import platform
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import click

RESULTS = Path(__file__).parent / "results.json"


@click.command()
@click.option(
    "--data", required=True, type=click.Path(exists=True, path_type=Path), help="TFDS-prepared MNIST, .tar.gz."
)
@click.option("--only", multiple=True, help="Rows to measure; by default all but gpu. The others keep their results.")
@click.option("--repeats", default=5, help="How often each variant is measured.")
def main(data: Path, only: tuple[str, ...], repeats: int) -> None:
    """Measure the steps beside plain variants, in one run, and write results.json, results.md and growth.svg.

    Two rows need more than this interpreter: the server's plain variant the kserve package and TensorFlow, in the
    interpreter that TRAINYARD_KSERVE_PYTHON names; export-other a store, which AWS_ENDPOINT_URL names together with its
    credentials, and which export-away then takes as well. Without, they are left out.
    """
    from benchmarks.bench import Bench
    from benchmarks.rows import ROWS

    # Every process gets the store that its row means, and no other by accident.
    other_store = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
    if "AWS_ENDPOINT_URL" not in other_store:
        other_store = {}
    if unknown := set(only) - set(ROWS):
        raise click.UsageError(f"--only: expected {', '.join(ROWS)}, received {', '.join(sorted(unknown))}")
    rows = only or [row for row in ROWS if row != "gpu" and (row != "export-other" or other_store)]
    if "export-other" in rows and not other_store:
        raise click.UsageError("export-other: expected a store in AWS_ENDPOINT_URL, received none; set it")
    for package in ("matplotlib", "sklearn"):
        if importlib.util.find_spec(package):
            click.echo(f"{package} is here, which Keras imports although no step needs it; `make bench` goes without")
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}}
    results["machine"] = (
        f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    )
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as scratch:
        dataset = Path(scratch) / "dataset"
        with tarfile.open(data) as archive:
            archive.extractall(dataset, filter="data")
        bench = Bench(Path(scratch), data.resolve(), dataset, other_store, repeats)
        try:
            for row in rows:
                click.echo(f"{row}: {' '.join((ROWS[row].__doc__ or '').split())}", err=True)
                results["rows"][row] = ROWS[row](bench)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        finally:
            bench.close()
    from benchmarks.tell import write

    write(results, RESULTS.parent)


if __name__ == "__main__":
    sys.exit(main())
