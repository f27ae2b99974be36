"""How long and how large a model will be, before it is built: the sum of its parts in a table of one machine's costs.

`openautoglm.latency` measures the table and checks the sum against whole models. No torch here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from leaderboard.aside import replacing

BY_WIDTH = ("attention", "ffn", "last_attention", "last_ffn")


class LatencyError(ValueError):
    """A cost that cannot be told; the message says why and what to do."""


class Widths(NamedTuple):
    """What is left of one encoder layer; 0 drops the sub-layer."""

    heads: Annotated[int, Field(ge=0)]
    neurons: Annotated[int, Field(ge=0)]


class Form(NamedTuple):
    """A form of the word embedding."""

    rank: int  # 0: full
    pieces: int
    codes: int = 0  # bytes of a piece in product codes; 0: whole rows for all


Structure = Sequence[Widths]


class Cost(NamedTuple):
    """Milliseconds at each of the table's lengths, and bytes in the artifact."""

    ms: tuple[float, ...]
    bytes: float


@dataclass(frozen=True)
class Table:
    """Costs by width: of an attention by its heads, of an FFN by its neurons, and of all that is fixed (embedding,
    pooler, head, the call itself, the tokenizer's file) by the embedding's form.

    The head reads one piece's state, so the exporter lets the last attention answer, and what follows compute, for that
    piece alone: these have prices of their own.
    """

    facts: dict[str, Any]  # what the costs depend on: processor, versions, the teacher's sizes, formats
    lengths: tuple[int, ...]  # word pieces
    attention: dict[int, Cost]
    ffn: dict[int, Cost]
    last_attention: dict[int, Cost]
    last_ffn: dict[int, Cost]
    fixed: dict[Form, Cost]
    tokenize_ms: tuple[float, float]  # of a text, and of each of its word pieces

    def predict(self, structure: Structure, length: int, rank: int | None = None) -> float:
        """Milliseconds from a text of `length` word pieces to its logits, batch 1, one thread."""
        pieces = max(form.pieces for form in self.fixed)  # the time to look a row up does not depend on their number
        costs = [*self._sub_layers(structure), self.fixed_at(pieces, rank)]
        return sum(self.at(cost, length) for cost in costs) + self.tokenize_ms[0] + self.tokenize_ms[1] * length

    def bytes_of(self, structure: Structure, pieces: int, rank: int | None = None) -> float:
        """Bytes of the whole artifact, tokenizer and manifest included."""
        return sum(cost.bytes for cost in [*self._sub_layers(structure), self.fixed_at(pieces, rank)])

    def _sub_layers(self, structure: Structure) -> list[Cost]:
        last = last_attention(structure)
        heads = [self.attention_at(layer.heads, last=i == last) for i, layer in enumerate(structure)]
        return heads + [self.ffn_at(layer.neurons, last=i >= last >= 0) for i, layer in enumerate(structure)]

    def attention_at(self, heads: int, *, last: bool = False) -> Cost:
        """The cost of one attention; nothing where it is dropped. `last`: it is the last one that is left."""
        return _between(self.last_attention if last else self.attention, heads) if heads else self._nothing

    def ffn_at(self, neurons: int, *, last: bool = False) -> Cost:
        """The cost of one FFN; nothing where it is dropped. `last`: it stands behind the last attention."""
        return _between(self.last_ffn if last else self.ffn, neurons) if neurons else self._nothing

    @property
    def _nothing(self) -> Cost:
        return Cost((0.0,) * len(self.lengths), 0.0)

    def fixed_at(self, pieces: int, rank: int | None) -> Cost:
        """The cost of a model without sub-layers; LatencyError for a form of embedding that was not measured."""
        ranks = {form.rank for form in self.fixed if not form.codes}
        by_pieces = {r: {f.pieces: c for f, c in self.fixed.items() if (f.rank, f.codes) == (r, 0)} for r in ranks}
        by_rank = {r: _between(known, pieces) for r, known in by_pieces.items()}
        wanted = rank or 0
        if wanted in by_rank:
            return by_rank[wanted]
        factorised = {r: cost for r, cost in by_rank.items() if r}
        if not wanted or not factorised:
            raise LatencyError(f"Embedding rank {wanted}: measured {sorted(ranks)} (0: full). Measure this one too.")
        return _between(factorised, wanted)

    def at(self, cost: Cost, length: int) -> float:
        """A cost's milliseconds at a length, on the line between the table's lengths."""
        by_length = {known: Cost((ms,), 0.0) for known, ms in zip(self.lengths, cost.ms, strict=True)}
        return _between(by_length, length).ms[0]

    def save(self, path: Path) -> None:
        """Write the table as JSON."""
        raw = asdict(self) | {"fixed": [[*form, cost] for form, cost in self.fixed.items()]}
        with replacing(path) as aside:
            aside.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")


def last_attention(structure: Structure) -> int:
    """The last layer that has heads; -1 where none has."""
    return max((i for i, layer in enumerate(structure) if layer.heads), default=-1)


def load(path: Path) -> Table | None:
    """The table saved in a file; None where there is none, or none that this version reads."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Table(
            facts=raw["facts"],
            lengths=tuple(raw["lengths"]),
            **{name: {int(w): _cost(cost) for w, cost in raw[name].items()} for name in BY_WIDTH},
            fixed={Form(*form): _cost(cost) for *form, cost in raw["fixed"]},
            tokenize_ms=(raw["tokenize_ms"][0], raw["tokenize_ms"][1]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


def _cost(raw: Any) -> Cost:
    ms, size = raw
    return Cost(tuple(map(float, ms)), float(size))


def _between(known: Mapping[int, Cost], at: int) -> Cost:
    """The cost at a width: on the line through its neighbours, beyond the ends through the last two."""
    if at in known:
        return known[at]
    points = sorted(known)
    if len(points) == 1:
        return known[points[0]]
    right = next((i for i, point in enumerate(points) if point > at and i), len(points) - 1)
    a, b = points[right - 1], points[right]
    low, high, share = known[a], known[b], (at - a) / (b - a)
    ms = tuple(max(0.0, x + share * (y - x)) for x, y in zip(low.ms, high.ms, strict=True))
    return Cost(ms, low.bytes + share * (high.bytes - low.bytes))
