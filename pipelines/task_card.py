"""The card of a task: what a reader must know of its texts, and what scores are derived from."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from leaderboard.schema import SCHEMA_VERSION, TaskCard
from openautoglm.task import Split
from pipelines.params import TaskParams
from pipelines.sources import Rows

QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
EXCERPT = 300  # characters of an example


def task_card(name: str, task: TaskParams, rows: Rows, splits: dict[str, Split], dropped: dict[str, int]) -> TaskCard:
    """Source, licence, counts, distribution, lengths and hashes of a prepared task."""
    labels = np.concatenate([split.labels for split in splits.values()])
    words = np.array([len(text.split()) for split in splits.values() for text in split.texts])
    return TaskCard.model_validate(
        {
            "schema_version": SCHEMA_VERSION,
            "name": name,
            "title": task.title,
            "kind": task.kind,
            "labels": task.labels,
            "metrics": task.metrics,
            "source": rows.source,
            "licence": rows.licence,
            "counts": {split: len(part) for split, part in splits.items()},
            "dropped": dropped,
            "label_distribution": _distribution(task, labels),
            "words": {"p50": _quantile(words, 0.5), "p90": _quantile(words, 0.9), "max": float(words.max())},
            "sha256": {split: sha256(part) for split, part in splits.items()},
            "exam_labels": [float(label) for label in splits["exam"].labels],
            "examples": _examples(task, splits["train"]),
        }
    )


def sha256(split: Split) -> str:
    """Hash of a split's texts and labels, in order."""
    digest = hashlib.sha256()
    for text, label in zip(split.texts, split.labels.tolist(), strict=True):
        digest.update(json.dumps([text, label]).encode() + b"\n")
    return digest.hexdigest()


def _distribution(task: TaskParams, labels: np.ndarray) -> dict[str, float]:
    if task.kind == "regression":
        return {name: _quantile(labels, q) for name, q in QUANTILES.items()}
    return {name: round(float((labels == index).mean()), 4) for index, name in enumerate(task.labels)}


def _quantile(values: np.ndarray, q: float) -> float:
    return round(float(np.quantile(values, q)), 4)


def _examples(task: TaskParams, train: Split) -> list[dict[str, str]]:
    """The first text of each class; in regression a low, a middle and a high one."""
    if task.kind == "classification":
        picks = [int(np.flatnonzero(train.labels == index)[0]) for index in range(len(task.labels))]
        shown = task.labels
    else:
        order = np.argsort(train.labels, kind="stable")
        picks = [int(order[len(order) * tenth // 10]) for tenth in (1, 5, 9)]
        shown = [f"{train.labels[pick]:.2f}" for pick in picks]
    return [{"text": _excerpt(train.texts[pick]), "label": label} for pick, label in zip(picks, shown, strict=True)]


def _excerpt(text: str) -> str:
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1].rstrip() + "…"
