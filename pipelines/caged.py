"""A stage that runs a submission's code, run in the sandbox: it sees its task's train and dev, and writes its own cell.

The exam, all other tasks and methods, the records, DVC's cache, pip's and the network are not there for it. All else on
the disk that its user may read is, another clone with its exam too. What it prints is shown. It is not shown live in
MLflow, which is on the other side: `track` logs it from its record.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines import methods, sandbox
from pipelines.errors import UserError
from pipelines.guard import BREACH, guard

INSIDE = "BENCH_SANDBOX"  # a variable that is there inside only
HOURS = 12  # what the longest training of the full profile takes on two cores, several times over
CONTENTS = (
    "data",
    "runs",
    "leaderboard/results",
    ".dvc",
    ".work",
    "site",
    "mlruns",
    "mlartifacts",
    "mlflow.db",
    ".git",
)


def needed(method: str) -> bool:
    """Is this code of a submission, and are we not in the sandbox yet?"""
    return not inside() and methods.module_name(method).startswith("submissions.")


def inside() -> bool:
    """Are we in the sandbox?"""
    return INSIDE in os.environ


def stage(
    name: str,
    arguments: Sequence[str],
    box: Path,
    own: Sequence[Path] = (),
    seen: Sequence[Path] = (),
    unseen: Sequence[Path] = (),
) -> None:
    """`python -m pipelines.<name>` in the sandbox. `own`: folders that it writes to, but for what is `unseen` in them;
    `seen`: what else it needs of the hidden folders. UserError where it fails; why is on the terminal then.
    """
    hidden = [*secrets(Path.cwd(), [*own, *seen]), *unseen]
    said = json.dumps([[str(path.resolve()) for path in paths] for paths in ([box, *own], hidden)])
    limits = sandbox.Limits(HOURS * 3600, memory_mb=_memory_mb(), file_mb=4000, disk_mb=20_000)
    command = [sys.executable, "-m", f"pipelines.{name}", *arguments]
    variables = {INSIDE: said} | {k: os.environ[k] for k in ("CUDA_VISIBLE_DEVICES", "COLUMNS") if k in os.environ}
    for path in Path.cwd().glob("[!.]*"):  # linked into its box, where it starts: what it drops stays there
        (box / path.name).symlink_to(path)
    outcome = sandbox.run(command, box, limits, hidden=hidden, writable=own, shown=True, variables=variables)
    if outcome.stopped or outcome.code:
        why = {"time": f"it took over {HOURS} hours", "memory": "it took too much memory", "files": "it wrote too much"}
        reached = "it reached out of its sandbox" if outcome.code == BREACH else f"it ended with {outcome.code}"
        said = why.get(outcome.stopped, reached)
        raise UserError(f"{' '.join([name, *arguments])}: {said}; `bench check` tells more.")


def enter() -> None:
    """Inside: from here on, what the code reaches for is told and refused."""
    if inside():
        own, hidden = ([Path(path) for path in paths] for paths in json.loads(os.environ[INSIDE]))
        # the instruments set back this process' high-water mark, and ask programs for GPUs
        guard([*own, Path("/proc", str(os.getpid()))], hidden, processes=True)


def secrets(project: Path, wanted: Sequence[Path]) -> Iterator[Path]:
    """All data and results of a project but what is wanted; of a profile's folder, those of the outer project too. And
    pip's cache, where the packages with the texts are.
    """
    kept = [path.resolve() for path in wanted]
    yield from _but(Path.home().resolve() / ".cache/pip", kept)
    outer = [project.parents[1]] if project.parent.name == ".work" else []
    for root in (project, *outer):
        for name in CONTENTS:
            yield from _but(root.resolve() / name, [*kept, project.resolve()])


def _but(path: Path, kept: Sequence[Path]) -> Iterator[Path]:
    """`path`, or where something in it is kept, all else in it."""
    if not path.exists() or path in kept:
        return
    if any(keep.is_relative_to(path) for keep in kept):
        for inner in sorted(path.iterdir()):
            yield from _but(inner, kept)
    else:
        yield path


def _memory_mb() -> int:
    import psutil

    return int(0.9 * psutil.virtual_memory().total / 1e6)


def box() -> tempfile.TemporaryDirectory[str]:
    """A home for one stage."""
    return tempfile.TemporaryDirectory(prefix="bench-stage-")
