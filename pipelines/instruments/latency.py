"""Latency of candidates against a reference, in one worker process: alternating blocks, guarded, in pairs.

A pair is one block of the reference and one of a candidate over the same texts, in the order R C C R, so that a drift
of the machine cancels. A faster candidate passes over them more often, so that its block is as long: one interruption
would move a short one much. Candidates take turns, and so does a second copy of the reference (the A/A control), which
shows what differs when nothing does. Every call goes from text to label, batch 1, at the text's real length. A block
begins with a call that does not count: the caches still hold the other model, and without it the blocks of small models
were 5 to 10 % slower after a switch than before one.

A pair is dropped whole, and repeated, when the host stole time or another process held the core during it, or when a
fixed piece of arithmetic before, between or after its blocks was slow: never by its value. Waiting for a core, whatever
the cause (neighbours, context switches), shows as wall above CPU time. Another guest of the host at the other thread of
the same core shows in no counter, but in the arithmetic: beside one, INT8 models took up to 1.6 times as long and the
float32 reference 1.15 times, so that their ratio said more of the guest than of them.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openautoglm.runtime import Predictor

STEAL = 0.02  # a pair is dropped above this share of stolen time,
WAIT = 1.1  # or above this ratio of wall to CPU time
SLOW = 1.1  # or where the arithmetic took longer than this times the quickest of the launch
STEADY = 0.02  # warm: two windows' medians differ by less than this
WINDOW_CALLS = 10
CONTROL = "control"


@dataclass
class Timed:
    """One loaded artifact and what is known of its speed, in milliseconds."""

    predictor: Predictor
    load_ms: float
    first_call_ms: float
    passes: int = 1  # over the texts of a block

    def call(self, text: str) -> float:
        """Milliseconds from text to label; ArtifactError, which names the artifact, where it gives none."""
        start = time.perf_counter_ns()
        try:
            self.predictor.logits([text])[0].argmax()
        except Exception as error:  # the runtimes' own errors have no common class
            raise _no_answer(self.predictor.folder, error) from None
        return (time.perf_counter_ns() - start) / 1e6


def _no_answer(folder: Path, error: Exception) -> Exception:
    from openautoglm.artifact import ArtifactError

    reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
    return ArtifactError(f"{folder}: the model loads, but gives no answer ({reason[0]}). Export it again.")


class Probe:
    """A fixed piece of arithmetic within the core's own caches: the quickest of a few runs, so that one interruption
    leaves it as it is, and what lasts does not. It takes two to three milliseconds in all.
    """

    RUNS, PRODUCTS, SIDE = 4, 10, 128

    def __init__(self) -> None:
        import numpy as np

        self._product, self._matrix = np.matmul, np.full((self.SIDE, self.SIDE), 1 / self.SIDE, dtype=np.float32)
        self.quickest = float("inf")

    def __call__(self) -> float:
        """Milliseconds of the quickest run."""
        runs = []
        for _ in range(self.RUNS):
            start = time.perf_counter()
            for _ in range(self.PRODUCTS):
                self._product(self._matrix, self._matrix)
            runs.append(1000 * (time.perf_counter() - start))
        self.quickest = min(self.quickest, *runs)
        return min(runs)


@dataclass(frozen=True)
class Pair:
    """Mean milliseconds a call in a block of each, what each text took the candidate, and the slowest probe around."""

    reference_ms: float
    candidate_ms: float
    calls: dict[str, float]
    probe_ms: float
    disturbed: bool  # by what the kernel tells


@dataclass
class Pairs:
    """What was sampled of one candidate so far."""

    tried: list[Pair] = field(default_factory=list)
    disturbed: int = 0  # and repeated at once

    def quiet(self, quickest: float) -> list[Pair]:
        """Those around which no probe was slow."""
        return [pair for pair in self.tried if pair.probe_ms <= SLOW * quickest]

    def kept(self, count: int) -> list[Pair]:
        """So many at most, the quietest by their probes, in the order they were sampled."""
        order = sorted(range(len(self.tried)), key=lambda i: self.tried[i].probe_ms)
        return [self.tried[i] for i in sorted(order[:count])]


@dataclass(frozen=True)
class Samples:
    """What a launch keeps of one candidate."""

    reference_ms: list[float]
    candidate_ms: list[float]
    calls: dict[str, float]  # text -> milliseconds, the first time it was met
    dropped: int


def launch(request: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Time every candidate of a request; name -> the fields of a leaderboard.schema.Launch.

    request: reference (a folder), candidates (name -> folder), texts, threads, pairs, block_s, warmup_s, and
    own_texts: how many texts, from the first, this launch samples single calls of (each launch has its own).
    """
    texts: list[str] = request["texts"]
    reference = load(request["reference"], request["threads"], texts[0])
    candidates = {CONTROL: load(request["reference"], request["threads"], texts[0])}
    candidates |= {name: load(path, request["threads"], texts[0]) for name, path in request["candidates"].items()}
    gc.freeze()
    watch = Watch()
    cpu_ms = warm_up(reference.call, texts, request["warmup_s"])
    for timed in candidates.values():
        timed.passes = max(1, round(cpu_ms / warm_up(timed.call, texts, request["warmup_s"])))
    block = min(len(texts), max(1, round(1000 * request["block_s"] * request["threads"] / cpu_ms)))
    found = sample(reference, candidates, texts, block, request["pairs"])
    control, disturbance = found.pop(CONTROL), watch.readings()
    return {
        name: {
            "threads": request["threads"],
            "first_call_ms": round(candidates[name].first_call_ms, 3),
            "load_ms": round(candidates[name].load_ms, 3),
            "reference_block_ms": pairs.reference_ms,
            "candidate_block_ms": pairs.candidate_ms,
            "control_block_ms": control.candidate_ms,
            "control_reference_ms": control.reference_ms,
            "call_ms": [round(pairs.calls[t], 3) for t in texts[: request["own_texts"]] if t in pairs.calls],
            "tokenize_ms": round(tokenize_ms(candidates[name].predictor, texts), 4),
            "dropped_pairs": pairs.dropped,
            **disturbance,
        }
        for name, pairs in found.items()
    }


