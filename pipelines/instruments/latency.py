"""Latency of candidates against a reference, in one worker process: rounds of short slots, guarded, paired by text.

A round takes one text through every model, in an order drawn anew: the reference, the candidates, and a second copy of
the reference (the A/A control), which shows what differs when nothing does. In its slot of some milliseconds a model
answers the text as often as fits, once at least. What neighbours on the host do to a core lasts: two calls 10 ms apart
are slowed alike (their times correlate by 0.85), two calls 100 ms apart hardly (0.4), so that ratios of slots in one
round vary far less than those of long blocks. Every call goes from text to label, batch 1, at the text's real length. A
slot begins with calls that do not count: the caches still hold other models, and fill with this one's weights call by
call. Of a MiniLM in INT8 (10 MB of weights, 32 MB of cache shared with neighbours) the first took 1.6 ms, the next ones
1.4, 1.2, 1.0, 0.9 and 0.8, and all others 0.77. The reference, larger than that cache, has one such call: what of it
would be kept hangs on the neighbours, and moved all ratios by up to 5 % from one session to the next. All launches go
over the same texts, so that a text's ratio in one can be held against that in another.

A round is taken again, once, when the host stole time or another process held the core during it, or when a fixed piece
of arithmetic before or after it was slow: never because of its value. Of the two the quieter one counts. Waiting for a
core, whatever the cause (neighbours, context switches), shows as wall above CPU time. Another guest of the host at the
other thread of the same core shows in no counter, but in the arithmetic: beside one, INT8 models took up to 1.6 times
as long and the float32 reference 1.15 times, so that their ratio said more of the guest than of them.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openautoglm.runtime import Predictor

STEAL = 0.02  # a round is taken again above this share of stolen time,
WAIT = 1.1  # or above this ratio of wall to CPU time
SLOW = 1.1  # or where the arithmetic took longer than this times the quickest of the launch
STEADY = 0.02  # warm: two windows' medians differ by less than this
WINDOW_CALLS = 3
COLD_CALLS = 6  # uncounted calls of a slot at most,
COLD_MS = 50  # as long as they take no more than this; one in any case
FEWEST = 8  # rounds of a launch at least
REFERENCE, CONTROL, INT8, CANDIDATE = "reference", "control", "int8", "candidate "


@dataclass
class Timed:
    """One loaded artifact and what is known of its speed, in milliseconds."""

    predictor: Predictor
    load_ms: float
    first_call_ms: float
    cold: int = 1  # calls of a slot that do not count
    calls: int = 1  # those that do

    def call(self, text: str) -> float:
        """Milliseconds from text to label; ArtifactError, which names the artifact, where it gives none."""
        start = time.perf_counter_ns()
        try:
            self.predictor.logits([text])[0].argmax()
        except Exception as error:  # the runtimes' own errors have no common class
            raise _no_answer(self.predictor.folder, error) from None
        return (time.perf_counter_ns() - start) / 1e6

    def slot(self, text: str) -> float:
        """Mean milliseconds of the calls of a slot, after those that do not count."""
        for _ in range(self.cold):
            self.call(text)
        return statistics.fmean(self.call(text) for _ in range(self.calls))


def _no_answer(folder: Path, error: Exception) -> Exception:
    from openautoglm.artifact import ArtifactError

    reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
    return ArtifactError(f"{folder}: the model loads, but gives no answer ({reason[0]}). Export it again.")


class Probe:
    """A fixed piece of arithmetic within the core's own caches: the quickest of a few runs, so that one interruption
    leaves it as it is, and what lasts does not. It takes one to three milliseconds in all.
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
class Round:
    """Milliseconds a call of each model on one text, and the slower probe around; endless where it was disturbed."""

    ms: dict[str, float]
    probe_ms: float


