"""The cheap judge of a structure: the teacher cut to it and refitted by least squares, without training.

Its loss is what the cut model's logits miss of the teacher's (KL, or squared error for a value) on texts that the
refit did not see. A judgement takes about a second, so hundreds of structures can be compared before one is trained.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from openautoglm import architectures, codebooks, lowrank, pruning, vocabulary
from openautoglm.config import CompressionConfig
from openautoglm.cost_table import Structure, Table, Widths
from openautoglm.distillation.data import Encoded, encode, limited
from openautoglm.distillation.fit import device, logits_of
from openautoglm.distillation.losses import soft_labels
from openautoglm.importance import Importance, importance
from openautoglm.knapsack import Level
from openautoglm.student import Teacher
from openautoglm.task import Split, Task

SAMPLES = 512  # texts of train that importance and refit look at, and as many others that judge
WHOLE_ROWS = CompressionConfig().whole_rows
STEPS = 24  # levels of a sub-layer, about, that a knapsack may choose from


class Proxy:
    """Judges structures of one teacher on one task. What all judgements share is computed once.

    whole_rows: of an embedding in product codes, as in the config.
    """

    def __init__(self, teacher: Teacher, task: Task, samples: int = SAMPLES, whole_rows: int = WHOLE_ROWS) -> None:
        self.teacher, self.task, self.whole_rows = teacher, task, whole_rows
        texts, labels = task.train.texts, task.train.labels
        samples = min(samples, max(1, len(texts) // 2))
        self.sample = Split(texts[:samples], labels[:samples])
        self.seen = encode(teacher.tokenizer, self.sample, task.max_length)
        self.judging = Split(texts[samples : 2 * samples], labels[samples : 2 * samples])
        self.answers = logits_of(teacher.model, encode(teacher.tokenizer, self.judging, task.max_length))
        self.full = [Widths(layer.heads, layer.neurons) for layer in architectures.layers(teacher.model)]
        self._forms: dict[tuple[int | None, ...], tuple[Any, Encoded]] = {}
        self._metrics: dict[int | None, Tensor] = {}  # by vocabulary size: codes of all lengths share one

    def prepare(self) -> None:
        """Compute now what all judgements share, lest the first one seem as long as all of it."""
        _ = self.importance, self.grams, self.dropping

    @cached_property
    def importance(self) -> Importance:
        """Fisher information of the teacher's heads and neurons."""
        return importance(self.teacher.copy(), self.seen, self.task)

    @cached_property
    def grams(self) -> list[Tensor]:
        """Second moments of what enters each sub-layer's output in the teacher."""
        model = self.teacher.copy()  # which may be moved to a GPU
        return pruning.gram_matrices(model, [part.output for part in architectures.sublayers(model)], self.seen)

    def loss(
        self, structure: Structure, pieces: int | None = None, rank: int | None = None, codes: int | None = None
    ) -> float:
        """What a structure, with a vocabulary cut to `pieces` and an embedding of `rank` or `codes`, misses of the
        teacher.
        """
        model, judging = self.cut(structure, pieces, rank, codes)
        return float(soft_labels(logits_of(model, judging), self.answers, self.task.kind))

    def cut(
        self, structure: Structure, pieces: int | None = None, rank: int | None = None, codes: int | None = None
    ) -> tuple[Any, Encoded]:
        """The teacher cut to a structure and refitted, and the judging texts in its word pieces."""
        embedding, judging = self._form(pieces, rank, codes)
        model = self.teacher.copy()
        if embedding is not None:
            architectures.set_word_embedding(model, copy.deepcopy(embedding))
        pruning.slice_refitted(model, pruning.choose_widths(self.importance, structure), self.grams)
        return model.to(device()).eval(), judging

    def _form(self, *form: int | None) -> tuple[Any, Encoded]:
        """A form of embedding (None: the teacher's), and the judging texts in its pieces; kept for the next time."""
        if form not in self._forms:
            pieces, rank, codes = form
            model, tokenizer = self.teacher.copy(), limited(self.teacher.tokenizer, self.task.max_length)
            if pieces or codes:  # as the compressor: frequent pieces come first, and these keep whole rows
                tokenizer, old_ids = vocabulary.trim(tokenizer, self.task.train.texts, pieces)
                vocabulary.keep_rows(model, old_ids)
            table = architectures.word_embedding(model)
            if rank or codes:
                ids = encode(tokenizer, self.task.train, self.task.max_length).ids
                counts = torch.bincount(torch.tensor([i for row in ids for i in row]), minlength=table.num_embeddings)
            if rank:
                table = lowrank.factorise(table, counts, rank)
            if codes:
                if pieces not in self._metrics:
                    seen = encode(tokenizer, self.sample, self.task.max_length)
                    self._metrics[pieces] = codebooks.answer_metric(model, seen, vocabulary.special_ids(tokenizer))
                table = codebooks.encode_rows(table, counts, codes, self.whole_rows, self._metrics[pieces])
            judging = encode(tokenizer, self.judging, self.task.max_length)
            self._forms[form] = (table if any(form) else None), judging
        return self._forms[form]

    @cached_property
    def dropping(self) -> dict[tuple[int, str], float]:
        """(layer, "heads" or "neurons") -> the loss when that sub-layer alone is dropped, and the rest refitted."""
        found = {}
        for i, layer in enumerate(self.full):
            for name in Widths._fields:
                structure = [*self.full[:i], layer._replace(**{name: 0}), *self.full[i + 1 :]]
                found[i, name] = self.loss(structure)
        return found

    def choices(self, table: Table, length: int, weights: Mapping[str, float], last: int) -> list[list[Level]]:
        """What a knapsack may choose for each sub-layer (attention, FFN, attention, ...): widths, losses, costs.

        `last` is the layer whose attention shall be the last: it stays, later ones go. Removing units costs half their
        Fisher information (Kwon et al. 2022, section 4.1), dropping the sub-layer what was measured, for that is no
        small step. `weights` ("heads 0", "neurons 0", ...) multiply the losses of a sub-layer: search tunes them, since
        what two removals cost together is not the sum.
        """
        found = []
        for i, full in enumerate(self.full):
            for name, scores in (("heads", self.importance.heads[i]), ("neurons", self.importance.neurons[i])):
                weight, gone = weights.get(f"{name} {i}", 1.0), _removed(scores)
                gone[0] = max(gone[0], self.dropping[i, name])
                most = getattr(full, name)
                widths = [*range(0, most, max(1, most // STEPS)), most]
                if name == "heads":
                    widths = [0] if i > last else [w for w in widths if w or i < last]
                    costs = [table.attention_at(w, last=i == last) for w in widths]
                else:
                    costs = [table.ffn_at(w, last=i >= last) for w in widths]
                levels = zip(widths, costs, strict=True)
                found.append([Level(w, weight * gone[w], table.at(cost, length), cost.bytes) for w, cost in levels])
        return found


def _removed(scores: Tensor) -> list[float]:
    """Half the Fisher information that is gone when the top 0, 1, 2, ... units stay."""
    kept = scores.double().sort(descending=True).values.cumsum(0)
    return [float(kept[-1]) / 2, *((kept[-1] - kept) / 2).clamp(min=0).tolist()]
