"""Inside an image build: install a lock into /opt/venv, `python3 layer.py LOCK`.

What this adds to the venv is also laid into /layer, so that the image takes it as one layer on top of those it shares
with others. The same lock gives the same bytes, whenever it is installed: byte code is compiled in a fixed order and
does not hold the time of its source (which a build that is to be reproducible changes, so that all would be compiled
again at each start). What comes as source alone is built with the setuptools of the same lock: nothing without a hash
takes part. Runs on the Python of the base image, without anything installed.
"""

import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

VENV, LAYER, TOOLS = Path("/opt/venv"), Path("/layer"), Path("/build/tools")

DEAD_WEIGHT = (
    "**/tests",
    "tensorflow/include",  # C++ headers
    "ai_edge_litert/libLiteRtWebGpuAccelerator.so",
    "clang",
    "setuptools",
    "pkg_resources",
    "_distutils_hack",
    "distutils-precedence.pth",  # would import the hack at each start
)
"""Below site-packages; no step imports any of it."""

WITH_SYMBOLS = ("tensorflow/**/*.so*", "ai_edge_litert/*.so")
"""Libraries that carry symbols for debuggers. Those in `*.libs` stay as they are: patchelf has moved their parts."""


def main(lock: str) -> None:
    if not VENV.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", VENV], check=True)
        below: set[Path] = set()
    else:
        below = set(_files(VENV))
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--python",
        VENV / "bin/python",
    ]
    pip += ["install", "--require-hashes", "--quiet", "--no-deps", "--no-compile", "--root-user-action=ignore"]
    if tools := re.search(r"^setuptools==(.*\\\n)*.*\n", Path(lock).read_text(), re.MULTILINE):
        tools_lock = TOOLS.with_suffix(".lock")
        tools_lock.write_text(tools[0])
        _run([*pip, "--only-binary", ":all:", "--target", TOOLS, "-r", tools_lock])
    _run([*pip, "--use-pep517", "--no-build-isolation", "-r", lock], PYTHONPATH=str(TOOLS))
    packages = next(VENV.glob("lib/python*/site-packages"))
    remove_dead_weight(packages)
    for library in (path for pattern in WITH_SYMBOLS for path in packages.glob(pattern)):
        if library not in below and not library.is_symlink():
            drop_symbols(library)
    if sources := [path for path in _files(VENV) if path.suffix == ".py" and path not in below]:
        _compile(sources)
    shutil.rmtree(LAYER, ignore_errors=True)
    LAYER.mkdir()
    for path in _files(VENV):
        if path not in below:
            target = LAYER / path.relative_to(VENV)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target, follow_symlinks=False)


def _run(command: Sequence[str | Path], **environment: str) -> None:
    """Run a command whose failure is told above, and ends this program with the same exit code."""
    if code := subprocess.run(command, env={**os.environ, **environment}, check=False).returncode:
        sys.exit(code)


def remove_dead_weight(packages: Path) -> None:
    """Remove what no step needs."""
    for path in [path for pattern in DEAD_WEIGHT for path in packages.glob(pattern)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def drop_symbols(library: Path) -> None:
    """Cut a 64-bit ELF library off behind what is loaded to run it: a quarter of TensorFlow is symbols for debuggers.

    Like `strip`, which the base image does not have. The table of sections goes with them; the loader does not read it.
    """
    with library.open("r+b") as file:
        header = bytearray(file.read(64))
        if header[:6] != b"\x7fELF\x02\x01":  # 64 bits, little endian
            return
        table, size, count = struct.unpack_from("<Q", header, 32)[0], *struct.unpack_from("<HH", header, 54)
        end = 0
        for number in range(count):
            file.seek(table + number * size)
            offset, in_file = struct.unpack_from("<8xQ16xQ", file.read(size))
            end = max(end, offset + in_file)
        struct.pack_into("<Q", header, 40, 0)  # no table of sections
        struct.pack_into("<HHH", header, 58, 0, 0, 0)
        file.seek(0)
        file.write(header)
        file.truncate(end)


def _compile(sources: list[Path]) -> None:
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-i", "-"],
        input="".join(f"{source}\n" for source in sources),
        env={**os.environ, "PYTHONHASHSEED": "0"},
        text=True,
        check=False,  # some packages ship templates that are no Python
    )


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())


if __name__ == "__main__":
    main(sys.argv[1])
