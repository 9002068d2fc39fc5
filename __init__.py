"""Trainyard: reusable pipeline components, from an image data set to a live prediction endpoint.

import trainyard

train = trainyard.load("train", images="dist/images.json")   # for your own Kubeflow pipeline
with trainyard.local.processes("runs"):                      # run a pipeline here, each step a process
    my_pipeline(source="s3://datasets/digits.npz")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .launch import local as local
    from .launch.assembly import load as load

__all__ = ["load", "local"]
_PLACES = {"load": (".launch.assembly", "load"), "local": (".launch.local", "")}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: a step's image holds the components alone, without what loads them."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    found = import_module(module, __name__)
    return getattr(found, attribute) if attribute else found
