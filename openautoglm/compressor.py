"""AutoCompressor: the steps of Open-AutoGLM, one after the other, each switched by the config.

vocabulary -> embedding rank -> rounds of (importance, refit, slice, recover) -> distillation -> precision plan
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from openautoglm import lowrank, pruning, vocabulary
from openautoglm.architectures import family
from openautoglm.config import CompressionConfig, read_config
from openautoglm.distillation.data import Batch, Encoded, encode, in_order, limited
from openautoglm.distillation.fit import Recipe, dev_score, device, fit, mixed_precision
from openautoglm.distillation.losses import taught
from openautoglm.importance import fisher
from openautoglm.student import Student, Teacher, load_teacher, parameter_count
from openautoglm.task import Budget, Split, Task

RECOVERY_SHARE = 0.1  # of the steps, after each round of pruning but the last


class AutoCompressor:
    """Compresses a fine-tuned classifier or regressor.

    model: a folder with config.json, model.safetensors and tokenizer.json, or a Teacher that is loaded already.
    config: a dict, a JSON file or a CompressionConfig; an unknown key is refused with the nearest known one.
    """

    def __init__(
        self, model: Teacher | str | Path, config: dict[str, Any] | str | Path | CompressionConfig | None = None
    ) -> None:
        self.teacher = model if isinstance(model, Teacher) else load_teacher(Path(model))
        self.config = read_config(config)

    def run(self, task: Task, budget: Budget | None = None) -> Student:
        """Compress for `task`; the default budget is 4 passes over train. The student's report tells each step."""
        budget = budget or Budget(steps=max(1, 4 * len(task.train) // 32))
        return _Plan(self.teacher, task, self.config, budget).run()


class _Plan:
    """One run: the model on its way from teacher to student."""

    def __init__(self, teacher: Teacher, task: Task, config: CompressionConfig, budget: Budget) -> None:
        self.task, self.config, self.budget = task, config, budget
        self.model, self.tokenizer = teacher.copy().to(device()), teacher.tokenizer
        self.targets = Targets.of(teacher, task)
        self.report: dict[str, Any] = {"asked": config.model_dump(), "steps": []}

    def run(self) -> Student:
        before = self._shape()
        self._trim()
        self.train, self.dev = (
            encode(self.tokenizer, s, self.task.max_length) for s in (self.task.train, self.task.dev)
        )
        self._factorise()
        steps = self._prune()
        self._distil(steps)
        self.report |= {"before": before, "after": self._shape()}
        int8 = self.config.quantize_layers
        plan = {group: "int8" if group in int8 else "fp16" for group in ("embedding", "attention", "ffn", "head")}
        return Student(self.model, self.tokenizer, plan, self.report)

    def _shape(self) -> dict[str, Any]:
        shape = family(self.model.config.model_type).shape(self.model)
        return {"parameters": parameter_count(self.model), **shape}

    def _tell(self, step: str, **found: Any) -> None:
        self.report["steps"].append({"step": step, "parameters": parameter_count(self.model), **found})

    def _trim(self) -> None:
        """Drop word pieces that train does not use, and positions past the longest input."""
        architecture = family(self.model.config.model_type)
        architecture.trim_positions(self.model, self.task.max_length)
        if self.config.vocabulary_size is None:
            return
        cut = limited(self.tokenizer, self.task.max_length)
        texts = self.task.train.texts
        trimmed, old_ids = vocabulary.trim(cut, texts, self.config.vocabulary_size)
        table = architecture.word_embedding(self.model)
        architecture.set_word_embedding(self.model, vocabulary.select_rows(table, old_ids))
        self.tokenizer = trimmed
        self._tell("vocabulary", pieces=len(old_ids), task_specific=True)

    def _factorise(self) -> None:
        if self.config.embedding_rank is None:
            return
        architecture = family(self.model.config.model_type)
        counts = torch.bincount(
            torch.tensor([i for ids in self.train.ids for i in ids]), minlength=self.model.config.vocab_size
        )
        table = architecture.word_embedding(self.model).cpu()
        architecture.set_word_embedding(self.model, lowrank.factorise(table, counts, self.config.embedding_rank))
        self.model.to(device())
        self._tell("embedding", rank=self.config.embedding_rank, dev_score=self._score())

    def _prune(self) -> int:
        """Rounds of pruning with recovery in between; the optimiser steps that are left."""
        left, rounds = self.budget.steps, self.config.pruning_rounds if self.config.pruning_ratio else 0
        sample = self._calibration()
        weights = self._encoder_weights()
        for i in range(1, rounds + 1):
            share = 1 - self.config.pruning_ratio * i / rounds  # of the teacher's heads and neurons that stays
            importance = fisher(self.model, sample, self.task)
            kept = pruning.choose(self.model, importance, 1 - share * weights / self._encoder_weights())
            pruning.prune(self.model, kept, sample)
            self._tell(
                f"pruning {i}/{rounds}",
                heads=[len(layer) for layer in kept.heads],
                neurons=[len(layer) for layer in kept.neurons],
                head_importance=[[float(f"{x:.4g}") for x in layer] for layer in importance.heads],
                dev_score=self._score(),
            )
            if i < rounds:
                steps = max(1, int(RECOVERY_SHARE * self.budget.steps))
                self._fit(f"recovery {i}", steps, hidden=True)
                left -= steps
        return left

    def _encoder_weights(self) -> int:
        layers = family(self.model.config.model_type).layers(self.model)
        return sum(
            layer.query.in_features * (4 * layer.heads * layer.head_size + 2 * layer.neurons) for layer in layers
        )

    def _calibration(self) -> Encoded:
        """The first `calibration_steps` texts of train (their order is a hash's, so they are a random sample)."""
        count = min(self.config.calibration_steps, len(self.task.train))
        train = self.task.train
        return encode(self.tokenizer, Split(train.texts[:count], train.labels[:count]), self.task.max_length)

    def _distil(self, steps: int) -> None:
        """Progressive distillation: hidden states and soft labels together, then soft labels alone."""
        hidden = int(self.config.hidden_share * steps) if self.config.hidden_loss_weight else 0
        if hidden:
            self._fit("hidden states", hidden, hidden=True)
        if steps - hidden:
            self._fit("soft labels", steps - hidden, hidden=False)
        self._tell("distillation", dev_score=self._score())

    def _fit(self, stage: str, steps: int, *, hidden: bool) -> None:
        recipe = Recipe(steps, self.config.learning_rate, self.budget.batch_size, schedule="cosine", weight_decay=0.01)
        fit(self.model, self.train, lambda batch: self._loss(batch, hidden), recipe, stage=stage, score=self._score)

    def _loss(self, batch: Batch, hidden: bool) -> Tensor:
        config, output = self.config, self.model(**batch.inputs, output_hidden_states=hidden)
        logits = self.targets.logits[batch.index].to(output.logits.device)
        loss = taught(
            output.logits, logits, batch.labels, self.task.kind, config.distill_temperature, config.distill_loss_weight
        )
        if hidden:
            states = _first_states(output).float()
            target = self.targets.states[batch.index].to(states.device).float()
            loss = loss + config.hidden_loss_weight * (states - target).pow(2).mean()
        return loss

    def _score(self) -> float:
        return dev_score(self.model, self.task, self.dev)


class Targets:
    """What the teacher says of each train text, computed once: logits, and the [CLS] state of every layer.

    Only [CLS] is aligned, because a trimmed vocabulary cuts the same text into other pieces.
    """

    def __init__(self, logits: Tensor, states: Tensor) -> None:
        self.logits = logits  # (texts, outputs)
        self.states = states  # (texts, layers + 1, hidden), bfloat16

    @classmethod
    @torch.inference_mode()
    def of(cls, teacher: Teacher, task: Task) -> Targets:
        """One pass of the teacher over train."""
        model, examples = teacher.model, encode(teacher.tokenizer, task.train, task.max_length)
        logits, states, index = [], [], []
        for batch in tqdm(list(in_order(examples, 64)), desc="teacher's answers", unit="batch", disable=None):
            with mixed_precision():
                output = model(**batch.to(device()).inputs, output_hidden_states=True)
            logits.append(output.logits.float().cpu())
            states.append(_first_states(output).bfloat16().cpu())
            index.append(batch.index)
        order = torch.cat(index).argsort()
        # clones, because tensors made under inference mode cannot take part in training
        return cls(torch.cat(logits)[order].clone(), torch.cat(states)[order].clone())


def _first_states(output: Any) -> Tensor:
    """The [CLS] state of every layer, the embedding's first: (batch, layers + 1, hidden)."""
    return torch.stack([state[:, 0] for state in output.hidden_states], 1)
