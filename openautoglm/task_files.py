"""A Task from a user's train and dev files, for a model that knows its kind and its classes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leaderboard.metrics import CLASSIFICATION, REGRESSION
from openautoglm import tables
from openautoglm.distillation.data import limited
from openautoglm.errors import UserError
from openautoglm.student import Teacher
from openautoglm.task import Split, Task


@dataclass(frozen=True)
class TaskFiles:
    """Two tables of the same columns, and how to read them.

    labels: the classes, in the order of the outputs, where the model's config does not name them.
    max_length: word pieces read of a text; the longest text of both files by default, at most what the model reads.
    """

    train: Path
    dev: Path
    text: str = "text"
    label: str = "label"
    labels: Sequence[str] | None = None
    metric: str | None = None
    max_length: int | None = None

    def task(self, teacher: Teacher) -> Task:
        """For a model, whose kind and classes are the task's; UserError names the file, the row or what is missing."""
        config = teacher.model.config
        if getattr(config, "problem_type", None) == "multi_label_classification":
            raise UserError("The model gives several labels a text; supported: one class, or one value.")
        kind = "regression" if config.num_labels == 1 else "classification"
        names = _names(config, self.labels) if kind == "classification" else ()
        known = CLASSIFICATION if kind == "classification" else REGRESSION
        if self.metric and self.metric not in known:
            raise UserError(f"Metric {self.metric!r} is unknown for {kind}; known: {', '.join(known)}.")
        train, dev = (_split(path, self.text, self.label, kind, names) for path in (self.train, self.dev))
        if len(np.unique(train.labels)) == 1:
            raise UserError(f"{self.train}: every text is {_shown(train.labels[0], names)}: nothing to learn.")
        return Task(
            name=self.train.stem,
            kind=kind,  # type: ignore[arg-type]
            labels=names,
            metrics=tuple(sorted(known, key=lambda name: name != (self.metric or known[0]))),
            max_length=_length(teacher, [*train.texts, *dev.texts], self.max_length),
            train=train,
            dev=dev,
        )


def digest(teacher: Teacher, task: Task) -> str:
    """Of all that a run is made from but its settings: only runs with the same one go on from one another."""
    facts: list[Any] = [task.kind, task.labels, task.metrics, task.max_length, teacher.tokenizer.to_str()]
    facts.append(teacher.model.config.to_dict())
    facts += [[split.texts, split.labels.tolist()] for split in (task.train, task.dev)]
    found = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for name, tensor in teacher.model.state_dict().items():
        found.update(name.encode())
        found.update(tensor.contiguous().numpy())
    return found.hexdigest()


def most_pieces(config: Any) -> int:
    """Word pieces of the longest text that a model has positions for."""
    padding = config.pad_token_id + 1 if config.model_type == "roberta" else 0  # its positions begin behind padding
    return getattr(config, "max_position_embeddings", 512) - padding


def _shown(label: Any, names: Sequence[str]) -> str:
    return repr(names[label]) if names else f"{label:g}"


def _names(config: Any, given: Sequence[str] | None) -> tuple[str, ...]:
    names = tuple(given or (config.id2label[i] for i in range(config.num_labels)))
    if len(names) != config.num_labels or len(set(names)) != len(names):
        raise UserError(f"The model has {config.num_labels} outputs: give as many different names, not {list(names)}.")
    return names


def _split(path: Path, text: str, label: str, kind: str, names: Sequence[str]) -> Split:
    columns = tables.read_columns(path, [text, label])
    texts = tables.texts(columns[text], str(path))
    given = tables.labels(columns[label], kind, str(path))
    try:
        numbers = tables.numbers(given, kind, names)
    except UserError as error:
        raise UserError(f"{path}: {error} Name them with --labels, in the order of the model's outputs.") from None
    kept = [i for i, words in enumerate(texts) if words.strip()]
    if not kept:
        raise UserError(f"{path}: every text is empty. Is {text!r} the right column?")
    np.random.default_rng(0).shuffle(kept)  # a file may be sorted by label, and a sample is the first texts
    dtype = np.int64 if kind == "classification" else np.float32
    return Split(tuple(texts[i] for i in kept), np.array([numbers[i] for i in kept], dtype=dtype))


def _length(teacher: Teacher, texts: list[str], asked: int | None) -> int:
    """The longest text in word pieces, or what was asked; at most what the model has positions for."""
    most = most_pieces(teacher.model.config)
    if asked is not None:
        if not 4 <= asked <= most:
            raise UserError(f"--max-length {asked}: the model reads 4 to {most} word pieces.")
        return asked
    return max(4, *(len(encoding.ids) for encoding in limited(teacher.tokenizer, most).encode_batch_fast(texts)))
