"""What the locks name: `make licences` for the images, `make audit` for everything that is installed."""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import click
from packaging.utils import canonicalize_name

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
"""Licences of packages for other platforms and for GPUs, or whose metadata lacks one."""
_SAYS_NOTHING = ("Dual License", "UNKNOWN")

STEPS = ("components/*/requirements*.lock",)
"""Locks of what the images of the steps install."""
IMAGES = (*STEPS, "launch/notebook/requirements.lock")
"""And of what the notebook image does."""
EVERYTHING = (*IMAGES, "requirements.lock")
"""And of what this package does."""


def pinned(locks: tuple[str, ...]) -> dict[str, str]:
    """Every package that the locks name, with its version.

    Args:
        locks: Patterns of their paths below the project.
    """
    texts = (lock.read_text() for pattern in locks for lock in PROJECT.glob(pattern))
    lines = (match for text in texts for match in re.finditer(r"^([\w.-]+)==([^\s;]+)", text, re.M))
    return dict(sorted((match[1], match[2]) for match in lines))


def licence(package: str) -> str:
    """The licence of a package that is installed here, as its metadata states it; empty: unknown."""
    if known := next((text for name, text in NOT_HERE.items() if re.fullmatch(name, package)), ""):
        return known
    try:
        return _stated(metadata.metadata(package).json)
    except metadata.PackageNotFoundError:
        return ""


def _stated(told: Mapping[str, object]) -> str:
    """The licence in a package's metadata; empty: it has none."""
    listed = told.get("classifier")
    classifiers = listed if isinstance(listed, list) else []
    names = [one.split(" :: ")[-1] for one in classifiers if one.startswith("License ::")]
    text = str(told.get("license", "")).strip().split("\n")[0]
    expression = str(told.get("license_expression", ""))
    return expression or (text if text not in _SAYS_NOTHING else "") or " OR ".join(names)


def _looked_up(packages: Mapping[str, str]) -> dict[str, str]:
    """The licences of packages that are not installed here, from the package index.

    Args:
        packages: By name, the version.
    """
    wanted = [f"{name}=={version}" for name, version in packages.items()]
    options = ["--dry-run", "--ignore-installed", "--no-deps", "--quiet", "--report", "-"]
    call = [sys.executable, "-m", "pip", "install", *options, *wanted]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pip cannot look up {some_of(wanted)}: {last_line(done.stderr)}")
    found = [one["metadata"] for one in json.loads(done.stdout)["install"]]
    return {canonicalize_name(one["name"]): _stated(one) for one in found}


@command_group
def main() -> None:
    """List what the images install."""
    if click.get_current_context().invoked_subcommand is None:
        click.echo(click.get_current_context().get_help())


@main.command()
def licences() -> None:
    """Print every package that the images install, with its version and licence.

    What is not installed here, as the notebook image's, is asked of the package index.
    """
    packages = pinned(IMAGES)
    known = {name: licence(name) for name in packages}
    if absent := {name: packages[name] for name, text in known.items() if not text}:
        known |= _looked_up(absent)
    click.echo(
        columns([("package", "version", "licence"), *((name, packages[name], known[name]) for name in packages)])
    )
    if unknown := [name for name, text in known.items() if not text]:
        raise RuntimeError(f"expected a licence of each package, received none of {some_of(unknown)}; look it up")


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
