"""Tokenised texts and batches of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from openautoglm.runtime import pad
from openautoglm.task import Split


@dataclass(frozen=True)
class Encoded:
    """Tokenised texts: `ids` without padding, `labels` (n,) long or float32."""

    ids: list[list[int]]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Batch:
    """A padded batch; `index` says which examples of the split it holds."""

    input_ids: Tensor  # (batch, longest) long
    attention_mask: Tensor  # (batch, longest) long
    labels: Tensor  # (batch,) long or float32
    index: Tensor  # (batch,) long

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device` (the index stays: it is for looking up)."""
        if device.type == "cpu":
            return self
        return Batch(self.input_ids.to(device), self.attention_mask.to(device), self.labels.to(device), self.index)

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What a model's forward takes."""
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask}


def encode(tokenizer: Tokenizer, split: Split, max_length: int) -> Encoded:
    """Tokenise a split, cut at `max_length` word pieces (the special ones included)."""
    tokenizer = limited(tokenizer, max_length)
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(split.texts))]
    return Encoded(ids, torch.tensor(split.labels))


def limited(tokenizer: Tokenizer, max_length: int) -> Tokenizer:
    """A copy of the tokenizer that cuts at `max_length` and does not pad."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_padding()
    copy.enable_truncation(max_length)
    return copy


def batch_of(examples: Encoded, index: Sequence[int]) -> Batch:
    """The examples at `index`, padded to the longest of them."""
    ids, mask = pad([examples.ids[i] for i in index])
    chosen = torch.as_tensor(index, dtype=torch.long)
    return Batch(torch.from_numpy(ids), torch.from_numpy(mask), examples.labels[chosen], chosen)


def in_order(examples: Encoded, batch_size: int) -> Iterator[Batch]:
    """All examples once, sorted by length: for scoring and for statistics."""
    order = sorted(range(len(examples)), key=lambda i: len(examples.ids[i]))
    for start in range(0, len(order), batch_size):
        yield batch_of(examples, order[start : start + batch_size])


def shuffled(examples: Encoded, batch_size: int, generator: torch.Generator) -> list[list[int]]:
    """One epoch's batches of indices: random, but texts of similar length stand together, so that little is padded.

    The order is random within pools of 32 batches, each sorted by length, and the batches of all pools are shuffled.
    """
    order = torch.randperm(len(examples), generator=generator).tolist()
    pool = 32 * batch_size
    batches = []
    for start in range(0, len(order), pool):
        chunk = sorted(order[start : start + pool], key=lambda i: len(examples.ids[i]))
        batches += [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
