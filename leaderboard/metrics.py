"""The tasks' metrics, on arrays. Used by the board's bootstrap, by training on dev, and by the evaluate module."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Share of equal class indices. >>> accuracy(np.array([0, 1]), np.array([0, 0]))  # 0.5"""
    return float(np.mean(predictions == labels))


def macro_f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Unweighted mean of the classes' F1; a class that is neither predicted nor true is left out."""
    scores = []
    for label in np.union1d(predictions, labels):
        hit = np.sum((predictions == label) & (labels == label))
        scores.append(2 * hit / (np.sum(predictions == label) + np.sum(labels == label)))
    return float(np.mean(scores))


def pearson(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Linear correlation; 0 where a side is constant (a model that says one value knows nothing)."""
    p, y = predictions - predictions.mean(), labels - labels.mean()
    norm = float(np.sqrt((p @ p) * (y @ y)))
    return float(p @ y) / norm if norm > 0 else 0.0


def spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Pearson of the ranks, ties sharing their mean rank."""
    return pearson(_ranks(predictions), _ranks(labels))


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "pearson": pearson,
    "spearman": spearman,
}
CLASSIFICATION, REGRESSION = ("accuracy", "macro_f1"), ("pearson", "spearman")
