"""Measure what using a method's artifacts costs, against the teacher. `python -m pipelines.measure METHOD TASK`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import gcd
from pathlib import Path
from typing import Any

from leaderboard import derive
from leaderboard.schema import Cost, Launch, Machine, Solo, Strict
from openautoglm import artifact
from pipelines import params
from pipelines.errors import UserError, stage
from pipelines.files import write_json
from pipelines.instruments import machine, worker
from pipelines.instruments.latency import SLOW
from pipelines.params import Carbon, Measurement, Params, paths

REFERENCE = "onnx-fp32"  # the teacher in float32 on ONNX Runtime
INT8 = "onnx-int8"  # the teacher as anyone gets it off the shelf, timed beside all else where it is there
MORE = 4  # times as many launches at most, where a noise floor is above what it can be


class Measured(Strict):
    """The costs of a method's deployments, and where they were measured: the record may be written elsewhere."""

    machine: Machine
    costs: dict[str, Cost]


def main() -> None:
    """Write runs/<task>/costs/<method>.json, a Measured."""
    from pipelines.data import load_exam

    method, task = sys.argv[1], sys.argv[2]
    settings, seed = params.load(), params.load().seeds[0]
    folders = {name: paths.artifacts(task, method, seed) / name for name in settings.deployments_of(method)}
    reference, int8 = teachers(task, settings)
    texts, title = load_exam(task).texts, f"{method} on {task}"
    costs = measure(folders, reference, texts, settings.measurement, settings.carbon, int8=int8, title=title)
    here = machine.fingerprint(training=settings.training.threads, timing=settings.measurement.threads)
    write_json(paths.cost(task, method), Measured(machine=here, costs=costs).model_dump())


def teachers(task: str, settings: Params) -> tuple[Path, Path | None]:
    """The first seed's teacher, as the reference and in INT8; None where params.yaml does not deploy it so."""
    folder = paths.artifacts(task, "teacher", settings.seeds[0])
    return folder / REFERENCE, folder / INT8 if INT8 in settings.deployments_of("teacher") else None


def measure(
    folders: dict[str, Path],
    reference: Path,
    texts: Sequence[str],
    settings: Measurement,
    carbon: Carbon,
    *,
    int8: Path | None = None,
    title: str = "measure",
) -> dict[str, Cost]:
    """name -> Cost of each artifact folder. A launch times them all against the reference, and against the teacher in
    INT8 where it is given; memory and energy are each one's own process. Texts are spread over those given, at most
    `max_texts`.
    """
    from tqdm import tqdm

    costs = {}
    with tqdm(total=settings.launches + len(folders), desc=title, unit="process", disable=None) as bar:
        launches = time_pairs(folders, reference, texts, settings, int8=int8, advance=bar.update)
        alone = {**settings.model_dump(), "texts": _spread(texts, settings.max_texts), "carbon": carbon.model_dump()}
        for name, folder in folders.items():
            with _users_errors():
                solo = Solo.model_validate(worker.ask_solo(alone | {"artifact": str(folder)}))
            costs[name] = derive.summarise(launches[name], solo)
            bar.update()
    return costs


def time_pairs(
    folders: dict[str, Path],
    reference: Path,
    texts: Sequence[str],
    settings: Measurement,
    *,
    int8: Path | None = None,
    advance: Callable[[], object] = lambda: None,
) -> dict[str, list[Launch]]:
    """name -> its launches beside the reference; `advance` is called after each of the first `settings.launches`.
    ArtifactError before the first.
    """
    with Pairs(folders, reference, texts, settings, int8) as pairs:
        for _ in range(settings.launches):
            pairs.launch()
            advance()
        return pairs.finish()


class Pairs:
    """A session: launches, each of which times all artifacts beside the reference. ArtifactError for a broken one."""

    def __init__(
        self,
        folders: dict[str, Path],
        reference: Path,
        texts: Sequence[str],
        settings: Measurement,
        int8: Path | None = None,
    ) -> None:
        teachers = {"reference": reference} | ({"int8": int8} if int8 else {})
        for folder in (*teachers.values(), *folders.values()):
            artifact.read(folder)
        self._settings, self._texts = settings, _spread(texts, settings.max_texts)
        self._candidates = {name: str(folder) for name, folder in folders.items()}
        self._request = {**settings.model_dump(), "texts": self._texts}
        self._request |= {name: str(folder) for name, folder in teachers.items()}
        self._launches: list[dict[str, Launch]] = []
        self._worker = worker.Worker("launch", settings.threads)

    def __enter__(self) -> Pairs:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.close()

    def launch(self) -> None:
        """The next one, in a process of its own."""
        self._launches.append(self._take(len(self._launches), self._candidates))

    def finish(self) -> dict[str, list[Launch]]:
        """name -> its launches. One that was loud from end to end is taken again, once; and those whose noise floor is
        above what it can be get more of them, up to MORE times as many, where that can bring it down.
        """
        for i in _loud(self._launches):
            self._again(i)
        unsure = self._unsure(self._candidates)
        while unsure:
            self._launches.append(self._take(last := len(self._launches), unsure))
            if last in _loud(self._launches):
                self._again(last)
            unsure = self._unsure(unsure)
        return {name: self._of(name) for name in self._candidates}

    def _again(self, i: int) -> None:
        self._launches[i] = _quieter(self._launches[i], self._take(i, self._launches[i]))

    def _of(self, name: str) -> list[Launch]:
        return [found[name] for found in self._launches if name in found]

    def _unsure(self, names: Iterable[str]) -> list[str]:
        """Those above the floor that can be had, where MORE launches can reach it: it falls as their root."""
        most = MORE * self._settings.launches

        def can_be_mended(launches: list[Launch]) -> bool:
            above = derive.noise_floor(launches) / derive.REPRODUCED
            return above > 1 and len(launches) * above**2 <= most

        return [name for name in names if can_be_mended(self._of(name))]

    def _take(self, i: int, names: Iterable[str]) -> dict[str, Launch]:
        rounds = len(_any(self._launches[0]).reference_block_ms) if self._launches else None  # all over the same texts
        share = self._settings.launches  # the first ones share the texts out for their single calls
        own = {"own_texts": self._texts[i::share] if i < share else [], "rounds": rounds, "seed": i}
        with _users_errors():
            samples = self._worker.ask({**self._request, **own, "candidates": {x: self._candidates[x] for x in names}})
        return {name: Launch.model_validate(found) for name, found in samples.items()}


