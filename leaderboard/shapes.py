"""A student's shape drawn over the teacher's: embedding, heads and neurons, from what its record says of both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Pairs = list[tuple[float, float]]


@dataclass(frozen=True)
class Part:
    """A line of a shape's drawing: two bars of the student over two of the teacher, as widths on paper."""

    name: str
    label: str
    left: float
    right: float
    left_full: float
    right_full: float


def drawn(student: dict[str, Any], teacher: dict[str, Any], width: float = 200.0) -> list[Part]:
    """The student over the teacher: word pieces and embedding width, then heads and neurons of each layer.

    [] where a shape does not say heads and ffn a layer.
    """
    mine, full = _layers(student), _layers(teacher)
    if not mine or not full:
        return []
    labels = [_label(student, teacher, i, *mine[i]) if i < len(mine) else "no such layer" for i in range(len(full))]
    labels += [_label(student, teacher, i, *mine[i]) for i in range(len(full), len(mine))]
    layers = _parts([f"layer {i}" for i in range(1, len(labels) + 1)], labels, mine, full, width)
    table, whole = _embedding(student), _embedding(teacher)
    if not table or not whole:
        return layers
    label = f"{table[0][0]:,.0f} pieces, {table[0][1]:g} wide"
    return [*_parts(["embedding"], [label], table, whole, width), *layers]


def _parts(names: list[str], labels: list[str], mine: Pairs, full: Pairs, width: float) -> list[Part]:
    most = [max(pair[side] for pair in mine + full) or 1 for side in (0, 1)]

    def scaled(pairs: Pairs, i: int) -> list[float]:
        return [round(width * pairs[i][side] / most[side], 1) if i < len(pairs) else 0.0 for side in (0, 1)]

    return [Part(name, labels[i], *scaled(mine, i), *scaled(full, i)) for i, name in enumerate(names)]


def _label(student: dict[str, Any], teacher: dict[str, Any], i: int, heads: float, neurons: float) -> str:
    """What stands beside a layer; its width only where that is not the teacher's."""
    if i and student.get("shared") == 1:
        return "layer 1 again, the same weights"
    times = student.get("ffns_per_layer")
    several = f"{times} × " if isinstance(times, int) and times > 1 else ""
    wide = student.get("bottleneck") or student.get("hidden_size")
    narrow = f", {wide:g} wide" if isinstance(wide, (int, float)) and wide != teacher.get("hidden_size") else ""
    return f"{heads:g} heads, {several}{neurons:g} neurons{narrow}"


def _embedding(said: dict[str, Any]) -> Pairs:
    """[(word pieces, width)], or [] where a shape does not say both."""
    pair = [said.get(key) for key in ("vocabulary", "embedding_size")]
    numbers = [v for v in pair if isinstance(v, (int, float)) and v > 0]
    return [(numbers[0], numbers[1])] if len(numbers) == 2 else []


def _layers(said: dict[str, Any]) -> Pairs:
    """(heads, neurons) a layer."""
    count = said.get("layers")
    if not isinstance(count, int) or not 0 < count <= 100:
        return []
    columns = []
    for key in ("heads", "ffn"):
        value = said.get(key)
        column = value if isinstance(value, list) else [value] * count
        if len(column) != count or not all(isinstance(v, (int, float)) and v >= 0 for v in column):
            return []
        columns.append(column)
    return list(zip(*columns, strict=True))
