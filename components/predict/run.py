"""Let a model answer many images, block by block, and sum up what it answered."""

from __future__ import annotations

import csv
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..common.artifacts.answers import check_answers, numbered
from ..common.artifacts.classifier import Classifier, load_classifier
from ..common.artifacts.evaluation import REPORT
from ..common.artifacts.schema import as_json
from ..common.cli import BadInput
from ..common.datasets.unlabelled import Selection
from ..common.files import check_output, write_json, write_text
from ..common.progress import Progress, counted, some_of
from .checks import shard_of
from .journal import SKIPPED, Journal
from .models import PredictingModel, open_model
from .report import render
from .rows import Rows, read_rows
from .sources import open_source
from .summary import SUMMARY, Summary, Tally

BLOCK = 64 * 2**20
"""Bytes of images that are held in memory at a time; two blocks are, one that is read and one that is answered."""
BATCH = 256
"""Images that a classifier works through at a time; blocks are multiples of it."""
MOST = 16 * BATCH
"""Images of a block: what a run that is killed does again."""


@dataclass(frozen=True)
class Job:
    """What is to be done.

    Attributes:
        model: `s3://bucket/name/` for the newest version, `s3://bucket/name/version/`, or a model folder.
        source: Where the images are; see `open_source`.
        evaluation: Evaluation folder of a model folder; None: the one that is published with it, if any.
        require_passed: Whether the model must have passed its evaluation.
        verify_key: Public keys of which one must have signed the model; empty: not verified.
        split: Split of a data set that has some; see `open_images`.
        shard: `2/8`: the second of eight shares; empty: all.
        top_k: How many of the most probable classes are told.
        on_corrupt: How to handle damaged images: `fail` or `skip`.
        max_errors: How many may be skipped; -1: any number.
    """

    model: str
    source: str
    evaluation: Path | None = None
    require_passed: bool = True
    verify_key: str = ""
    split: str = ""
    shard: str = ""
    top_k: int = 3
    on_corrupt: str = "fail"
    max_errors: int = -1


def predict(job: Job, output: Path, say: Callable[[str], None] = lambda line: None) -> Summary:
    """Predict images, and write the answers, a summary and a report into a folder.

    A run that is killed leaves its answers beside the output; the same call goes on with them.

    Args:
        job: What is to be done.
        output: The folder.
        say: Receives what happens, a line at a time.

    Raises:
        BadInput: the model may not be used, there are no images, an image is damaged, or too many are.
        OSError: the network or the disk failed.
    """
    check_output(output, SUMMARY)
    journal = Journal(output)
    try:
        fetched = journal.scratch / "images"
        fetched.mkdir()
        model = open_model(job.model, job.evaluation, job.require_passed, job.verify_key, journal.scratch, say)
        takes = model.card.input
        selection = open_source(job.source, takes.shape, takes.resized, job.split, fetched).share(*shard_of(job.shard))
        for note in selection.dataset.notes:
            say(note)
        names = selection.names
        truths = true_labels(selection, model.card.classes)
        top = min(job.top_k, len(model.card.classes))
        rows = Rows(model.card.classes, top, model.version, model.sha256, truths is not None)
        listing = hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()
        journal.begin(rows.header, model=model.sha256, uri=model.uri, source=job.source, listing=listing, top=top)
        if journal.done:
            say(f"resuming after {journal.done:,} of {len(names):,} images")
        _answer(job, model, selection, names, truths, rows, journal)
        summary = _sum_up(job, model, selection, journal)
        journal.publish()
    finally:
        journal.clean()
    return summary


def true_labels(selection: Selection, classes: list[str]) -> list[str] | None:
    """The true label of each image by the model's name for it, empty where it has none; None: no labels are known."""
    if selection.folders:
        found = [selection.folders[place] for place in selection.places.tolist()]
        return found if found and set(found) <= set(classes) else None
    names = selection.dataset.class_names
    if not names:
        return None
    if numbered(len(names)) in (names, classes) and len(names) == len(classes):
        names = classes
    elif not set(names) <= set(classes):
        return None
    labels = selection.dataset.all_labels(selection.split)[selection.places]
    return [names[label] if 0 <= label < len(names) else "" for label in labels.tolist()]


