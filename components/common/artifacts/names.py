"""The name of a model where nobody gives one."""

import re

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
