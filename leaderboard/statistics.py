"""Intervals and paired tests on the figures of a record: numpy only, seeded, every interval two-sided 95 %.

Scores are resampled by example (Efron & Tibshirani 1993, ch. 13), timings by launch and then by pair (Davison & Hinkley
1997, sec. 3.8), two classifiers are compared by the exact test of McNemar (1947). Three words sum a comparison up:

    better / worse   the paired test separates the two at 5 %
    tied             it does not, and a difference of one point (`MARGIN`) would have been seen
    untestable       it does not, but the sample is too small to show one point, or predictions are missing
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, comb, erfc, lgamma, log, sqrt
from typing import Literal

import numpy as np

from leaderboard.metrics import METRICS
from leaderboard.schema import Interval

ALPHA = 0.05
Z = 1.959964  # standard deviations on either side of a mean that hold all but ALPHA of a normal distribution
TRIMMED = 0.1  # of the ratios of timings, at either end
MARGIN = 0.01  # the smallest difference in a score that the board speaks of: one point
CHUNK = 250  # resamples held in memory at once


@dataclass(frozen=True)
class Comparison:
    """How `a` stands against `b` on the same examples. `difference` is metric(a) - metric(b)."""

    verdict: Literal["better", "worse", "tied", "untestable"]
    p_value: float | None = None
    difference: Interval | None = None


def bootstrap_interval(
    predictions: Sequence[float] | np.ndarray,
    labels: Sequence[float] | np.ndarray,
    metric: str,
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> Interval:
    """The score of (n,) predictions against (n,) labels, with the percentile interval of resampled examples."""
    p, y = _aligned(predictions, labels)
    (scores,) = resampled_scores([p], y, metric, seed, resamples)
    return _interval(METRICS[metric](p, y), scores)


def compare(
    a: Sequence[float] | np.ndarray | None,
    b: Sequence[float] | np.ndarray | None,
    labels: Sequence[float] | np.ndarray,
    metric: str,
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> Comparison:
    """Is `a` better than `b`? (n,) predictions each, on the same examples in the same order.

    Accuracy: exact McNemar. Other metrics: the difference in standard deviations of its paired resamples, in the normal
    form: a share of the resamples has a least value, too large for the first of many tests (Holm).
    """
    if a is None or b is None or len(a) != len(labels) or len(b) != len(labels) or not len(labels):
        return Comparison("untestable")
    (p, y), (q, _) = _aligned(a, labels), _aligned(b, labels)
    first, second = resampled_scores([p, q], y, metric, seed, resamples)
    gaps = first - second
    value = METRICS[metric](p, y) - METRICS[metric](q, y)
    difference = _interval(value, gaps)
    if metric == "accuracy":
        only_a, only_b = int(np.sum((p == y) & (q != y))), int(np.sum((q == y) & (p != y)))
        p_value = mcnemar(only_a, only_b)
        testable = _mcnemar_sees_margin(only_a + only_b, len(y))
    else:
        spread = float(gaps.std())
        p_value = erfc(abs(value) / max(sqrt(2) * spread, 1e-12))
        testable = Z * spread <= MARGIN
    if p_value < ALPHA and value != 0:
        return Comparison("better" if value > 0 else "worse", p_value, difference)
    return Comparison("tied" if testable else "untestable", p_value, difference)


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p that the examples only one side gets right fall as unevenly as (only_a, only_b) by chance."""
    n, least = only_a + only_b, min(only_a, only_b)
    return min(1.0, 2 * sum(comb(n, k) for k in range(least + 1)) / 2**n)


