"""The cost table of this machine, measured in seconds and checked against whole models.

Every cell comes from real artifacts: one width is varied around a model of half the teacher's widths,

    cost(3 heads) = (cost(inner layers of 3 heads and the middle FFN) - cost(of the middle FFN alone)) / inner layers

so exporter, quantizer and runtime are those that deploy the student, and neither the overhead of a call nor the name of
a weight is forgotten. Milliseconds are CPU time of the calling thread, which is all that a single-threaded call uses:
its wall time on a free core, and hardly more on a busy one.
"""

from __future__ import annotations

import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from openautoglm import architectures, artifact, cost_table, vocabulary
from openautoglm.config import CompressionConfig
from openautoglm.cost_table import Cost, Form, LatencyError, Structure, Table, Widths
from openautoglm.runtime import Predictor
from openautoglm.student import Student, Teacher
from openautoglm.task import Split, Task

LENGTHS = (16, 32, 64, 128)
HEADS, NEURONS = (0, 1 / 4, 1 / 2, 3 / 4, 1), (1 / 24, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1)  # shares of the teacher's
ROUNDS, CALLS = 11, 4  # turns of each model, and timed calls a turn
ATTEMPTS = 3
TOLERANCE, CHECKED = 0.10, 20  # a sum that errs more, on so many random whole models, is not used

Model = tuple[Structure, Form]


class Bench:
    """Builds and times whole models of any structure, with random weights: neither speed nor size depends on them.

    Vocabularies with ranks and codes (None: full, whole rows) are the forms of embedding that costs will be asked for,
    or their ends. whole_rows: beside codes, as in the config.
    """

    def __init__(
        self,
        teacher: Teacher,
        task: Task,
        plan: Mapping[str, str],
        *,
        vocabularies: Sequence[int | None] = (None,),
        ranks: Sequence[int | None] = (None,),
        codes: Sequence[int | None] = (None,),
        whole_rows: int = CompressionConfig().whole_rows,
    ) -> None:
        self.teacher, self.task, self.plan, self.whole_rows = teacher, task, dict(plan), whole_rows
        # an export is checked text by text, each with all weights rounded anew: for a random model two are enough
        self._export_task = replace(task, dev=Split(task.dev.texts[:2], task.dev.labels[:2]))
        self.config: dict[str, Any] = teacher.model.config.to_dict()
        layers = architectures.layers(teacher.model)
        self.full = Widths(max(layer.heads for layer in layers), max(layer.neurons for layer in layers))
        self.layers = len(layers)
        self.lengths = tuple(sorted({n for n in LENGTHS if n < task.max_length} | {task.max_length}))
        trimmed = {size: self._trimmed(size) for size in vocabularies}
        self._sizes = {size: pieces for size, (pieces, _) in trimmed.items()}
        self.tokenizers = dict(trimmed.values())
        kinds = dict.fromkeys([*((rank or 0, 0) for rank in ranks), *((0, count) for count in codes if count)])
        self.forms = [Form(rank, pieces, count) for rank, count in kinds for pieces in self.tokenizers]

    def pieces(self, size: int | None) -> int:
        """Word pieces of the measured vocabulary that was cut to `size`."""
        return self._sizes[size]

    def _trimmed(self, size: int | None) -> tuple[int, Any]:
        """Word pieces that a vocabulary cut to `size` really has, and its tokenizer."""
        if size is None or size >= self.config["vocab_size"]:
            return self.config["vocab_size"], self.teacher.tokenizer
        tokenizer, kept = vocabulary.trim(self.teacher.tokenizer, self.task.train.texts, size)
        return len(kept), tokenizer

    def facts(self) -> dict[str, Any]:
        """What the costs depend on. JSON types only, so that a saved table's can be compared."""
        formats = ("plan", "four_bits", "int8", "coded_rows", "beside")
        graphs = ("onnx_graph", "fusions", "embedding_tables", "slim")
        code = ("export.py", "runtime.py", *(f"quantization/{name}.py" for name in (*formats, *graphs)))
        sizes = {
            "hidden_size": self.teacher.model.config.hidden_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.full.heads,
            "intermediate_size": self.full.neurons,
            "vocab_size": self.config["vocab_size"],
        }
        return {
            "processor": _processor(),
            "onnxruntime": version("onnxruntime"),
            "code": [artifact.file_sha256(Path(__file__).parent / name)[:12] for name in code],
            "family": self.config["model_type"],
            "teacher": sizes,
            "task": [self.task.name, self.task.max_length, self.task.outputs],
            "forms": [list(form) for form in self.forms],
            "whole_rows": self.whole_rows,
            "plan": self.plan,
        }

    def export(self, structure: Structure, form: Form, folder: Path) -> Path:
        """A random model of this structure and form of embedding, as an artifact of the plan."""
        from openautoglm.export import export

        pad = self.config.get("pad_token_id")
        config = self.config | {
            "vocab_size": form.pieces,
            "embedding_rank": form.rank or None,
            "embedding_codes": form.codes or None,
            "whole_rows": min(self.whole_rows, form.pieces - 1) if form.codes else None,
            "pad_token_id": pad and min(pad, form.pieces - 1),
            "num_labels": self.task.outputs,
            "slices": [layer._asdict() for layer in structure],
        }
        model = architectures.build(config)
        architectures.trim_positions(model, self.task.max_length)
        for parameter in model.parameters():  # no two alike, for equal ones are stored once
            torch.nn.init.normal_(parameter, std=0.02)
        if form.codes:  # drawn, too: zeros would pack to nothing
            table = architectures.word_embedding(model)
            table.codes.random_(table.centroids)
        return export(Student(model, self.tokenizers[form.pieces], self.plan), "onnx-plan", folder, self._export_task)

    def sizes(self, models: Sequence[Model]) -> list[int]:
        """The bytes of each whole model's artifact."""
        with tempfile.TemporaryDirectory() as scratch:
            return [artifact.size(self.export(*model, Path(scratch) / str(i))) for i, model in enumerate(models)]

    def costs(self, models: Sequence[Model]) -> list[Cost]:
        """The cost of each whole model, without tokenisation: exported, then timed in interleaved rounds."""
        with tempfile.TemporaryDirectory() as scratch:
            folders = [self.export(*model, Path(scratch) / str(i)) for i, model in enumerate(models)]
            sizes = [artifact.size(folder) for folder in folders]
            sessions = [Predictor(folder).session for folder in folders]
        calls = {(i, n): _call(session, n) for i, session in enumerate(sessions) for n in self.lengths}
        ms = interleaved(calls, ROUNDS, CALLS)
        return [Cost(tuple(ms[i, n] for n in self.lengths), size) for i, size in enumerate(sizes)]

    def random_structure(self, draw: random.Random) -> list[Widths]:
        """A quarter of the sub-layers dropped, the others of any width."""

        def width(full: int) -> int:
            return 0 if draw.random() < 0.25 else draw.randint(1, full)

        return [Widths(width(self.full.heads), width(self.full.neurons)) for _ in range(self.layers)]


