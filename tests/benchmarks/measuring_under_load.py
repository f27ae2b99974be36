"""Do published speed-ups stay the same beside a busy neighbour? `python -m tests.benchmarks.measuring_under_load`.

Measures artifacts of a finished run (the first task's, or those of --task) as the pipeline does: idle, with one core
kept busy by another process, and idle again. Prints each speed-up three times, how far the busy one lies from the first
idle one, and the noise floors. Some minutes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from leaderboard.schema import Cost
from pipelines import params
from pipelines.data import load_exam
from pipelines.measure import REFERENCE, measure
from pipelines.params import paths

ROWS = ("teacher/onnx-int8", "distilbert/onnx-int8", "tinybert/onnx-int8", "albert/onnx-int8", "open_autoglm/onnx-plan")
BUSY = "while True: sum(range(10**5))"


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """A process that keeps one core busy, where asked for."""
    process = subprocess.Popen([sys.executable, "-c", BUSY]) if busy else None
    try:
        yield
    finally:
        if process:
            process.kill()
            process.wait()


def main() -> None:
    """Measure and print."""
    settings = params.load()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default=next(iter(settings.tasks)))
    parser.add_argument("rows", nargs="*", default=ROWS, help="method/deployment")
    given = parser.parse_args()
    seed, texts = settings.seeds[0], load_exam(given.task).texts
    folders = {row: paths.artifacts(given.task, row.split("/")[0], seed) / row.split("/")[1] for row in given.rows}
    reference = paths.artifacts(given.task, "teacher", seed) / REFERENCE
    found: list[dict[str, Cost]] = []
    for title, busy in (("idle", False), ("busy", True), ("idle again", False)):
        with neighbour(busy):
            found.append(measure(folders, reference, texts, settings.measurement, settings.carbon, title=title))
    Console(width=120).print(_table(*found))


def _table(idle: dict[str, Cost], busy: dict[str, Cost], again: dict[str, Cost]) -> Table:
    heads = ("artifact", "idle", "busy", "idle again", "change", "floor idle", "floor busy", "dropped busy")
    shown = Table(*heads, box=None)
    for row, cost in idle.items():
        change = busy[row].speedup.value / cost.speedup.value - 1
        dropped = sum(launch.dropped_pairs for launch in busy[row].launches)
        shown.add_row(
            row,
            *(f"{c.speedup.value:.3f}" for c in (cost, busy[row], again[row])),
            f"{change:+.1%}",
            *(f"{c.noise_floor:.1%}" for c in (cost, busy[row])),
            str(dropped),
        )
    return shown


if __name__ == "__main__":
    main()
