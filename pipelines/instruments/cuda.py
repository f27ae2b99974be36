"""What a GPU needs to be measured right: waiting for its queue, and the peak of its allocator.

A CUDA kernel is only queued when its call returns, so a clock is read after `synchronize`. Nothing here imports torch:
where it has not been imported, no GPU has been used. NVML, which measures energy, is read by CodeCarbon.
"""

from __future__ import annotations

import sys
from typing import Any


def synchronize() -> None:
    """Wait until every visible GPU has done what was queued."""
    for cuda, device in _devices():
        cuda.synchronize(device)


def reset_peak() -> None:
    """Let `peak_mb` count from here."""
    for cuda, device in _devices():
        cuda.reset_peak_memory_stats(device)


def peak_mb() -> float | None:
    """MB (1e6 bytes) that torch's allocator held at most, summed over the visible GPUs; None where there is none."""
    peaks = [cuda.max_memory_allocated(device) / 1e6 for cuda, device in _devices()]
    return sum(peaks) if peaks else None


def _devices() -> list[tuple[Any, int]]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [(torch.cuda, device) for device in range(torch.cuda.device_count())]
