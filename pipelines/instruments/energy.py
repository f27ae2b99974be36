"""Energy of a stretch of this process by CodeCarbon, checked against a formula, with its certificate.

Where the processor (RAPL) or the GPU (NVML) can be read, CodeCarbon measures. Where they cannot, energy is modelled:

    watts per core x CPU-seconds + watts per GB x memory x seconds

with the watts that params.yaml declares: CodeCarbon's own guess from the name of a virtual CPU is a lottery, and so is
its constant for memory. The only importer of codecarbon.
"""

from __future__ import annotations

import logging
import os
import resource
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal

from leaderboard.carbon import emissions_g
from leaderboard.derive import kwh_range, modelled_kwh
from leaderboard.schema import Certificate, Footprint
from pipelines.instruments import cuda
from pipelines.instruments.memory import Peak

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipelines.params import Carbon

TOLERANCE = 0.05  # CodeCarbon and the formula may differ by so much
FOREVER_S = 1e8  # CodeCarbon's sampling period: longer than any window, so that only start and stop are read


@contextmanager
def tracked(carbon: Carbon, *, earlier: Footprint | None = None, gpus: bool = False) -> Iterator[Meter]:
    """Track this process until the block ends. Ask `meter.footprint()` after it, or inside it at a checkpoint.

    earlier: the footprint of the pieces before a resume, added to this one.
    gpus: count the visible GPUs too (say so where training uses them; an idle GPU is not the method's).
    """
    meter = Meter(carbon, earlier, gpus)
    meter.start()
    try:
        yield meter
    finally:
        meter.stop()


class Meter:
    """One window under CodeCarbon."""

    def __init__(self, carbon: Carbon, earlier: Footprint | None = None, gpus: bool = False) -> None:
        self._carbon, self._earlier, self._gpus = carbon, earlier, gpus
        self._method, self._tracker, self._report = _tracker(carbon, gpus)
        self._peak = Peak()
        self._window: tuple[float, float] | None = None

    def start(self) -> None:
        """Begin the window."""
        if self._gpus:
            cuda.synchronize()
            cuda.reset_peak()
        self._peak.__enter__()
        self._tracker.start()
        self._wall, self._cpu = time.perf_counter(), cpu_seconds()

    def stop(self) -> None:
        """End the window."""
        self._window = self._elapsed()
        self._tracker.stop()
        self._peak.__exit__()

    def certificate(self, memory_gb: float | None = None) -> Certificate:
        """The window so far. memory_gb: what to charge (default: the peak of resident memory, an upper bound)."""
        wall_s, cpu_s = self._window or self._elapsed()
        if self._window is None:
            self._tracker.flush()
        memory_gb = self._peak.mb / 1000 if memory_gb is None else memory_gb
        report = self._report.last
        reported = report.cpu_energy + report.gpu_energy + report.ram_energy * memory_gb if report else 0.0
        certificate = Certificate(
            method=self._method,
            cpu_watts_per_core=self._carbon.cpu_watts_per_core,
            memory_watts_per_gb=self._carbon.memory_watts_per_gb,
            watts_source=self._carbon.watts_source,
            grid=self._carbon.grid,
            grid_year=self._carbon.grid_year,
            grid_g_per_kwh=self._carbon.grid_g_per_kwh,
            window_s=wall_s,
            cpu_s=cpu_s,
            memory_gb=memory_gb,
            codecarbon_version=_codecarbon_version(),
            codecarbon_kwh=reported,
            formula_kwh=0.0,
            energy_valid=False,
        )
        measured = (report.cpu_energy * self._method.startswith("rapl") + report.gpu_energy) if report else 0.0
        formula = modelled_kwh(certificate, "likely") + measured
        valid = reported > 0 and abs(reported - formula) <= TOLERANCE * formula
        return certificate.model_copy(update={"formula_kwh": formula, "energy_valid": valid})

    def footprint(self) -> Footprint:
        """What the window cost so far, with the earlier pieces."""
        certificate = self.certificate()
        kwh = kwh_range(certificate)
        piece = Footprint(
            wall_s=certificate.window_s,
            cpu_s=certificate.cpu_s,
            energy_kwh=kwh,
            emissions_g=emissions_g(kwh.likely, certificate.grid_g_per_kwh),
            peak_memory_mb=self._peak.mb,
            gpu_peak_memory_mb=cuda.peak_mb() if self._gpus else None,
            certificate=certificate,
        )
        return add(self._earlier, piece) if self._earlier else piece

    def _elapsed(self) -> tuple[float, float]:
        if self._gpus:
            cuda.synchronize()
        return time.perf_counter() - self._wall, cpu_seconds() - self._cpu


