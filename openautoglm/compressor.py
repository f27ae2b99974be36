"""AutoCompressor: the steps of Open-AutoGLM, one after the other, each switched by the config.

vocabulary -> embedding (rank or product codes) -> rounds of (importance, refit, slice, recover) -> low-rank linears ->
branches -> distillation (hidden states, soft labels) -> fused branches -> precision plan ->
quantisation-aware training -> exits

A student has a few thousand texts to learn from, and its teacher a language. So it is held to the teacher's states at
every piece of a text, not to its answers alone; where there are many passes, every other text is a new one, crossed
from two; the pieces' own rows stay the teacher's (but for those of a rank), since those that train does not have could
not follow; and there is no dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from openautoglm import architectures, codebooks, dynamic, lowrank, pruning, reparam, sensitivity, vocabulary
from openautoglm.config import EXIT_SHARE, CompressionConfig, ConfigError, read_config
from openautoglm.cost_table import Widths
from openautoglm.distillation.crossing import crossed
from openautoglm.distillation.data import Batch, Encoded, encode, limited
from openautoglm.distillation.fit import Recipe, dev_score, device, fit
from openautoglm.distillation.losses import taught
from openautoglm.distillation.targets import Targets
from openautoglm.importance import Importance, importance
from openautoglm.pruning import Kept
from openautoglm.quantization import mixed
from openautoglm.quantization.fake_quant import fake_quantised
from openautoglm.quantization.qat import fine_tune_quantised
from openautoglm.student import Student, Teacher, parameter_count
from openautoglm.task import Budget, Split, Task
from openautoglm.teachers import as_teacher

BATCH_SIZE = 16  # of the default budget: twice the steps of 32 in the same passes, where texts are few
OWN_LOOKS = 2  # passes that a text of train is seen in at least: crossed ones fill those above
RECOVERY_SHARE = 0.1  # of the steps, after each round of pruning but the last
SENSITIVITY_TEXTS = 128  # where the config asks for mixed precision and does not say how many
CUT_ONCE = {  # what a model was compressed with before -> what cannot follow it
    "embedding_rank": ("vocabulary_size", "embedding_rank", "embedding_codes"),
    "embedding_codes": ("vocabulary_size", "embedding_rank", "embedding_codes"),
    "linear_ranks": ("pruning_ratio", "structure", "linear_rank_share"),
}


class AutoCompressor:
    """Compresses a fine-tuned classifier or regressor.

    model: a folder with config.json, model.safetensors and tokenizer.json, a name on the hub, a loaded transformers
    model (with `tokenizer`), or a Teacher.
    config: a dict, a JSON file or a CompressionConfig; an unknown key is refused with the nearest known one.
    """

    def __init__(
        self,
        model: Teacher | nn.Module | str | Path,
        config: dict[str, Any] | str | Path | CompressionConfig | None = None,
        *,
        tokenizer: Any = None,
    ) -> None:
        self.teacher = as_teacher(model, tokenizer)
        self.config = read_config(config)

    def run(self, task: Task, budget: Budget | None = None) -> Student:
        """Compress for `task`; the default budget is 4 passes over train. The student's report tells each step."""
        budget = budget or Budget.of(4, task, BATCH_SIZE)
        return _Plan(self.teacher, task, self.config, budget).run()


