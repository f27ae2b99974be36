"""The search: which structure and embedding keep most of the teacher within a latency and a byte budget.

A ladder of trials, dearer at each rung:

    cheap   the teacher cut and refitted, no training (openautoglm.proxy): hundreds, by Optuna's TPE
    short   the best few, one pass of distillation: their score on dev
    full    the best two of these, all passes

Optuna does not draw widths: it draws how much each sub-layer's loss weighs, and the knapsack turns these weights into
the best structure of exactly the budget (Kurtic et al. 2023, ZipLM, arXiv 2302.04089, section 3.2; Frantar & Alistarh
2022, SPDY, arXiv 2201.11096). So every structure that is tried fits, and the first trials, all weights 1, are the warm
starts.

Every finished trial is a line of trials.jsonl; the same call goes on behind the last one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from leaderboard.aside import replacing
from openautoglm.cost_table import Table, Widths
from openautoglm.knapsack import Infeasible, Level, solve

Stage = Literal["cheap", "short", "full"]
CHEAP_SHARE = 0.4  # of the time, at most, for cheap trials
SHORT, FULL = 5, 2  # candidates on the dearer rungs
SHARES = (1.0, 0.75, 0.5)  # of the budgets that the sub-layers are given: what would less cost?
REACH = 3.0  # weights are drawn from 2^-3 to 2^3


class Embedding(NamedTuple):
    """A form of the word embedding, in the words of the config; None: all pieces, full rank, whole rows."""

    vocabulary_size: int | None = None
    embedding_rank: int | None = None
    embedding_codes: int | None = None


@dataclass(frozen=True)
class Limits:
    """The budgets: milliseconds from a text of `length` word pieces to its logits, and bytes of the whole artifact."""

    ms: float
    bytes: float
    length: int


@dataclass(frozen=True)
class Trial:
    """One finished trial. What it did not measure is None; an infeasible one has neither structure nor loss."""

    stage: Stage
    number: int  # of the cheap trial that drew the candidate
    params: dict[str, Any]
    structure: list[Widths] | None
    ms: float | None
    bytes: float | None
    loss: float | None
    dev_score: float | None
    seconds: float

    @property
    def candidate(self) -> str:
        """The same for trials of the same structure and embedding."""
        return json.dumps([self.structure, self.params["form"]])


class Space:
    """Where the search looks: forms of embedding and, behind the knapsack, all structures within the budgets.

    tables: by `embedding_codes` of the forms. pieces: vocabulary size asked for -> word pieces that it really has.
    """

    def __init__(
        self,
        tables: Mapping[int | None, Table],
        limits: Limits,
        forms: Mapping[str, Embedding],
        choices: Callable[[Mapping[str, float], int], list[list[Level]]],
        layers: int,
        pieces: Mapping[int | None, int],
    ) -> None:
        self.tables, self.limits, self.forms, self.choices, self.pieces = tables, limits, forms, choices, pieces
        self.sub_layers = [f"{name} {i}" for i in range(layers) for name in Widths._fields]

    def warm_starts(self) -> Iterator[dict[str, Any]]:
        """The knapsack's own choice for every form of embedding, and what less than the budget would cost."""
        for share in SHARES:
            for form in self.forms:
                yield {"form": form, "share": share} | dict.fromkeys(self.sub_layers, 0.0)

    def distributions(self) -> dict[str, Any]:
        """What Optuna draws a trial's parameters from."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        choices = {"form": CategoricalDistribution(list(self.forms)), "share": CategoricalDistribution(list(SHARES))}
        return choices | dict.fromkeys(self.sub_layers, FloatDistribution(-REACH, REACH))

    def structure(self, params: Mapping[str, Any]) -> list[Widths]:
        """The best structure for parameters; Infeasible where their form of embedding alone exceeds the budgets."""
        empty = [Widths(0, 0)] * (len(self.sub_layers) // 2)
        fixed_ms, fixed_bytes = self.costs(empty, params["form"])
        ms, size = self.limits.ms - fixed_ms, self.limits.bytes - fixed_bytes
        weights = {name: 2.0 ** params[name] for name in self.sub_layers}
        best: tuple[float, list[Widths]] | None = None
        for last in reversed(range(len(empty))):  # of the attentions that stay
            choices = self.choices(weights, last)
            if best and best[0] <= sum(attention[0].loss for attention in choices[2 * last + 2 :: 2]):
                break  # dropping those behind costs more already
            try:
                chosen = solve(choices, ms * params["share"], size * params["share"])
            except Infeasible as error:
                reason = error
                continue
            loss = sum(level.loss for level in chosen)
            if best is None or loss < best[0]:
                best = loss, [Widths(a.width, f.width) for a, f in zip(chosen[0::2], chosen[1::2], strict=True)]
        if best is None:
            raise reason
        return best[1]

    def costs(self, structure: Sequence[Widths], form: str) -> tuple[float, float]:
        """Predicted milliseconds and bytes."""
        pieces, rank, codes = self.forms[form]
        table = self.tables[codes]
        return (
            table.predict(structure, self.limits.length, rank),
            table.bytes_of(structure, self.pieces[pieces], rank),
        )


class Journal:
    """Finished trials, one line of JSON each, written as they come. A line that a kill left half is forgotten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trials: list[Trial] = []
        if path.is_file():
            *whole, half = path.read_text(encoding="utf-8").split("\n")
            self.trials = [_trial(json.loads(line)) for line in whole]
            if half:
                with replacing(path) as aside:
                    aside.write_text("".join(f"{line}\n" for line in whole), encoding="utf-8")

    def add(self, trial: Trial) -> Trial:
        """Keep a trial."""
        self.trials.append(trial)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(trial)) + "\n")
        return trial

    def of(self, stage: Stage) -> list[Trial]:
        """The trials of a rung, in the order they ended."""
        return [trial for trial in self.trials if trial.stage == stage]