def launch(request: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Time every candidate of a request; name -> the fields of a leaderboard.schema.Launch.

    request: reference (a folder), int8 (a second one: the teacher in INT8; may be left out), candidates (name ->
    folder), texts, threads, slot_s, launch_s, warmup_s, seed (of the orders), rounds (how many of the texts; none: as
    many as fit into launch_s), and own_texts, of which single calls are sampled (each launch has its own).
    """
    texts: list[str] = request["texts"]
    folders = {REFERENCE: request["reference"], CONTROL: request["reference"]}
    folders |= {INT8: request["int8"]} if "int8" in request else {}
    folders |= {f"{CANDIDATE}{name}": folder for name, folder in request["candidates"].items()}
    models = {name: load(folder, request["threads"], texts[0]) for name, folder in folders.items()}
    gc.freeze()
    watch, probe, slot_ms, took_ms = Watch(), Probe(), 1000 * request["slot_s"] * request["threads"], 0.0
    for timed in models.values():
        cpu_ms = warm_up(timed.call, texts, request["warmup_s"])
        if timed.predictor.folder != models[REFERENCE].predictor.folder:
            timed.cold = max(1, min(COLD_CALLS, round(COLD_MS * request["threads"] / cpu_ms)))
        timed.calls = max(1, round(slot_ms / cpu_ms))
        took_ms += (timed.cold + timed.calls) * cpu_ms / request["threads"]
    count = request["rounds"] or max(FEWEST, int(1000 * request["launch_s"] / took_ms))
    rounds, again = sample(models, texts[:count], Random(request["seed"]), probe)
    reference, control = ([round(each.ms[name], 4) for each in rounds] for name in (REFERENCE, CONTROL))
    int8 = [round(each.ms[INT8], 4) for each in rounds] if INT8 in models else None
    disturbance = watch.readings()
    return {
        name: {
            "threads": request["threads"],
            "first_call_ms": round(timed.first_call_ms, 3),
            "load_ms": round(timed.load_ms, 3),
            "reference_block_ms": reference,
            "candidate_block_ms": [round(each.ms[f"{CANDIDATE}{name}"], 4) for each in rounds],
            "control_block_ms": control,
            "control_reference_ms": reference,
            "int8_block_ms": int8,
            "call_ms": [round(ms, 3) for ms in single_calls(timed, request["own_texts"])],
            "tokenize_ms": round(tokenize_ms(timed.predictor, texts[:count]), 4),
            "dropped_pairs": again,
            "probe_ms": round(probe.quickest, 4),
            **disturbance,
        }
        for name, timed in ((name, models[f"{CANDIDATE}{name}"]) for name in request["candidates"])
    }


def load(folder: str | Path, threads: int, text: str) -> Timed:
    """Load an artifact, its runtime being imported already, and make its first call; ArtifactError where that fails."""
    from openautoglm.runtime import Predictor

    import_runtime(folder)
    start = time.perf_counter()
    timed = Timed(Predictor(folder, threads=threads), (time.perf_counter() - start) * 1000, 0.0)
    timed.first_call_ms = timed.call(text)
    return timed


@cache
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
    not make the slots shorter.
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


def sample(models: dict[str, Timed], texts: Sequence[str], random: Random, probe: Probe) -> tuple[list[Round], int]:
    """A round a text, and how many were taken again. Those that were loud get a second chance when all are through."""
    probe()
    rounds = [_round(models, text, random, probe) for text in texts]
    loud = [i for i, found in enumerate(rounds) if found.probe_ms > SLOW * probe.quickest]
    for i in loud:
        rounds[i] = min(rounds[i], _round(models, texts[i], random, probe), key=lambda found: found.probe_ms)
    return rounds, len(loud)


def _round(models: dict[str, Timed], text: str, random: Random, probe: Probe) -> Round:
    names = random.sample(sorted(models), len(models))
    guard = Guard()
    gc.disable()
    before = probe()
    ms = {name: models[name].slot(text) for name in names}
    after = probe()
    gc.enable()
    return Round(ms, float("inf") if guard.disturbed() else max(before, after))


def single_calls(timed: Timed, texts: Sequence[str]) -> list[float]:
    """Milliseconds of one call a text, one model alone; all again, up to twice, where something disturbed them."""
    for _ in range(3):
        for text in islice(cycle(texts), timed.cold):
            timed.call(text)  # does not count
        guard = Guard()
        found = [timed.call(text) for text in texts]
        if not guard.disturbed():
            break
    return found


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