class _Plan:
    """One run: the model on its way from teacher to student."""

    def __init__(self, teacher: Teacher, task: Task, config: CompressionConfig, budget: Budget) -> None:
        _refuse_what_cannot_be_cut(teacher.model, config)
        self.task, self.config, self.budget = task, config, budget
        self.model, self.tokenizer = _without_dropout(teacher.copy()).to(device()), teacher.tokenizer
        if config.exits:
            dynamic.check_exits(self.model.config, config.exits)  # refused now, not when all else is trained
        self.texts, self.targets = self._taught()
        changed = config.model_dump(exclude_defaults=True)
        self.report: dict[str, Any] = {"asked": config.model_dump(), "changed": changed, "steps": []}

    def run(self) -> Student:
        before = self._shape()
        old_ids = self._trim()
        architectures.word_embedding(self.model).requires_grad_(False)
        self.train, self.dev = (encode(self.tokenizer, s, self.task.max_length) for s in (self.texts, self.task.dev))
        self.targets.keep_where_same([[old_ids[i] for i in text] for text in self.train.ids])
        self._factorise_embedding()
        self._code_embedding()
        steps = self._prune()
        self._factorise_linears()
        exit_steps = int(EXIT_SHARE * steps) if self.config.exits else 0
        qat_steps = int(self.config.qat_share * steps)
        self._distil(steps - exit_steps - qat_steps)
        plan = self._plan()
        if qat_steps:
            self._quantise(plan, qat_steps)
        exits = self._exits(exit_steps) if self.config.exits else None
        self.report |= {"before": before, "after": self._shape()}
        tokenizer = limited(self.tokenizer, self.task.max_length)
        return Student(self.model, tokenizer, plan, self.report, exits)

    def _taught(self) -> tuple[Split, Targets]:
        """Train, and texts crossed from it whose labels are the teacher's answers; with all that the teacher says."""
        train, most, budget = self.task.train, self.task.max_length, self.budget
        room = max(0, budget.steps * budget.batch_size // OWN_LOOKS - len(train))
        generator = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        made = crossed(train.texts, min(room, self.config.crossed_texts * len(train)), most, generator)
        texts = (*train.texts, *made)
        labels = np.resize(train.labels, len(texts))
        targets = Targets.of(self.model, encode(self.tokenizer, Split(texts, labels), most))
        labels[len(train) :] = self.task.predictions(targets.logits[len(train) :].numpy())
        return Split(texts, labels), targets

    def _shape(self) -> dict[str, Any]:
        words = parameter_count(architectures.word_embedding(self.model))
        return {"parameters": parameter_count(self.model), "word_parameters": words, **architectures.shape(self.model)}

    def _tell(self, step: str, **found: Any) -> None:
        self.report["steps"].append({"step": step, "parameters": parameter_count(self.model), **found})

    def _trim(self) -> Sequence[int]:
        """Cut the vocabulary to its size, and positions past the longest input. Frequent pieces go first. Gives the
        teacher's id of each piece.
        """
        architectures.trim_positions(self.model, self.task.max_length)
        if self.config.vocabulary_size is None and self.config.embedding_codes is None:
            return range(self.model.config.vocab_size)
        cut = limited(self.tokenizer, self.task.max_length)
        texts = self.task.train.texts
        trimmed, old_ids = vocabulary.trim(cut, texts, self.config.vocabulary_size)
        vocabulary.keep_rows(self.model, old_ids)
        self.tokenizer = trimmed
        self._tell("vocabulary", pieces=len(old_ids), task_specific=self.config.vocabulary_size is not None)
        return old_ids

    def _factorise_embedding(self) -> None:
        if self.config.embedding_rank is None:
            return
        table = architectures.word_embedding(self.model).cpu()
        smaller = lowrank.factorise(table, self._counts(), self.config.embedding_rank)
        architectures.set_word_embedding(self.model, smaller)
        self.model.to(device())
        self._tell("embedding", rank=self.config.embedding_rank, dev_score=self._score())

    def _code_embedding(self) -> None:
        """Product codes, before all that is trained, which learns to live with them."""
        codes, whole = self.config.embedding_codes, self.config.whole_rows
        if codes is None:
            return
        metric = codebooks.answer_metric(self.model, self._calibration(), vocabulary.special_ids(self.tokenizer))
        coded = codebooks.encode_rows(architectures.word_embedding(self.model), self._counts(), codes, whole, metric)
        architectures.set_word_embedding(self.model, coded.requires_grad_(False))
        self.model.to(device())
        self._tell("product codes", codes=codes, whole_rows=whole, dev_score=self._score())

    def _counts(self) -> Tensor:
        """How often each piece occurs in train, (vocabulary,)."""
        ids = torch.tensor([i for text in self.train.ids for i in text])
        return torch.bincount(ids, minlength=self.model.config.vocab_size)

    def _prune(self) -> int:
        """Rounds of pruning with recovery in between; the optimiser steps that are left."""
        left = self.budget.steps
        if not self.config.pruning_ratio and not self.config.structure:
            return left
        rounds = self.config.pruning_rounds
        sample, schedule = self._calibration(), self._schedule()
        for i in range(1, rounds + 1):
            found = importance(self.model, sample, self.task, self.config.importance)
            kept = schedule(found, i / rounds)
            pruning.prune(self.model, kept, sample)
            self._tell(
                f"pruning {i}/{rounds}",
                heads=[len(layer) for layer in kept.heads],
                neurons=[len(layer) for layer in kept.neurons],
                head_importance=[[float(f"{x:.4g}") for x in layer] for layer in found.heads],
                dev_score=self._score(),
            )
            if i < rounds:
                steps = max(1, int(RECOVERY_SHARE * self.budget.steps))
                self._fit(f"recovery {i}", steps, hidden=True)
                left -= steps
        return left

    def _schedule(self) -> Callable[[Importance, float], Kept]:
        """What stays when a share of the way is done: by explicit widths, or by a ratio over the whole encoder."""
        layers = architectures.layers(self.model)
        if self.config.structure:
            wanted, full = self.config.structure, [Widths(layer.heads, layer.neurons) for layer in layers]
            pruning.between(full, wanted, 0.0)  # refused now, not after the first round
            return lambda found, done: pruning.choose_widths(found, pruning.between(full, wanted, done))
        weights = self._encoder_weights()

        def by_ratio(found: Importance, done: float) -> Kept:
            share = 1 - self.config.pruning_ratio * done  # of the teacher's weights that stays
            return pruning.choose(self.model, found, 1 - share * weights / self._encoder_weights())

        return by_ratio

    def _encoder_weights(self) -> int:
        return sum(part.units * part.unit_weights for part in architectures.sublayers(self.model))

    def _calibration(self, texts: int | None = None) -> Encoded:
        """The first texts of train, `calibration_steps` by default: a random sample, for they are in no order."""
        count = min(texts or self.config.calibration_steps, len(self.task.train))
        train = self.task.train
        return encode(self.tokenizer, Split(train.texts[:count], train.labels[:count]), self.task.max_length)

    def _factorise_linears(self) -> None:
        if self.config.linear_rank_share is None:
            return
        ranks = lowrank.factorise_linears(self.model, self._calibration(), share=self.config.linear_rank_share)
        self._tell("low-rank linears", ranks=ranks, dev_score=self._score())

    def _distil(self, steps: int) -> None:
        """Progressive distillation: hidden states and soft labels together, then soft labels alone.

        Branches, where the config wants them, are there while it lasts.
        """
        if self.config.branch_ranks:
            linears = reparam.add_branches(self.model, self.config.branch_ranks)
            self._tell("branches", linears=linears)
        hidden = int(self.config.hidden_share * steps) if self.config.hidden_loss_weight else 0
        plan = self.config.plan() if self.config.rounded_weights else {}
        with fake_quantised(self.model, plan, activations=False):
            if hidden:
                self._fit("hidden states", hidden, hidden=True)
            if steps - hidden:
                self._fit("soft labels", steps - hidden, hidden=False)
            reparam.fuse(self.model)
            self._tell("distillation", dev_score=self._score())

    def _plan(self) -> dict[str, str]:
        """Number formats: the config's, or by the sensitivity table, which the report keeps where it was measured."""
        texts, tolerated = self.config.sensitivity_texts, self.config.mixed_precision_loss
        if not texts and tolerated is None:
            return self.config.plan()
        sample = self._calibration(texts or SENSITIVITY_TEXTS)
        table = sensitivity.sensitivity(self.model, sample, self.task.kind)
        self.report["sensitivity"] = sensitivity.as_json(table)
        if tolerated is None:
            return self.config.plan()
        given = self.config.precision  # of a group, too: then it is that of all its layers
        chosen = mixed.choose_formats(table, max_loss=tolerated)
        return {part: found for part, found in chosen.items() if part.rsplit(".", 1)[-1] not in given} | given

    def _quantise(self, plan: dict[str, str], steps: int) -> None:
        """Train under the plan's rounding, where rounding alone costs more than the threshold."""
        told = fine_tune_quantised(
            self.model,
            plan,
            self.train,
            lambda batch: self._loss(batch, hidden=bool(self.config.hidden_loss_weight)),
            self._score,
            steps,
            threshold=self.config.qat_threshold,
            batch_size=self.budget.batch_size,
        )
        self._tell("quantisation-aware training", **told, dev_score=self._score())

    def _exits(self, steps: int) -> dynamic.Exits:
        """Early exits, trained with the model's end, and their route, fitted on dev."""
        config, recipe = self.config, self._recipe(steps)
        exits = dynamic.train(
            self.model,
            self.train,
            self.targets.logits,
            self.task,
            recipe,
            after=config.exits,
            temperature=config.distill_temperature,
            soft_weight=config.distill_loss_weight,
            dev=self.dev,
        )
        route = dynamic.fit_route(self.model, exits, self.task, self.dev, tolerance=config.exit_tolerance)
        self._tell("exits", after=config.exits, route=route.describe(), dev_score=self._score())
        return exits

    def _recipe(self, steps: int) -> Recipe:
        rate, batch_size = self.config.learning_rate, self.budget.batch_size
        return Recipe(steps, rate, batch_size, schedule="cosine", weight_decay=0.01)

    def _fit(self, stage: str, steps: int, *, hidden: bool) -> None:
        fit(
            self.model,
            self.train,
            lambda batch: self._loss(batch, hidden),
            self._recipe(steps),
            stage=stage,
            score=self._score,
        )

    def _loss(self, batch: Batch, hidden: bool) -> Tensor:
        config, output = self.config, self.model(**batch.inputs, output_hidden_states=hidden)
        logits = self.targets.logits[batch.index].to(output.logits.device)
        loss = taught(
            output.logits, logits, batch.labels, self.task.kind, config.distill_temperature, config.distill_loss_weight
        )
        if hidden:
            loss = loss + config.hidden_loss_weight * self.targets.distance(self.model, batch, output)
        return loss

    def _score(self) -> float:
        return dev_score(self.model, self.task, self.dev)


def _refuse_what_cannot_be_cut(model: Any, config: CompressionConfig) -> None:
    """ConfigError, before any training, where a part was cut before in a way that it cannot be cut again."""
    cut = architectures.made_smaller(model)
    for before, knobs in CUT_ONCE.items():
        asked = [knob for knob in knobs if getattr(config, knob)]
        if before in cut and asked:
            raise ConfigError(
                f"The model was compressed before, with {before}, and {' and '.join(asked)} cannot follow that: set "
                f"{'it' if len(asked) == 1 else 'them'} to null (pruning_ratio to 0), or start from the teacher."
            )
    rank = config.embedding_rank
    if rank and rank >= (width := architectures.word_embedding(model).embedding_dim):
        raise ConfigError(f"embedding_rank is {rank}, and the embedding {width} wide: give less.")


def _without_dropout(model: Any) -> Any:
    """The same model, which drops nothing in training."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "attention_dropout", None), float):  # as GLM has it
            module.attention_dropout = 0.0
    return model
