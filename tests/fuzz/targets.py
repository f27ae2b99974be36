"""What a user gives, or finds on disk: each target reads one kind of file, wrong in some way.

`python -m tests.fuzz` counts; a target may raise the errors that end in one message, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import yaml

from leaderboard import store, table, verify
from leaderboard.checks import check
from leaderboard.schema import Record, TaskCard
from leaderboard.store import BoardError
from leaderboard.submission import CardError, read_card
from openautoglm import artifact
from openautoglm.artifact import ArtifactError
from pipelines import params, sources, track, training
from pipelines.board import grid
from pipelines.errors import UserError
from pipelines.prepare import prepare, write_split
from pipelines.task_card import task_card
from tests.cheats import submissions
from tests.fuzz import mutate
from tests.leaderboard import records
from tests.pipelines.tiny_artifacts import write as write_artifact

ROOT = Path(__file__).parents[2]
ONE_MESSAGE = (UserError, ArtifactError, BoardError, CardError)  # what pipelines.errors.stage tells in one message
METHODS = {name: records.METHODS[name] for name in ("teacher", "albert")}
Target = Callable[[Random, Path], None]


def _mutated(draw: Random, value: Any, dump: Callable[[Any], str]) -> bytes:
    """A tree made wrong and written, or written and made wrong."""
    if draw.random() < 0.7:
        return dump(mutate.tree(draw, value)).encode("utf-8", "surrogatepass")
    return mutate.raw(draw, dump(value).encode())


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False)


def settings(draw: Random, folder: Path) -> None:
    """params.yaml, and the grid that the board takes from it."""
    path = folder / "params.yaml"
    path.write_bytes(_mutated(draw, yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")), _yaml))
    loaded = params.load.__wrapped__(path)
    shown = grid(loaded)
    for method in shown.methods:
        shown.deployments_of(method)


CARD = {
    "name": "half", "kind": "method", "authors": ["A. Author"], "licence": "MIT",
    "paper": "none", "kept": "The bottom half.", "left_out": "Training.", "data": "The task's.", "hardware": "CPU",
}  # fmt: skip


def card(draw: Random, folder: Path) -> None:
    """A submission's card.yaml."""
    path = folder / "card.yaml"
    path.write_bytes(_mutated(draw, CARD, _yaml))
    read_card(path)


def record(draw: Random, folder: Path) -> None:
    """A record: drawn on the board, tracked, verified."""
    results, published, card = _board(folder)
    path = results / "default/albert/movie.json"
    path.write_bytes(_mutated(draw, published.model_dump(mode="json"), json.dumps))
    try:
        _drawn(results)
        made, _ = track.read(path)
        verify.settle([verify.findings(published, made, card), verify.findings(made, published, card)])
        list(verify.integrity(path.read_bytes(), made, card))
    finally:
        records.save(path, published)


def card_of_a_task(draw: Random, folder: Path) -> None:
    """A task's published card, beside records that were scored on its exam."""
    results, _, card = _board(folder)
    path = results / "default/tasks/movie.json"
    path.write_bytes(_mutated(draw, card.model_dump(mode="json"), json.dumps))
    try:
        _drawn(results)
    finally:
        records.save(path, card)


def _board(folder: Path) -> tuple[Path, Record, TaskCard]:
    results = folder / "results"
    if not results.is_dir():
        records.write(results, methods=METHODS, examples=20, tasks=("movie", "tweets"))
    read = results / "default/albert/movie.json", results / "default/tasks/movie.json"
    return results, Record.model_validate_json(read[0].read_bytes()), TaskCard.model_validate_json(read[1].read_bytes())


def _drawn(results: Path) -> None:
    shown = store.Grid(list(METHODS), ["movie", "tweets"], records.DEPLOYMENTS)
    for row in table.build(board := store.load(results, shown)).rows:
        assert row.method in board.grid.methods


def submission(draw: Random, folder: Path) -> None:
    """A whole submission, one of its files made wrong: every rule answers."""
    root = folder / "world"
    world = submissions.World(root) if root.is_dir() else submissions.honest(root)
    place = world.folder / "artifacts/other"  # no task of the records, whose sizes are not its
    if not place.is_dir():
        write_artifact(place)
    own = [world.folder / "card.yaml", world.folder / "method.py", place / "manifest.json"]
    path = draw.choice([world.record(), world.record(), *own])
    whole = path.read_bytes()
    if path.suffix == ".json":
        path.write_bytes(_mutated(draw, json.loads(whole), json.dumps))
    else:
        path.write_bytes(mutate.raw(draw, whole))
    try:
        found = [answer.rule for answer in check(world.submission) if answer.problems]
    finally:
        path.write_bytes(whole)
    if found:
        raise CardError(path, found)  # it was refused, by its rules


