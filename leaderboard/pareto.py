"""The Pareto front of quality against a cost, when both are uncertain."""

from __future__ import annotations

import numpy as np

from leaderboard.statistics import Z


def cost_draws(values: np.ndarray, low: np.ndarray, high: np.ndarray, resamples: int, *, seed: int = 0) -> np.ndarray:
    """(m, resamples) log-normal draws of positive costs (m,) whose 95 % intervals are [low, high] (m,) each."""
    sigma = np.log(high / low) / (2 * Z)
    noise = np.random.default_rng(seed).normal(size=(len(values), resamples))
    return values[:, None] * np.exp(sigma[:, None] * noise)


def on_front(quality: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """(m, r) quality (more is better) and cost (less is better) -> (m, r) bool: nothing is as good for less or equal.

    A row is off the front where another is at least as good on both and better on one; equal rows stay together.
    >>> on_front(np.array([[0.9], [0.8], [0.8]]), np.array([[2.0], [1.0], [1.5]]))[:, 0].tolist()
    [True, True, False]
    """
    order = np.lexsort((-quality, cost), axis=0)
    q, c = np.take_along_axis(quality, order, 0), np.take_along_axis(cost, order, 0)
    best_before = np.maximum.accumulate(np.vstack([np.full((1, q.shape[1]), -np.inf), q[:-1]]), axis=0)
    twin = np.zeros_like(q, dtype=bool)  # equal to the row before it, so as good as that one
    for i in range(1, len(q)):
        twin[i] = (q[i] == q[i - 1]) & (c[i] == c[i - 1])
    on = q > best_before
    for i in range(1, len(q)):
        on[i] |= twin[i] & on[i - 1]
    result = np.empty_like(on)
    np.put_along_axis(result, order, on, 0)
    return result


def probability(quality: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Share of the draws in which each row is on the front: (m, r), (m, r) -> (m,)."""
    return on_front(quality, cost).mean(1)


def dominator(quality: np.ndarray, cost: np.ndarray, row: int) -> int | None:
    """The best row that is at least as good and at most as costly as `row`, and better on one; None on the front.

    (m,), (m,) -> index. Of several the one of highest quality, then of least cost.
    """
    better = (quality >= quality[row]) & (cost <= cost[row]) & ((quality > quality[row]) | (cost < cost[row]))
    there = np.flatnonzero(better)
    return None if not len(there) else int(there[np.lexsort((cost[there], -quality[there]))[0]])
