"""The peak of resident memory: by the kernel's mark, and by sampling where it has none."""

import mmap
import subprocess
import sys
import time

import pytest

from pipelines.instruments import memory


def touch(megabytes):
    """New pages, whatever malloc has kept of what was freed before: an earlier test may have told it to keep all."""
    block = mmap.mmap(-1, megabytes * 1_000_000)
    block[::4096] = b"x" * len(block[::4096])
    return block


@pytest.fixture(params=["kernel", "sampler"])
def how(request, monkeypatch):
    if request.param == "kernel" and not memory.high_water_mark_resets():
        pytest.skip("this kernel does not reset VmHWM")
    monkeypatch.setattr(memory, "high_water_mark_resets", lambda: request.param == "kernel")


@pytest.mark.usefixtures("how")
def test_the_peak_holds_what_was_freed_again():
    before = memory.resident_mb()
    with memory.Peak() as peak:
        block = touch(80)
        time.sleep(0.05)
        del block
    assert 70 < peak.mb - before < 110


@pytest.mark.usefixtures("how")
def test_an_earlier_peak_is_forgotten():
    block = touch(120)
    time.sleep(0.02)
    del block
    before = memory.resident_mb()
    with memory.Peak() as peak:
        touch(10)
    assert peak.mb - before < 60


@pytest.mark.usefixtures("how")
def test_the_peak_so_far_can_be_asked_inside():
    with memory.Peak() as peak:
        low = peak.mb
        block = touch(60)
        time.sleep(0.05)
        assert peak.mb > low + 50
        del block
    assert peak.mb > low + 50


def test_the_mark_is_set_back_where_freed_memory_is_kept_too():
    """Training tells malloc to keep what is freed; the probe must not take that for a kernel that cannot."""
    if not memory.high_water_mark_resets():
        pytest.skip("this kernel does not reset VmHWM")
    code = (
        "from pipelines.training import _keep_freed_memory; _keep_freed_memory()\n"
        "from pipelines.instruments.memory import high_water_mark_resets\nassert high_water_mark_resets()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_child_does_not_inherit_its_parents_peak():
    block = touch(300)
    code = "from pipelines.instruments.memory import Peak\nwith Peak() as p: pass\nprint(p.mb)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(child.stdout) < 150
    del block


def test_anonymous_pages_are_part_of_the_resident_ones():
    anonymous = memory.anonymous_mb()
    if anonymous is None:
        pytest.skip("no smaps_rollup here")
    assert 0 < anonymous <= memory.resident_mb() + 5


def test_without_proc_psutil_answers(monkeypatch, tmp_path):
    pytest.importorskip("psutil")
    by_kernel = memory.resident_mb()
    monkeypatch.setattr(memory, "PROC", tmp_path)
    assert memory.resident_mb() == pytest.approx(by_kernel, rel=0.2)
    assert memory.anonymous_mb() is None
    memory.high_water_mark_resets.cache_clear()
    assert memory.high_water_mark_resets() is False
    memory.high_water_mark_resets.cache_clear()
