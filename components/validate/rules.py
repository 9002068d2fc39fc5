"""Rules that a data set must meet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..common.cli import BadInput
from ..common.rules import Threshold, Verdict, bound_of
from .metrics import DRIFT, KNOWN, MORE_IS_BETTER


def check_rules(data_thresholds: Mapping[str, Any], baseline: str, near_duplicate_similarity: float) -> None:
    """Raise BadInput for what can be no rule, whatever the data is; the arguments are the step's options."""
    if not 0.9 <= near_duplicate_similarity <= 1:
        raise BadInput(
            "--near-duplicate-similarity: expected a number from 0.9 to 1, received "
            f"{near_duplicate_similarity:g}; 1 means equal images only"
        )
    for name, wanted in data_thresholds.items():
        if name not in KNOWN:
            raise BadInput(f"--data-thresholds: expected metrics among {', '.join(KNOWN)}; received {name!r}; name one")
        if name in DRIFT and not baseline:
            raise BadInput(f"--data-thresholds: expected --baseline with {name}, received none; name a version")
        bound_of("--data-thresholds", name, wanted, name not in MORE_IS_BETTER)


def judge(thresholds: Mapping[str, Any], metrics: Mapping[str, int | float]) -> Verdict:
    """Apply the rules; those on metrics that a first version does not have are waived."""
    bounds = {
        name: bound_of("--data-thresholds", name, wanted, name not in MORE_IS_BETTER)
        for name, wanted in thresholds.items()
    }
    return Verdict([Threshold(name, metrics[name], *bound) for name, bound in bounds.items() if name in metrics])
