"""`dvc repro` in a folder: one at a time, and nothing that a killed run left behind stops the next.

DVC rewrites dvc.lock and its own locks in place, so a kill can cut them short, which DVC takes for an error of the
user's. What is whole in them is kept; a stage whose entry is lost is taken from DVC's cache, or runs again.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pipelines import cells, params
from pipelines.files import write_text

LOCK, RWLOCK, KEPT = ".dvc/tmp/run.lock", ".dvc/tmp/rwlock", ".dvc/tmp/dvc.lock"


def repro(folder: Path, targets: list[str], held: int) -> int:
    """Run the pipeline of `folder`; DVC's exit code. Only for who is `alone` there, whose descriptor is `held`.

    Without targets, cells are trained side by side first (pipelines.cells), then comes all the rest, one by one.
    """
    mend(folder)
    # The stages' `python` is the one that runs this; the runs of all profiles stand in one MLflow.
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{Path('mlflow.db').resolve()}"}
    environment = store | os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def dvc(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dvc", *words]
        return subprocess.run(command, cwd=folder, env=environment, pass_fds=[held], text=True, **options)

    if not targets:
        settings = params.load(folder / "params.yaml")
        workers = cells.at_once(settings)
        if workers > 1 and (code := cells.train(folder, settings, dvc, workers)):
            return code
    return dvc("repro", *targets).returncode


@contextmanager
def alone(folder: Path) -> Iterator[int]:
    """Hold the folder's lock, and give its descriptor: a child that inherits it holds it too, as long as it lives.

    Where another run goes on there, it is waited for.
    """
    path = folder / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"Another run is going on in {folder.resolve()}: waiting until it ends.", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def mend(folder: Path) -> None:
    """Bring DVC's own files in order after a kill. Only for who is `alone`."""
    _mend_stages(folder / "dvc.lock", folder / KEPT)
    rwlock = folder / RWLOCK
    if rwlock.is_file() and not _held(rwlock.read_text(encoding="utf-8", errors="replace")):
        rwlock.unlink()


def _mend_stages(path: Path, kept: Path) -> None:
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    if _stages(text) is not None:
        write_text(kept, text)
        return
    before = _stages(kept.read_text(encoding="utf-8")) if kept.is_file() else None
    stages = (before or {}) | _salvaged(text)
    write_text(path, yaml.dump({"schema": "2.0", "stages": stages}, Dumper=yaml.CSafeDumper, sort_keys=False))
    print(f"dvc.lock had been cut short: {len(stages)} of its stages are kept.", file=sys.stderr)


def _salvaged(text: str) -> dict[str, Any]:
    """The stages of a cut file that are whole: all but the last, which may not be."""
    lines = text.splitlines(keepends=True)
    starts = [i for i, line in enumerate(lines) if re.match(r"  [^\s#]", line)]
    return _stages("".join(lines[: starts[-1]])) or {} if starts else {}


def _stages(text: str) -> dict[str, Any] | None:
    """The stages of dvc.lock; None where DVC would not read it."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        raw = yaml.load(text, Loader=yaml.CSafeLoader)
        return COMPILED_LOCKFILE_SCHEMA(raw)["stages"]
    except (yaml.YAMLError, Invalid, KeyError):
        return None


def _held(text: str) -> bool:
    """Is any process of DVC's lock file alive, and DVC? Numbers of dead ones are given to others."""
    import psutil

    try:
        json.loads(text)
    except ValueError:
        return False
    for number in set(re.findall(r'"pid": (\d+)', text)):
        try:
            if "dvc" in " ".join(psutil.Process(int(number)).cmdline()):
                return True
        except psutil.Error:
            continue
    return False
