"""Files and folders written aside and put in place in one step: a reader sees the old one or the new one, whole.

A process killed while it writes leaves its work aside, under a name with its process id: the next writer of the same
path clears it away. Two writers at once do not meet, and the later one wins.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AT_FDCWD, SWAP = -100, 2  # RENAME_EXCHANGE of Linux' renameat2, RENAME_SWAP of macOS' renamex_np


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write a file to. It becomes `path` when the block ends without an error."""
    aside = _aside(path)
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill. It becomes `folder` when the block ends without an error; until then the old one stays.

    OSError where the disk is full or the place is taken by something that is not a folder.
    """
    aside = _aside(folder)
    aside.mkdir()
    try:
        yield aside
        _put(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put(aside: Path, folder: Path) -> None:
    """Rename a folder; one in its place is swapped with it, so that there is no moment without either."""
    if not folder.exists():
        try:
            aside.rename(folder)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # else another writer came first
                raise
    if not folder.is_dir():
        raise NotADirectoryError(20, "Not a folder, and in the place of one", str(folder))
    if not _swap(aside, folder):  # an old kernel or an unusual file system: both are kept until the new one stands
        old = aside.with_name(f"{aside.name}.old")
        folder.rename(old)
        aside.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def _swap(a: Path, b: Path) -> bool:
    """Exchange two names in one step; False where the system cannot."""
    try:
        libc = ctypes.CDLL(None)
        if sys.platform == "darwin":
            return libc.renamex_np(os.fsencode(a), os.fsencode(b), SWAP) == 0
        return libc.renameat2(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), SWAP) == 0
    except (OSError, AttributeError):
        return False


def _aside(path: Path) -> Path:
    """A free name beside `path`, its folder made; what killed writers of `path` left there is cleared away."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ours = re.compile(rf"\.{re.escape(path.name)}\.(\d+)(\.old)?")
    for left in path.parent.iterdir():
        found = ours.fullmatch(left.name)
        if found and (int(found[1]) == os.getpid() or not _alive(int(found[1]))):
            _clear(left, path if found[2] else None)
    return path.with_name(f".{path.name}.{os.getpid()}")


def _clear(left: Path, home: Path | None) -> None:
    """Remove what a killed writer left; an old folder whose successor never came is put back where it was."""
    if home and not home.exists():
        left.rename(home)
    elif left.is_dir() and not left.is_symlink():
        shutil.rmtree(left, ignore_errors=True)
    else:
        left.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True
