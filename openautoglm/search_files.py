"""`openautoglm search`: from a model folder, two tables and two budgets to a config that compress replays.

out/costs.json     the cost table of this machine       out/trials.jsonl   every trial, as it ended
out/config.json    what was found                       out/search.json    what was asked, found and tried
out/asked.json     what was asked, and of what: other trials are not mixed with these
out/checkpoints/   the trial that a kill interrupted
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import torch

from leaderboard.aside import replacing
from openautoglm.artifact import refuse_foreign
from openautoglm.compressor import BATCH_SIZE, AutoCompressor
from openautoglm.config import CompressionConfig, read_config
from openautoglm.cost_table import Widths
from openautoglm.distillation.data import encode
from openautoglm.distillation.fit import TrainingError
from openautoglm.distillation.session import Session, open_session
from openautoglm.errors import UserError
from openautoglm.latency import Bench, of_codes, table_of
from openautoglm.proxy import Proxy
from openautoglm.recommend import code_counts, machine, refuse_compressed
from openautoglm.search import Embedding, Journal, Ladder, Limits, Space, Stage, Trial
from openautoglm.student import Teacher
from openautoglm.task import Budget, Task
from openautoglm.task_files import TaskFiles, digest
from openautoglm.teachers import as_teacher

VOCABULARIES: tuple[int | None, ...] = (4000, 8000, 16000, None)
RANKS: tuple[int | None, ...] = (None, 64)
FAMILIES = ("bert", "distilbert", "glm", "roberta")  # ALBERT's sub-layers cannot be dropped
TRAINING = 4.0  # a pass over a text with gradients, in passes without


def search_files(
    model: str,
    files: TaskFiles,
    out: Path,
    *,
    latency: float,
    size: float,
    seconds: float = 3600.0,
    trials: int = 200,
    epochs: float = 2.0,
    length: int | None = None,
    config: Path | None = None,
    seed: int = 0,
) -> str:
    """Search within `latency` milliseconds and `size` bytes, write `out`, and tell in words what was found.

    UserError for what a user can mend: options, files, budgets that nothing fits.
    """
    given = {"latency": latency, "size": size, "seconds": seconds, "trials": trials, "epochs": epochs}
    for name, value in given.items():
        if not 0 < value < math.inf:
            raise UserError(f"--{name} {value}: give more than 0.")
    if not find_spec("optuna"):
        raise UserError("search needs optuna, which is not installed: pip install '.[search]'")
    refuse_foreign(out, "asked.json")
    base = read_config(config)
    _refuse_unpriced(base)
    teacher = as_teacher(model)
    _refuse_other_families(teacher)
    refuse_compressed(teacher)
    task = files.task(teacher)
    if length is not None and not 4 <= length <= task.max_length:
        raise UserError(f"--length {length}: give 4 to {task.max_length} word pieces, the longest text's.")
    out.mkdir(parents=True, exist_ok=True)
    try:
        return Search(teacher, task, base, out, Limits(latency, size, length or _typical(teacher, task))).run(
            seconds=seconds, trials=trials, epochs=epochs, seed=seed
        )
    except ValueError as error:  # a busy machine; what a step of a trial does not know
        raise UserError(str(error)) from None


def _refuse_unpriced(base: CompressionConfig) -> None:
    """The cost table knows one format for each group of layers, and whole linears."""
    asked = [knob for knob in ("mixed_precision_loss", "linear_rank_share") if getattr(base, knob) is not None]
    if layered := [part for part in base.precision if "." in part]:
        asked.append(f"precision of {', '.join(layered)}")
    if asked:
        raise UserError(f"search cannot tell the cost of {' and '.join(asked)}: leave it out of --config.")


def _refuse_other_families(teacher: Teacher) -> None:
    if (found := teacher.model.config.model_type) not in FAMILIES:
        raise UserError(
            f"search drops sub-layers, which {found} does not allow; supported: {', '.join(FAMILIES)}. "
            "Choose a config by hand, or with `openautoglm recommend`."
        )


def _short_s(cheap: Sequence[Trial], train: int, judging: int) -> float:
    """What a short trial may take: a usual judgement's time a text, training's share more."""
    judged = [trial.seconds for trial in cheap if trial.structure is not None]
    return TRAINING * statistics.median(judged) * train / judging if judged else 0.0


def _typical(teacher: Teacher, task: Task) -> int:
    return round(statistics.median(map(len, encode(teacher.tokenizer, task.train, task.max_length).ids)))


class Search:
    """One search: the library's judge and trainer on the ladder."""

    def __init__(self, teacher: Teacher, task: Task, base: CompressionConfig, out: Path, limits: Limits) -> None:
        self.teacher, self.task, self.base, self.out, self.limits = teacher, task, base, out, limits

    def run(self, *, seconds: float, trials: int, epochs: float, seed: int) -> str:
        """Climb the ladder within the time, the cost table included; words for the terminal."""
        asked = {"limits": asdict(self.limits), "seed": seed, "epochs": epochs, "base": self.base.model_dump()}
        self._same(asked)
        start = time.monotonic()
        codes = code_counts(self.teacher, self.base.whole_rows)
        bench = Bench(
            self.teacher,
            self.task,
            self.base.plan(),
            vocabularies=VOCABULARIES,
            ranks=RANKS,
            codes=codes,
            whole_rows=self.base.whole_rows,
        )
        table = table_of(bench, self.out / "costs.json", self.limits.length)
        journal = Journal(self.out / "trials.jsonl")
        proxy = Proxy(self.teacher, self.task, whole_rows=self.base.whole_rows)
        if len(journal.of("cheap")) < trials:
            proxy.prepare()
        sizes = {asked: bench.pieces(asked) for asked in VOCABULARIES}
        forms = {
            _name(form): form
            for form in [
                *(Embedding(asked, rank) for asked in VOCABULARIES for rank in RANKS),
                *(Embedding(size, None, n) for size in sizes if sizes[size] > self.base.whole_rows for n in codes),
            ]
        }
        space = Space(
            {count: of_codes(table, count) for count in (None, *codes)},
            self.limits,
            forms,
            lambda weights, last: proxy.choices(table, self.limits.length, weights, last),
            bench.layers,
            sizes,
        )
        ladder = Ladder(
            space,
            journal,
            judge=lambda structure, form: proxy.loss(structure, *form),
            train=lambda structure, form, stage: self._train(
                structure, form, stage, 1.0 if stage == "short" else epochs, seed
            ),
            seconds=seconds - (time.monotonic() - start),
            trials=trials,
            seed=seed,
            epochs=epochs,
            short_s=lambda: _short_s(journal.of("cheap"), len(self.task.train), len(proxy.judging)),
        )
        best = ladder.run()
        if best is None or best.structure is None:
            least = [space.costs([Widths(0, 0)] * bench.layers, name) for name in forms]
            raise UserError(
                f"Nothing fits {self.limits.ms:.3g} ms and {self.limits.bytes / 1e6:.3g} MB, or no time was left to "
                f"try: without any layer a model takes {min(ms for ms, _ in least):.3g} ms "
                f"and {min(size for _, size in least) / 1e6:.3g} MB. Raise --latency, --size or --seconds."
            )
        return self._write(best, journal, forms[best.params["form"]], asked)

    def config(self, structure: Sequence[Widths], form: Embedding) -> CompressionConfig:
        """The config of a candidate: what was searched over the base."""
        found = {"structure": [list(layer) for layer in structure], **form._asdict()}
        return read_config(self.base.model_dump() | found)

    def _train(self, structure: list[Widths], form: Embedding, stage: Stage, epochs: float, seed: int) -> float | None:
        """The score on dev, None where it diverged. Killed, the same trial goes on from its checkpoints."""
        config, budget = self.config(structure, form), Budget.of(epochs, self.task, BATCH_SIZE)
        checkpoints = self._checkpoints(stage, config)
        torch.manual_seed(seed)
        scores: dict[str, float] = {}
        with suppress(TrainingError), open_session(Session(seed, checkpoints)):
            scores = AutoCompressor(self.teacher, config).run(self.task, budget).evaluate(self.task.dev)
        shutil.rmtree(checkpoints, ignore_errors=True)
        return scores.get(self.task.metrics[0])

    def _checkpoints(self, stage: Stage, config: CompressionConfig) -> Path:
        """All else that a trial is made from is the same for all of this folder."""
        candidate = hashlib.sha256(json.dumps(config.model_dump()).encode()).hexdigest()[:16]
        return self.out / "checkpoints" / f"{stage}-{candidate}"

    def _same(self, asked: dict[str, Any]) -> None:
        """Trials of other budgets, settings, models or texts are not mixed with these."""
        path, whole = self.out / "asked.json", asked | {"of": digest(self.teacher, self.task)}
        if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(whole)):
            raise UserError(
                f"{self.out} holds a search with other settings, or of another model or other texts ({path.name}). "
                "Give a new --out."
            )
        with replacing(path) as aside:
            aside.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")

    def _write(self, best: Trial, journal: Journal, form: Embedding, asked: dict[str, Any]) -> str:
        assert best.structure
        # null is said, too: the config may be laid over another one, which has a value there
        found = self.config(best.structure, form).model_dump(exclude_defaults=True) | form._asdict()
        trials = [asdict(trial) for trial in journal.trials]
        report = {"machine": machine(), "asked": asked, "best": asdict(best), "trials": trials}
        for name, content in (("config.json", found), ("search.json", report)):
            with replacing(self.out / name) as aside:
                aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        diverged = sum(t.stage != "cheap" and t.dev_score is None for t in journal.trials)
        if best.dev_score is not None:
            judged = f"dev score {best.dev_score:.4f} after a {best.stage} trial"
        else:
            untrained = "each that was trained diverged" if diverged else "no time was left to train"
            judged = f"loss {best.loss:.3g} without training ({untrained})"
        cheap, short, full = (len(journal.of(stage)) for stage in get_args(Stage))
        return (
            f"{cheap} cheap, {short} short and {full} full trials"
            f"{f', of which {diverged} diverged' if diverged else ''}. "
            f"The best: {best.ms:.3g} ms and {(best.bytes or 0) / 1e6:.3g} MB predicted, {judged}.\n"
            f"Written: {self.out}/config.json, for `openautoglm compress --config`."
        )


def _name(form: Embedding) -> str:
    size, rank, codes = form
    return f"{size or 'all'} pieces, " + (f"rank {rank}" if rank else f"{codes} codes" if codes else "whole rows")
