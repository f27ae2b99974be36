"""The route of dynamic inference: a text leaves at the first exit that is sure enough of it, short and long ones apart.

Plain numpy: the runtime decides by it without torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

NEVER, ALWAYS = float("inf"), -1e30
BOUNDARIES = (0.25, 0.5, 0.75)  # quantiles of the lengths that may part short from long
PARTS = 3
LEVELS = 12  # quantiles of the confidences that may be thresholds


@dataclass(frozen=True)
class Route:
    """The confidence from which a text leaves at each exit: `thresholds[exit]` = (of short texts, of long ones).

    A text of at most `boundary` word pieces is short. The scale of a confidence is the exit head's own.
    """

    boundary: int
    thresholds: tuple[tuple[float, float], ...]

    def leaves(self, exit: int, lengths: np.ndarray, confidence: np.ndarray) -> np.ndarray:
        """(n,) word pieces and confidences at exit number `exit` -> (n,) bool."""
        short, long = self.thresholds[exit]
        return confidence >= np.where(lengths <= self.boundary, short, long)

    def taken(self, lengths: np.ndarray, confidences: np.ndarray) -> np.ndarray:
        """(n,) word pieces, (exits, n) confidences -> (n,) the exit each text takes; `exits` is the model's end."""
        left = [self.leaves(exit, lengths, row) for exit, row in enumerate(confidences)]
        return np.argmax([*left, np.ones(len(lengths), dtype=bool)], axis=0)

    @classmethod
    def only(cls, exit: int, exits: int) -> Route:
        """Every text takes exit number `exit` of `exits`, or where it is `exits` the model's end."""
        return cls(0, tuple((level, level) for level in (ALWAYS if i == exit else NEVER for i in range(exits))))

    def describe(self) -> dict[str, Any]:
        """As JSON; a threshold that no text reaches is null."""
        levels = [[None if level == NEVER else level for level in pair] for pair in self.thresholds]
        return {"boundary": self.boundary, "thresholds": levels}

    @classmethod
    def read(cls, raw: Any) -> Route:
        """The route that `describe` gave; ValueError for anything else."""
        try:
            pairs = [[NEVER if level is None else float(level) for level in pair] for pair in raw["thresholds"]]
            return cls(int(raw["boundary"]), tuple((short, long) for short, long in pairs))
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"{raw!r} is no route: give a boundary and a pair of thresholds for each exit.") from None


def fit(
    lengths: np.ndarray,
    confidences: np.ndarray,
    logits: np.ndarray,
    costs: np.ndarray,
    score: Callable[[np.ndarray, slice], float],
    tolerance: float,
) -> Route:
    """The route that saves most time, of those whose score is at most `tolerance` below the whole model's, on all texts
    and on each of PARTS parts of them: what holds on one part alone is luck.

    score(logits (n, outputs), rows) is that of the texts `rows`; lengths (n,) word pieces; confidences (exits, n);
    logits (exits + 1, n, outputs), the model's own last; costs (exits + 1,), the share of the time a piece takes until
    each end. Time goes with the word pieces. One pair of thresholds serves all exits (as in BranchyNet,
    Teerapittayanon et al. 2016, arXiv 1709.01686), from a coarse grid: what dev cannot tell apart is not fitted to it.
    ValueError for a negative tolerance.
    """
    if tolerance < 0:
        raise ValueError(f"tolerance is {tolerance}: give the score that may be lost, 0 or more.")
    exits, index = len(confidences), np.arange(len(lengths))
    parts = [slice(None), *(slice(i, None, PARTS) for i in range(PARTS))]
    floors = [score(logits[-1], rows) - tolerance for rows in parts]
    levels = [NEVER, *np.quantile(confidences, np.linspace(0.95, 0, LEVELS))]
    best, saved, kept = Route.only(exits, exits), 0.0, floors[0]
    for boundary, short, long in product(np.quantile(lengths, BOUNDARIES).astype(int), levels, levels):
        route = Route(int(boundary), ((float(short), float(long)),) * exits)
        taken = route.taken(lengths, confidences)
        saving = 1 - float((costs[taken] * lengths).sum() / (costs[-1] * lengths.sum()))
        if saving < saved:
            continue
        scores = [score(logits[taken, index], rows) for rows in parts]
        if all(s >= f for s, f in zip(scores, floors, strict=True)) and (saving > saved or scores[0] > kept):
            best, saved, kept = route, saving, scores[0]
    return best
