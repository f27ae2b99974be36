"""The parts of a model that can be made smaller: sub-layers of units that go one by one, and a word embedding.

A family's `layers(model)` lists them (openautoglm.architectures); importance, pruning and search know no more of a
model than this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Sublayer:
    """An attention or a feed-forward network, as units: heads (where heads share keys and values, their whole groups)
    or neurons. Unit u owns `width` columns of `output`, and its share of the rows of every linear in `inputs`.

        ffn = Sublayer((gate_up,), down, width=1, copies=2, drop=...)
        ffn.keep(torch.tensor([0, 3]))  # rows 0, 3, F, F + 3 of gate_up and columns 0, 3 of down stay
    """

    inputs: tuple[Any, ...]  # of nn.Linear; a unit's rows lie together, in the order of the units
    output: Any  # an nn.Linear
    width: int
    drop: Callable[[], None]  # takes the whole sub-layer out of the model, but for the bias of `output`
    copies: int = 1  # how often the units' rows follow one another in `inputs`: 2 for gate and up in one linear

    @property
    def units(self) -> int:
        """Units that are left; 0 where the sub-layer was dropped."""
        return self.output.in_features // self.width

    @property
    def unit_weights(self) -> int:
        """Weights that go with one unit, without biases; 0 where the sub-layer was dropped."""
        linears = (*self.inputs, self.output) if self.units else ()
        return sum(linear.weight.numel() for linear in linears) // max(1, self.units)

    def rows(self, linear: nn.Linear, kept: Tensor) -> Tensor:
        """The rows of a linear of `inputs` that the units `kept` own."""
        return torch.arange(linear.out_features).view(self.copies, self.units, -1)[:, kept].flatten()

    def columns(self, kept: Tensor) -> Tensor:
        """The columns of `output` that the units `kept` own."""
        return (kept[:, None] * self.width + torch.arange(self.width)).flatten()

    def keep(self, kept: Tensor) -> None:
        """Remove all units but `kept` (indices, ascending), in place; with no unit left, the sub-layer itself."""
        if len(kept) == self.units:
            return
        if not len(kept):
            self.drop()
            return
        rows = [self.rows(linear, kept) for linear in self.inputs]
        narrow(self.output, columns=self.columns(kept))
        for linear, owned in zip(self.inputs, rows, strict=True):
            narrow(linear, rows=owned)


@dataclass(frozen=True)
class Layer:
    """An encoder (or decoder) layer."""

    attention: Sublayer
    ffn: Sublayer

    @property
    def heads(self) -> int:
        """Units of the attention that are left."""
        return self.attention.units

    @property
    def neurons(self) -> int:
        """FFN neurons that are left."""
        return self.ffn.units


class Dropped(nn.Module):
    """What is left of a sub-layer without units: the bias of its output, whatever comes in."""

    in_features = 0

    def __init__(self, bias: nn.Parameter | None = None, *, attention: bool = False) -> None:
        super().__init__()
        self.bias = bias
        self.attention = attention  # transformers' attentions return their probabilities too

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        """(batch, length, anything) -> (hidden,) or (1,), to be broadcast in the sum with the residual."""
        output = hidden_states.new_zeros(1) if self.bias is None else self.bias
        return (output, None) if self.attention else output


def dropped(output: Dropped) -> Sublayer:
    """The sub-layer that `output` is left of: no units."""
    return Sublayer((), output, width=1, drop=lambda: None)


class FactorisedEmbedding(nn.Module):
    """A word embedding of rank r: table (vocabulary, r) times projection (r, hidden)."""

    def __init__(self, vocabulary: int, rank: int, hidden: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, rank)
        self.projection = nn.Linear(rank, hidden, bias=False)

    def forward(self, input_ids: Tensor) -> Tensor:
        """(batch, length) ids -> (batch, length, hidden)."""
        return self.projection(self.table(input_ids))


class CodedEmbedding(nn.Module):
    """A word embedding in which only the first pieces have rows of their own. Each of the others has a few bytes, and
    each byte names one of 256 short vectors (as many as there are pieces, where they are fewer) for its place. Put
    together, they are turned back from the axes in which they were chosen.
    """

    codes: Tensor  # (coded pieces, bytes) uint8

    def __init__(self, whole: int, coded: int, codes: int, hidden: int) -> None:
        super().__init__()
        self.centroids = min(256, coded)  # of each place
        self.whole = nn.Embedding(whole, hidden)
        self.codebooks = nn.Embedding(codes * self.centroids, hidden // codes)
        self.turn = nn.Linear(hidden, hidden)
        self.register_buffer("codes", torch.zeros(coded, codes, dtype=torch.uint8))

    def forward(self, input_ids: Tensor) -> Tensor:
        """(batch, length) ids -> (batch, length, hidden)."""
        whole = self.whole.num_embeddings
        first = torch.arange(0, self.codebooks.num_embeddings, self.centroids, device=input_ids.device)
        named = self.codebooks(self.codes[(input_ids - whole).clamp(min=0)].long() + first).flatten(-2)
        own = self.whole(input_ids.clamp(max=whole - 1))
        return torch.where((input_ids < whole)[..., None], own, self.turn(named))


@torch.no_grad()
def narrow(linear: nn.Linear, *, rows: Tensor | None = None, columns: Tensor | None = None) -> None:
    """Keep some outputs (rows) or inputs (columns) of a linear, in place."""
    if rows is not None:
        linear.weight = nn.Parameter(linear.weight[rows].clone())
        linear.out_features = len(rows)
        if linear.bias is not None:
            linear.bias = nn.Parameter(linear.bias[rows].clone())
    if columns is not None:
        linear.weight = nn.Parameter(linear.weight[:, columns].clone())
        linear.in_features = len(columns)


def trim_table(model: Any, embeddings: Any, rows: int) -> None:
    """Keep the first `rows` position embeddings of `embeddings`, with the buffers that are as long as they are."""
    table = embeddings.position_embeddings
    if rows >= table.num_embeddings:
        return
    embeddings.position_embeddings = nn.Embedding.from_pretrained(table.weight[:rows].clone(), freeze=False)
    for name in ("position_ids", "token_type_ids"):
        if hasattr(embeddings, name):
            setattr(embeddings, name, getattr(embeddings, name)[:, :rows].clone())
    model.config.max_position_embeddings = rows
