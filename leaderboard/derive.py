"""From raw samples to the figures of a Cost. The same samples give the same bytes, on any machine.

Every figure is rounded to six significant digits: far below the noise, far above what another order of summation moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt
from statistics import median
from typing import Literal

from leaderboard.carbon import emissions_g
from leaderboard.schema import Certificate, Cost, Interval, Launch, Range, Solo
from leaderboard.statistics import mean_ratio_interval, percentile_interval

REPRODUCED = 0.03  # two sessions minutes apart came out up to 2.6 % apart, each sure of itself to 1.5 %
NOISY = 0.4  # a cell is labelled noisy where repeats are more than this share of all rounds taken


def summarise(launches: Sequence[Launch], solo: Solo) -> Cost:
    """The Cost that these samples say. At least one launch with one pair is needed."""
    calls = [ms for launch in launches for ms in launch.call_ms]
    kwh, per_1000 = kwh_range(solo.certificate), 1000 / solo.texts
    energy = Range(low=_r(kwh.low * per_1000), likely=_r(kwh.likely * per_1000), high=_r(kwh.high * per_1000))
    dropped = sum(launch.dropped_pairs for launch in launches)
    kept = sum(len(launch.candidate_block_ms) for launch in launches)
    return Cost(
        launches=list(launches),
        solo=solo,
        latency_p50_ms=_rounded(percentile_interval(calls, 0.5)),
        latency_p90_ms=_rounded(percentile_interval(calls, 0.9)),
        latency_all_cores_p50_ms=_rounded(percentile_interval(solo.all_cores_call_ms, 0.5)),
        speedup=_interval(speedup(launches)),
        speedup_int8=_rounded(speedup_int8(launches)),
        noise_floor=_r(noise_floor(launches)),
        noisy=dropped > NOISY * (dropped + kept),
        first_call_ms=_r(median(launch.first_call_ms for launch in launches)),
        tokenize_share=_r(
            median(launch.tokenize_ms for launch in launches)
            / median(ms for launch in launches for ms in launch.candidate_block_ms)
        ),
        peak_memory_mb=_r(solo.peak_mb - solo.import_mb),
        peak_memory_absolute_mb=_r(solo.peak_mb),
        throughput_texts_per_s=_r(solo.throughput_texts_per_s),
        cpu_s_per_1000=_r(solo.cpu_s * per_1000),
        energy_kwh_per_1000=energy,
        emissions_g_per_1000=_r(emissions_g(energy.likely, solo.certificate.grid_g_per_kwh)),
    )


def speedup(launches: Sequence[Launch]) -> Interval:
    """Times faster than the reference: the geometric mean of paired ratios, trimmed, launches resampled first."""
    return mean_ratio_interval([_log_ratios(x.reference_block_ms, x.candidate_block_ms) for x in launches])


def speedup_int8(launches: Sequence[Launch]) -> Interval | None:
    """The same against the teacher in INT8; None where not every launch timed it."""
    ratios = [_log_ratios(x.int8_block_ms, x.candidate_block_ms) for x in launches if x.int8_block_ms]
    return mean_ratio_interval(ratios) if len(ratios) == len(launches) else None


def noise_floor(launches: Sequence[Launch]) -> float:
    """Below what fraction a gap in speed means nothing: the largest of what differs where nothing does, of how far the
    same session, held again, may come out, and of what sessions minutes apart differ by on a shared host (REPRODUCED:
    neighbours take more or less of the cache, which no session can see in itself).

    The first is the farther end of the interval of the A/A ratio (the reference against itself). The second is the
    limit of repeatability (ISO 5725-1, 3.15): sqrt(2) x half the width of the speed-up's own interval.
    """
    control = mean_ratio_interval([_log_ratios(x.control_reference_ms, x.control_block_ms) for x in launches])
    own = speedup(launches)
    repeated = sqrt(2) * log(own.high / own.low) / 2
    return max(REPRODUCED, exp(max(log(control.high), -log(control.low), repeated)) - 1)


def modelled_kwh(certificate: Certificate, bound: Literal["low", "likely", "high"]) -> float:
    """Declared watts x time, of the parts that no meter measured (RAPL measures the processor, not the memory)."""
    cpu_w = 0.0 if certificate.method.startswith("rapl") else getattr(certificate.cpu_watts_per_core, bound)
    memory_w = getattr(certificate.memory_watts_per_gb, bound) * certificate.memory_gb
    return (cpu_w * certificate.cpu_s + memory_w * certificate.window_s) / 3.6e6


def kwh_range(certificate: Certificate) -> Range:
    """kWh of the window: CodeCarbon's figure (the formula's where it is not valid), bounds by the declared watts."""
    likely = certificate.codecarbon_kwh if certificate.energy_valid else certificate.formula_kwh
    low, high = (
        likely + modelled_kwh(certificate, bound) - modelled_kwh(certificate, "likely") for bound in ("low", "high")
    )
    return Range(low=max(0.0, low), likely=likely, high=high)


def _log_ratios(slower: Sequence[float], faster: Sequence[float]) -> list[float]:
    return [log(a / b) for a, b in zip(slower, faster, strict=True)]


def _interval(x: Interval) -> Interval:
    return Interval(value=_r(x.value), low=_r(x.low), high=_r(x.high))


def _rounded(x: Interval | None) -> Interval | None:
    return _interval(x) if x else None


def _r(value: float) -> float:
    """Six significant digits. >>> _r(12345.678)  # 12345.7"""
    return float(f"{value:.6g}")
