"""A training shown in MLflow while it runs: `live` in the training, and the process that listens to it.

Importing MLflow and writing to its store would otherwise be billed to the method, in seconds and in energy.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from leaderboard.schema import HistoryPoint
from pipelines import caged, params
from pipelines.tracking import Cell, Store, TrackingError

OPENING = Path(".dvc/tmp/mlflow.lock")


def live(method: str, task: str, seed: int) -> Callable[[HistoryPoint], None]:
    """A callback that shows each point of a learning curve in MLflow. It never raises and never waits.

    The listener starts with the first point. What cannot be shown is dropped: track logs it from the record. So is all
    that is trained in the sandbox, which has no way to a store.
    """
    if caged.inside():
        return lambda point: None
    settings = params.load()
    cell = Cell(settings.suite_version, settings.profile, method, task, seed)
    pipe: int | None = None

    def on_point(point: HistoryPoint) -> None:
        nonlocal pipe
        try:
            if pipe is None:
                pipe = _start(cell)
            os.write(pipe, point.model_dump_json().encode() + b"\n")
        except OSError:  # the listener is gone, or so far behind that the pipe is full
            return

    return on_point


def _start(cell: Cell) -> int:
    """A process that logs each line written to the returned pipe, until the pipe is closed."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    command = [sys.executable, "-m", "pipelines.live", json.dumps(cell)]
    # By way of a shell that ends at once, so that the listener is no child of this process: a child's energy would be
    # billed to the training. (A shell gives what it leaves behind no standard input, hence the third channel.)
    shell = ["/bin/sh", "-c", 'exec 3<&0; "$@" <&3 3<&- &', "sh", *command]
    try:
        subprocess.run(shell, stdin=reading, stdout=subprocess.DEVNULL, check=False)
    finally:
        os.close(reading)
    return writing


def listen(cell: Cell, lines: Iterable[str]) -> None:
    """Log points as they come in, into a new run. Trouble with the store is told once, and ends the listening."""
    try:
        with _one_at_a_time():
            store = Store(cell.suite_version)
            run_id = store.fresh_child(cell)
        for line in lines:
            store.log_points(run_id, [HistoryPoint.model_validate_json(line)])
        store.close(run_id)
    except TrackingError as error:
        print(f"warning: not shown live ({error}); the training goes on, and track will log it.", file=sys.stderr)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Cells that begin together would each make the store, and a parent run of their method."""
    OPENING.parent.mkdir(parents=True, exist_ok=True)
    with OPENING.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the training; this ends when its pipe is closed
    listen(Cell(*json.loads(sys.argv[1])), sys.stdin)
