"""What a teacher says of each train text, computed once, and how far a student is from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from openautoglm import architectures
from openautoglm.distillation.data import Batch, Encoded, in_order
from openautoglm.distillation.fit import mixed_precision
from openautoglm.distillation.losses import hidden_mse

MOST_BYTES = 2e9  # of all pieces' states: 370,000 word pieces of a model with 6 layers and a width of 384


class Targets:
    """What the teacher says of each train text: logits, and every layer's states (the embedding's first).

    Of a text that a trimmed vocabulary cuts into other pieces, and of those whose pieces found no room in MOST_BYTES,
    only the state that the head reads ([CLS], or a decoder's last) is known.
    """

    def __init__(self, ids: Sequence[list[int]], logits: Tensor, read: Tensor, pieces: list[Tensor | None]) -> None:
        self._ids = ids
        self.logits = logits  # (texts, outputs)
        self.read = read  # (texts, layers + 1, hidden), bfloat16
        self.pieces = pieces  # of each text (pieces, layers + 1, hidden), bfloat16

    @classmethod
    @torch.no_grad()
    def of(cls, teacher: Any, examples: Encoded) -> Targets:
        """One pass of the teacher over train, on the device where the teacher is."""
        place, room = next(teacher.parameters()).device, _with_room(teacher, examples)
        logits, read, index = [], [], []
        pieces: list[Tensor | None] = [None] * len(examples)
        for batch in tqdm(list(in_order(examples, 64)), desc="teacher's answers", unit="batch", disable=None):
            with mixed_precision():
                output = teacher(**batch.to(place).inputs, output_hidden_states=True)
            logits.append(output.logits.float().cpu())
            read.append(read_states(teacher, output, batch.attention_mask).bfloat16().cpu())
            index.append(batch.index)
            states = torch.stack(output.hidden_states, 2).bfloat16().cpu()
            for row, i in enumerate(batch.index.tolist()):
                if i < room:
                    pieces[i] = states[row, : len(examples.ids[i])].clone()
        order = torch.cat(index).argsort()
        return cls(examples.ids, torch.cat(logits)[order], torch.cat(read)[order], pieces)

    def keep_where_same(self, ids: Sequence[list[int]]) -> None:
        """Forget the pieces of texts that are cut otherwise now. ids: of each text, in the teacher's numbers."""
        for i, (now, before) in enumerate(zip(ids, self._ids, strict=True)):
            if now != before:
                self.pieces[i] = None

    def distance(self, student: nn.Module, batch: Batch, output: Any) -> Tensor:
        """Mean squared error between the hidden states of both, over all layers: that of the state which the head
        reads, and that of all pieces where they are known (TinyBERT eq. 8, each layer with its own).

        output: the student's, of `batch`, with hidden_states. A scalar in float32.
        """
        read = read_states(student, output, batch.attention_mask).float()
        loss = (read - self.read[batch.index].to(read.device).float()).pow(2).mean()
        rows = [self.pieces[i] for i in batch.index.tolist()]
        known = [row for row, states in enumerate(rows) if states is not None]
        if not known:
            return loss
        teacher = pad_sequence([rows[row] for row in known], batch_first=True).to(read.device)
        length = teacher.shape[1]
        states = torch.stack([layer[known, :length] for layer in output.hidden_states], 2)
        mask = batch.attention_mask[known, :length].to(read.device)
        return loss + hidden_mse(states.flatten(2), teacher.flatten(2), mask)


def _with_room(teacher: Any, examples: Encoded) -> int:
    """How many texts, from the first on, have all their pieces' states in MOST_BYTES."""
    layers, width = len(architectures.layers(teacher)) + 1, teacher.config.hidden_size
    taken = torch.tensor([2 * layers * width * len(ids) for ids in examples.ids], dtype=torch.double).cumsum(0)
    return int((taken <= MOST_BYTES).sum())


def read_states(model: Any, output: Any, attention_mask: Tensor) -> Tensor:
    """The state of every layer that the head reads, the embedding's first: (batch, layers + 1, hidden)."""
    mask = attention_mask.to(output.logits.device)
    return torch.stack([architectures.read_state(model, state, mask) for state in output.hidden_states], 1)
