"""A config for a budget of bytes and milliseconds, from models of a few shapes measured on this machine.

Neither size nor speed depends on what a model has learnt, so a few artifacts with random weights tell both: of the
encoder at a few widths, of the embedding in a few forms, and the line between them; in 4 bits the bytes alone, for they
are computed in INT8. The range of the prediction is how far it was off for unevenly thinned models, measured too.
Accuracy is not predicted: only compressing tells it.
"""

from __future__ import annotations

import json
import os
import platform
import random
import statistics
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from leaderboard.aside import replacing
from openautoglm import architectures, vocabulary
from openautoglm.config import CompressionConfig
from openautoglm.cost_table import Form, Widths
from openautoglm.errors import UserError
from openautoglm.latency import Bench, interleaved
from openautoglm.student import Teacher
from openautoglm.summary import size_in_words
from openautoglm.task import Split, Task
from openautoglm.task_files import most_pieces
from openautoglm.teachers import as_teacher

SHARES = (0.05, 0.3, 0.6, 1.0)  # of heads and neurons, at which the encoder is measured
INT8: dict[str, str] = {}  # as by default
INT4 = {"embedding": "int4", "attention": "int4", "ffn": "int4", "head": "int4"}
CHECKED = (0.15, 0.45, 0.8)  # and at which unevenly thinned models are compared with the prediction
INT8_FLAGS = ("avx512_vnni", "avx_vnni", "amx_int8", "i8mm", "asimddp")


@dataclass(frozen=True)
class Expected:
    """What a config is expected to give, with the range of the errors that the prediction made elsewhere."""

    bytes: float
    latency_ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True)
class Recommendation:
    """The mildest config that meets the budget; where none does, the one that comes nearest (`met` is False)."""

    config: dict[str, Any]
    expected: Expected
    met: bool
    budget: str
    machine: str
    length: int

    def words(self) -> str:
        """For the terminal."""
        e = self.expected
        verdict = "This config is expected to meet it" if self.met else "No config meets it. The nearest"
        return (
            f"Machine: {self.machine}\nBudget: {self.budget}\n{verdict}:\n{json.dumps(self.config, indent=1)}\n"
            f"Expected: {size_in_words(e.bytes)} for the whole artifact, {e.latency_ms:.2f} ms a text "
            f"({e.low_ms:.2f} to {e.high_ms:.2f}), texts of {self.length} word pieces, one thread.\n"
            "A prediction from models of a few shapes with random weights, measured now; the range is that of its\n"
            f"errors on {len(CHECKED)} unevenly thinned ones. Accuracy is not predicted: compress, and see the score."
        )

    def write(self, path: Path) -> None:
        """The config as JSON, for `compress --config`."""
        with replacing(path) as aside:
            aside.write_text(json.dumps(self.config, indent=1) + "\n", encoding="utf-8")


def recommend(model: Any, *, memory: float | None, latency_ms: float | None, length: int = 32) -> Recommendation:
    """The mildest config for an artifact of at most `memory` bytes and `latency_ms` a text of `length` word pieces."""
    if memory is None and latency_ms is None:
        raise UserError("No budget: give --memory, --latency, or both.")
    teacher = as_teacher(model)
    refuse_compressed(teacher)
    configs = list(ladder(teacher))
    try:
        parts = Parts(teacher, length, configs)
    except ValueError as error:  # a family that has no thinner copies, a cost that cannot be told
        raise UserError(f"The model's parts could not be measured: {error}") from None
    candidates = [(config, parts.expected(config)) for config in configs]
    limits = (memory or float("inf"), latency_ms or float("inf"))

    def excess(expected: Expected) -> float:
        """By how much the worse of the two budgets is missed: 1 meets it exactly, or less."""
        return max(expected.bytes / limits[0], expected.high_ms / limits[1])

    config, expected = next((c for c in candidates if excess(c[1]) <= 1), None) or min(
        candidates, key=lambda c: excess(c[1])
    )
    budget = [size_in_words(memory)] if memory else []
    budget += [f"{latency_ms:g} ms a text"] if latency_ms else []
    return Recommendation(config, expected, excess(expected) <= 1, " and ".join(budget), machine(), length)


