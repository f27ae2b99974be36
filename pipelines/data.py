"""Prepared tasks, read back. Methods get load_task, which has no exam; load_exam is the referee's."""

from __future__ import annotations

import numpy as np

from openautoglm.task import Split, Task
from pipelines import params
from pipelines.errors import UserError
from pipelines.params import paths


def load_task(name: str) -> Task:
    """A task of params.yaml with its train and dev splits; UserError where prepare has not run."""
    spec = params.load().task(name)
    return Task(
        name=name,
        kind=spec.kind,
        labels=tuple(spec.labels),
        metrics=tuple(spec.metrics),
        max_length=spec.max_length,
        train=load_split(name, "train"),
        dev=load_split(name, "dev"),
    )


def load_exam(name: str) -> Split:
    """The exam split of a task: for the referee's eyes only."""
    return load_split(name, "exam")


def load_split(name: str, split: str) -> Split:
    """data/<name>/<split>.parquet; UserError where it is missing or broken."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = paths.split(name, split)
    try:
        table = pq.read_table(path, columns=["text", "label"])
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `dvc repro prepare@{name}`.") from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is broken ({error}): run `dvc repro -f prepare@{name}`.") from None
    return Split(tuple(table["text"].to_pylist()), np.asarray(table["label"].to_numpy()))