def load(folder: str | Path, threads: int, text: str) -> Timed:
    """Load an artifact, its runtime being imported already, and make its first call; ArtifactError where that fails."""
    from openautoglm.runtime import Predictor

    import_runtime(folder)
    start = time.perf_counter()
    timed = Timed(Predictor(folder, threads=threads), (time.perf_counter() - start) * 1000, 0.0)
    timed.first_call_ms = timed.call(text)
    return timed


def import_runtime(folder: str | Path) -> None:
    """Import all that loading the artifact will need, so that neither time nor memory of the model holds it."""
    from openautoglm import artifact

    if artifact.read(Path(folder), check_hashes=False).runtime == "torch":
        import torch

        import openautoglm.student  # noqa: F401
        from openautoglm import architectures

        # Most of transformers is imported by building a model; one without weights takes no memory. What cannot be
        # built is told of when it is loaded.
        with suppress(Exception), torch.device("meta"):
            architectures.build(json.loads((Path(folder) / "config.json").read_text(encoding="utf-8")))
    else:
        import onnxruntime  # noqa: F401


def warm_up(call: Callable[[str], float], texts: Sequence[str], at_least_s: float) -> float:
    """Call until two windows' medians agree to 2 %, so long at least and five times that at most.

    CPU milliseconds a call, of the last window: waiting for a core is no part of them, so that a busy neighbour does
    not make the blocks shorter.
    """
    window = list(islice(cycle(texts), WINDOW_CALLS))
    start, before = time.perf_counter(), float("inf")
    while True:
        cpu = time.process_time()
        median = statistics.median(map(call, window))
        cpu, elapsed = time.process_time() - cpu, time.perf_counter() - start
        if elapsed > at_least_s and (abs(median / before - 1) < STEADY or elapsed > 5 * at_least_s):
            return 1000 * cpu / len(window)
        before = median


def sample(
    reference: Timed, candidates: dict[str, Timed], texts: Sequence[str], block: int, pairs: int
) -> dict[str, Samples]:
    """So many quiet pairs of each candidate. Once as many others were met as are wanted, the quietest are kept: a
    machine that is never quiet ends too, and its drop rate says so.
    """
    probe, found = Probe(), {name: Pairs() for name in candidates}
    turns = {name: _blocks(texts, block) for name in candidates}

    def unfinished(got: Pairs) -> bool:
        enough = len(got.tried) >= pairs and len(got.tried) + got.disturbed >= 2 * pairs
        return len(got.quiet(probe.quickest)) < pairs and not enough

    probe()
    while names := [name for name, got in found.items() if unfinished(got)]:
        for name in names:
            for reference_first in (True, False):
                block_texts, got = next(turns[name]), found[name]
                pair = _pair(reference, candidates[name], block_texts, reference_first, probe)
                while pair.disturbed and got.disturbed < pairs:
                    got.disturbed += 1  # again with the same texts: none is lost to a neighbour
                    pair = _pair(reference, candidates[name], block_texts, reference_first, probe)
                got.tried.append(pair)
    return {name: _samples(got, pairs, probe.quickest) for name, got in found.items()}


