"""Render the report: `Page` prepares what it shows, report.html.jinja lays it out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ...common.progress import readable_shape
from ...common.report.formats import number, thousands
from ...common.report.pictures import picture
from ...common.rules import sentence
from ..findings import Finding, Place
from ..metrics import KINDS
from ..run import Outcome
from ..scan import original

FOLDER = Path(__file__).parent
PAGE = "report.html.jinja"
SHOWN = 24
"""Maximum number of findings of a kind with pictures; findings.csv has all."""
LISTED = 100
"""Maximum number of damaged images that are named."""
RULES_ABOVE = 3
"""Maximum number of rules in the head of the page; more are only counted there."""
SIZES = 12
WITHOUT_PICTURE = ("damaged_images", "empty_classes", "untested_classes")

Rows = list[tuple[str, ...]]


def render(result: Outcome) -> str:
    """The whole page, HTML."""
    from ...common.report.templates import environment

    return environment(FOLDER).get_template(PAGE).render(page=Page(result))


@dataclass(frozen=True)
class Shown:
    """A finding with its pictures, as data URIs."""

    finding: Finding
    picture: str
    original: str


@dataclass(frozen=True)
class Kind:
    """The findings of a kind: its title, how many there are, and those that are shown."""

    name: str
    title: str
    count: int
    shown: list[Shown]


@dataclass(frozen=True)
class Bar:
    """A count, and its share of the largest one, 0 to 1."""

    count: int
    share: float


class Page:
    """What the report shows, in the order of the page."""

    def __init__(self, result: Outcome) -> None:
        self.result = result
        self.verdict = result.verdict
        self.findings = result.findings
        self.dataset = result.findings.dataset
        self.metrics = result.metrics

    @property
    def title(self) -> str:
        """Name of the data set."""
        return self.dataset.name

    @property
    def rules_above(self) -> list[str]:
        """The rules, or their number, for the head of the page."""
        rules = self.verdict.rules
        if len(rules) <= RULES_ABOVE:
            return list(map(sentence, rules))
        return [f"{sum(rule.passed for rule in rules)} of {len(rules)} rules passed"]

    @property
    def numbers(self) -> Rows:
        """Name, value and note of the most important numbers."""
        of = {name: thousands(int(self.metrics[name])) for name in KINDS}
        splits = ", ".join(f"{counts.sum():,} {split}" for split, counts in self.findings.counts.items())
        copies = int(self.metrics["exact_duplicates"]) + int(self.metrics["near_duplicates"])
        return [
            ("Images", thousands(int(self.metrics["images"])), splits),
            ("Leaked test images", of["leaked_test_images"], "copies of training images"),
            ("Conflicting labels", of["conflicting_labels"], "one image under two labels"),
            ("Duplicates", thousands(copies), "within a split"),
            ("Damaged images", of["damaged_images"], "cannot be decoded"),
            ("Classes", thousands(int(self.metrics["classes"])), f"imbalance {self.metrics['class_imbalance']:.2f}"),
        ]

    @cached_property
    def copies(self) -> list[Kind]:
        """Findings that are pairs of images."""
        return [kind for kind in self._kinds if kind.shown and kind.shown[0].finding.original]

    @cached_property
    def single(self) -> list[Kind]:
        """Findings about the looks of one image."""
        return [kind for kind in self._kinds if kind.shown and not kind.shown[0].finding.original]

    @cached_property
    def _kinds(self) -> list[Kind]:
        kinds = []
        for name, title in KINDS.items():
            found = self.findings.of(name)
            if found and name not in WITHOUT_PICTURE:
                shown = [
                    Shown(one, self._picture(one.image), self._picture(one.original) if one.original else "")
                    for one in found[:SHOWN]
                ]
                kinds.append(Kind(name, title, len(found), shown))
        return kinds

    def _picture(self, place: Place) -> str:
        return picture(original(self.dataset, place.split, place.index))

    @property
    def pixels(self) -> bool:
        """Whether the images are so small that their pixels show."""
        return int(self.findings.images.size.max()) <= 40

    @property
    def damaged(self) -> Rows:
        """Name and what is wrong of the damaged images."""
        return [(one.image.name, one.detail) for one in self.findings.of("damaged_images")[:LISTED]]

    @cached_property
    def balance(self) -> dict[str, list[Bar]]:
        """Images of each class by split."""
        return {
            f"{split.capitalize()} images": [Bar(count, count / max(*counts.tolist(), 1)) for count in counts.tolist()]
            for split, counts in self.findings.counts.items()
        }

    @property
    def empty(self) -> list[str]:
        """Classes without images, a sentence for each split."""
        sentences = []
        for kind, split in (("empty_classes", "training"), ("untested_classes", "test")):
            if found := self.findings.of(kind):
                sentences.append(f"Without {split} images: {', '.join(one.image.label for one in found)}.")
        return sentences

    @cached_property
    def sizes(self) -> Rows:
        """Height x width and number of images of the most frequent sizes."""
        sizes, counts = np.unique(self.findings.images.size, axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:SIZES]
        return [(readable_shape(sizes[index].tolist()), thousands(int(counts[index]))) for index in order.tolist()]

    @property
    def measures(self) -> Rows:
        """Name, smallest, median and largest value of what is measured of every image."""
        images = self.findings.images
        height, width = images.size.T
        rows: Rows = []
        for name, values, digits in (
            ("Height, pixels", height, 0),
            ("Width, pixels", width, 0),
            ("Aspect ratio, width / height", width / height, 2),
            ("Mean brightness, 0 to 255", images.brightness, 0),
        ):
            spread = (values.min(), np.median(values), values.max())
            rows.append((name, *(number(float(value), digits) for value in spread)))
        return rows

    @property
    def drift(self) -> Rows:
        """Subject, distance, p value and test of each comparison with the baseline."""
        return [
            (
                one.subject.capitalize(),
                number(one.distance, 4),
                "< 0.0001" if one.p_value < 0.0001 else number(one.p_value, 4),
                one.test,
            )
            for one in self.result.drift
        ]
