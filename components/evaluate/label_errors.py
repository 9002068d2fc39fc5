"""Test images whose label may be wrong: confident learning, on the answers of the model that is evaluated.

Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels (JAIR 70, 2021).
"""

from __future__ import annotations

import numpy as np


def label_quality(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The probability that the model gives to the label of each image (self-confidence): shape (images,), 0 to 1."""
    return np.asarray(probabilities[np.arange(len(labels)), labels])


def label_issues(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The images that confidently belong to another class than their label says: bool, shape (images,).

    An image confidently belongs to a class if its probability is at least the mean one of the images labelled so; of
    several such classes, to the most probable.

    Args:
        labels: int64, shape (images,).
        probabilities: float32, shape (images, classes).
    """
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=label_quality(labels, probabilities), minlength=classes)
    thresholds = np.where(counts > 0, sums / counts.clip(1), np.inf)
    confident = np.where(probabilities >= thresholds, probabilities, -1)
    return np.asarray((confident.max(axis=1) >= 0) & (confident.argmax(axis=1) != labels))
