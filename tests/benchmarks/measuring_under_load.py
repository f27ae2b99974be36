"""Do published speed-ups stay the same beside a busy neighbour? `python -m tests.benchmarks.measuring_under_load`.

Times five artifacts of a finished run (`make repro`) as the pipeline does, with params.yaml's settings: idle, with one
core kept busy by another process, and idle again. A speed-up holds where the busy one differs from the idle one by less
than the noise floor that the idle session publishes; how far two idle sessions differ stands beside it. Four minutes
on two cores that are idle otherwise. Exit code 1 where one does not hold, or the floor is above 3 %.

Others: `... FOLDER [FOLDER ...] --reference FOLDER --texts FILE` (one text a line), or `METHOD/DEPLOYMENT ...`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from leaderboard import derive
from leaderboard.schema import Interval, Launch
from pipelines import params
from pipelines.data import load_exam
from pipelines.errors import stage
from pipelines.instruments import machine
from pipelines.measure import REFERENCE, read_texts, time_pairs
from pipelines.params import paths

ROWS = ("teacher/onnx-int8", "distilbert/onnx-int8", "tinybert/onnx-int8", "albert/onnx-int8", "open_autoglm/onnx-plan")
BUSY = "while True: sum(range(10**5))"
FLOOR = 0.03  # wanted of an idle session


@dataclass
class Session:
    """What one session says of one artifact."""

    launches: Sequence[Launch]

    @property
    def speedup(self) -> Interval:
        """Times faster than the reference."""
        return derive.speedup(self.launches)

    @property
    def floor(self) -> float:
        """The noise floor, as a fraction."""
        return derive.noise_floor(self.launches)

    @property
    def repeated(self) -> float:
        """Share of the pairs that were disturbed and repeated."""
        dropped = sum(launch.dropped_pairs for launch in self.launches)
        return dropped / (dropped + sum(len(launch.candidate_block_ms) for launch in self.launches))

    def change(self, since: Session) -> float:
        """How far the speed-up lies from an earlier one, as a fraction."""
        return self.speedup.value / since.speedup.value - 1


@contextmanager
def neighbour(busy: bool) -> Iterator[list[float]]:
    """A process that keeps one core busy, where asked for; the share of a core that it got is appended at the end."""
    got: list[float] = []
    if not busy:
        yield got
        return
    start, process = time.perf_counter(), subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        yield got
    finally:
        process.kill()
        _, process.returncode, used = os.wait4(process.pid, 0)
        got.append((used.ru_utime + used.ru_stime) / (time.perf_counter() - start))


def main() -> None:
    """Measure, print, and say whether it holds."""
    folders, reference, texts = _asked()
    settings, console, found, start = params.load().measurement, Console(width=140), [], time.perf_counter()
    for title, busy in (("idle", False), ("one core busy", True), ("idle again", False)):
        console.print(f"{title} ...", highlight=False)
        with neighbour(busy) as got:
            launches = time_pairs(folders, reference, texts, settings)
        found.append({name: Session(samples) for name, samples in launches.items()})
        if got:
            console.print(f"  the neighbour got {got[0]:.0%} of a core")
    console.print(table(*found))
    here, said = machine.fingerprint(), verdict(*found)
    console.print(f"{here.cpu}, {here.cores} cores, {here.id}; {time.perf_counter() - start:.0f} s. {said}")
    sys.exit(not said.startswith("Holds"))


def _asked() -> tuple[dict[str, Path], Path, list[str]]:
    """name -> folder, the reference, the texts."""
    settings = params.load()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default=next(iter(settings.tasks)), help="whose rows and exam texts (default: first)")
    parser.add_argument("--reference", type=Path, help="an artifact folder (default: the teacher in float32)")
    parser.add_argument("--texts", type=Path, help="a text file, one a line (default: the task's exam)")
    parser.add_argument("rows", nargs="*", default=ROWS, help="METHOD/DEPLOYMENT, or artifact folders")
    given = parser.parse_args()

    def folder(row: str) -> Path:
        if (Path(row) / "manifest.json").is_file():
            return Path(row)
        method, _, deployment = row.partition("/")
        return paths.artifacts(given.task, method, settings.seeds[0]) / deployment

    reference = given.reference or folder(f"teacher/{REFERENCE}")
    texts = read_texts(given.texts) if given.texts else load_exam(given.task).texts
    return {row: folder(row) for row in given.rows}, reference, texts


def table(idle: dict[str, Session], busy: dict[str, Session], again: dict[str, Session]) -> Table:
    """A line an artifact: the speed-ups, how far they moved, the floors, the verdict."""
    heads = ("times faster, idle", "busy", "idle again", "busy / idle", "again / idle", "floor idle", "floor busy")
    shown = Table("artifact", *heads, "repeated busy", "verdict", box=None)
    for row, one in idle.items():
        two, three = busy[row], again[row]
        shown.add_row(
            row,
            f"{one.speedup.value:.3f} ({one.speedup.low:.3f} to {one.speedup.high:.3f})",
            *(f"{session.speedup.value:.3f}" for session in (two, three)),
            *(f"{session.change(one):+.1%}" for session in (two, three)),
            *(f"{session.floor:.1%}" for session in (one, two)),
            f"{two.repeated:.0%}",
            "holds" if abs(two.change(one)) < one.floor else "moved",
        )
    return shown


def verdict(idle: dict[str, Session], busy: dict[str, Session], again: dict[str, Session]) -> str:
    """One sentence; it begins with "Holds" where all is as wanted."""
    if max(s.repeated for found in (idle, again) for s in found.values()) > derive.NOISY:
        return "Nothing is shown: the machine was not idle when it should have been. Run it again on an idle one."
    moved = [row for row, one in idle.items() if abs(busy[row].change(one)) >= one.floor]
    floor = max(one.floor for one in idle.values())
    if moved:
        return f"Does not hold: {len(moved)} of {len(idle)} moved by the noise floor or more ({', '.join(moved)})."
    if floor > FLOOR:
        return f"Does not hold: the idle noise floor is {floor:.1%}, wanted are {FLOOR:.0%}."
    return f"Holds: all {len(idle)} speed-ups moved by less than the noise floor, which is {floor:.1%} when idle."


if __name__ == "__main__":
    stage(main)