def _answer(
    job: Job,
    model: PredictingModel,
    selection: Selection,
    names: list[str],
    truths: list[str] | None,
    rows: Rows,
    journal: Journal,
) -> None:
    """Answer the images that are left, and keep the answers."""
    if journal.done == len(names):
        return
    classifier = load_classifier(model.folder)
    progress, started, before = Progress("predict"), time.monotonic(), journal.done
    for begin, images, damaged in _blocks(selection, journal.done, job.on_corrupt == "skip"):
        end = begin + len(images)
        skipped = [names[begin + index] for index in sorted(damaged)]
        if 0 <= job.max_errors < journal.skipped + len(skipped):
            raise BadInput(
                f"--max-errors: expected at most {counted(job.max_errors, 'damaged image')}, received "
                f"{journal.skipped + len(skipped):,} among {end:,} ({some_of(skipped)}); mend them, or allow more"
            )
        kept = np.setdiff1d(np.arange(len(images)), damaged, assume_unique=True)
        told = [names[begin + index] for index in kept.tolist()]
        known = [truths[begin + index] for index in kept.tolist()] if truths else []
        probabilities = _probabilities(classifier, model, images if not damaged else images[kept])
        done = rows.of(told, probabilities, known, skipped)
        journal.append(end, journal.skipped + len(skipped), done)
        rate = (end - before) / max(time.monotonic() - started, 1e-3)
        line = f"{end:,} / {len(names):,} images  {rate:,.0f}/s"
        progress.show(end / len(names), partial(str, line))
    progress.clear()


def _probabilities(classifier: Classifier, model: PredictingModel, images: np.ndarray) -> np.ndarray:
    if not len(images):
        return np.empty((0, len(model.card.classes)), np.float32)
    probabilities = classifier.predict(images)
    check_answers(Path(model.uri), model.card, probabilities)
    return probabilities


def _blocks(selection: Selection, done: int, skip: bool) -> Iterator[tuple[int, np.ndarray, list[int]]]:
    """Where each block begins, its images, and which of them are damaged; the next one is read meanwhile."""
    image = math.prod(selection.dataset.image_shape)
    size = max(1, min(MOST, BLOCK // image) // BATCH) * BATCH

    def read(begin: int) -> tuple[int, np.ndarray, list[int]]:
        damaged: list[int] = []
        places = selection.places[begin : begin + size]
        return begin, selection.dataset.sift(selection.split, places, damaged if skip else None).images, damaged

    begins = range(done, len(selection.places), size)
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(read, begins[0])
        for following in [*begins[1:], None]:
            block = ahead.result()
            if following is not None:
                ahead = reader.submit(read, following)
            yield block


def _sum_up(job: Job, model: PredictingModel, selection: Selection, journal: Journal) -> Summary:
    """Read the rows once more for the summary and the report."""
    classes = model.card.classes
    tally = Tally.of(read_rows(journal.folder), classes)
    summary = Summary(
        model=model.uri,
        model_version=model.version,
        model_sha256=model.sha256,
        source=job.source,
        shard=job.shard,
        images=tally.images,
        skipped=journal.skipped,
        counts=dict(tally.counts),
        confidence=tally.confidence,
        mean_confidence=tally.mean_confidence,
        drift=tally.drift(model.evaluation, classes),
        scores=tally.scores(classes),
    )
    write_json(journal.folder / SUMMARY, {"format": 1, **as_json(summary)}, indent=1)
    places = _answered(selection, journal)[[one.row for one in tally.least]]
    images = selection.dataset.sift(selection.split, places).images
    write_text(journal.folder / REPORT, render(summary, tally.least, images, model))
    return summary


def _answered(selection: Selection, journal: Journal) -> np.ndarray:
    """Place of the image of each row: int64, shape (rows,)."""
    if not journal.skipped:
        return selection.places
    with (journal.folder / SKIPPED).open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        skipped = {row["name"] for row in csv.DictReader(file)}
    return selection.places[[name not in skipped for name in selection.names]]
