"""Stage prepare: the source of a task -> data/<task>/{train,dev,exam}.parquet and its card.

    python -m pipelines.prepare TASK

Cleaned, de-duplicated, split by a hash of the text. The result does not depend on the order of the source.
"""

from __future__ import annotations

import math
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from leaderboard.aside import replacing
from openautoglm import tables
from openautoglm.task import Split
from pipelines import params, sources
from pipelines.errors import UserError, stage
from pipelines.files import write_json
from pipelines.params import Params, TaskParams, paths
from pipelines.sources import Rows
from pipelines.texts import clean, fold, position

SPLITS = ("train", "dev", "exam")
TRAIN, DEV = 0.7, 0.1  # shares; the rest is the exam


class Example(NamedTuple):
    """One distinct text."""

    text: str
    label: float  # class index or value
    given: str | None  # the split that the source puts it in
    folded: str


def prepare(task: TaskParams, rows: Rows, limit: int | None = None) -> tuple[dict[str, Split], dict[str, int]]:
    """The three splits of a task, and how many rows were left out for which reason.

    Raises UserError where no usable split would come out.
    """
    examples, dropped = distinct(task, rows)
    parts: dict[str, list[Example]] = {split: [] for split in SPLITS}
    gives_dev = "dev" in (rows.splits or ())
    for example in sorted(examples, key=lambda e: (position(e.folded), e.folded)):
        parts[_split(example, gives_dev)].append(example)
    if limit and limit < len(examples):
        parts = {split: part[: max(1, limit * len(part) // len(examples))] for split, part in parts.items()}
        dropped["beyond limit"] = len(examples) - sum(map(len, parts.values()))
    _check(task, parts)
    return {split: _as_split(task, part) for split, part in parts.items()}, dropped


def distinct(task: TaskParams, rows: Rows) -> tuple[list[Example], dict[str, int]]:
    """One example for each folded text.

    Near-identical texts with one class are one example; with conflicting classes none is kept, for no model could be
    right on both. In regression they are one example with their mean value. Where the source has splits, the text stays
    in the latest one (exam before dev before train), so that nothing of the exam is seen in training.
    """
    groups: dict[str, list[Example]] = defaultdict(list)
    dropped = Counter(rows.dropped)
    splits: Sequence[str | None] = rows.splits or [None] * len(rows.texts)
    for raw, label, given in zip(rows.texts, tables.numbers(rows.labels, task.kind, task.labels), splits, strict=True):
        text = clean(raw)
        if text:
            groups[fold(text)].append(Example(text, label, given, fold(text)))
        else:
            dropped["empty"] += 1
    examples = []
    for folded, group in groups.items():
        last = max((e.given for e in group), key=lambda given: SPLITS.index(given or "train"))
        group = [e for e in group if e.given == last]
        labels = {e.label for e in group}
        if task.kind == "classification" and len(labels) > 1:
            dropped["conflicting labels"] += len(groups[folded])
            continue
        dropped["near-identical"] += len(groups[folded]) - 1
        mean = math.fsum(e.label for e in group) / len(group)  # exact sum: the order does not matter
        examples.append(Example(min(e.text for e in group), mean, last, folded))
    return examples, {reason: n for reason, n in dropped.items() if n}


def _split(example: Example, gives_dev: bool) -> str:
    """As the source says, else by hash. Where the source has splits but no dev, train gives an eighth of itself."""
    place = position(example.folded)
    if example.given is None:
        return "train" if place < TRAIN else "dev" if place < TRAIN + DEV else "exam"
    if example.given == "train" and not gives_dev:
        return "train" if place < TRAIN / (TRAIN + DEV) else "dev"
    return example.given


def _check(task: TaskParams, parts: dict[str, list[Example]]) -> None:
    if empty := [split for split, part in parts.items() if len(part) < 2]:
        raise UserError(
            f"Too few texts: {', '.join(empty)} would have less than two. Give more texts or a higher limit."
        )
    if missing := set(range(len(task.labels))) - {int(e.label) for e in parts["train"]}:
        names = [task.labels[index] for index in sorted(missing)]
        raise UserError(f"The train split has no text of {names}. Give more texts, a higher limit, or fewer labels.")
    splits_of = Counter(folded for part in parts.values() for folded in {e.folded for e in part})
    if leaked := [folded for folded, n in splits_of.items() if n > 1]:
        raise UserError(f"{len(leaked)} texts are in two splits, e.g. {leaked[0][:80]!r}: refused.")


def _as_split(task: TaskParams, part: list[Example]) -> Split:
    dtype = np.int64 if task.kind == "classification" else np.float32
    return Split(tuple(e.text for e in part), np.array([e.label for e in part], dtype=dtype))


def write_split(path: Path, split: Split) -> None:
    """Columns text and label as Parquet: the same split gives the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with replacing(path) as aside:
        pq.write_table(pa.table({"text": list(split.texts), "label": split.labels}), aside, compression="zstd")


def run(name: str, config: Params) -> None:
    """Prepare one task of params.yaml."""
    from pipelines.task_card import task_card

    task = config.task(name)
    rows = sources.read(task)
    splits, dropped = prepare(task, rows, config.limit)
    for split in SPLITS:
        write_split(paths.split(name, split), splits[split])
    write_json(paths.task_card(config.profile, name), task_card(name, task, rows, splits, dropped).model_dump())
    print(f"{name}: " + ", ".join(f"{split} {len(splits[split])}" for split in SPLITS) + f"; left out {dropped or 0}")


def main() -> None:
    """python -m pipelines.prepare TASK."""
    if len(sys.argv) != 2:
        raise UserError("usage: python -m pipelines.prepare TASK")
    run(sys.argv[1], params.load())


if __name__ == "__main__":
    stage(main)
