"""Pin what the images install: `make lock` writes a lock beside each requirements*.in of components/*/ and launch/*/.

Every lock names each package with its hashes. All agree with one resolution of the whole, requirements.lock, so that
what is tested in .venv is what runs in the images. Pins stay as they are until `--upgrade`.
"""

import subprocess
import sys
from pathlib import Path

import click

from ..components.common.cli import command, say

PROJECT = Path(__file__).parent.parent
WHOLE = PROJECT / "requirements.txt"


@command
@click.option("--upgrade", is_flag=True, help="Take the newest versions that fit.")
def main(upgrade: bool) -> None:
    """Write requirements.lock, and a hash-checked lock beside each requirements*.in of the images."""
    whole = _lock(WHOLE, "--no-annotate", *(["--upgrade"] if upgrade else []))
    for source in sorted(PROJECT.glob("*/*/requirements*.in")):
        lock = _lock(source, "--generate-hashes", "--constraints", str(whole.relative_to(PROJECT)))
        say("lock", str(lock.relative_to(PROJECT)))


def _lock(source: Path, *options: str) -> Path:
    lock = source.with_suffix(".lock")
    resolve = ["compile", "--quiet", "--universal", "--python-version", "3.11", "--fork-strategy", "fewest"]
    silence = ["--no-emit-index-url", "--no-emit-find-links", "--custom-compile-command", "make lock"]
    files = [str(source.relative_to(PROJECT)), "-o", str(lock.relative_to(PROJECT))]
    command = [sys.executable, "-m", "uv", "pip", *resolve, *silence, *options, *files]
    done = subprocess.run(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{source.relative_to(PROJECT)}: uv cannot resolve it: {' '.join(done.stderr.split())}")
    return lock


if __name__ == "__main__":
    main()
