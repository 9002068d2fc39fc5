"""What a step said, as a file for people: without what only a terminal understands."""

import re
from pathlib import Path
from types import TracebackType
from typing import Self

CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class LogFile:
    """A text file to which a terminal's output is added, line by line: no colours, of a progress bar its last state."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._line = ""

    def write(self, text: str) -> None:
        """Add text; a line that has not ended is kept until it has."""
        *lines, self._line = (self._line + text).replace("\r\n", "\n").split("\n")
        for line in lines:
            self._file.write(on_screen(line) + "\n")
        if lines:
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line:
            self._file.write(on_screen(self._line) + "\n")
        self._file.close()


def on_screen(line: str) -> str:
    """A line as a terminal shows it in the end."""
    parts = [part for part in CONTROL.sub("", line).split("\r") if part]
    return parts[-1].rstrip() if parts else ""
