"""Training cells side by side: as many at once as the cores and the memory hold.

A cell trains on a fixed number of threads, one by default: two of them fill two cores better than one on two threads,
and its result does not depend on the machine's cores. `dvc repro` runs one stage at a time; here several of its
processes share a project, each asked for cells that no other one touches. DVC's own locks keep its files whole.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from pipelines.params import Params, paths

GB_A_CELL = 3.5  # memory that a training takes at its peak, and what runs beside it

Dvc = Callable[..., "subprocess.CompletedProcess[str]"]  # dvc("repro", target, capture_output=True)


def at_once(settings: Params) -> int:
    """How many cells this machine trains side by side; one where each takes all cores."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    room = psutil.virtual_memory().available / 1e9 / GB_A_CELL
    return max(1, min(cores // (settings.training.threads or cores), int(room)))


def train(folder: Path, settings: Params, dvc: Dvc, workers: int) -> int:
    """Fine-tune, compress and evaluate all that is not up to date; the exit code of the first that failed."""
    made = [f"prepare@{task}" for task in settings.tasks] + [f"card@{method}" for method in settings.methods]
    if code := dvc("repro", *made).returncode:
        return code
    tasks = sorted(settings.tasks, key=lambda task: -(folder / paths.split(task, "train")).stat().st_size)
    cells = [f"{task}-{seed}" for seed in settings.seeds for task in tasks]  # the longest first
    students = [f"{method}-{cell}" for cell in cells for method in settings.methods]
    if code := _side_by_side({cell: [f"finetune@{cell}"] for cell in cells}, dvc, workers):
        return code
    return _side_by_side({cell: [f"compress@{cell}", f"evaluate@{cell}"] for cell in students}, dvc, workers)


def _pending(dvc: Dvc) -> set[str]:
    """The stages that are not up to date, as far as DVC can tell before those in front of them have run."""
    found = dvc("status", "--json", capture_output=True)
    return set(json.loads(found.stdout)) if found.returncode == 0 else set()


def _side_by_side(stages: Mapping[str, Sequence[str]], dvc: Dvc, workers: int) -> int:
    """Run the cells that have a pending stage. After a failure no other starts; those that run are waited for."""
    from rich import progress

    pending = _pending(dvc)
    waiting = [cell for cell, its in stages.items() if not pending.isdisjoint(its)]
    shown = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(elapsed_when_finished=True),
    )
    failed = 0
    with shown, ThreadPoolExecutor(workers) as pool:
        bar = shown.add_task("", total=len(waiting))
        running: dict[Future[tuple[int, str]], str] = {}
        while running or (waiting and not failed):
            while waiting and not failed and len(running) < workers:
                cell = waiting.pop(0)
                running[pool.submit(_cell, dvc, stages[cell])] = cell
            shown.update(bar, description=", ".join(running.values()))
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                code, said = done.result()
                shown.console.print(f"{running.pop(done)}: {said}", markup=False, highlight=False)
                shown.advance(bar)
                failed = failed or code
    return failed


def _cell(dvc: Dvc, stages: Sequence[str]) -> tuple[int, str]:
    """Exit code, and the seconds it took, or what it said where it failed.

    Single items: what lies before them is up to date, and to see that DVC would lock it against the other cells.
    """
    start = time.monotonic()
    words = ("--wait-for-lock", "repro", "--single-item", *stages)
    done = dvc(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, f"failed\n{done.stdout}" if done.returncode else f"{time.monotonic() - start:.0f} s"