def _trial(raw: dict[str, Any]) -> Trial:
    structure = raw.pop("structure")
    return Trial(**raw, structure=structure and [Widths(*layer) for layer in structure])


@dataclass
class Ladder:
    """The search itself, on whatever judges and trains. `seconds` are those of this call, as `clock` tells them.

    judge: structure, form -> loss. train: structure, form, rung -> score on dev (higher is better), None where it
    diverged, which is not tried again. `short_s` is what a short trial may take, before the first one has told.
    """

    space: Space
    journal: Journal
    judge: Callable[[list[Widths], Embedding], float]
    train: Callable[[list[Widths], Embedding, Stage], float | None]
    seconds: float
    trials: int = 200
    seed: int = 0
    epochs: float = 2.0
    short_s: Callable[[], float] = lambda: 0.0
    clock: Callable[[], float] = time.monotonic

    def run(self) -> Trial | None:
        """Climb as far as the time goes; the best trial of the highest rung that was reached, None without any."""
        self.start = self.clock()
        self._cheap()
        self._dear("short", self._best("cheap", SHORT))
        self._dear("full", self._best("short", FULL))
        return self.best()

    def best(self) -> Trial | None:
        """The best full trial, or the best of the highest rung below."""
        for stage in ("full", "short", "cheap"):
            if found := self._best(stage, 1):  # type: ignore[arg-type]
                return found[0]
        return None

    def _best(self, stage: Stage, count: int) -> list[Trial]:
        """The best of a rung, each candidate once."""

        def cost(trial: Trial) -> float | None:
            if stage == "cheap":
                return trial.loss
            return None if trial.dev_score is None else -trial.dev_score

        judged = [(c, trial.number, trial) for trial in self.journal.of(stage) if (c := cost(trial)) is not None]
        first: dict[str, Trial] = {}
        for _, _, trial in sorted(judged, key=itemgetter(0, 1)):
            first.setdefault(trial.candidate, trial)
        return list(first.values())[:count]

    def _left(self) -> float:
        return self.seconds - (self.clock() - self.start)

    def _cheap(self) -> None:
        """Optuna's trials. What is drawn depends on the seed and the trials before, not on how many calls ran them."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study, distributions = optuna.create_study(), self.space.distributions()
        done = self.journal.of("cheap")[: self.trials]
        for trial in done:
            value = {"state": optuna.trial.TrialState.FAIL} if trial.loss is None else {"value": trial.loss}
            study.add_trial(optuna.create_trial(params=trial.params, distributions=distributions, **value))
        for params in list(self.space.warm_starts())[len(done) :]:
            study.enqueue_trial(params)
        longest = max((trial.seconds for trial in done), default=0.0)
        for number in range(len(done), self.trials):
            if self._left() - longest < (1 - CHEAP_SHARE) * self.seconds:
                return
            study.sampler = optuna.samplers.TPESampler(seed=(self.seed * 100_003 + number) % 2**32, multivariate=True)
            asked = study.ask(distributions)
            trial = self.journal.add(self._judged(number, asked.params))
            longest = max(longest, trial.seconds)
            if trial.loss is None:
                study.tell(asked, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(asked, trial.loss)

    def _judged(self, number: int, params: dict[str, Any]) -> Trial:
        start = self.clock()
        try:
            structure = self.space.structure(params)
        except Infeasible:
            return Trial("cheap", number, params, None, None, None, None, None, self.clock() - start)
        ms, size = self.space.costs(structure, params["form"])
        loss = self.judge(structure, self.space.forms[params["form"]])
        return Trial("cheap", number, params, structure, ms, size, loss, None, self.clock() - start)

    def _dear(self, stage: Stage, candidates: list[Trial]) -> None:
        done = {trial.candidate for trial in self.journal.of(stage)}
        for trial in candidates:
            if trial.candidate in done or trial.structure is None:
                continue
            if self._left() < self._expected(stage):
                return
            start = self.clock()
            score = self.train(trial.structure, self.space.forms[trial.params["form"]], stage)
            raw = {f: getattr(trial, f) for f in ("number", "params", "structure", "ms", "bytes", "loss")}
            self.journal.add(Trial(stage=stage, dev_score=score, seconds=self.clock() - start, **raw))

    def _expected(self, stage: Stage) -> float:
        """Seconds that the next trial of a rung may take; a short one leaves room for a full one."""
        short = max((trial.seconds for trial in self.journal.of("short")), default=self.short_s())
        full = max((trial.seconds for trial in self.journal.of("full")), default=self.epochs * short)
        return full if stage == "full" else short + full
