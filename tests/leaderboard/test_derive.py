"""From samples to figures: each against its definition, and the verdicts' error rates on recorded noise."""

import json
from pathlib import Path

import numpy as np
import pytest

from leaderboard.derive import REPRODUCED, kwh_range, noise_floor, speedup, summarise
from leaderboard.schema import Certificate, Cost, Interval, Launch, Range, Solo
from leaderboard.statistics import faster

NOISE = [
    {name: np.array(launch[name]) for name in ("control", "candidate")}
    for launch in json.loads((Path(__file__).parent / "recorded_noise.json").read_text())["launches"]
]


def certificate(**changes):
    fields = {
        "method": "modelled",
        "cpu_watts_per_core": Range(low=2, likely=4, high=8),
        "memory_watts_per_gb": Range(low=0.2, likely=0.4, high=0.6),
        "watts_source": "test",
        "grid": "DEU",
        "grid_year": 2023,
        "grid_g_per_kwh": 400.0,
        "window_s": 3.0,
        "cpu_s": 2.0,
        "memory_gb": 0.5,
        "codecarbon_version": "3",
        "codecarbon_kwh": (4 * 2 + 0.4 * 0.5 * 3) / 3.6e6,
        "formula_kwh": (4 * 2 + 0.4 * 0.5 * 3) / 3.6e6,
        "energy_valid": True,
    }
    return Certificate(**(fields | changes))


def solo(**changes):
    fields = {
        "import_mb": 50.0,
        "load_mb": 90.0,
        "peak_mb": 120.0,
        "anonymous_mb": 60.0,
        "texts": 250,
        "cpu_s": 2.0,
        "wall_s": 3.0,
        "throughput_texts_per_s": 400.0,
        "certificate": certificate(),
    }
    return Solo(**(fields | changes))


def launch(control, candidate, dropped=0, calls=20, ratio=1.0, **changes):
    """From log ratios: the reference takes 10 ms a text."""
    fields = {
        "threads": 1,
        "first_call_ms": 30.0,
        "load_ms": 100.0,
        "reference_block_ms": [10.0] * len(candidate),
        "candidate_block_ms": [float(10 * np.exp(-x) / ratio) for x in candidate],
        "control_block_ms": [float(10 * np.exp(-x)) for x in control],
        "control_reference_ms": [10.0] * len(control),
        "call_ms": list(np.linspace(4, 6, calls)),
        "tokenize_ms": 0.5,
        "dropped_pairs": dropped,
    }
    return Launch(**(fields | changes))


def still(count=3, **changes):
    return [launch([0.0] * 8, [np.log(2)] * 8, **changes) for _ in range(count)]


def test_every_figure_by_its_definition():
    cost = summarise(still(), solo())
    assert cost.speedup == Interval(value=2, low=2, high=2)
    assert cost.noise_floor == REPRODUCED
    assert cost.latency_p50_ms.value == pytest.approx(5)
    assert cost.latency_p90_ms.low <= cost.latency_p90_ms.value <= cost.latency_p90_ms.high
    assert cost.first_call_ms == 30
    assert cost.tokenize_share == pytest.approx(0.5 / 5)
    assert (cost.peak_memory_mb, cost.peak_memory_absolute_mb) == (70, 120)
    assert cost.cpu_s_per_1000 == pytest.approx(8)
    joules = {"low": 2 * 2 + 0.2 * 0.5 * 3, "likely": 4 * 2 + 0.4 * 0.5 * 3, "high": 8 * 2 + 0.6 * 0.5 * 3}
    for bound, expected in joules.items():
        assert getattr(cost.energy_kwh_per_1000, bound) == pytest.approx(4 * expected / 3.6e6, rel=1e-5)
    assert cost.emissions_g_per_1000 == pytest.approx(400 * cost.energy_kwh_per_1000.likely, rel=1e-5)
    assert not cost.noisy


def test_the_speed_against_int8_needs_every_launch():
    beside = still(int8_block_ms=[7.5] * 8)
    assert summarise(beside, solo()).speedup_int8 == Interval(value=1.5, low=1.5, high=1.5)
    assert summarise([*beside, *still(count=1)], solo()).speedup_int8 is None


