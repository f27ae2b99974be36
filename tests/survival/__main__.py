"""`python -m tests.survival [KILLS] [SEED]`: the pipeline killed in every kind of stage, and the same in the end.

A project runs once undisturbed. A second one is killed (SIGKILL to the whole process group) at random moments of every
kind of stage, KILLS times or a few more (30), and run again each time. Nothing half-written may ever stand under its
final name, and in the end texts, weights, predictions, records, the board and the store are those of the undisturbed
run.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import psutil

from leaderboard import verify
from leaderboard.schema import Record, TaskCard
from openautoglm import artifact
from pipelines.params import paths
from pipelines.tracking import Store
from tests.survival.project import METHODS, TASK, half_written, lay, running, store

STAGES = ("fetch", "own", "prepare", "finetune", "card", "compress", "evaluate", "measure", "record", "track", "board")
BENCH_RUN = ("-c", "from pipelines.cli import main; main()", "run")
GLANCE_S = 0.05  # between two looks at what runs


def at_work(run: subprocess.Popen[str]) -> set[str]:
    """The kinds of stages that a run's processes work on now, whoever started them."""
    found = set()
    try:
        for child in psutil.Process(run.pid).children(recursive=True):
            with_module = [b for a, b in pairwise(child.cmdline()) if a == "-m" and b.startswith("pipelines.")]
            found |= {module.partition(".")[2] for module in with_module}
    except psutil.Error:  # it ended while it was looked at
        return set()
    return found & set(STAGES)


def watched(run: subprocess.Popen[str]) -> Iterator[set[str]]:
    """What it works on, look by look, to its end."""
    while run.poll() is None:
        yield at_work(run)
        time.sleep(GLANCE_S)


def undisturbed(folder: Path) -> dict[str, float]:
    """Run to the end; the seconds that the longest stage of each kind was at work."""
    longest, since = dict.fromkeys(STAGES, 0.0), dict[str, float]()
    with running(folder, *BENCH_RUN, log=folder / "run.log") as run:
        for stages in watched(run):
            now = time.monotonic()
            since = {stage: since.get(stage, now) for stage in stages}
            longest |= {stage: max(longest[stage], now - began) for stage, began in since.items()}
    _ended_well(run, folder)
    assert all(longest.values()), f"not every kind of stage was seen at work: {longest}"
    return longest


def killed(folder: Path, wanted: Counter[str], seconds: dict[str, float], draw: Random) -> tuple[str, set[str]] | None:
    """Run until a stage begins that is to be killed, wait for a random moment of it, or for its end, and kill: that
    stage, and what was at work in that moment. None: it ran to the end.
    """
    with running(folder, *BENCH_RUN, log=folder / "run.log") as run:
        for stages in watched(run):
            if meant := next((stage for stage in STAGES if stage in stages and wanted[stage] > 0), None):
                moment, at = time.monotonic() + draw.uniform(0, seconds[meant]), stages
                while meant in at and time.monotonic() < moment:
                    time.sleep(GLANCE_S)
                    at = at_work(run)
                os.killpg(run.pid, signal.SIGKILL)
                return meant, at
    _ended_well(run, folder)
    return None


def _ended_well(run: subprocess.Popen[str], folder: Path) -> None:
    if run.returncode:
        raise SystemExit((folder / "run.log").read_text()[-4000:] + f"\nthe run ended with {run.returncode}")


def differences(expected: Path, got: Path) -> list[str]:
    """What is not as in the undisturbed run: bits where they must be equal, agreement where they need not."""
    found = []
    card = paths.task_card("default", TASK)
    if (expected / card).read_bytes() != (got / card).read_bytes():
        found.append("the task's card")
    labels = TaskCard.model_validate_json((got / card).read_bytes())
    for method in METHODS:
        path = paths.record("default", method, TASK)
        raw = (got / path).read_bytes()
        theirs, ours = (Record.model_validate_json(text) for text in ((expected / path).read_bytes(), raw))
        items = [*verify.findings(theirs, ours, labels), *verify.integrity(raw, ours, labels)]
        found += [f"{method}: {f.item}: {f.why}" for f in items if f.kind != "volatile" and f.verdict != "same"]
        if theirs.runs[0].history != ours.runs[0].history:
            found.append(f"{method}: learning curve")
    for path in sorted(p.relative_to(expected) for p in (expected / "runs").rglob("*") if p.name == "manifest.json"):
        if artifact.sha256((expected / path).parent) != artifact.sha256((got / path).parent):
            found.append(str(path.parent))
    pages = [{p.relative_to(root) for p in (root / paths.site).rglob("*")} for root in (expected, got)]
    found += [f"on one board only: {path}" for path in sorted(pages[0] ^ pages[1])]
    tracked = [sorted(cell for cell, _ in _closed(root)) for root in (expected, got)]
    return found + ([f"in MLflow: {tracked[1]} instead of {tracked[0]}"] if tracked[0] != tracked[1] else [])


def forget(folder: Path) -> None:
    """Remove all that a project has made."""
    for name in ("data", "runs", "site", "leaderboard/results", "mlartifacts", ".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("mlflow.db", "dvc.lock"):
        (folder / name).unlink(missing_ok=True)


def _closed(folder: Path) -> list[tuple[str, str]]:
    os.environ["MLFLOW_TRACKING_URI"] = store(folder)
    runs = Store(1).closed()
    assert runs, "MLflow holds no finished run"
    return sorted(runs)


def main() -> int:
    """Kill, run again, compare; print what was done."""
    kills, seed = (int(sys.argv[i]) if len(sys.argv) > i else default for i, default in ((1, 30), (2, 0)))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left running
    draw, began = Random(seed), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="survival-") as root:
        calm, troubled = Path(root, "calm"), Path(root, "troubled")
        lay(calm)
        lay(troubled)
        seconds = undisturbed(calm)
        told = ", ".join(f"{stage} {s:.1f} s" for stage, s in seconds.items())
        print(f"undisturbed: {time.monotonic() - began:.0f} s; {told}", flush=True)
        wanted, done, hit = Counter(dict.fromkeys(STAGES, -(-kills // len(STAGES)))), Counter[str](), Counter[str]()
        torn, apart = list[str](), list[str]()
        resumable = 0
        while any(wanted.values()):
            kill = killed(troubled, wanted, seconds, draw)
            if kill is None:  # all is made: another round, from nothing
                apart += differences(calm, troubled)
                forget(troubled)
                continue
            meant, stages = kill
            done[meant] += 1
            if meant in stages:
                wanted[meant] -= 1
            else:  # it had ended
                seconds[meant] *= 0.7
            hit.update(stages or {"between stages"})
            resumable += any((troubled / "runs/.checkpoints").rglob("*.safetensors"))
            torn += half_written(troubled)
            print(f"  {sum(done.values())}: {meant}; at work: {', '.join(sorted(stages)) or 'none'}", flush=True)
        print(f"{sum(done.values())} kills: {dict(done)}; {resumable} left a checkpoint to go on from")
        print(f"at work when killed: {dict(hit)}", flush=True)
        killed(troubled, Counter(), seconds, draw)
        apart += differences(calm, troubled)
        print(f"half-written files seen: {torn or 'none'}\nother than undisturbed: {apart or 'nothing'}")
        print(f"{time.monotonic() - began:.0f} s in all")
    missed = [stage for stage in STAGES if not hit[stage]]
    if missed:
        print(f"never killed at work: {', '.join(missed)}: take more kills, or another seed")
    return 1 if torn or apart or missed or sum(done.values()) < kills else 0


if __name__ == "__main__":
    sys.exit(main())
