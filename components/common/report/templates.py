"""The templates of reports. Their code is kept in __pycache__, as Python keeps that of modules: compiling takes 40 ms.

`python -m trainyard.components.common.report.templates FOLDER` compiles those of a step beforehand, for an image.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket, BytecodeCache
from markupsafe import Markup

from ..cli import BadInput
from ..files import atomic_file
from .formats import FILTERS

SHARED = Path(__file__).parent


class CodeCache(BytecodeCache):
    """The code of templates in a folder, if that can be written to; Jinja compares it with the source."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load_bytecode(self, bucket: Bucket) -> None:
        """Read the code of a template, if it is there."""
        with suppress(OSError), self._file(bucket).open("rb") as file:
            bucket.load_bytecode(file)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Write the code of a template, unless Python is not to write that of modules either."""
        if not sys.dont_write_bytecode:
            with suppress(OSError, BadInput), atomic_file(self._file(bucket)) as partial, partial.open("wb") as file:
                bucket.write_bytecode(file)

    def _file(self, bucket: Bucket) -> Path:
        return self._folder / f"{bucket.key}.{sys.implementation.cache_tag}.code"


def environment(folder: Path, cache: Path | None = None) -> Environment:
    """Jinja with every value escaped and the filters of `formats`.

    Args:
        folder: The templates of a step; those that reports share are found too.
        cache: Where the templates' code is kept; None: in `__pycache__` of that folder.
    """
    jinja = Environment(
        loader=FileSystemLoader([folder, SHARED]),
        bytecode_cache=CodeCache(cache or folder / "__pycache__"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters.update(FILTERS)
    jinja.globals["style"] = Markup((SHARED / "report.css").read_text(encoding="utf-8"))
    return jinja


if __name__ == "__main__":
    templates = environment(Path(sys.argv[1]))
    for name in templates.list_templates(extensions=["jinja"]):
        templates.get_template(name)
