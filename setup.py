"""The package `trainyard`: the root of the repository is its folder; see docs/architecture.md.

What it needs is said once, in the requirements files: each step's is an extra of the step's name, and that of the whole
pipeline on this machine (requirements.txt) is the extra `local`.
"""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(file: Path) -> list[str]:
    """The requirements in a file and in those it includes."""
    lines = [line.strip() for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]
    included = [file.parent / line.removeprefix("-r ") for line in lines if line.startswith("-r ")]
    plain = {line for line in lines if not line.startswith("-r ")}
    return sorted(plain.union(*map(requirements, included)))


steps = {file.parent.name: requirements(file) for file in ROOT.glob("components/*/requirements.in")}
setup(
    script_name="setup.py",  # this file lies in the package's folder, and is no part of it
    packages=["trainyard", *(f"trainyard.{name}" for name in find_packages(ROOT, include=["components*", "launch*"]))],
    package_dir={"trainyard": "."},
    package_data={
        "": ["component.yaml", "*.css", "*.html", "*.js", "*.jinja"],
        "trainyard": ["py.typed", "examples/data/README.md", "examples/data/digits.npz"],
        "trainyard.components.serve.server": ["static/*"],
    },
    extras_require={
        **steps,
        "predictor": requirements(ROOT / "components/serve/requirements-predictor.in"),
        "tfds": requirements(ROOT / "components/download/requirements-tf.in"),
        "onnx": requirements(ROOT / "components/common/requirements-onnx.in"),
        "parquet": ["pyarrow>=15"],
        "local": requirements(ROOT / "requirements.txt"),
    },
)