def add(a: Footprint, b: Footprint) -> Footprint:
    """Two pieces of one making: sums, the higher peak; the certificate keeps the later piece's declarations."""
    one, two = a.certificate, b.certificate
    window_s = one.window_s + two.window_s
    charged = one.memory_gb * one.window_s + two.memory_gb * two.window_s  # GB x seconds
    certificate = two.model_copy(
        update={
            "window_s": window_s,
            "cpu_s": one.cpu_s + two.cpu_s,
            "memory_gb": charged / window_s if window_s else two.memory_gb,
            "codecarbon_kwh": one.codecarbon_kwh + two.codecarbon_kwh,
            "formula_kwh": one.formula_kwh + two.formula_kwh,
            "energy_valid": one.energy_valid and two.energy_valid,
        }
    )
    kwh = kwh_range(certificate)  # of the whole: pieces may have been valid, and the other not
    return Footprint(
        wall_s=a.wall_s + b.wall_s,
        cpu_s=a.cpu_s + b.cpu_s,
        energy_kwh=kwh,
        emissions_g=emissions_g(kwh.likely, certificate.grid_g_per_kwh),
        peak_memory_mb=max(a.peak_memory_mb, b.peak_memory_mb),
        gpu_peak_memory_mb=max(
            (x.gpu_peak_memory_mb for x in (a, b) if x.gpu_peak_memory_mb is not None), default=None
        ),
        certificate=certificate,
    )


def cpu_seconds() -> float:
    """User and system time of this process and its ended children."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def gpu_meter() -> bool:
    """Is there an NVIDIA GPU whose energy NVML can read?"""
    from codecarbon.core.gpu import is_nvidia_system

    return bool(is_nvidia_system())


Method = Literal["rapl", "nvml", "rapl+nvml", "modelled"]


def _tracker(carbon: Carbon, gpus: bool) -> tuple[Method, Any, Any]:
    """How energy is known here, a CodeCarbon tracker (not started), and the output that keeps its last report.

    Every argument that its configuration files or environment could set otherwise is given, the network never used.
    Memory is tracked as one GB and scaled by what the window really held, which is known only at its end.
    """
    import codecarbon
    from codecarbon.core.cpu import is_rapl_available
    from codecarbon.output_methods.base_output import BaseOutput

    _spare_it_the_brand()

    class Last(BaseOutput):
        last = None

        def out(self, total: Any, delta: Any) -> None:
            self.last = total

    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # its constructor speaks before it reads log_level
    report = Last()
    rapl, nvml = is_rapl_available(), gpus and gpu_meter()
    method: Method = "rapl+nvml" if rapl and nvml else "rapl" if rapl else "nvml" if nvml else "modelled"
    tracker = codecarbon.OfflineEmissionsTracker(
        tracking_mode="process",
        force_cpu_power=None if rapl else carbon.cpu_watts_per_core.likely * (os.cpu_count() or 1),
        force_ram_power=carbon.memory_watts_per_gb.likely,
        force_mode_cpu_load=False,
        gpu_ids=None if nvml else [],
        country_iso_code=carbon.grid,
        force_carbon_intensity_g_co2e_kwh=carbon.grid_g_per_kwh,
        measure_power_secs=FOREVER_S,
        output_methods=[],
        output_handlers=[report],
        emissions_endpoint=None,
        allow_multiple_runs=True,
        pue=1.0,
        wue=0.0,
        log_level="critical",
    )
    return method, tracker, report


def _spare_it_the_brand() -> None:
    """CodeCarbon looks the processor's brand up to guess its watts, for 1.3 s a process; here they are declared."""
    with suppress(ImportError):
        import cpuinfo

        cpuinfo.get_cpu_info = lambda: {"brand_raw": "declared"}


def _codecarbon_version() -> str:
    import codecarbon

    return codecarbon.__version__