def _mcnemar_sees_margin(disagreements: int, n: int) -> bool:
    """Would McNemar have found a net difference of one point of n examples, among as many disagreements?"""
    net = ceil(MARGIN * n)
    total = max(disagreements, net)
    return mcnemar((total + net) // 2, total - (total + net) // 2) < ALPHA


def mean_ratio_interval(launches: Sequence[Sequence[float]], *, seed: int = 0, resamples: int = 2000) -> Interval:
    """exp(mean) of paired log ratios, without the outermost tenths: launches are resampled first, then pairs in each.

    Launches of equally many pairs are over the same texts: what a text differs by in all of them is no noise, and is
    no part of the interval. Of eight launches of 24 pairs it holds the truth 99 times in 100 where launches differ by
    chance only, and 94 times where they differ by twice as much.
    """
    groups = [np.asarray(pairs, dtype=float) for pairs in launches if len(pairs)]
    if not groups:
        raise ValueError("No pairs of timings were given: give at least one launch with one pair.")
    value = _trimmed_mean(np.concatenate(groups)[None])[0]
    if len(groups) > 1 and len({len(group) for group in groups}) == 1:
        left = np.stack(groups) - np.median(groups, axis=0)
        groups = list(left * np.sqrt(len(left) / (len(left) - 1)))  # as wide as before a mean was taken out
    rng = np.random.default_rng(seed)
    sizes = np.array([len(group) for group in groups])
    padded = np.stack([np.pad(group, (0, sizes.max() - len(group))) for group in groups])  # (launches, most pairs)
    chosen = rng.integers(0, len(groups), (resamples, len(groups)))
    size = sizes[chosen][:, :, None]
    draws = (rng.random((*chosen.shape, sizes.max())) * size).astype(int)
    values = np.where(np.arange(sizes.max()) < size, padded[chosen[:, :, None], draws], np.inf)
    means = _trimmed_mean(values.reshape(resamples, -1), size.sum(axis=(1, 2)))
    return _interval(float(np.exp(value)), np.exp(value + means - _trimmed_mean(np.concatenate(groups)[None])[0]))


def _trimmed_mean(rows: np.ndarray, n: np.ndarray | None = None) -> np.ndarray:
    """Of each row without a tenth at either end; where n is given, of the n[i] finite values of row i."""
    count = np.full(len(rows), rows.shape[1]) if n is None else n
    ordered, cut, place = np.sort(rows, axis=1), (TRIMMED * count).astype(int), np.arange(rows.shape[1])
    inner = (place >= cut[:, None]) & (place < (count - cut)[:, None])
    return np.where(inner, ordered, 0.0).sum(axis=1) / (count - 2 * cut)


def faster(a: Interval, b: Interval, floor: float) -> Literal["better", "worse", "tied"]:
    """Is a speed-up `a` above `b`? Only where their intervals lie apart, by more than the noise floor (a fraction).

    Against the reference itself, b is Interval(value=1, low=1, high=1).
    """
    if a.low > b.high and a.value > b.value * (1 + floor):
        return "better"
    if a.high < b.low and a.value * (1 + floor) < b.value:
        return "worse"
    return "tied"


def percentile_interval(samples: Sequence[float] | np.ndarray, q: float) -> Interval | None:
    """The q-quantile (0 < q < 1) between two order statistics; None where n is too small for them.

    Distribution-free (David & Nagaraja 2003, sec. 7.1): P(sample[low] <= quantile <= sample[high]) >= 95 %, 2.5 % a
    side. The smallest n: 6 for the median, 36 for q = 0.9, 72 for 0.95, 368 for 0.99.
    """
    ordered = np.sort(np.asarray(samples, dtype=float))
    n = len(ordered)
    below = _binomial_cdf(n, q)  # below[k] = P(at most k samples lie under the quantile)
    low = int(np.searchsorted(below, ALPHA / 2, side="right")) - 1
    high = int(np.searchsorted(below, 1 - ALPHA / 2, side="left"))
    if low < 0 or high > n - 1:
        return None
    return Interval(value=float(np.quantile(ordered, q)), low=float(ordered[low]), high=float(ordered[high]))


def shared_ranks(scores: Sequence[float], tied: Callable[[int, int], bool]) -> list[int]:
    """Ranks (1 is best, higher scores win): 1 + how many are shown to be better.

    `tied(i, j)` says whether i and j are not separated; both "tied" and "untestable" count as that.
    >>> shared_ranks([0.9, 0.89, 0.5], lambda i, j: {i, j} == {0, 1})
    [1, 1, 3]
    """
    every = range(len(scores))
    return [1 + sum(scores[j] > scores[i] and not tied(i, j) for j in every) for i in every]


def _aligned(predictions: Sequence[float] | np.ndarray, labels: Sequence[float] | np.ndarray) -> tuple:
    p, y = np.asarray(predictions, dtype=float), np.asarray(labels, dtype=float)
    if p.shape != y.shape or p.ndim != 1 or not len(y):
        raise ValueError(f"{p.shape} predictions for {y.shape} labels: give one prediction a label, and at least one.")
    return p, y


def _interval(value: float, resampled: np.ndarray) -> Interval:
    low, high = np.quantile(resampled, [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(value=value, low=float(low), high=float(high))


def _binomial_cdf(n: int, q: float) -> np.ndarray:
    k = np.arange(n + 1)
    choose = np.array([lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) for i in k])
    return np.cumsum(np.exp(choose + k * log(q) + (n - k) * log(1 - q)))


def resampled_scores(
    columns: list[np.ndarray], labels: np.ndarray, metric: str, seed: int = 0, resamples: int = 1000
) -> np.ndarray:
    """(len(columns), resamples) scores: every column of predictions on the same resampled examples."""
    try:
        score = _WEIGHTED[metric]
    except KeyError:
        raise ValueError(f"No metric {metric!r}: known are {sorted(_WEIGHTED)}.") from None
    return np.concatenate(
        [[score(p, labels, w) for p in columns] for w in _weights(len(labels), seed, resamples)], axis=1
    )


def _weights(n: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """Chunks of (chunk, n): how often each example is drawn in each resample."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - start)
        drawn = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(float)


# The metrics of leaderboard.metrics with a weight per example: (n,), (n,), (resamples, n) -> (resamples,)


def _accuracy(p: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    return w @ (p == y) / len(y)


def _macro_f1(p: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    classes = np.union1d(p, y)
    predicted, true = (p[:, None] == classes).astype(float), (y[:, None] == classes).astype(float)  # (n, classes)
    present = w @ (predicted + true)
    f1 = np.divide(2 * (w @ (predicted * true)), present, out=np.zeros_like(present), where=present > 0)
    return f1.sum(1) / np.sum(present > 0, axis=1)


def _pearson(p: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    p, y = ((v - v.mean()) / (v.std() or 1) for v in (p, y))  # against cancellation; the correlation stays
    sums = w @ np.stack([p, y, p * p, y * y, p * y], axis=1) / len(y)
    return _correlation(*sums.T)


def _spearman(p: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    p, y = _weighted_ranks(p, w), _weighted_ranks(y, w)  # (resamples, n), of weighted mean 0
    weighted = w * p
    pp, py = np.einsum("rn,rn->r", weighted, p), np.einsum("rn,rn->r", weighted, y)
    zero = np.zeros(len(w))
    return _correlation(zero, zero, pp, np.einsum("rn,rn,rn->r", w, y, y), py)


def _weighted_ranks(values: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Mid-ranks of each value in each resample, minus n / 2."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=-np.inf))
    counts = np.add.reduceat(w[:, order], starts, axis=1)  # (resamples, distinct values)
    ranks = np.cumsum(counts, axis=1) - counts / 2 - w.shape[1] / 2
    place = np.empty(len(values), dtype=int)
    place[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(values)))
    return ranks[:, place]


def _correlation(p: np.ndarray, y: np.ndarray, pp: np.ndarray, yy: np.ndarray, py: np.ndarray) -> np.ndarray:
    norm = np.sqrt(np.clip((pp - p * p) * (yy - y * y), 0, None))
    return np.divide(py - p * y, norm, out=np.zeros_like(norm), where=norm > 1e-15)


_WEIGHTED = {"accuracy": _accuracy, "macro_f1": _macro_f1, "pearson": _pearson, "spearman": _spearman}
