"""The name of a model where nobody gives one."""

import re

from ..cli import BadInput
from .model import Card

LONGEST_NAME = 40
"""Letters: Kubernetes takes 63 for all that stand in the name of a pod."""


def model_name_after(dataset: str) -> str:
    """A model name after the name of a data set: `My Photos` gives `my-photos`."""
    name = re.sub("[^a-z0-9]+", "-", dataset.lower()).strip("-")
    return (name if name[:1].isalpha() else f"data-{name}")[:LONGEST_NAME].strip("-")


def model_name_in(uri: str) -> str:
    """The name in `s3://bucket/name/version/`; empty where a URI is no such."""
    found = re.fullmatch(r"s3://[^/]+/(?:.+/)?([^/]+)/[1-9][0-9]*/?", uri)
    return found[1] if found else ""


def name_for(card: Card) -> str:
    """The name of a model that was given none: after its data set.

    Raises:
        BadInput: the card knows no data set.
    """
    if card.dataset is None:
        raise BadInput("--model-name: expected a name, since the model card names no data set, received none; pass one")
    return model_name_after(card.dataset.name)
