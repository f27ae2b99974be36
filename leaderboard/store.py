"""The board's input: the records and task cards of one profile, for a grid that the caller names."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from leaderboard.metrics import METRICS
from leaderboard.schema import Profile, Record, Search, Strict, TaskCard, Tuning

Model = TypeVar("Model", bound=Strict)
BEYOND = 1e15
DECISIVE = ("teacher", "task")  # sections of params.yaml that all rows of a task must share


class BoardError(ValueError):
    """The board cannot be drawn; the message says why and what to do."""


@dataclass(frozen=True)
class Grid:
    """What the board shows: every method on every task in its deployments ("all" holds those of every method)."""

    methods: list[str]
    tasks: list[str]
    deployments: dict[str, list[str]]

    def deployments_of(self, method: str) -> list[str]:
        """Those of all, then the method's own."""
        return [*self.deployments.get("all", []), *self.deployments.get(method, [])]


@dataclass(frozen=True)
class Board:
    """The cells of the grid that there are. A cell made on another version of the exam, or with other settings than
    the teacher's, is refused, with the reason.
    """

    profile: str
    grid: Grid
    cards: dict[str, TaskCard]
    records: dict[tuple[str, str], Record]  # (method, task)
    hashes: dict[tuple[str, str], str]  # sha256 of each record's file
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    ablations: Board | None = None  # the records of the profile "ablations", whatever they are of
    tuning: dict[tuple[str, str], Tuning] = field(default_factory=dict)  # (method, task)
    searches: dict[tuple[str, str], Search] = field(default_factory=dict)  # (method, task)

    def of(self, method: str) -> dict[str, Record]:
        """task -> record, in the grid's order."""
        return {task: self.records[method, task] for task in self.grid.tasks if (method, task) in self.records}


def load(results: Path, grid: Grid, profile: str = "default") -> Board:
    """Read one profile's records, those that are there; BoardError where a file is broken."""
    folder = Path(results)
    board = _load(folder, grid, profile)
    return replace(
        board,
        ablations=_load(folder, _ablated(folder), "ablations"),
        tuning=_beside(folder / "tuning", grid, Tuning),
        searches=_beside(folder / "search", grid, Search),
    )


def _beside(folder: Path, grid: Grid, model: type[Model]) -> dict[tuple[str, str], Model]:
    found = {(method, task): _read(folder / method / f"{task}.json", model) for method, task in _cells(grid)}
    return {cell: content for cell, content in found.items() if content}


def _ablated(results: Path) -> Grid:
    """The ablations that have records. Which are there is said by profiles/ablations.yaml, not by the board's grid."""
    there = sorted((results / "ablations").glob("*/*.json"))
    methods = {path.parent.name: None for path in there if path.parent.name != "tasks"}
    return Grid(list(methods), [path.stem for path in there if path.parent.name == "tasks"], {})


def _cells(grid: Grid) -> list[tuple[str, str]]:
    return [(method, task) for method in grid.methods for task in grid.tasks]


def _load(results: Path, grid: Grid, profile: str) -> Board:
    if profile not in get_args(Profile):
        raise BoardError(f"Profile {profile!r} is unknown: give one of {', '.join(get_args(Profile))}.")
    folder = results / profile
    cards = {t: _read(folder / "tasks" / f"{t}.json", TaskCard) for t in grid.tasks}
    board = Board(profile, grid, {t: card for t, card in cards.items() if card}, {}, {})
    for method, task in _cells(grid):
        path = folder / method / f"{task}.json"
        record = _read(path, Record)
        if record is None:
            continue
        refusal = _refusal(record, method, task, board.cards.get(task))
        if refusal:
            board.refused[method, task] = refusal
        else:
            board.records[method, task] = record
            board.hashes[method, task] = hashlib.sha256(path.read_bytes()).hexdigest()
    for cell in list(board.records):
        if refusal := _other_settings(board.records[cell], board.records.get(("teacher", cell[1]))):
            board.refused[cell] = refusal
            del board.records[cell], board.hashes[cell]
    return board


def _refusal(record: Record, method: str, task: str, card: TaskCard | None) -> str:
    """Why a record cannot stand beside the others; "" where it can."""
    if (record.method.name, record.task) != (method, task):
        return f"its file belongs to {method} on {task}, but it says {record.method.name} on {record.task}"
    if card is None:
        return "the task's card is missing, so its score cannot be derived"
    if card.metrics[0] not in METRICS:
        return f"the task's metric {card.metrics[0]!r} is unknown"
    if record.exam_sha256 != card.sha256.get("exam"):
        return "made on another version of the exam"
    answers = [q.predictions for form in record.deployments.values() for q in form.quality]
    if not card.exam_labels or any(len(said) != len(card.exam_labels) for said in answers):
        return f"{sorted({len(said) for said in answers})} predictions for {len(card.exam_labels)} exam labels"
    if card.labels and any(set(said) - set(range(len(card.labels))) for said in answers):
        return "predicts a class that the task does not have"
    costs = [form.cost for form in record.deployments.values()]
    if not all(0 < x.low <= x.value <= x.high for c in costs for x in (c.speedup, c.speedup_int8) if x):
        return "its speed-up is not above 0, or outside its interval"
    if _beyond(record.model_dump()):
        return f"it holds a figure beyond {BEYOND:g}, which nothing here can be"
    return ""


def _other_settings(record: Record, teacher: Record | None) -> str:
    """Why a record cannot stand beside the teacher's: of another teacher, or of other passes; "" where it can."""
    ours, theirs = record.config_sha256, teacher.config_sha256 if teacher else {}
    differ = [part for part in DECISIVE if part in ours and part in theirs and ours[part] != theirs[part]]
    return f"made with other settings of the {' and the '.join(differ)} than the teacher's row" if differ else ""


def _beyond(value: Any) -> bool:
    """Does a tree hold a number that sums and squares would overflow with?"""
    if isinstance(value, (int, float)):
        return abs(value) > BEYOND
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return any(map(_beyond, inner))


def _read(path: Path, model: type[Model]) -> Model | None:
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
        raise BoardError(f"{path} is not a valid {model.__name__} ({reason}). Make it again or remove it.") from None
