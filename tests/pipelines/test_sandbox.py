"""What a command in the sandbox may do, and what is left of it: nothing but its own folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from pipelines import sandbox
from pipelines.sandbox import Limits

LIMITS = Limits(wall_s=20, memory_mb=500, file_mb=5)
kernel = pytest.mark.skipif(not sandbox.namespaces(), reason="this system gives no namespaces")


@pytest.fixture
def run(tmp_path):
    def do(source: str, limits: Limits = LIMITS, hidden=()) -> sandbox.Outcome:
        return sandbox.run([sys.executable, "-c", source], tmp_path / "box", limits, hidden=hidden)

    return do


def test_it_works_in_its_folder_and_what_it_writes_stays(run, tmp_path):
    outcome = run("open('made.txt', 'w').write('yes'); print('done')")
    assert (outcome.code, outcome.output.strip(), outcome.stopped) == (0, "done", "")
    assert (tmp_path / "box/made.txt").read_text() == "yes"
    assert [path.name for path in tmp_path.iterdir()] == ["box"]


def test_its_environment_is_clean(run, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    outcome = run("import os; print(sorted(os.environ), os.environ['HOME'] == os.getcwd())")
    assert "SECRET_TOKEN" not in outcome.output
    assert "PROXY" not in outcome.output
    assert "True" in outcome.output


def test_what_it_started_ends_with_it(run, tmp_path):
    """A child that would outlive its parent writes the time; after the end the time stands still."""
    child = "import time\nwhile True: open('alive', 'w').write(str(time.time())); time.sleep(0.02)"
    run(f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(1)")
    alive = tmp_path / "box/alive"
    assert alive.is_file()
    before = alive.read_text()
    time.sleep(0.3)
    assert alive.read_text() == before


def test_a_limit_that_ends_it_is_named(run):
    assert run("while True: pass", Limits(wall_s=1)).stopped == "time"
    assert run("bytearray(2_000_000_000)").stopped == "memory"
    assert run("open('x', 'wb').write(b'0' * 9_000_000)").stopped == "files"


def test_its_output_is_kept_in_bounds(run):
    outcome = run("for _ in range(50): print('x' * 10_000)")
    assert len(outcome.output) <= sandbox.TAIL


@kernel
def test_it_sees_no_network_and_no_other_process(run):
    outcome = run("import os, socket; print(os.getpid()); socket.create_connection(('192.0.2.1', 9), 1)")
    assert outcome.output.endswith("1\n")  # its own process is the only one
    assert "Network is unreachable" in outcome.output


@kernel
def test_it_cannot_write_elsewhere_not_even_as_root(run, tmp_path):
    source = "import os, subprocess\n"
    for path in (tmp_path / "owned", "/tmp/owned", "/var/tmp/owned", "/dev/owned", "/proc/self/oom_score_adj"):
        source += f"try: open({str(path)!r}, 'w'); print('WROTE', {str(path)!r})\nexcept OSError as e: pass\n"
    source += "print(subprocess.run(['mount', '-o', 'remount,bind,rw', '/'], capture_output=True).returncode)\n"
    outcome = run(source)
    assert "WROTE" not in outcome.output
    assert outcome.output.strip() != "0"
    assert not (tmp_path / "owned").exists()


@kernel
def test_hidden_folders_look_empty(run, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "exam").write_text("answers")
    assert run(f"import os; print(os.listdir({str(secret)!r}))", hidden=[secret]).output.strip() == "[]"
    assert os.listdir(secret) == ["exam"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_it_ends_with_whoever_runs_it(tmp_path):
    """`bench check` killed outright leaves nothing running."""
    beat = "import time\nwhile True: open('alive', 'w').write(str(time.time())); time.sleep(0.02)"
    source = "import sys; from pathlib import Path; from pipelines import sandbox\n"
    source += f"sandbox.run([sys.executable, '-c', {beat!r}], Path({str(tmp_path / 'box')!r}))"
    referee = subprocess.Popen([sys.executable, "-c", source])
    alive = tmp_path / "box/alive"
    while not (alive.is_file() and alive.read_text()):
        assert referee.poll() is None
        time.sleep(0.05)
    referee.kill()
    referee.wait()
    time.sleep(0.5)
    before = alive.read_text()
    time.sleep(0.5)
    assert alive.read_text() == before
