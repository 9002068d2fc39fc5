"""The answers so far, in files that grow: a run that was killed goes on after the last block that is whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from ..common.files import move_into_place, write_json

CSV, JSON_LINES, SKIPPED = "predictions.csv", "predictions.jsonl", "skipped.csv"
FILES = (CSV, JSON_LINES, SKIPPED)
PROGRESS = "progress.json"


class Journal:
    """A folder beside the output, `.<name>.unfinished`, which takes the output's name when all is done.

    Attributes:
        folder: The folder; `scratch` in it is for what is of use to this run alone.
        done: Images that are answered or skipped.
        skipped: How many of them were skipped.
    """

    def __init__(self, output: Path) -> None:
        """Name the folder of an output, and make it."""
        output = output.resolve()
        self._output = output
        self.folder = output.with_name(f".{output.name}.unfinished")
        self.scratch = self.folder / "scratch"
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        self.done = self.skipped = 0

    def begin(self, header: str, **identity: Any) -> None:
        """Go on with what an earlier run left, or begin.

        Args:
            header: First line of the CSV file.
            identity: All that must be equal for a run to go on with it.
        """
        self._identity = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        sizes = dict.fromkeys(FILES, 0)
        try:
            told = json.loads((self.folder / PROGRESS).read_text())
            if told["identity"] == self._identity and all(
                (self.folder / name).stat().st_size >= size for name, size in told["sizes"].items()
            ):
                self.done, self.skipped, sizes = told["done"], told["skipped"], told["sizes"]
        except (OSError, ValueError, KeyError):
            pass
        self._files = {name: (self.folder / name).open("ab") for name in FILES}
        for name, file in self._files.items():
            file.truncate(sizes[name])
        if not self.done:
            self._files[CSV].write(header.encode())
            self._files[SKIPPED].write(b"name\n")

    def append(self, done: int, skipped: int, rows: dict[str, bytes]) -> None:
        """Keep the answers of a block.

        Args:
            done: Images that are answered or skipped with it, from the first one on.
            skipped: How many of them were skipped.
            rows: By name of the file, what is added to it.
        """
        sizes = {}
        for name, file in self._files.items():
            file.write(rows.get(name, b""))
            file.flush()
            os.fsync(file.fileno())
            sizes[name] = file.tell()
        self.done, self.skipped = done, skipped
        told = {"identity": self._identity, "done": done, "skipped": skipped, "sizes": sizes}
        write_json(self.folder / PROGRESS, told)

    def publish(self) -> None:
        """Give the folder the name of the output, in place of an earlier output."""
        self.clean()
        (self.folder / PROGRESS).unlink()
        move_into_place(self.folder, self._output)

    def clean(self) -> None:
        """Close the files, and remove what is of use to this run alone; an empty journal goes."""
        for file in getattr(self, "_files", {}).values():
            file.close()
        shutil.rmtree(self.scratch, ignore_errors=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()