def table_of(bench: Bench, path: Path, length: int) -> Table:
    """The table saved at `path` where it is of this machine and bench, else a fresh one that passed its check.

    LatencyError where the sum of parts errs by more than TOLERANCE for texts of `length` word pieces, which structures
    are chosen for: then none should be chosen by it.
    """
    found = cost_table.load(path)
    if found and found.facts == bench.facts():
        return found
    for _ in range(ATTEMPTS):
        table, check = measure(bench)
        if (worst := check.worst_ms(table.lengths, length)) <= TOLERANCE:
            table.save(path)
            return table
    raise LatencyError(
        f"The cost table errs by up to {worst:.0%} on {CHECKED} whole models, and {TOLERANCE:.0%} is allowed. "
        "Is the machine busy? Try again when it is quiet."
    )


@dataclass(frozen=True)
class Check:
    """predicted / real - 1 of random whole models: of the time of each at each length, and of the size of each."""

    ms: list[tuple[float, ...]]  # a model, by length
    bytes: list[float]

    def worst_ms(self, lengths: Sequence[int], length: int) -> float:
        """The largest error of a time at `length`, whatever its sign; in between, errors are as those of `lengths`."""
        return max((abs(float(np.interp(length, lengths, model))) for model in self.ms), default=0.0)


def measure(bench: Bench, *, checked: int = CHECKED, seed: int = 0) -> tuple[Table, Check]:
    """The table of this machine, beside random whole models of any widths, dropped sub-layers and form of embedding.

    All are timed in the same rounds, so that a machine that slows down does so for both sides.
    """
    full, inner = bench.full, bench.layers - 1
    heads = sorted({max(1, round(share * full.heads)) for share in HEADS})
    neurons = sorted({max(1, round(share * full.neurons)) for share in NEURONS})
    middle, none = Widths(heads[len(heads) // 2], neurons[len(neurons) // 2]), Widths(0, 0)
    structures = {"middle": [middle] * bench.layers, "empty": [none] * bench.layers}
    structures |= {f"heads {h}": [Widths(h, middle.neurons)] * inner + [middle] for h in (0, *heads)}
    structures |= {f"neurons {n}": [Widths(middle.heads, n)] * inner + [middle] for n in (0, *neurons)}
    structures |= {f"last heads {h}": [none] * inner + [Widths(h, 0)] for h in heads}
    structures |= {f"last neurons {n}": [none] * inner + [Widths(middle.heads, n)] for n in neurons}
    cells: list[Model] = [(structure, bench.forms[0]) for structure in structures.values()]
    cells += [([none] * bench.layers, form) for form in bench.forms[1:]]
    draw = random.Random(seed)
    whole: list[Model] = [(bench.random_structure(draw), draw.choice(bench.forms)) for _ in range(checked)]
    costs = bench.costs([*cells, *whole])
    found = dict(zip(structures, costs, strict=False))

    def parts(name: str, widths: Sequence[int], without: str, count: int) -> dict[int, Cost]:
        return {w: _sum([(1 / count, found[f"{name} {w}"]), (-1 / count, found[without])]) for w in widths}

    table = Table(
        facts=bench.facts(),
        lengths=bench.lengths,
        attention=parts("heads", heads, "heads 0", max(1, inner)),
        ffn=parts("neurons", neurons, "neurons 0", max(1, inner)),
        last_attention=parts("last heads", heads, "empty", 1),
        last_ffn=parts("last neurons", neurons, f"last heads {middle.heads}", 1),
        fixed=dict(zip(bench.forms, [found["empty"], *costs[len(structures) : len(cells)]], strict=True)),
        tokenize_ms=_tokenize_line(bench.tokenizers[bench.forms[0][1]], bench.task.train.texts[:256]),
    )
    # What sub-layers cost one another (caches) counts as fixed, so that the sum is right for the middle model.
    alone = [(-1, table.attention[middle.heads]), (-1, table.ffn[middle.neurons])]
    last = [(-1, table.last_attention[middle.heads]), (-1, table.last_ffn[middle.neurons])]
    between = _sum([(1, found["middle"]), (-1, found["empty"]), *last, *alone * inner])
    fixed = {form: _sum([(1, cost), (1, between)]) for form, cost in table.fixed.items()}
    table = replace(table, fixed=fixed)
    return table, _errors(table, whole, costs[len(cells) :])


def of_codes(table: Table, codes: int | None) -> Table:
    """The table of embeddings with so many codes a piece (none: whole rows), of which its sums then are."""
    fixed = {form._replace(codes=0): cost for form, cost in table.fixed.items() if form.codes == (codes or 0)}
    return replace(table, fixed=fixed)


def _sum(terms: Sequence[tuple[float, Cost]]) -> Cost:
    ms = tuple(sum(weight * cost.ms[i] for weight, cost in terms) for i in range(len(terms[0][1].ms)))
    return Cost(ms, sum(weight * cost.bytes for weight, cost in terms))


def _errors(table: Table, models: Sequence[Model], real: Sequence[Cost]) -> Check:
    table = replace(table, tokenize_ms=(0.0, 0.0))  # sessions were timed without it
    ms, size = [], []
    for (structure, form), cost in zip(models, real, strict=True):
        coded = of_codes(table, form.codes)
        size.append(coded.bytes_of(structure, form.pieces, form.rank) / cost.bytes - 1)
        predicted = [coded.predict(structure, length, form.rank) for length in table.lengths]
        ms.append(tuple(p / t - 1 for p, t in zip(predicted, cost.ms, strict=True)))
    return Check(ms, size)


def interleaved(calls: Mapping[Any, Callable[[], Any]], rounds: int, count: int) -> dict[Any, float]:
    """Median CPU milliseconds of each call: `count` timed calls a turn after a warm one, turns in a shuffled order."""
    taken: dict[Any, list[float]] = {key: [] for key in calls}
    order = list(calls)
    for i in range(rounds):
        random.Random(i).shuffle(order)
        for key in order:
            calls[key]()
            for _ in range(count):
                start = time.thread_time_ns()
                calls[key]()
                taken[key].append((time.thread_time_ns() - start) / 1e6)
    return {key: statistics.median(values) for key, values in taken.items()}


def _call(session: Any, length: int) -> Callable[[], Any]:
    ids = 1 + np.arange(length, dtype=np.int64)[None] % 50
    mask = np.ones_like(ids)
    return lambda: session(ids, mask)


def _tokenize_line(tokenizer: Any, texts: Sequence[str]) -> tuple[float, float]:
    """Milliseconds of tokenisation as a line in the number of word pieces, through the shorter and the longer half."""
    ms = interleaved({i: partial(tokenizer.encode, text) for i, text in enumerate(texts)}, 3, 1)
    points = sorted((len(tokenizer.encode(text).ids), ms[i]) for i, text in enumerate(texts))
    half = len(points) // 2
    (x0, y0), (x1, y1) = (map(statistics.median, zip(*side, strict=True)) for side in (points[:half], points[half:]))
    slope = max(0.0, (y1 - y0) / (x1 - x0)) if x1 > x0 else 0.0
    return max(0.0, y0 - slope * x0), slope


@cache
def _processor() -> str:
    """The processor's name, family, model and flags on Linux; its name elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("model name", "cpu family", "model\t", "flags", "Features")
    return "; ".join(" ".join(line.split()) for line in lines if line.startswith(wanted))