def _loud(launches: Sequence[dict[str, Launch]]) -> list[int]:
    """The launches without a quiet moment, which they cannot know themselves: another one's arithmetic was quicker."""
    quickest = min(_probe_ms(launch) for launch in launches)
    return [i for i, launch in enumerate(launches) if _probe_ms(launch) > SLOW * quickest]


def _quieter(before: dict[str, Launch], again: dict[str, Launch]) -> dict[str, Launch]:
    """The one whose arithmetic was quicker; the other one's rounds count as repeated."""
    kept, left = sorted((again, before), key=_probe_ms)
    more = len(_any(left).reference_block_ms) + _any(left).dropped_pairs
    return {name: x.model_copy(update={"dropped_pairs": x.dropped_pairs + more}) for name, x in kept.items()}


def _probe_ms(launch: dict[str, Launch]) -> float:
    return _any(launch).probe_ms or 0.0


def _any(launch: dict[str, Launch]) -> Launch:
    """What a launch knows of the machine and its rounds, every candidate's samples hold."""
    return next(iter(launch.values()))


def _spread(texts: Sequence[str], most: int) -> list[str]:
    """At most `most` different texts, evenly spaced; every stretch of them holds short and long ones in like shares.

    Speed-ups differ with length, and a launch may have time for the first of them only.
    """
    different = list(dict.fromkeys(texts))
    if not different:
        raise UserError("No texts to measure with: give at least one.")
    count = min(most, len(different))
    ranked = sorted((different[i * len(different) // count] for i in range(count)), key=len)
    stride = next(s for s in range(round(0.618 * count), count + 1) if gcd(s, count) == 1)  # the golden section's
    return [ranked[i * stride % count] for i in range(count)]


@contextmanager
def _users_errors() -> Iterator[None]:
    try:
        yield
    except worker.WorkerError as error:
        raise UserError(str(error)) from None


def read_texts(file: Path) -> list[str]:
    """The texts of a file, one a line; UserError where it cannot be read or holds none."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not a readable text file ({error}): give one text a line, in UTF-8.") from None
    if not lines:
        raise UserError(f"{file} holds no texts: give one a line.")
    return lines


def table(folder: Path, reference: Path, texts: Path) -> None:
    """Measure any artifact with the texts of a file (one a line) under params.yaml's settings, and print its cost."""
    from rich.console import Console
    from rich.table import Table

    lines, settings = read_texts(texts), params.load()
    cost = measure({"artifact": folder}, reference, lines, settings.measurement, settings.carbon)["artifact"]
    shown = Table("figure", "value", title=f"{folder} against {reference}")
    for name, value in _rows(cost, artifact.size(folder)):
        shown.add_row(name, value)
    Console().print(shown)


def _rows(cost: Cost, size: int) -> list[tuple[str, str]]:
    def ms(interval: Any) -> str:
        return f"{interval.value:.2f} ms ({interval.low:.2f} to {interval.high:.2f})" if interval else "n too small"

    certificate, energy, speedup = cost.solo.certificate, cost.energy_kwh_per_1000, cost.speedup
    valid = "" if certificate.energy_valid else ", NOT VALID: CodeCarbon and the formula disagree"
    return [
        ("times faster", f"{speedup.value:.3f} ({speedup.low:.3f} to {speedup.high:.3f})"),
        ("noise floor", f"{cost.noise_floor:.1%}{' (noisy: many rounds were repeated)' if cost.noisy else ''}"),
        ("latency, median", ms(cost.latency_p50_ms)),
        ("latency, 90th percentile", ms(cost.latency_p90_ms)),
        ("latency, median on all cores", ms(cost.latency_all_cores_p50_ms)),
        ("first call", f"{cost.first_call_ms:.1f} ms"),
        ("tokenisation", f"{cost.tokenize_share:.1%} of the latency"),
        ("throughput", f"{cost.throughput_texts_per_s:.1f} texts/s"),
        ("CPU time per 1,000 texts", f"{cost.cpu_s_per_1000:.2f} s"),
        (
            "peak memory",
            f"{cost.peak_memory_mb:.0f} MB above libraries, {cost.peak_memory_absolute_mb:.0f} MB in all",
        ),
        ("on disk", f"{size / 1e6:.2f} MB"),
        (
            f"energy per 1,000 texts ({certificate.method}{valid})",
            f"{1000 * energy.likely:.4f} Wh ({1000 * energy.low:.4f} to {1000 * energy.high:.4f})",
        ),
        (f"CO2e per 1,000 texts ({certificate.grid} {certificate.grid_year})", f"{cost.emissions_g_per_1000:.4f} g"),
    ]


if __name__ == "__main__":
    stage(main)
