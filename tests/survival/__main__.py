"""`python -m tests.survival [KILLS] [SEED]`: the pipeline killed in every kind of stage, and the same in the end.

A project runs once undisturbed. A second one is killed (SIGKILL to the whole process group) at random moments of every
kind of stage, KILLS times or a few more (30), and run again each time. Nothing half-written may ever stand under its
final name, and in the end texts, weights, predictions and records are those of the undisturbed run.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from leaderboard import verify
from leaderboard.schema import Record, TaskCard
from openautoglm import artifact
from pipelines.params import paths
from tests.survival.project import METHODS, TASK, half_written, lay, running

RUNNING = re.compile(r"Running stage '([a-z]+)")
STAGES = ("fetch", "prepare", "finetune", "card", "compress", "evaluate", "measure", "record", "track", "board")


BENCH_RUN = ("-c", "from pipelines.cli import main; main()", "run")


def undisturbed(folder: Path) -> dict[str, float]:
    """Run to the end; seconds from the start of a stage of each kind to the next one."""
    seconds, stage, since = dict.fromkeys(STAGES, 1.0), "", time.monotonic()
    said = []
    with running(folder, *BENCH_RUN) as run:
        assert run.stdout
        for line in run.stdout:
            said.append(line)
            if found := RUNNING.search(line):
                if stage:
                    seconds[stage] = time.monotonic() - since
                stage, since = found[1], time.monotonic()
    if run.returncode:
        raise SystemExit("".join(said[-40:]) + f"the undisturbed run ended with {run.returncode}")
    return seconds


def killed(folder: Path, wanted: Counter[str], seconds: dict[str, float], draw: Random) -> str | None:
    """Run until a stage begins that is to be killed, wait for a random moment of it, kill. None: it ran to the end."""
    said = []
    with running(folder, *BENCH_RUN) as run:
        assert run.stdout
        for line in run.stdout:
            said.append(line)
            found = RUNNING.search(line)
            if found and wanted[found[1]] > 0:
                time.sleep(draw.uniform(0, 1.1 * seconds[found[1]]))
                os.killpg(run.pid, signal.SIGKILL)
                return found[1]
    if run.returncode:
        raise SystemExit("".join(said[-40:]) + f"after a kill, the run ended with {run.returncode}")
    return None


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
    return found


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
        wanted, done = Counter(dict.fromkeys(STAGES, -(-kills // len(STAGES)))), Counter[str]()
        torn: list[str] = []
        resumable = 0
        while stage := killed(troubled, wanted, seconds, draw):
            wanted[stage] -= 1
            done[stage] += 1
            resumable += any((troubled / "runs/.checkpoints").rglob("*.safetensors"))
            torn += half_written(troubled)
            print(f"  killed in {stage}", flush=True)
        print(f"{sum(done.values())} kills: {dict(done)}; {resumable} left a checkpoint to go on from", flush=True)
        again = killed(troubled, Counter(), seconds, draw)
        apart = differences(calm, troubled)
        print(f"half-written files seen: {torn or 'none'}\nother than undisturbed: {apart or 'nothing'}")
        print(f"{time.monotonic() - began:.0f} s in all")
    return 1 if torn or apart or again or sum(done.values()) < kills else 0


if __name__ == "__main__":
    sys.exit(main())
