"""Command line of the benchmarks: `make bench`."""

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
@click.option("--only", multiple=True, help="Rows to measure; by default all. The others keep their last result.")
@click.option("--repeats", default=5, help="How often each variant is measured.")
def main(data: Path, only: tuple[str, ...], repeats: int) -> None:
    """Measure the steps beside plain variants, in one run, and write results.json, results.md and the plots.

    The server's plain variant needs the kserve package beside TensorFlow: TRAINYARD_KSERVE_PYTHON names an interpreter
    that has both. It is left out where none is named.
    """
    from benchmarks.rows import ROWS, Bench
    from launch.store import start_store, stop_store

    unknown = set(only) - set(ROWS)
    if unknown:
        raise click.UsageError(f"--only: expected {', '.join(ROWS)}, received {', '.join(sorted(unknown))}")
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}}
    results["machine"] = (
        f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    )
    with tempfile.TemporaryDirectory(prefix="trainyard-bench-") as scratch:
        home = Path(scratch) / "home"
        with tarfile.open(data) as archive:
            archive.extractall(Path(scratch) / "dataset", filter="data")
        try:
            bench = Bench(
                Path(scratch), Path(scratch) / "dataset", data.resolve(), start_store(home).environment, repeats
            )
            for name in only or ROWS:
                click.echo(f"{name}: {' '.join((ROWS[name].__doc__ or '').split())}", err=True)
                results["rows"][name] = ROWS[name](bench)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        finally:
            stop_store(home)
    from benchmarks.tell import write

    write(results, RESULTS.parent)


if __name__ == "__main__":
    sys.exit(main())
