"""A page a task: its card, the scores, and how the methods' answers look and differ."""

from __future__ import annotations

from typing import Any

import numpy as np

from leaderboard import drawings, figures
from leaderboard.metrics import METRICS
from leaderboard.schema import TaskCard
from leaderboard.store import Board
from leaderboard.table import Table

DRAWN = 24  # methods at most that the page draws one by one


def view(board: Board, rows: Table, card: TaskCard) -> dict[str, Any]:
    """The task's card, and each method's answers in its first deployment (first seed)."""
    key, answers = f"task-{card.name}", {}
    for method in board.grid.methods:
        record = board.records.get((method, card.name))
        form = next((f for f in board.grid.deployments_of(method) if record and f in record.deployments), None)
        if record and form and record.deployments[form].quality:
            answers[method] = (form, record.deployments[form].quality[0].predictions)
    drawn = dict(list(answers.items())[:DRAWN])
    draw = drawings.confusion if card.kind == "classification" else drawings.cloud
    return {
        "card": card,
        "column": next(column for column in rows.columns if column.key == key),
        "strip": figures.strip([r.figures[key] for r in rows.rows if key in r.figures]),
        "own": sorted((r for r in rows.rows if key in r.figures), key=lambda r: -r.figures[key].value),
        "answers": {method: (form, draw(predictions, card)) for method, (form, predictions) in drawn.items()},
        "others": _others(board, card),
        "reach": max(card.exam_labels) - min(card.exam_labels) or 1.0,
        "left_out": len(answers) - len(drawn),
        "differing": _differing({m: p for m, (_, p) in drawn.items()}, card),
    }


def _others(board: Board, card: TaskCard) -> dict[str, dict[tuple[str, str], float]]:
    """Metrics that do not rank -> (method, deployment) -> its score, of the first seed."""
    labels = np.array(card.exam_labels)
    return {
        metric: {
            (method, name): 100 * METRICS[metric](np.array(form.quality[0].predictions), labels)
            for (method, task), record in board.records.items()
            if task == card.name
            for name, form in record.deployments.items()
            if form.quality
        }
        for metric in card.metrics[1:]
        if metric in METRICS
    }


def _differing(answers: dict[str, list[float]], card: TaskCard, most: int = 15) -> list[tuple[int, float, list[float]]]:
    """(index, label, answers) of the exam examples on which the methods differ most."""
    if len(answers) < 2:
        return []
    grid, labels = np.array(list(answers.values())), np.array(card.exam_labels)
    if card.kind == "classification":
        right = (grid == labels).mean(0)
        spread = np.minimum(right, 1 - right)
    else:
        spread = grid.std(0)
    worst = [int(i) for i in np.argsort(-spread, kind="stable")[:most] if spread[i] > 0]
    return [(i, card.exam_labels[i], grid[:, i].tolist()) for i in worst]
