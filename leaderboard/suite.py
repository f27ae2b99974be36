"""The suite's score: the mean over the tasks of each task's first metric, and who is really ahead of whom.

All rows are scored on the same resampled examples, so differences are paired. Interval: percentiles of the resamples.
Two rows are separated where the difference leaves 1.96 bootstrap standard deviations (Efron & Tibshirani 1993, ch. 12):
the normal form of statistics.compare, and thousands of rows in one matrix product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from leaderboard.metrics import METRICS
from leaderboard.schema import Interval
from leaderboard.statistics import MARGIN, Z, resampled_scores, shared_ranks

RESAMPLES = 1000
BETTER, WORSE, TIED, UNTESTABLE = ">", "<", "=", "?"


@dataclass(frozen=True)
class Scores:
    """(rows,) values and (rows, resamples) draws, as fractions; NaN where a row lacks a task."""

    values: np.ndarray
    draws: np.ndarray

    def interval(self, row: int) -> Interval | None:
        """The row's score; None where it is missing."""
        return _interval(float(self.values[row]), self.draws[row])

    def gap(self, row: int, reference: int) -> Interval | None:
        """Score minus the reference's, paired."""
        return _interval(float(self.values[row] - self.values[reference]), self.draws[row] - self.draws[reference])

    def kept(self, row: int, reference: int) -> Interval | None:
        """Share of the reference's score, paired; None where a resample leaves the reference none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            share = float(self.values[row] / self.values[reference])
            return _interval(share, self.draws[row] / self.draws[reference])

    def verdicts(self) -> list[str]:
        """One string a row, one sign a row in it: how this row stands against that one (> < = ?)."""
        gap = self.values[:, None] - self.values[None, :]
        centred = self.draws - self.draws.mean(1, keepdims=True)
        covariance = centred @ centred.T / self.draws.shape[1]
        variance = np.diag(covariance)
        spread = np.sqrt(np.clip(variance[:, None] + variance[None, :] - 2 * covariance, 0, None))
        signs = np.where(spread * Z <= MARGIN, TIED, UNTESTABLE)
        signs = np.where(gap > np.maximum(spread * Z, 1e-12), BETTER, signs)
        signs = np.where(gap < -np.maximum(spread * Z, 1e-12), WORSE, signs)
        return ["".join(row) for row in np.where(np.isnan(gap), UNTESTABLE, signs)]


def task_scores(
    predictions: Sequence[Sequence[Sequence[float]] | None], labels: Sequence[float], metric: str
) -> Scores:
    """Scores of all rows on one task: predictions[row][seed] is (n,), seeds are averaged; None where there are none."""
    y = np.asarray(labels, dtype=float)
    columns = [np.asarray(p, dtype=float) for row in predictions for p in row or ()]
    values, draws = np.full(len(predictions), np.nan), np.full((len(predictions), RESAMPLES), np.nan)
    if not columns:
        return Scores(values, draws)
    drawn = resampled_scores(columns, y, metric, resamples=RESAMPLES)
    start = 0
    for i, row in enumerate(predictions):
        if row:
            stop = start + len(row)
            values[i] = np.mean([METRICS[metric](p, y) for p in columns[start:stop]])
            draws[i] = drawn[start:stop].mean(0)
            start = stop
    return Scores(values, draws)


def mean(tasks: Sequence[Scores]) -> Scores:
    """The suite's scores. The tasks' resamples are shuffled apart, since their examples are independent."""
    rng = np.random.default_rng(0)
    draws = [task.draws[:, rng.permutation(RESAMPLES)] for task in tasks]
    return Scores(np.mean([task.values for task in tasks], axis=0), np.mean(draws, axis=0))


def order(scores: Scores, submitted: Sequence[bool]) -> list[int]:
    """Rows by score, best first, missing ones last; a submitted row comes after the reproduced ones it ties with."""
    values = scores.values
    best = sorted(range(len(values)), key=lambda i: (np.isnan(values[i]), -np.nan_to_num(values[i]), i))
    if not any(submitted):
        return best
    verdicts, place = scores.verdicts(), {row: position for position, row in enumerate(best)}

    def key(row: int) -> tuple[int, bool]:
        behind = _tied(row, verdicts[row], values, submitted) if submitted[row] else []
        return max(place[row], *(place[other] for other in behind), 0), submitted[row]

    return sorted(best, key=key)


def _tied(row: int, signs: str, values: np.ndarray, submitted: Sequence[bool]) -> list[int]:
    """The reproduced rows that a row is not told apart from."""
    there = [i for i, value in enumerate(values) if not np.isnan(value) and not submitted[i]]
    return [i for i in there if i != row and not np.isnan(values[row]) and signs[i] in TIED + UNTESTABLE]


def ranks(verdicts: Sequence[str], values: np.ndarray, submitted: Sequence[bool]) -> list[int | None]:
    """1 + how many rows are shown to be better; None where the score is missing.

    What was submitted and not reproduced never stands above a reproduced row that it ties with.
    """
    there = [i for i, value in enumerate(values) if not np.isnan(value)]
    shared = shared_ranks(
        [float(values[i]) for i in there], lambda a, b: verdicts[there[a]][there[b]] in TIED + UNTESTABLE
    )
    placed = dict(zip(there, shared, strict=True))
    lowered = {
        i: max(rank, *(placed[j] for j in _tied(i, verdicts[i], values, submitted)), 0) if submitted[i] else rank
        for i, rank in placed.items()
    }
    return [lowered.get(i) for i in range(len(values))]


def _interval(value: float, draws: np.ndarray) -> Interval | None:
    if not (np.isfinite(value) and np.isfinite(draws).all()):
        return None
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(value=value, low=float(low), high=float(high))
