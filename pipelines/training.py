"""What surrounds every training stage: seed, threads, checkpoints, learning curve, footprint, whole folders."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from leaderboard.aside import replacing_folder
from leaderboard.schema import Footprint, HistoryPoint, Strict
from pipelines import params
from pipelines.errors import UserError
from pipelines.files import read_model, write_json, write_text
from pipelines.params import paths

# Idle threads sleep instead of spinning: on a shared machine spinning makes training several times slower.
# Read by OpenMP when torch is imported, which is after this module.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

PROGRESS = "progress.json"
COLUMNS = ("stage", "step", "loss", "dev_score")


@dataclass
class TrainingRun:
    """A finished training: what it cost and its learning curve."""

    steps: int = 0
    footprint: Footprint | None = None
    history: list[HistoryPoint] = field(default_factory=list)

    def add(self, point: HistoryPoint) -> None:
        """Append a point; steps that a kill made run again replace their first points."""
        self.history = [p for p in self.history if (p.stage, p.step) != (point.stage, point.step)]
        self.history.append(point)

    def write(self, folder: Path) -> None:
        """footprint.json and history.tsv into `folder`."""
        assert self.footprint
        write_json(folder / "footprint.json", self.footprint.model_dump() | {"steps": self.steps})
        table = io.StringIO()
        writer = csv.writer(table, delimiter="\t", lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([p.stage, p.step, _cell(p.loss), _cell(p.dev_score)] for p in self.history)
        write_text(folder / "history.tsv", table.getvalue())


class Progress(Strict):
    """What is kept of a training that goes on: the learning curve and the footprint up to now."""

    footprint: Footprint
    history: list[HistoryPoint]


class Finished(Footprint):
    """What is kept of a finished one, beside its learning curve."""

    steps: int


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


@contextmanager
def run(task: str, method: str, seed: int, made_from: dict[str, Any]) -> Iterator[TrainingRun]:
    """Train inside: seeded, with a fixed number of threads, checkpointed, tracked, shown live in MLflow.

    made_from: what the result depends on. Only a run of the same goes on from the checkpoints of one that was killed.
    """
    import torch

    from openautoglm.distillation.session import Point, Session, open_session
    from pipelines.instruments import energy
    from pipelines.live import live

    settings = params.load()
    settle(seed)
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]
    folder = paths.checkpoints(task, method, seed) / key
    result, earlier = _earlier(folder)
    # fine-tuning is what the teacher's record tells of
    tell = live("teacher" if method == "finetune" else method, task, seed)

    def on_point(point: Point) -> None:
        shown = HistoryPoint(stage=point.stage, step=point.step, loss=point.loss, dev_score=point.dev_score)
        result.add(shown)
        tell(shown)
        found = Progress(footprint=meter.footprint(), history=result.history)
        write_json(folder / PROGRESS, found.model_dump())

    session = Session(seed=seed, checkpoints=folder, on_point=on_point)
    gpus = torch.cuda.is_available()
    with energy.tracked(settings.carbon, earlier=earlier, gpus=gpus) as meter, open_session(session):
        yield result
    result.steps, result.footprint = session.steps, meter.footprint()


def settle(seed: int) -> None:
    """Memory, threads and randomness as every training has them."""
    import torch

    _keep_freed_memory()
    torch.set_num_threads(params.load().training.threads or os.cpu_count() or 1)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # A tenth of the time, against bugs that tests look for. (A property of the module, which types do not know.)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _earlier(folder: Path) -> tuple[TrainingRun, Footprint | None]:
    """The learning curve and the footprint of the pieces before a kill: their checkpoints are gone on from."""
    if not (folder / PROGRESS).is_file():
        return TrainingRun(), None
    found = read_model(folder / PROGRESS, Progress)
    return TrainingRun(history=found.history), found.footprint


def _keep_freed_memory() -> None:
    """Ask glibc to keep freed memory: gradients of tens of megabytes come and go each step, and page faults cost much.

    Elsewhere (musl, macOS) there is no mallopt, and nothing happens.
    """
    import ctypes

    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for parameter in (trim_threshold, mmap_threshold):
        mallopt(parameter, 1 << 30)
    mallopt(top_pad, 256 << 20)


def finish(task: str, method: str, seed: int, folder: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write into an empty folder aside, put it in the place of `folder`, and drop the checkpoints."""
    with replacing_folder(folder) as aside:
        fill(aside)
    shutil.rmtree(paths.checkpoints(task, method, seed), ignore_errors=True)


def read_run(folder: Path) -> tuple[Footprint, int, list[HistoryPoint]]:
    """Footprint, optimiser steps and learning curve that `TrainingRun.write` left in `folder`."""
    found = read_model(folder / "footprint.json", Finished)
    path = folder / "history.tsv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            # an empty cell is none
            rows = [{k: v or None for k, v in row.items()} for row in csv.DictReader(file, delimiter="\t", strict=True)]
        history = [HistoryPoint.model_validate(row, strict=False) for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} is missing or broken ({error}): delete {folder} and run `dvc repro` again.") from None
    return Footprint(**found.model_dump(exclude={"steps"})), found.steps, history
