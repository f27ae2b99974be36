"""What a method is given: a Task (train, dev, labels, metric) and a Budget. Plain numpy: no torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from leaderboard.metrics import CLASSIFICATION, METRICS, REGRESSION

SHORTEST = 8  # pieces of the texts that models are traced with: they keep positions for as many at least


@dataclass(frozen=True)
class Split:
    """Texts with one label each: class indices (int64) or values (float32)."""

    texts: tuple[str, ...]
    labels: np.ndarray  # (len(texts),)

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise ValueError(f"{len(self.texts)} texts but {len(self.labels)} labels: give one label a text.")

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Task:
    """A task as methods see it. The exam split is not here: no method ever holds it."""

    name: str
    kind: Literal["classification", "regression"]
    labels: tuple[str, ...]  # class names; empty for regression
    metrics: tuple[str, ...]  # the first one decides
    max_length: int  # word pieces, the two special ones included
    train: Split
    dev: Split

    def __post_init__(self) -> None:
        known = CLASSIFICATION if self.kind == "classification" else REGRESSION
        unknown = [metric for metric in self.metrics if metric not in known]
        if unknown or not self.metrics:
            raise ValueError(f"Task {self.name}: metrics {list(self.metrics)}; a {self.kind} task knows {list(known)}.")

    @property
    def outputs(self) -> int:
        """Width of the model's last layer."""
        return len(self.labels) if self.kind == "classification" else 1

    def predictions(self, logits: np.ndarray) -> np.ndarray:
        """(n, outputs) logits -> (n,) class indices or values."""
        return logits.argmax(-1) if self.kind == "classification" else logits[:, 0]

    def score(self, logits: np.ndarray, labels: np.ndarray) -> float:
        """The deciding metric of (n, outputs) logits."""
        return METRICS[self.metrics[0]](self.predictions(logits), labels)


@dataclass(frozen=True)
class Budget:
    """What a method may spend: optimiser steps of `batch_size` texts. Going over is shown on the board, not raised."""

    steps: int
    batch_size: int = 32

    @classmethod
    def of(cls, epochs: float, task: Task, batch_size: int) -> Budget:
        """So many passes over train."""
        return cls(steps_of(epochs, len(task.train), batch_size), batch_size)


def steps_of(epochs: float, examples: int, batch_size: int) -> int:
    """Optimiser steps of so many passes over so many examples; at least one."""
    return max(1, round(epochs * math.ceil(examples / batch_size)))
