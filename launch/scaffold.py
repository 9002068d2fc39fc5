"""Make a new component that already runs: `make component NAME=resize`.

Code and test come from launch/templates. What it installs and its image are those of select, the smallest component:
so it is built with the layers that the others have.
"""

import importlib
import keyword
import re
from importlib.metadata import metadata
from pathlib import Path

import click
from jinja2 import Environment, FileSystemLoader

from ..components.common.cli import BadInput, command, say
from ..components.common.files import write_text
from . import contracts
from .commands import main as trainyard
from .contract import COMPONENTS, ROOT
from .images import IMAGES

TEMPLATES = Path(__file__).parent / "templates"
MODEL = "select"
REQUIREMENTS = ROOT / "requirements.txt"


def check(name: str) -> None:
    """Refuse a name that cannot be that of a new component.

    Raises:
        BadInput: it is no name of a Python package, image and command at once, or it is taken.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]{1,30}", name) or keyword.iskeyword(name):
        raise BadInput(
            f"NAME: expected 2 to 31 lower-case letters and digits, received {name!r}; make component NAME=resize"
        )
    extras = metadata("trainyard").get_all("Provides-Extra") or []
    if name in (*trainyard.list_commands(click.Context(trainyard)), *IMAGES, *extras):
        raise BadInput(
            f"NAME: expected a new name, {name!r} is taken by a command, an image or an extra; choose another"
        )
    for path in (COMPONENTS / name, ROOT / "tests" / f"test_{name}.py"):
        if path.exists():
            raise BadInput(f"NAME: expected a new name, {path.relative_to(ROOT)} exists; choose another")


def files(name: str) -> dict[Path, str]:
    """The files that are written for a new component, with their content; the generated ones come after them."""
    templates = Environment(loader=FileSystemLoader(TEMPLATES), keep_trailing_newline=True)

    def filled(template: str) -> str:
        return templates.get_template(template).render(name=name)

    def copied(file: str) -> str:
        return (COMPONENTS / MODEL / file).read_text().replace(MODEL, name)

    folder = COMPONENTS / name
    return {
        folder / "__init__.py": "",
        folder / "__main__.py": filled("__main__.py.jinja"),
        folder / "run.py": filled("run.py.jinja"),
        folder / "requirements.in": copied("requirements.in"),
        folder / "requirements.lock": copied("requirements.lock"),
        folder / "Dockerfile": re.sub(r"^# .*", "# Count the files of a data set.", copied("Dockerfile"), count=1),
        ROOT / "tests" / f"test_{name}.py": filled("test.py.jinja"),
        REQUIREMENTS: _with_requirements(name),
    }


def _with_requirements(name: str) -> str:
    """requirements.txt with those of the component, after the others."""
    lines = REQUIREMENTS.read_text().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if line.startswith("-r components/"))
    return "".join([*lines[: last + 1], f"-r components/{name}/requirements.in\n", *lines[last + 1 :]])


@command
@click.argument("name")
def main(name: str) -> None:
    """Make the component NAME: code, contract, image, page and test."""
    check(name)
    for path, text in files(name).items():
        write_text(path, text)
        say("component", str(path.relative_to(ROOT)))
    importlib.invalidate_caches()  # the package is new
    contracts.write()
    say("component", f"next: make test TESTS=tests/test_{name}.py; the next steps are in CONTRIBUTING.md")


if __name__ == "__main__":
    main()
