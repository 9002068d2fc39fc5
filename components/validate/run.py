"""Validate a data set: look at every image, find what is wrong, and judge it by rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..common.artifacts.validation import Validation
from ..common.datasets import download_of, open_dataset
from ..common.progress import Progress, counted, some_of
from ..common.rules import Verdict, word
from .drift import Baseline, Drift, Profile, compare, read_baseline
from .duplicates import find_duplicates
from .findings import Findings
from .metrics import KINDS
from .rules import judge
from .scan import scan


@dataclass(frozen=True)
class Outcome:
    """The outcome of a validation.

    Attributes:
        findings: What is wrong, and where.
        profile: The training images, as later data is compared with.
        metrics: Every metric by name.
        verdict: The outcome of the rules.
        baseline: The version that the data was compared with; None: none was given.
        drift: How far the data is from that version's.
        sha256: Of what download fetched; None: not known.
    """

    findings: Findings
    profile: Profile
    metrics: dict[str, int | float]
    verdict: Verdict
    baseline: Baseline | None
    drift: list[Drift]
    sha256: str | None

    def as_artifact(self) -> Validation:
        """What later steps read."""
        assert self.profile.brightness is not None
        assert self.profile.sides is not None
        return Validation(
            dataset=self.findings.dataset.name,
            dataset_sha256=self.sha256,
            passed=self.verdict.passed,
            rules=self.verdict.results(),
            metrics=dict(self.metrics),
            brightness=self.profile.brightness.tolist(),
            sides=np.trim_zeros(self.profile.sides, "b").tolist(),
            baseline=self.baseline.name if self.baseline and self.baseline.profile else "",
        )

    def summary(self) -> list[str]:
        """The result in a few lines, for a log: each kind of finding with some images, drift, and the rules."""
        lines = []
        for kind, what in KINDS.items():
            if found := self.findings.of(kind):
                lines.append(f"{what}: {len(found):,} ({some_of([one.words for one in found])})")
        lines += [f"against {self.baseline.name}: {one.words}" for one in self.drift if self.baseline]
        rules = ", ".join(f"{rule.finding}: {word(rule)}" for rule in self.verdict.rules)
        images, classes = self.metrics["images"], self.metrics["classes"]
        lines.append(
            f"{images:,} images of {classes:,} classes, {counted(len(self.findings.all), 'finding')}; "
            f"{rules or 'no threshold set'}"
        )
        return lines


def validate(
    folder: Path, thresholds: Mapping[str, Any], baseline: str, similarity: float, progress: Progress
) -> Outcome:
    """Validate a data set.

    Args:
        folder: Data set folder.
        thresholds: By metric, a bound; see `rules.judge`.
        baseline: Published version to compare with, see `read_baseline`; empty: none.
        similarity: Correlation from which on two images are copies; 1: equal images only.
        progress: Told what happens.

    Raises:
        BadInput: there is no readable data set, or no such version.
    """
    before = read_baseline(baseline) if baseline else None
    dataset = open_dataset(folder, on_corrupt="skip")
    for note in dataset.notes:
        progress.say(note)
    images = scan(dataset, progress)
    findings = Findings(dataset, images, find_duplicates(images, similarity))
    profile = findings.profile
    drift = compare(profile, before.profile) if before and before.profile else []
    if before and before.profile is None:
        progress.say(f"{before.name}: no version published yet, no comparison")
    elif before and before.profile and before.profile.brightness is None:
        progress.say(f"{before.name}: published without a validation; only class shares are compared")
    metrics = findings.metrics(drift)
    return Outcome(
        findings, profile, metrics, judge(thresholds, metrics), before, drift, download_of(folder).get("sha256")
    )
