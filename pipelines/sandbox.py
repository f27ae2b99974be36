"""Runs a command that nobody vouches for: limited in time, memory and files, with a clean environment and, where the
system allows it, without network, seeing the project read-only and its data not at all.

On Linux with user namespaces (`unshare`) the kernel holds it. Elsewhere only the limits and Python's audit hook
(pipelines/guard.py) do, and `Outcome.held` says what was not held.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

PR_SET_PDEATHSIG = 1  # linux/prctl.h
TAIL = 4000  # bytes of its output that are kept
GLANCE_S = 0.25  # between two looks at the memory and the disk that it takes
Stopped = Literal["", "time", "memory", "files"]
NO_MEMORY = ("MemoryError", "std::bad_alloc", "can't allocate memory", "Cannot allocate memory", "out of memory")


@dataclass(frozen=True)
class Limits:
    """What one command may use."""

    wall_s: float = 120.0
    memory_mb: int = 4000  # of each process, and of all together
    file_mb: int = 500  # of each file
    disk_mb: int = 2000  # of all files in its folder
    open_files: int = 512


@dataclass(frozen=True)
class Outcome:
    """How it ended. `stopped`: which limit ended it; `held`: what the kernel kept from it."""

    code: int
    output: str
    wall_s: float
    cpu_s: float
    stopped: Stopped
    held: tuple[str, ...]


def run(
    command: Sequence[str],
    box: Path,
    limits: Limits = Limits(),
    *,
    hidden: Sequence[Path] = (),
    writable: Sequence[Path] = (),
    root: Path | None = None,
    shown: bool = False,
    variables: Mapping[str, str] | None = None,
) -> Outcome:
    """Run `command` in `box`, its home: it may write there, and into the `writable` folders. `hidden` folders look
    empty to it, `hidden` files too.

    `root`: the project, from which it imports. Its output goes to a file beside the box and ends with the limits;
    `shown`: to the terminal, and is not kept. `variables` are added to its clean environment.
    """
    box = box.resolve()
    (box / "tmp").mkdir(parents=True, exist_ok=True)
    open_to_it = [box, *(folder.resolve() for folder in writable)]
    wrapper = _wrapper(open_to_it, [path.resolve() for path in hidden if path.exists()]) if namespaces() else []
    log = box.with_name(f".{box.name}.log")
    start, spent = time.monotonic(), _children_cpu_s()
    with log.open("w+b") as output:
        process = subprocess.Popen(
            [*wrapper, *command],
            cwd=box,
            env=environment(box, root or Path.cwd()) | dict(variables or {}),
            stdin=subprocess.DEVNULL,
            stdout=None if shown else output,
            stderr=None if shown else subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: _limit(limits),  # one thread only: nothing else runs between fork and exec
        )
        stopped = _wait(process, open_to_it, limits)
        said = _tail(log)
    log.unlink()
    if not stopped and process.returncode and any(word in said for word in NO_MEMORY):
        stopped = "memory"
    if not stopped and process.returncode and "File too large" in said:
        stopped = "files"
    held = ("network", "writes", "data") if wrapper else ()
    wall_s, cpu_s = time.monotonic() - start, _children_cpu_s() - spent
    return Outcome(process.returncode, said, wall_s, cpu_s, stopped, held)


def environment(box: Path, root: Path) -> dict[str, str]:
    """A clean one: no secrets, no proxies, no home. One thread, so that it is as slow as it is measured."""
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(box),
        "TMPDIR": str(box / "tmp"),
        "PYTHONPATH": f"{box}:{root.resolve()}",
        "LANG": "C.UTF-8",
        "OMP_WAIT_POLICY": "PASSIVE",
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
        **dict.fromkeys(("HF_HUB_OFFLINE", "PYTHONDONTWRITEBYTECODE", "PYTHONNOUSERSITE"), "1"),
        "PYTHONHASHSEED": "0",
        "TOKENIZERS_PARALLELISM": "false",
        "CUDA_VISIBLE_DEVICES": "",
    }


@cache
def namespaces() -> bool:
    """Does the kernel give us a network, mounts and processes of our own?"""
    if sys.platform != "linux" or not all(map(shutil.which, ("unshare", "setpriv", "mount"))):
        return False
    try:
        with tempfile.TemporaryDirectory() as box:
            probe = [*_wrapper([Path(box).resolve()], []), "true"]
            return subprocess.run(probe, capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _wrapper(writable: Sequence[Path], hidden: Sequence[Path]) -> list[str]:
    """unshare, then every mount but what is its own read-only, then all rights dropped: nothing is mounted back.

    The first of the `writable` folders is its box. None of them may lie in a `hidden` one.
    """
    q = shlex.quote
    own = [q(str(path)) for path in writable]
    lines = [
        "set -e",
        *(f"mount --bind {path} {path}" for path in own),
        *(
            f"mount -t tmpfs -o ro,size=4k none {q(str(path))}"
            if path.is_dir()
            else f"mount --bind /dev/null {q(str(path))}"
            for path in hidden
        ),
        "mount -t tmpfs -o size=64m none /dev/shm 2>/dev/null || true",
        # every mount point in its octal-escaped form; what the kernel does not let us change, it does not let us write
        "while read -r _ _ _ _ at _; do at=$(printf '%b' \"$at\"); case $at in "
        f"{'|'.join([*own, '/dev/shm'])}) ;; "
        '*) mount -o remount,bind,ro "$at" 2>/dev/null || true ;; esac; done < /proc/self/mountinfo',
        f"cd {own[0]}",
        'if touch "$0" 2>/dev/null; then exit 125; fi',  # $0 is a file outside the box: it must not be writable
        'exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"',
    ]
    shared = ["--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["unshare", *shared, "sh", "-c", "\n".join(lines), str(Path(__file__).resolve())]


def _limit(limits: Limits) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # whoever ends us ends it too
    cpu_s, megabyte = int(limits.wall_s * (os.cpu_count() or 1)) + 5, 1 << 20
    for kind, most in (
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_DATA, limits.memory_mb * megabyte),
        (resource.RLIMIT_FSIZE, limits.file_mb * megabyte),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))


def _wait(process: subprocess.Popen, writable: Sequence[Path], limits: Limits) -> Stopped:
    """Wait, and end the whole process group; which limit ended it."""
    deadline = time.monotonic() + limits.wall_s
    stopped: Stopped = ""
    try:
        while not stopped:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(min(GLANCE_S, max(0.0, deadline - time.monotonic())))
                break
            stopped = "time" if time.monotonic() >= deadline else _beyond(process.pid, writable, limits)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it started and left behind ends too
        process.wait()
    return stopped or ("time" if process.returncode == -signal.SIGXCPU else "")


def _beyond(pid: int, writable: Sequence[Path], limits: Limits) -> Stopped:
    """What no limit of one process or file holds: many of them."""
    import psutil

    resident = 0
    with contextlib.suppress(psutil.Error):
        first = psutil.Process(pid)
        for process in (first, *first.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                resident += process.memory_info().rss
    if resident > limits.memory_mb * 1e6:
        return "memory"
    return "files" if sum(map(_bytes, writable)) > limits.disk_mb * 1e6 else ""


def _bytes(folder: Path) -> int:
    """What the files below a folder take on the disk; links are not followed."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
    return total


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        return file.read().decode("utf-8", "replace")