MANIFEST = artifact.Manifest("onnx", "float32", "classification", ("bad", "good"), 16, 100, {"layers": 2})


def manifest(draw: Random, folder: Path) -> None:
    """An artifact's manifest, and its files beside it."""
    place = artifact.write(
        folder / "artifact", MANIFEST, lambda aside: (aside / "model.onnx").write_bytes(b"x") and None
    )
    path = place / "manifest.json"
    path.write_bytes(_mutated(draw, json.loads(path.read_bytes()), json.dumps))
    artifact.read(place)


def unfinished(draw: Random, folder: Path) -> None:
    """What a killed training left of its learning curve and footprint."""
    run = records._run("albert", METHODS["albert"], 0).model_dump()
    progress = {"footprint": run["footprint"], "history": run["history"]}
    (folder / training.PROGRESS).write_bytes(_mutated(draw, progress, json.dumps))
    training._earlier(folder)


def finished(draw: Random, folder: Path) -> None:
    """The learning curve and footprint of a finished one."""
    run = records._run("albert", METHODS["albert"], 0)
    made = training.TrainingRun(run.steps, run.footprint, run.history)
    made.write(folder)
    name = draw.choice(["footprint.json", "history.tsv"])
    (folder / name).write_bytes(mutate.raw(draw, (folder / name).read_bytes()))
    training.read_run(folder)


def _rows(draw: Random) -> list[dict[str, Any]]:
    """A table of texts, labels and splits, and of what stands in such tables by mistake."""
    rows = []
    for i in range(draw.randint(0, 40)):
        words = " ".join(
            draw.choice(["good", "bad", "film", '"plot"', "a,b", "x\ty", "é", "&amp;", ""]) for _ in range(5)
        )
        rows.append(
            {"text": f"{words} {i}", "label": draw.choice(["good", "bad"]), "split": draw.choice(["train", "test"])}
        )
    return rows


def _task(draw: Random, path: Path) -> params.TaskParams:
    regression = draw.random() < 0.3
    source = {"path": str(path), "text": "text", "label": "label"} | ({"split": "split"} if draw.random() < 0.4 else {})
    return params.TaskParams(
        title="t",
        source=source,
        kind="regression" if regression else "classification",
        labels=[] if regression else ["bad", "good"],
        metrics=["pearson" if regression else "accuracy"],
        max_length=16,
        epochs=2,
    )


def table_file(draw: Random, folder: Path) -> None:
    """A task's own file, as far as its splits and its card."""
    kind = draw.choice(["csv", "tsv", "jsonl", "parquet"])
    path = folder / f"rows.{kind}"
    rows = _rows(draw)
    if draw.random() < 0.5 and kind in ("jsonl", "parquet"):
        rows = mutate.tree(draw, rows)
    written = {"csv": _csv, "tsv": _csv, "jsonl": _lines, "parquet": _parquet}[kind](path, rows)
    if written is not None:
        path.write_bytes(mutate.raw(draw, written) if draw.random() < 0.7 else written)
    task = _task(draw, path)
    read = sources.read(task)
    splits, dropped = prepare(task, read)
    for name, split in splits.items():
        write_split(folder / f"{name}.parquet", split)
    task_card("mine", task, read, splits, dropped)


def _csv(path: Path, rows: Any) -> bytes:
    separator = "\t" if path.suffix == ".tsv" else ","
    lines = [["text", "label", "split"], *([str(v) for v in row.values()] for row in rows)]
    quoted = [[f'"{cell.replace(chr(34), chr(34) * 2)}"' for cell in line] for line in lines]
    return "\n".join(map(separator.join, quoted)).encode()


def _lines(path: Path, rows: Any) -> bytes:
    return "\n".join(map(json.dumps, rows if isinstance(rows, list) else [rows])).encode()


def _parquet(path: Path, rows: Any) -> bytes | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.write_table(pa.Table.from_pylist(rows), path)
    except (pa.ArrowException, ArithmeticError, AttributeError, LookupError, TypeError, ValueError):  # no such table
        pq.write_table(pa.table({"text": ["a"], "label": [[1]], "split": [b"x"]}), path)
    return path.read_bytes()


TARGETS: dict[str, tuple[Target, float]] = {  # with its share of all inputs
    "params.yaml": (settings, 0.15),
    "card.yaml": (card, 0.12),
    "record": (record, 0.18),
    "task card": (card_of_a_task, 0.1),
    "submission": (submission, 0.1),
    "manifest": (manifest, 0.15),
    "unfinished training": (unfinished, 0.04),
    "finished training": (finished, 0.04),
    "task file": (table_file, 0.12),
}
