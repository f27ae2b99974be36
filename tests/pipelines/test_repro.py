"""What a killed run leaves of DVC's own files, and two runs at once in one folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.schema import COMPILED_LOCKFILE_SCHEMA

from pipelines import repro

ROOT = Path(__file__).parents[2]
STAGE = {"cmd": "echo", "outs": [{"path": "x", "hash": "md5", "md5": "0" * 32, "size": 1}]}


@pytest.fixture
def lock(tmp_path):
    """A folder with a dvc.lock of three stages, as the last run but one has left it."""
    path = tmp_path / "dvc.lock"
    stages = {"a": STAGE, "b@x": STAGE, "c": STAGE}
    path.write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}, sort_keys=False))
    return path


def stages(path: Path) -> list[str]:
    return list(yaml.safe_load(path.read_text())["stages"])


def test_cut_at_any_byte_a_lock_keeps_what_is_whole(lock):
    """Without a copy of an earlier state. A stage whose last bytes are cut may stay, where DVC finds nothing amiss."""
    text = lock.read_text()
    begins = [text.index(f"  {name}:") for name in ("b@x", "c")] + [len(text)]
    for length in range(len(text)):
        lock.write_text(text[:length])
        (lock.parent / repro.KEPT).unlink(missing_ok=True)
        repro.mend(lock.parent)
        found = COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(lock.read_text()))["stages"]
        whole = sum(length >= begin for begin in begins)
        assert list(found)[:whole] == ["a", "b@x", "c"][:whole]
        assert all(found[name] == STAGE for name in list(found)[:whole])


def test_an_earlier_state_fills_in(lock):
    text = lock.read_text()
    repro.mend(lock.parent)
    lock.write_text(text[:40])
    repro.mend(lock.parent)
    assert stages(lock) == ["a", "b@x", "c"]
    lock.write_text("")
    repro.mend(lock.parent)
    assert stages(lock) == ["a", "b@x", "c"]


@pytest.mark.parametrize("text", ["", "{", '{"write": {"x": {"pid": 999999999, "cmd": "dvc repro"}}}'])
def test_a_lock_of_nobody_is_removed(lock, text):
    path = lock.parent / repro.RWLOCK
    path.parent.mkdir(parents=True)
    path.write_text(text)
    repro.mend(lock.parent)
    assert not path.exists()


def test_a_lock_whose_number_another_program_has_now_is_removed_and_dvcs_own_stays(lock):
    path = lock.parent / repro.RWLOCK
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"read": {"x": [{"pid": os.getppid(), "cmd": "dvc repro"}]}}))
    command = [sys.executable, "-c", "print(flush=True); input()", "dvc repro"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as dvc:
        dvc.stdout.readline()
        path.write_text(json.dumps({"read": {"x": [{"pid": dvc.pid, "cmd": "dvc repro"}]}}))
        repro.mend(lock.parent)
        assert path.exists()
        dvc.communicate(b"\n")
    repro.mend(lock.parent)
    assert not path.exists()


HOLDER = """
import sys
from pathlib import Path
from pipelines import repro
with repro.alone(Path(sys.argv[1])):
    print("in", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_says_that_it_waits_and_then_runs(tmp_path):
    def start():
        command = [sys.executable, "-c", HOLDER, str(tmp_path)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    with start() as first:
        assert first.stdout.readline() == "in\n"
        with start() as second:
            assert second.stderr.readline().startswith("Another run is going on in ")
            first.stdin.close()
            assert second.stdout.readline() == "in\n"
            second.stdin.close()


def test_the_lock_of_a_killed_run_is_free(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        first.stdout.readline()
        first.kill()
    with repro.alone(tmp_path):
        pass
