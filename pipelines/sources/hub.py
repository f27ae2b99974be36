"""Tasks from the Hugging Face hub, for users who can reach it (or have the data set in their cache).

source: {hub: fancyzhx/ag_news, text: text, label: label}
source: {hub: nyu-mll/glue, config: sst2, text: sentence, label: label, splits: {train: train, exam: validation}}
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from leaderboard.schema import Strict
from openautoglm import tables
from pipelines.errors import UserError
from pipelines.params import TaskParams
from pipelines.sources import Rows, columns
from pipelines.sources.options import options


class HubSource(Strict):
    """`source: {hub: owner/name, text: ..., label: ...}`; `splits`: ours to the hub's; `revision` pins the bytes."""

    hub: str
    text: str
    label: str
    config: str | None = None
    revision: str | None = None
    splits: dict[str, str] = Field(default={"train": "train", "exam": "test"})
    licence: str = "see the data set's page"


def read(task: TaskParams) -> Rows:
    """The rows of a data set on the hub; UserError where it cannot be had."""
    source = options(HubSource, task.source)
    texts: list[Any] = []
    labels: list[Any] = []
    splits: list[str] = []
    for ours, theirs in source.splits.items():
        part = _load(source, theirs)
        for name in (source.text, source.label):
            if name not in part.column_names:
                raise UserError(f"{source.hub} has no column {name!r}; it has {part.column_names}.")
        texts += part[source.text]
        labels += part[source.label]
        splits += [ours] * len(part)
    return Rows(
        texts=tables.texts(texts, source.hub),
        labels=tables.labels(labels, task.kind, source.hub),
        source=" ".join(filter(None, ["Hugging Face hub:", source.hub, source.config, source.revision])),
        licence=source.licence,
        splits=columns.splits(splits, source.hub),
    )


def _load(source: HubSource, split: str) -> Any:
    try:
        import datasets
    except ImportError:
        raise UserError("Tasks from the hub need the datasets package: pip install datasets.") from None
    try:
        return datasets.load_dataset(source.hub, source.config, split=split, revision=source.revision)
    except Exception as error:  # network, cache, scripts: many libraries deep, each with its own exceptions
        raise UserError(
            f"{source.hub}, split {split}: not to be had from the hub ({type(error).__name__}: {str(error)[:200]}). "
            "Check the network and the names, or give the task as a file (`source: {path: ...}`)."
        ) from None