def _samples(got: Pairs, pairs: int, quickest: float) -> Samples:
    kept, quiet = got.kept(pairs), got.quiet(quickest)
    calls: dict[str, float] = {}
    for pair in (*kept, *got.tried):  # a text that only loud pairs met counts too
        calls = pair.calls | calls
    loud = sum(pair not in kept and pair not in quiet for pair in got.tried)
    return Samples(
        [pair.reference_ms for pair in kept], [pair.candidate_ms for pair in kept], calls, got.disturbed + loud
    )


def _pair(a: Timed, b: Timed, texts: list[str], a_first: bool, probe: Probe) -> Pair:
    guard = Guard()
    gc.disable()
    before = probe()
    first = _block(a if a_first else b, texts)
    between = probe()
    second = _block(b if a_first else a, texts)
    after = probe()
    gc.enable()
    disturbed = guard.disturbed()
    reference, candidate = (first, second) if a_first else (second, first)
    calls: dict[str, float] = {}
    for text, ms in zip(texts, candidate, strict=False):  # of the first pass
        calls.setdefault(text, ms)
    reference_ms, candidate_ms = (round(statistics.fmean(block), 4) for block in (reference, candidate))
    return Pair(reference_ms, candidate_ms, calls, max(before, between, after), disturbed)


def _block(timed: Timed, texts: list[str]) -> list[float]:
    timed.call(min(texts, key=len))
    return [timed.call(text) for _ in range(timed.passes) for text in texts]


def _blocks(texts: Sequence[str], size: int) -> Iterator[list[str]]:
    endless = cycle(texts)
    while True:
        yield list(islice(endless, size))


def tokenize_ms(predictor: Predictor, texts: Sequence[str]) -> float:
    """Mean milliseconds of tokenisation a text: the median of three passes, so that one interruption does not count."""
    passes = []
    for _ in range(3):
        start = time.perf_counter()
        for text in texts:
            predictor.tokenize([text])
        passes.append((time.perf_counter() - start) * 1000 / len(texts))
    return statistics.median(passes)


class Guard:
    """Was this process disturbed since the guard was made?"""

    def __init__(self) -> None:
        self._steal, self._total = stolen_ticks()
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def disturbed(self) -> bool:
        """True where the host stole more than 2 %, or where this process waited above a tenth of its CPU time."""
        waited = time.perf_counter() - self._wall > WAIT * (time.process_time() - self._cpu)
        steal, total = stolen_ticks()
        return waited or steal - self._steal > STEAL * (total - self._total)


class Watch:
    """What the kernel tells of the whole launch: recorded beside the samples, decides nothing."""

    def __init__(self) -> None:
        self._start, self._waited, self._switches = time.perf_counter(), waited_s(), switches()

    def readings(self) -> dict[str, float | int | None]:
        """The fields `pressure` and `switches` of a Launch; none where the kernel does not tell."""
        waited, taken, seconds = waited_s(), switches(), time.perf_counter() - self._start
        return {
            "pressure": None if waited is None or self._waited is None else round((waited - self._waited) / seconds, 4),
            "switches": None if taken is None or self._switches is None else taken - self._switches,
        }


def waited_s() -> float | None:
    """Seconds since the start in which some process of the machine waited for a core (/proc/pressure/cpu)."""
    try:
        some = Path("/proc/pressure/cpu").read_text().splitlines()[0]
        return int(some.rsplit("total=", 1)[1]) / 1e6
    except (OSError, IndexError, ValueError):
        return None


def switches() -> int | None:
    """How often the scheduler has taken the core from this process."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def stolen_ticks() -> tuple[int, int]:
    """Ticks that the host gave to others and all ticks, on the cores this process may use; zeros where unknown."""
    steal = total = 0
    for ticks in core_ticks().values():
        steal, total = steal + ticks[7], total + sum(ticks[:8])
    return steal, total


def core_ticks() -> dict[int, list[int]]:
    """/proc/stat: core -> user, nice, system, idle, iowait, irq, softirq, steal, ... of the cores we may use."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return {}
    mine = os.sched_getaffinity(0)
    rows = (line[3:].split() for line in lines if line.startswith("cpu") and line[3].isdigit())
    return {int(core): list(map(int, ticks)) for core, *ticks in rows if int(core) in mine}
