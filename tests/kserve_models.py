"""What KServe itself says an InferenceService may hold: the models of its Python package, unknown fields forbidden.

Only the package's generated models are used, without the requirements that its servers have.
"""

import importlib
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

VERSION = "0.21.0"
PLAIN = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": object}


def kserve_package(folder: Path) -> Callable[[dict], list[str]]:
    """A function from a manifest to its mistakes; the package is fetched into the folder, once."""
    folder = folder / VERSION
    if not (folder / "kserve").is_dir():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, f"kserve=={VERSION}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"kserve {VERSION} cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return lambda manifest: list(mistakes(manifest, "V1beta1InferenceService", load(folder)))


def load(folder: Path) -> types.ModuleType:
    """`kserve.models` without `kserve/__init__`, which imports its servers."""
    if "kserve" not in sys.modules:
        package = types.ModuleType("kserve")
        package.__path__ = [str(folder / "kserve")]
        sys.modules["kserve"] = package
        sys.path.append(str(folder))
    return importlib.import_module("kserve.models")


def mistakes(value: Any, kind: str, models: types.ModuleType, where: str = "") -> Iterator[str]:
    """Unknown fields and values of another type, each with its path."""
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(value, list):
            yield f"{where}: expected a list, received {value!r}"
            return
        for index, item in enumerate(value):
            yield from mistakes(item, inner[1], models, f"{where}[{index}]")
    elif inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        if not isinstance(value, dict):
            yield f"{where}: expected an object, received {value!r}"
            return
        for key, item in value.items():
            yield from mistakes(item, inner[1], models, f"{where}.{key}")
    elif kind in PLAIN:
        if not isinstance(value, PLAIN[kind]) or (kind == "int" and isinstance(value, bool)):
            yield f"{where}: expected {kind}, received {value!r}"
    elif model := model_of(kind, models):
        names = {json_name: name for name, json_name in model.attribute_map.items()}
        for key, item in value.items():
            if key not in names:
                yield f'unknown field "{where}.{key}"'.replace('".', '"')
            else:
                yield from mistakes(item, model.openapi_types[names[key]], models, f"{where}.{key}")


def model_of(kind: str, models: types.ModuleType) -> type | None:
    """The class of a type's name, KServe's or Kubernetes's; None for one that neither package has."""
    from kubernetes.client import models as kubernetes_models

    return getattr(models, kind, None) or getattr(kubernetes_models, kind, None)