def refuse_compressed(teacher: Teacher) -> None:
    """UserError for a student: costs are told of models whose layers are alike and whose embedding is whole."""
    if cut := architectures.made_smaller(teacher.model):
        raise UserError(f"The model was compressed before (its config has {', '.join(cut)}): give its teacher.")


def ladder(teacher: Teacher) -> Iterator[dict[str, Any]]:
    """Configs in the order in which to try them, from the mildest.

    First what was measured to cost no score: a third of the encoder, then 4 bits instead of 8. Then what costs little:
    more of the encoder, and product codes for the rarer pieces. The vocabulary's own pieces and the last fifth of the
    encoder go only at the end. Every config is complete but for defaults.
    """
    pieces, trims = teacher.model.config.vocab_size, _trims(teacher)
    small, smaller = (size if size < pieces and trims else None for size in (16000, 8000))
    fine, coarse = (code_counts(teacher) if trims else []) or (None, None)
    rungs: list[tuple[int | None, int | None, dict[str, str], float, float]] = [
        (None, None, INT8, 0.0, 0.3),
        (None, None, INT4, 0.3, 0.4),
        (None, fine, INT4, 0.3, 0.6),
        (small, coarse, INT4, 0.6, 0.8),
        (smaller, coarse, INT4, 0.8, 0.95),
    ]
    for size, codes, precision, low, high in rungs:
        for ratio in np.arange(low, high + 0.001, 0.05):
            yield {
                "pruning_ratio": round(float(ratio), 2),
                "vocabulary_size": size,
                "embedding_codes": codes,
                "precision": precision,
            }