def test_deriving_again_from_the_file_gives_the_same_bytes():
    cost = summarise([launch(**NOISE[i]) for i in range(4)], solo())
    text = cost.model_dump_json()
    read = Cost.model_validate_json(text)
    assert summarise(read.launches, read.solo).model_dump_json() == text


@pytest.mark.parametrize(("dropped", "noisy"), [(0, False), (5, False), (6, True)])
def test_noisy_is_above_forty_percent_of_all_rounds(dropped, noisy):
    assert summarise(still(dropped=dropped), solo()).noisy is noisy  # 5 of 13, 6 of 14


def test_percentiles_need_enough_calls():
    cost = summarise(still(count=1, calls=5), solo())
    assert cost.latency_p50_ms is None
    assert summarise(still(count=1, calls=35), solo()).latency_p90_ms is None
    assert summarise(still(count=1, calls=36), solo()).latency_p90_ms is not None


def test_the_noise_floor_is_the_far_end_of_the_controls_interval():
    assert noise_floor([launch([0.04] * 8, [0.0] * 8)]) == pytest.approx(np.exp(0.04) - 1)
    assert noise_floor([launch([-0.04] * 8, [0.0] * 8)]) == pytest.approx(np.exp(0.04) - 1)


def test_the_noise_floor_is_no_less_than_what_the_session_itself_repeats_to():
    launches = [launch([0.0] * 8, [x] * 8) for x in (-0.03, 0.0, 0.03)]
    own = speedup(launches)
    assert noise_floor(launches) == pytest.approx((own.high / own.low) ** (2**0.5 / 2) - 1)


def test_an_invalid_report_leaves_the_formula():
    wrong = certificate(codecarbon_kwh=1.0, energy_valid=False)
    assert kwh_range(wrong).likely == wrong.formula_kwh
    assert kwh_range(certificate()).likely == certificate().codecarbon_kwh


def test_a_measured_processor_has_no_bounds_but_its_memory_has():
    kwh = kwh_range(certificate(method="rapl", codecarbon_kwh=1e-3))
    memory = 0.5 * 3 / 3.6e6
    assert kwh.likely == 1e-3
    assert kwh.low == pytest.approx(1e-3 - 0.2 * memory)
    assert kwh.high == pytest.approx(1e-3 + 0.2 * memory)


def session(rng, ratio=1.0, launches=8, pairs=24):
    """A session of recorded launches, drawn with replacement, their pairs too; the candidate `ratio` times faster."""
    drawn = [NOISE[i] for i in rng.integers(0, len(NOISE), launches)]
    return [launch(rng.choice(d["control"], pairs), rng.choice(d["candidate"], pairs), ratio=ratio) for d in drawn]


def verdict(launches):
    return faster(speedup(launches), Interval(value=1, low=1, high=1), noise_floor(launches))


def test_in_1000_sessions_of_the_same_model_at_most_5_percent_are_told_apart():
    verdicts = [verdict(session(np.random.default_rng(i))) for i in range(1000)]
    assert sum(v != "tied" for v in verdicts) <= 50


def test_of_1000_sessions_and_their_repeats_95_percent_lie_within_the_published_floor():
    rng, within = np.random.default_rng(0), 0
    for _ in range(1000):
        published, again = session(rng), session(rng)
        within += abs(speedup(again).value / speedup(published).value - 1) < noise_floor(published)
    assert within >= 950


def test_of_1000_pairs_of_rows_that_are_equally_fast_at_most_5_percent_are_told_apart():
    rng, apart = np.random.default_rng(1), 0
    for _ in range(1000):
        one, other = session(rng, 3.0), session(rng, 3.0)
        floor = max(noise_floor(one), noise_floor(other))
        apart += faster(speedup(one), speedup(other), floor) != "tied"
    assert apart <= 50


@pytest.mark.parametrize(("ratio", "expected"), [(1.1, "better"), (1 / 1.1, "worse")])
def test_a_difference_of_10_percent_is_found_9_times_in_10(ratio, expected):
    verdicts = [verdict(session(np.random.default_rng(i), ratio)) for i in range(300)]
    assert sum(v == expected for v in verdicts) >= 270
