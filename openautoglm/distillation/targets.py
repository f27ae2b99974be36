"""What the student is to learn of the teacher: its answers, and what its layers make of each word."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from openautoglm import architectures
from openautoglm.distillation.data import Batch, batch_of, encode
from openautoglm.distillation.fit import device, logits_of
from openautoglm.distillation.words import words_mse, words_of
from openautoglm.student import Teacher
from openautoglm.task import Task


class Targets:
    """A teacher's logits of each train text, computed once, and the alignment of a student's layers with its own.

    tokenizer: the student's.
    """

    def __init__(self, teacher: Teacher, task: Task, tokenizer: Tokenizer) -> None:
        texts = task.train.texts
        self._model = teacher.model.to(device())
        self._train = encode(teacher.tokenizer, task.train, task.max_length)
        self._theirs = words_of(teacher.tokenizer, texts, task.max_length)
        self._ours = words_of(tokenizer, texts, task.max_length)
        # (texts, outputs); a clone, because tensors made under inference mode cannot take part in training
        self.logits = logits_of(self._model, self._train).clone()

    def alignment(self, student: Any, batch: Batch, hidden_states: tuple[Tensor, ...]) -> Tensor:
        """The mean squared error between both sides' layers, of the state that the head reads plus that of all words.

        hidden_states: the student's of this batch, the embedding's first, (texts, length, hidden) each.
        """
        index = batch.index.tolist()
        same = batch_of(self._train, index).to(device())
        with torch.no_grad():
            wanted = self._model(**same.inputs, output_hidden_states=True).hidden_states
        head = (_read_states(student, hidden_states, batch) - _read_states(self._model, wanted, same)).pow(2).mean()
        ours, theirs = [self._ours[i] for i in index], [self._theirs[i] for i in index]
        return head + words_mse(torch.stack(hidden_states), torch.stack(wanted), ours, theirs)


def _read_states(model: Any, states: tuple[Tensor, ...], batch: Batch) -> Tensor:
    """The state of every layer that the head reads, the embedding's first: (layers + 1, batch, hidden)."""
    return torch.stack([architectures.read_state(model, state, batch.attention_mask) for state in states]).float()
