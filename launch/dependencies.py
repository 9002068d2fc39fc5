"""What the locks name: `make licences` for the images of the steps, `make audit` for everything that is installed."""

import json
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import click

from ..components.common.cli import command_group, last_line, say
from ..components.common.progress import columns, counted, some_of

PROJECT = Path(__file__).parent.parent
NOT_HERE = {
    "colorama": "BSD-3-Clause",
    "namex": "Apache-2.0",
    "nvidia-.*": "LicenseRef-NVIDIA-Proprietary",
    "pywin32": "PSF-2.0",
    "tensorflow": "Apache-2.0",
}
"""Licences of packages that are not installed here (of other platforms, for GPUs), or whose metadata lacks one."""


IMAGES = ("components/*/requirements*.lock",)
"""Locks of what the images of the steps install."""
EVERYTHING = (*IMAGES, "launch/notebook/requirements.lock", "requirements.lock")
"""And of what the notebook image and this package do."""


def pinned(locks: tuple[str, ...]) -> dict[str, str]:
    """Every package that the locks name, with its version.

    Args:
        locks: Patterns of their paths below the project.
    """
    texts = (lock.read_text() for pattern in locks for lock in PROJECT.glob(pattern))
    lines = (match for text in texts for match in re.finditer(r"^([\w.-]+)==([^\s;]+)", text, re.M))
    return dict(sorted((match[1], match[2]) for match in lines))


def licence(package: str) -> str:
    """The licence of a package, as its metadata states it; empty: unknown."""
    if known := next((text for name, text in NOT_HERE.items() if re.fullmatch(name, package)), ""):
        return known
    try:
        told = metadata.metadata(package).json
    except metadata.PackageNotFoundError:
        return ""
    classifiers = [one.split(" :: ")[-1] for one in told.get("classifier", []) if one.startswith("License ::")]
    text = str(told.get("license", "")).strip().split("\n")[0]
    expression = str(told.get("license_expression", ""))
    return expression or (text if text != "Dual License" else "") or " OR ".join(classifiers)


@command_group
def main() -> None:
    """List what the images install."""
    if click.get_current_context().invoked_subcommand is None:
        click.echo(click.get_current_context().get_help())


@main.command()
def licences() -> None:
    """Print every package that the images of the steps install, with its version and licence."""
    rows = [(name, version, licence(name)) for name, version in pinned(IMAGES).items()]
    click.echo(columns([("package", "version", "licence"), *rows]))
    if unknown := [name for name, _, text in rows if not text]:
        raise RuntimeError(f"expected a licence of each package, received none of {some_of(unknown)}; run in .venv")


@main.command()
def audit() -> None:
    """Look every locked package up in the database of vulnerabilities of the package index.

    Fails if one is known to be vulnerable. Where the database cannot be reached, a warning says what was not looked up.
    """
    wanted = pinned(EVERYTHING)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{name}=={version}\n" for name, version in wanted.items())
        file.flush()
        options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
        call = [sys.executable, "-m", "pip_audit", *options, "--requirement", file.name]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        raise RuntimeError(f"pip-audit cannot look the packages up: {last_line(done.stderr)}") from None
    missing = {one["name"] for one in packages if "skip_reason" in one}
    vulnerable = [one for one in packages if one.get("vulns")]
    found = {f"{one['name']} {one['version']}": ", ".join(known["id"] for known in one["vulns"]) for one in vulnerable}
    for package, numbers in found.items():
        say("audit", f"{package}: {numbers}")
    if found:
        raise RuntimeError(f"{counted(len(found), 'package')} with known vulnerabilities; make lock ARGS=--upgrade")
    if missing:
        say(
            "audit",
            f"warning: no database of vulnerabilities here for {some_of(sorted(missing))}; run where PyPI answers",
        )
    if looked_up := len(wanted) - len(missing):
        say("audit", f"no vulnerability known in {counted(looked_up, 'package')}")


if __name__ == "__main__":
    main()
