"""Where a model is published: s3://BUCKET/MODEL_NAME/VERSION/."""

import re

from ..common.cli import BadInput

NAME = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
BUCKET = "[a-z0-9][-.a-z0-9]{1,61}[a-z0-9]"


def check_address(model_name: str, bucket: str, version: str) -> None:
    """Raise BadInput for what no store takes as a part of s3://BUCKET/MODEL_NAME/VERSION/; no name is one to make."""
    if model_name and not re.fullmatch(NAME, model_name):
        raise BadInput(
            f"--model-name: expected at most 63 lower-case letters, digits and inner hyphens, received {model_name!r}"
        )
    if not re.fullmatch(BUCKET, bucket):
        raise BadInput(
            f"--bucket: expected 3 to 63 lower-case letters, digits, inner hyphens and dots, received {bucket!r}"
        )
    if not re.fullmatch("next|[1-9][0-9]{0,8}", version):
        raise BadInput(f"--version: expected a positive integer or 'next', received {version!r}")
