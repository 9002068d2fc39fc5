"""The report's templates. Their code is kept in __pycache__, as Python keeps that of modules: compiling takes 40 ms.

`python -m trainyard.components.evaluate.report.templates` compiles them beforehand, for an image.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket, FileSystemBytecodeCache
from markupsafe import Markup

from .formats import FILTERS

FOLDER = Path(__file__).parent
PAGE = "report.html.jinja"


class CodeCache(FileSystemBytecodeCache):
    """The code of templates in a folder, if that can be written to."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), f"%s.{sys.implementation.cache_tag}.jinja")

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep the code of a template, or not if that fails."""
        if not sys.dont_write_bytecode:
            with suppress(OSError):
                super().dump_bytecode(bucket)


def environment(cache: Path = FOLDER / "__pycache__") -> Environment:
    """Jinja with every value escaped, the filters of `formats`, and a folder for the templates' code."""
    jinja = Environment(
        loader=FileSystemLoader(FOLDER),
        bytecode_cache=CodeCache(cache),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters.update(FILTERS)
    jinja.globals["style"] = Markup((FOLDER / "report.css").read_text(encoding="utf-8"))
    return jinja


if __name__ == "__main__":
    templates = environment()
    for name in templates.list_templates(extensions=["jinja"]):
        templates.get_template(name)
