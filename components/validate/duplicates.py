"""Images that occur more than once: with equal pixels, or so alike that one is a copy of the other.

Copies that were scaled, compressed again, or made lighter or darker are found by the normalised cross-correlation
(Pearson's coefficient) of their pixels at a small size. Why it matters, and the same search with learned features: Barz
and Denzler, Do We Train on Test Data? Purging CIFAR of Near-Duplicates (Journal of Imaging, 2020). Cropped and rotated
copies are not found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .scan import Images

COMPONENTS = 32
"""Numbers that stand for an image while pairs are looked for."""
SAMPLE = 512
"""Images that the principal components are those of."""
NARROWEST = 0.05
"""Least width of a cell, so that there are not more cells than they save work."""
ROWS = 256
"""Images of a cell that are compared at a time."""
PAIRS = 2**15
"""Pairs whose pixels are compared at a time."""
VALUES = 2**23
"""Pixels that are in memory for that."""


@dataclass(frozen=True)
class Matches:
    """For each image, an earlier one that it is a copy of.

    Attributes:
        other: int64, shape (images,): its index; -1: there is none.
        similarity: float32, shape (images,): correlation of the pixels; 1: they are equal.
        exact: bool, shape (images,): whether the pixels, or the files, are equal.
    """

    other: np.ndarray
    similarity: np.ndarray
    exact: np.ndarray

    @classmethod
    def none(cls, images: int) -> Matches:
        """No matches yet."""
        return cls(np.full(images, -1), np.zeros(images, np.float32), np.zeros(images, bool))

    @property
    def found(self) -> np.ndarray:
        """int64: the images that have one."""
        return np.flatnonzero(self.other >= 0)

    def add(self, image: np.ndarray, other: np.ndarray, similarity: np.ndarray) -> None:
        """Take up pairs; of several for one image, the most similar. Images that have a match keep it."""
        fresh = self.other[image] < 0
        order = np.argsort(similarity[fresh], kind="stable")  # of several assignments the last one stays
        image, other, similarity = (values[fresh][order] for values in (image, other, similarity))
        self.other[image], self.similarity[image] = other, similarity


@dataclass(frozen=True)
class Duplicates:
    """Copies by what is wrong with them.

    Attributes:
        within: Of images of the same split.
        across: Of images of an earlier split: of test in train or validation, of validation in train.
        conflicting: Of images that have another label.
    """

    within: Matches
    across: Matches
    conflicting: Matches

    @property
    def all(self) -> tuple[Matches, Matches, Matches]:
        """All three."""
        return self.within, self.across, self.conflicting


def find_duplicates(images: Images, similarity: float) -> Duplicates:
    """Find the images that are copies of earlier ones.

    Args:
        images: As scanned, the splits in order.
        similarity: Correlation of the pixels from which on two images are copies, above 0; 1: equal pixels only.
    """
    found = Duplicates(*(Matches.none(len(images)) for _ in range(3)))
    first = _equal(images, found)
    if similarity < 1:
        distinct = np.flatnonzero((first == np.arange(len(images))) & ~images.blank)
        for one, other, alike in similar_pairs(images.copies[distinct], similarity, _wanted(images, distinct, found)):
            _take_up(images, found, distinct[one], distinct[other], alike)
        _hand_on(images, found, first)
    return found


def _equal(images: Images, found: Duplicates) -> np.ndarray:
    """Take up images of equal pixels; for each image, the first one that it equals: int64, shape (images,)."""
    order = np.argsort(images.digest, kind="stable")
    begins = np.flatnonzero(np.append(True, np.diff(images.digest[order]) != 0))
    lengths = np.diff(np.append(begins, len(order)))
    first = np.empty(len(images), np.int64)
    first[order] = np.repeat(order[begins], lengths)
    for begin, length in zip(begins[lengths > 1].tolist(), lengths[lengths > 1].tolist(), strict=True):
        group = order[begin : begin + length]
        split, label = images.split[group], images.label[group]
        earlier = [
            (found.within, split[:, np.newaxis] == split),
            (found.across, split[:, np.newaxis] > split),
            (found.conflicting, label[:, np.newaxis] != label),
        ]
        if length > ROWS:  # many copies of one image: each is compared with the first alone
            earlier = [(matches, related[:, :1]) for matches, related in earlier]
        for matches, related in earlier:
            before = related & (group[: related.shape[1]] < group[:, np.newaxis])
            has = before.any(axis=1)
            matches.other[group[has]] = group[before.argmax(axis=1)[has]]
            matches.similarity[group[has]], matches.exact[group[has]] = 1, True
    return first


def _wanted(images: Images, distinct: np.ndarray, found: Duplicates) -> _Wanted:
    return _Wanted(images.split[distinct], images.label[distinct], distinct, found)


@dataclass(frozen=True)
class _Wanted:
    """Which pairs can tell something new: their pixels are compared, those of others need not be."""

    split: np.ndarray
    label: np.ndarray
    distinct: np.ndarray
    found: Duplicates

    def __call__(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """bool, shape (pairs,); `one` is the earlier image of each."""
        place = self.distinct[other]
        same = self.split[one] == self.split[other]
        within, across, conflicting = (matches.other[place] < 0 for matches in self.found.all)
        return (same & within) | (~same & across) | ((self.label[one] != self.label[other]) & conflicting)


def _take_up(images: Images, found: Duplicates, earlier: np.ndarray, later: np.ndarray, alike: np.ndarray) -> None:
    same = images.split[earlier] == images.split[later]
    differ = images.label[earlier] != images.label[later]
    for matches, which in ((found.within, same), (found.across, ~same), (found.conflicting, differ)):
        matches.add(later[which], earlier[which], alike[which])


def _hand_on(images: Images, found: Duplicates, first: np.ndarray) -> None:
    """What was found of an image holds for those of equal pixels in its split."""
    copies = np.flatnonzero((first != np.arange(len(first))) & (images.split[first] == images.split))
    for matches in (found.across, found.conflicting):
        matches.add(copies, matches.other[first[copies]], matches.similarity[first[copies]])


Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


def similar_pairs(copies: np.ndarray, similarity: float, wanted: _Wanted) -> Iterator[Pairs]:
    """Pairs of similar images, some at a time: index of the earlier, of the later, and their correlation.

    Images are points of length 1, of which two correlate by at least s where they are at most sqrt(2 - 2 s) apart. On
    their first principal components they are no farther apart: so only points in neighbouring cells of a grid are
    compared, and the pixels only of those that are near on all components. No pair is missed.

    Args:
        copies: uint8, shape (images, height, width, channels), none of them blank.
        similarity: Least correlation, below 1.
        wanted: Says of candidates which are worth comparing.
    """
    rows = copies.reshape(len(copies), -1)
    if len(rows) < 2:
        return
    points = _projected(rows)
    apart = np.sqrt(2 - 2 * similarity) + 1e-4  # more than rounding may take away
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    count = 0
    for one, other in _near(points, float(apart)):
        earlier, later = np.minimum(one, other), np.maximum(one, other)
        worth = wanted(earlier, later)
        waiting.append((earlier[worth], later[worth]))
        count += int(worth.sum())
        if count >= PAIRS:
            yield from _correlated(rows, waiting, similarity, wanted)
            waiting, count = [], 0
    if waiting:
        yield from _correlated(rows, waiting, similarity, wanted)


def _points(rows: np.ndarray) -> np.ndarray:
    """Images as float32 of mean 0 and length 1."""
    points = rows.astype(np.float32)
    points -= points.mean(axis=1, keepdims=True)
    points /= np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-6)
    return points


def _projected(rows: np.ndarray) -> np.ndarray:
    """Images on their first principal components: float32, shape (images, components)."""
    sample = _points(rows[np.unique(np.linspace(0, len(rows) - 1, SAMPLE).astype(int))])
    variances, vectors = np.linalg.eigh(sample @ sample.T)
    kept = np.flatnonzero(variances > 1e-4 * variances[-1])[::-1][:COMPONENTS]
    basis = np.linalg.qr(sample.T @ vectors[:, kept])[0]
    projected = np.empty((len(rows), len(kept)), np.float32)
    some = max(1, VALUES // rows.shape[1])
    for at in range(0, len(rows), some):
        projected[at : at + some] = _points(rows[at : at + some]) @ basis
    return projected


def _near(points: np.ndarray, apart: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of points that are at most so far apart, each once, by cells of a grid in the first three dimensions."""
    padded = np.pad(points, ((0, 0), (0, max(0, 3 - points.shape[1]))))
    cells = np.floor(padded[:, :3] / max(apart, NARROWEST)).astype(np.int64)
    cells -= cells.min(axis=0) - 1
    _, deep, wide = cells.max(axis=0) + 2
    keys = (cells[:, 0] * deep + cells[:, 1]) * wide + cells[:, 2]
    order = np.argsort(keys, kind="stable")
    keys, points = keys[order], points[order]
    squares = np.einsum("ij,ij->i", points, points)
    left = np.column_stack([2 * points, -squares, np.full(len(points), -1, np.float32)]).astype(np.float32)
    right = np.column_stack([points, np.ones(len(points), np.float32), squares]).astype(np.float32)
    occupied = np.unique(keys)
    steps = np.array([1, wide - 1, deep * wide - wide - 1, deep * wide - 1, deep * wide + wide - 1])
    spans = np.array([1, 3, 3, 3, 3])
    begins = np.searchsorted(keys, occupied[:, np.newaxis] + steps).tolist()
    ends = np.searchsorted(keys, occupied[:, np.newaxis] + steps + spans).tolist()
    own = np.searchsorted(keys, occupied).tolist()
    for start, stop, first, last in zip(own, [*own[1:], len(keys)], begins, ends, strict=True):
        after = np.concatenate([np.arange(begin, end) for begin, end in zip(first, last, strict=True)])
        for at in range(start, stop, ROWS):
            some = np.arange(at, min(at + ROWS, stop))
            others = np.concatenate([np.arange(at, stop), after])
            near = np.flatnonzero(left[some] @ right[others].T >= -(apart**2))  # minus the square of the distance
            one, other = np.divmod(near, len(others))
            fresh = (other >= len(some)) | (other > one)  # within these images, each pair once
            yield order[some[one[fresh]]], order[others[other[fresh]]]


def _correlated(
    rows: np.ndarray, waiting: list[tuple[np.ndarray, np.ndarray]], similarity: float, wanted: _Wanted
) -> Iterator[Pairs]:
    """Of candidates, those whose pixels correlate."""
    earlier, later = (np.concatenate(part) for part in zip(*waiting, strict=True))
    some = max(1, VALUES // (2 * rows.shape[1]))
    for at in range(0, len(earlier), some):
        one, other = earlier[at : at + some], later[at : at + some]
        worth = wanted(one, other)
        one, other = one[worth], other[worth]
        alike = np.einsum("ij,ij->i", _points(rows[one]), _points(rows[other]))
        similar = alike >= similarity
        if similar.any():
            yield one[similar], other[similar], alike[similar].clip(max=1)
