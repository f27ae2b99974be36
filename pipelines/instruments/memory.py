"""Memory of this process: resident pages, their peak, and the private share.

Peak means the kernel's high-water mark (VmHWM), set back by writing 5 to /proc/self/clear_refs (proc(5)). Where a
kernel does not do that, a thread samples instead. Never ru_maxrss: a child inherits its parent's.
"""

from __future__ import annotations

import mmap
import threading
from functools import cache
from pathlib import Path

MB = 1e6
PROC = Path("/proc/self")
SAMPLE_S = 0.005


def resident_mb() -> float:
    """Resident memory now, in MB (1e6 bytes): private pages and mapped files alike."""
    if (PROC / "status").exists():
        return _field("status", "VmRSS")
    import psutil

    return psutil.Process().memory_info().rss / MB


def anonymous_mb() -> float | None:
    """The private part of it; None where the kernel does not tell. The rest is backed by files and can be shared."""
    try:
        return _field("smaps_rollup", "Anonymous")
    except (OSError, LookupError):
        return None


class Peak:
    """The highest resident memory between entering and leaving (or asking, while inside).

    >>> with Peak() as peak:
    ...     data = bytes(10_000_000)
    >>> peak.mb > 10
    True
    """

    def __enter__(self) -> Peak:
        self._stop = threading.Event()
        self._sampler: threading.Thread | None = None
        self._left: float | None = None
        if high_water_mark_resets():
            _reset()
        else:
            self._highest = resident_mb()
            self._sampler = threading.Thread(target=self._sample, daemon=True)
            self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left = self.mb
        self._stop.set()
        if self._sampler:
            self._sampler.join()

    @property
    def mb(self) -> float:
        """The peak so far, or of the whole stay once left."""
        if self._left is not None:
            return self._left
        return max(self._highest, resident_mb()) if self._sampler else _field("status", "VmHWM")

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self._highest = max(self._highest, resident_mb())


@cache
def high_water_mark_resets() -> bool:
    """Does this kernel set VmHWM back? Tried, not assumed: 32 MB are touched, given back and looked for.

    They are mapped, not allocated: training tells malloc to keep what is freed, and then nothing would be given back.
    """
    try:
        with mmap.mmap(-1, 32 << 20) as block:
            block[:: 1 << 12] = b"x" * len(block[:: 1 << 12])
            high = _field("status", "VmHWM")
        _reset()
        return _field("status", "VmHWM") < high - 16
    except (OSError, LookupError):
        return False


def _reset() -> None:
    (PROC / "clear_refs").write_text("5")


def _field(file: str, name: str) -> float:
    """A `Name:  123 kB` line of a file of /proc/self, in MB."""
    for line in (PROC / file).read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024 / MB
    raise LookupError(f"{PROC / file} has no line {name}")
