"""Written aside, put in place in one step: with and without the system's swap, and after a kill at any point."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from leaderboard import aside
from leaderboard.aside import replacing, replacing_folder


@pytest.fixture(params=["swap", "no swap"])
def swap(request, monkeypatch):
    if request.param == "no swap":
        monkeypatch.setattr(aside, "_swap", lambda a, b: False)


def tree(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def half(path: Path) -> None:
    path.write_text("half")
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.usefixtures("swap")
def test_a_folder_is_replaced_whole(tmp_path):
    for text in ("one", "two"):
        with replacing_folder(tmp_path / "deep/x") as new:
            assert list(new.iterdir()) == []
            (new / text).write_text(text)
    assert tree(tmp_path) == {"deep/x/two": "two"}


@pytest.mark.usefixtures("swap")
def test_an_error_leaves_the_old_one_and_nothing_else(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/old").write_text("old")
    with pytest.raises(OSError, match="No space"), replacing_folder(tmp_path / "x") as new:
        half(new / "half")
    with pytest.raises(OSError, match="No space"), replacing(tmp_path / "x/old") as file:
        half(file)
    assert tree(tmp_path) == {"x/old": "old"}


def test_a_file_in_the_place_of_a_folder_is_left_alone(tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(NotADirectoryError), replacing_folder(tmp_path / "x") as new:
        (new / "a").write_text("a")
    assert tree(tmp_path) == {"x": "mine"}


KILLED = """
import os, signal, sys
from pathlib import Path
from leaderboard import aside
folder, calls = Path(sys.argv[1]), 0

def killing(frame, event, argument):
    global calls
    if event == "line" and frame.f_code.co_filename == aside.__file__:
        calls += 1
        if calls == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
    return killing

if sys.argv[3] == "no swap":
    aside._swap = lambda a, b: False
sys.settrace(killing)
with aside.replacing_folder(folder) as new:
    (new / "file").write_text("new")
sys.settrace(None)
"""


@pytest.mark.parametrize("kind", ["swap", "no swap"])
def test_killed_at_any_line_no_state_is_lost(tmp_path, kind):
    """SIGKILL at each line of the module in turn: the old or the new folder stands, or is put back by the next call."""
    killed = 0
    for line in range(1, 200):
        folder = tmp_path / str(line) / "x"
        folder.mkdir(parents=True)
        (folder / "file").write_text("old")
        done = subprocess.run([sys.executable, "-S", "-c", KILLED, str(folder), str(line), kind], check=False)
        if done.returncode == 0:
            break
        killed += 1
        if kind == "swap":
            assert tree(folder) in ({"file": "old"}, {"file": "new"})
        with pytest.raises(RuntimeError), replacing_folder(folder):  # the next writer, which fails too
            raise RuntimeError
        assert tree(folder) in ({"file": "old"}, {"file": "new"})
        assert os.listdir(folder.parent) == ["x"]
    assert killed > 10


def test_what_living_writers_have_aside_is_not_touched(tmp_path):
    theirs, dead = tmp_path / f".x.{os.getppid()}", tmp_path / ".x.999999999"
    theirs.mkdir()
    dead.mkdir()
    with replacing_folder(tmp_path / "x"):
        pass
    assert theirs.is_dir()
    assert not dead.exists()


def test_a_writer_that_comes_between_the_look_and_the_rename_is_replaced(tmp_path, monkeypatch):
    folder, looks = tmp_path / "site", iter([False])
    folder.mkdir()
    (folder / "theirs").touch()
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: next(looks, exists(path)) if path == folder else exists(path))
    with aside.replacing_folder(folder) as new:
        (new / "ours").touch()
    assert [path.name for path in folder.iterdir()] == ["ours"]