def code_counts(teacher: Teacher, whole_rows: int = CompressionConfig().whole_rows) -> list[int]:
    """Bytes of a coded piece, finer and coarser: the embedding's width by 8 and by 12, or the next fewer that cut it
    evenly. None where most pieces would keep whole rows.
    """
    width, pieces = architectures.word_embedding(teacher.model).embedding_dim, teacher.model.config.vocab_size
    if pieces <= 2 * whole_rows:
        return []
    most = (max(1, width // share) for share in (8, 12))
    return [next(count for count in range(start, 0, -1) if width % count == 0) for start in most]


def _trims(teacher: Teacher) -> bool:
    try:
        vocabulary.trim(teacher.tokenizer, [], teacher.model.config.vocab_size)
    except ValueError:
        return False
    return True


class Parts:
    """Measured costs: of the encoder by the share of it that is kept, of the rest by the form of the embedding."""

    def __init__(self, teacher: Teacher, length: int, configs: Sequence[dict[str, Any]]) -> None:
        task = _task(teacher, length)
        sizes = {config["vocabulary_size"] for config in configs}
        codes = sorted({config["embedding_codes"] or 0 for config in configs})
        ends = [None, *([min(s for s in sizes if s)] if any(sizes) else [])]
        plan = CompressionConfig().plan()
        self.bench = Bench(teacher, task, plan, vocabularies=ends, codes=[count or None for count in codes])
        texts = {i: partial(teacher.tokenizer.encode, text) for i, text in enumerate(task.dev.texts[:64])}
        self.tokenize_ms = statistics.mean(interleaved(texts, 3, 1).values())
        draw = random.Random(0)
        uneven = [self._uneven(draw, share) for share in CHECKED]
        first = self.bench.forms[0]
        even = [(self._even(share), first) for share in SHARES]
        models = [*even, *((self._even(SHARES[0]), form) for form in self.bench.forms)]
        costs = self.bench.costs([*models, *((structure, first) for structure in uneven)])
        self.ms = np.array([cost.ms[-1] for cost in costs])
        self.bytes = {_key(INT8): [cost.bytes for cost in costs]}
        if any(config["precision"] == INT4 for config in configs):
            packed = copy(self.bench)
            packed.plan = plan | INT4
            self.bytes[_key(INT4)] = list(map(float, packed.sizes(models)))
        predicted = [self.cost(self._share(structure), first, INT8)[0] for structure in uneven]
        real = self.ms[len(models) :] + self.tokenize_ms
        self.errors = [p / ms - 1 for p, ms in zip(predicted, real, strict=True)]

    def expected(self, config: dict[str, Any]) -> Expected:
        """What a config gives, all layers thinned alike."""
        pieces = config["vocabulary_size"] or self.bench.config["vocab_size"]
        form = Form(0, pieces, config["embedding_codes"] or 0)
        ms, size = self.cost(1 - config["pruning_ratio"], form, config["precision"])
        return Expected(size, ms, ms / (1 + max(0.0, *self.errors)), ms / (1 + min(0.0, *self.errors)))

    def cost(self, share: float, form: Form, precision: dict[str, str]) -> tuple[float, float]:
        """Milliseconds from text to label, and bytes: on the lines between what was measured."""
        ms = self._sum(self.ms, share, form) + self.tokenize_ms
        return ms, self._sum(self.bytes[_key(precision)], share, form)

    def _sum(self, measured: Sequence[float] | np.ndarray, share: float, form: Form) -> float:
        """The encoder's part by its share, and by the embedding's form what it has beyond that of the first form."""
        curve = measured[: len(SHARES)]
        fixed = dict(zip(self.bench.forms, measured[len(SHARES) :], strict=False))
        ends = sorted(known.pieces for known in fixed if known.codes == form.codes)
        embedding = np.interp(form.pieces, ends, [fixed[Form(0, pieces, form.codes)] for pieces in ends])
        return float(np.interp(share, SHARES, curve) + embedding - fixed[self.bench.forms[0]])

    def _even(self, share: float) -> list[Widths]:
        return [self._widths(share)] * self.bench.layers

    def _uneven(self, draw: random.Random, share: float) -> list[Widths]:
        return [self._widths(min(1.0, share * draw.uniform(0.4, 1.6))) for _ in range(self.bench.layers)]

    def _widths(self, share: float) -> Widths:
        full = self.bench.full
        return Widths(max(1, round(share * full.heads)), max(1, round(share * full.neurons)))

    def _share(self, structure: Sequence[Widths]) -> float:
        """The share of the encoder's weights."""
        full, layer = self.bench.full, architectures.layers(self.bench.teacher.model)[0]
        attention, ffn = layer.attention.unit_weights, layer.ffn.unit_weights
        weights = sum(w.heads * attention + w.neurons * ffn for w in structure)
        return weights / (len(structure) * (full.heads * attention + full.neurons * ffn))


def _key(precision: dict[str, str]) -> str:
    return "int4" if precision else "int8"


def _task(teacher: Teacher, length: int) -> Task:
    """Texts of the vocabulary's own words, about `length` word pieces each: times do not depend on what a text says."""
    config, tokenizer = teacher.model.config, teacher.tokenizer
    if not 4 <= length <= (most := most_pieces(config)):
        raise UserError(f"--length {length}: give 4 to {most} word pieces.")
    words = [tokenizer.decode([i]) for i in range(tokenizer.get_vocab_size())]
    words = [word.strip() for word in words if word.strip() and not word.startswith("##")]
    random.Random(0).shuffle(words)
    texts = tuple(" ".join(words[i : i + length - 2]) for i in range(0, len(words), length - 2))
    kind = "regression" if config.num_labels == 1 else "classification"
    split = Split(texts, np.zeros(len(texts), dtype=np.float32 if kind == "regression" else np.int64))
    names = tuple(map(str, range(config.num_labels))) if kind == "classification" else ()
    metric = "pearson" if kind == "regression" else "accuracy"
    return Task("recommend", kind, names, (metric,), length, split, split)  # type: ignore[arg-type]


def machine() -> str:
    """Cores, memory, and whether the processor multiplies bytes: what a model has here."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except (OSError, ValueError, AttributeError):
        return f"{platform.machine()}, {cores} cores"
    fast = [flag for flag in INT8_FLAGS if flag in text.split()]
    note = (
        f"multiplies bytes ({', '.join(fast)})" if fast else "has no byte multiplication: INT8 saves space, little time"
    )
    return f"{platform.machine()}, {cores} cores, {memory:.1f} GiB; {note}"
