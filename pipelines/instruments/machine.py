"""Where it runs: the fingerprint under which timings may be compared. Light: no package is imported, only looked up."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from leaderboard.schema import Machine

RUNTIMES = ("onnxruntime", "tokenizers", "torch", "numpy", "openvino", "ai-edge-litert", "executorch")
OTHERS = ("transformers", "datasets", "evaluate", "codecarbon")
VECTOR_FLAGS = ("avx", "amx", "fma", "f16c", "sse4", "asimd", "sve", "i8mm", "bf16", "dotprod")


def fingerprint(**threads: int) -> Machine:
    """This machine. `id` hashes what speed depends on: processor, cores, memory, GPU, hypervisor, runtimes.

    threads: how many each part of the work was given (training, timing; 0 for all cores). They are no part of `id`.
    """
    cpu, flags = _cpu()
    versions = {name: found for name in (*RUNTIMES, *OTHERS) if (found := _version(name))}
    hardware: dict[str, Any] = {
        "cpu": cpu,
        "cpu_flags": [flag for flag in flags if flag.startswith(VECTOR_FLAGS)],
        "cores": cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": _gpu(),
        "virtualization": _virtualization(flags),
    }
    speed = hardware | {"runtimes": {name: found for name, found in versions.items() if name in RUNTIMES}}
    return Machine(
        id=hashlib.sha256(json.dumps(speed, sort_keys=True).encode()).hexdigest()[:12],
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions=versions,
        threads={part: count or cores() for part, count in threads.items()},
        **hardware,
    )


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu() -> tuple[str, list[str]]:
    """Name with family and model (virtual machines hide the generation in the name), and the sorted flags."""
    lines = _text("/proc/cpuinfo").split("\n\n")[0].splitlines()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = fields.get("model name") or fields.get("Processor") or platform.processor() or platform.machine()
    if "cpu family" in fields:
        name += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    return name, sorted(set((fields.get("flags") or fields.get("Features") or "").split()))


def _gpu() -> str | None:
    models = [
        line.partition(":")[2].strip()
        for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        for line in _text(file).splitlines()
        if line.startswith("Model:")
    ]
    return ", ".join(models) or None


def _virtualization(flags: list[str]) -> str | None:
    if "hypervisor" in flags:
        return _text("/sys/class/dmi/id/sys_vendor").strip() or "virtual machine"
    return None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
