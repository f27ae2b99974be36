"""The meter: agreement with the formula, bounds, resumed pieces, and what happens when CodeCarbon says nothing."""

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from leaderboard.derive import kwh_range
from leaderboard.schema import Footprint
from pipelines.instruments import energy
from pipelines.params import Carbon
from tests.conftest import busy
from tests.pipelines.tiny_artifacts import carbon

DECLARED = Carbon.model_validate(carbon())


class FakeTracker:
    """CodeCarbon, as far as the meter calls it."""

    def __init__(self):
        self.calls = []

    def start(self):
        self.calls.append("start")

    def flush(self):
        self.calls.append("flush")

    def stop(self):
        self.calls.append("stop")


@pytest.fixture
def reporting(monkeypatch):
    """Make CodeCarbon report these kWh (of processor, GPU and one GB of memory) under this method."""

    def install(method="modelled", **kwh):
        tracker = FakeTracker()
        report = SimpleNamespace(last=SimpleNamespace(**kwh) if kwh else None)
        monkeypatch.setattr(energy, "_tracker", lambda *_: (method, tracker, report))
        return tracker

    return install


def track_busy(grid: str) -> None:
    """Print the footprint of three busy seconds: long beside what CodeCarbon itself takes, on a busy machine too."""
    with energy.tracked(Carbon.model_validate(carbon(grid=grid))) as meter:
        held = bytearray(60_000_000)
        busy(3.0)
        del held
    print(meter.footprint().model_dump_json())


def footprint_alone(grid: str = "DEU") -> Footprint:
    """Of a process of its own: CodeCarbon counts living children too, and pytest's may be busy."""
    code = f"from tests.pipelines.test_energy import track_busy; track_busy({grid!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return Footprint.model_validate_json(done.stdout)


def test_codecarbon_agrees_with_the_formula():
    footprint = footprint_alone()
    certificate = footprint.certificate
    assert certificate.method in ("modelled", "rapl")
    assert certificate.energy_valid
    if certificate.method == "modelled":
        expected = (4.0 * certificate.cpu_s + 0.4 * certificate.memory_gb * certificate.window_s) / 3.6e6
        assert certificate.formula_kwh == pytest.approx(expected)
        assert certificate.codecarbon_kwh == pytest.approx(expected, rel=energy.TOLERANCE)
    assert footprint.energy_kwh.low <= footprint.energy_kwh.likely <= footprint.energy_kwh.high
    assert footprint.emissions_g == pytest.approx(400 * footprint.energy_kwh.likely)
    assert 3.0 <= footprint.cpu_s <= footprint.wall_s * (os.cpu_count() or 1)
    assert footprint.peak_memory_mb > 60


def test_a_footprint_can_be_asked_for_at_a_checkpoint_and_later_pieces_are_added():
    with energy.tracked(DECLARED) as first:
        busy(0.3)
        early = first.footprint()
        busy(0.3)
    whole = first.footprint()
    assert 0 < early.energy_kwh.likely < whole.energy_kwh.likely
    with energy.tracked(DECLARED, earlier=whole) as second:
        busy(0.2)
    resumed = second.footprint()
    assert resumed.wall_s > whole.wall_s + 0.19
    assert resumed.cpu_s > whole.cpu_s + 0.1
    assert resumed.energy_kwh.likely > whole.energy_kwh.likely
    assert Footprint.model_validate_json(resumed.model_dump_json()) == resumed


def test_the_formula_still_holds_for_added_pieces(reporting):
    reporting(cpu_energy=1e-6, gpu_energy=0.0, ram_energy=0.0)
    pieces = []
    for _ in range(2):
        with energy.tracked(DECLARED) as meter:
            busy(0.05)
        pieces.append(meter.footprint())
    both = energy.add(*pieces).certificate
    memory_gb_s = sum(p.certificate.memory_gb * p.certificate.window_s for p in pieces)
    assert both.memory_gb * both.window_s == pytest.approx(memory_gb_s)
    assert both.formula_kwh == pytest.approx((4.0 * both.cpu_s + 0.4 * memory_gb_s) / 3.6e6)
    assert both.codecarbon_kwh == pytest.approx(sum(p.certificate.codecarbon_kwh for p in pieces))
    assert not both.energy_valid


def test_where_codecarbon_says_nothing_the_formula_stands_and_the_record_says_so(reporting):
    tracker = reporting()
    with energy.tracked(DECLARED) as meter:
        busy(0.05)
    footprint = meter.footprint()
    assert tracker.calls == ["start", "stop"]
    assert not footprint.certificate.energy_valid
    assert footprint.certificate.codecarbon_kwh == 0
    assert footprint.energy_kwh.likely == footprint.certificate.formula_kwh > 0


def test_a_report_more_than_five_percent_off_is_not_valid(reporting):
    reporting(cpu_energy=1.0, gpu_energy=0.0, ram_energy=0.0)
    with energy.tracked(DECLARED) as meter:
        busy(0.02)
    certificate = meter.certificate()
    assert not certificate.energy_valid
    assert certificate.codecarbon_kwh == 1.0
    assert certificate.formula_kwh < 1e-3


def test_what_a_meter_measured_is_taken_as_it_is_and_only_the_rest_is_bounded(reporting):
    reporting("rapl+nvml", cpu_energy=0.5, gpu_energy=2.0, ram_energy=0.0)
    with energy.tracked(DECLARED, gpus=True) as meter:
        busy(0.02)
    footprint = meter.footprint()
    assert footprint.certificate.energy_valid
    assert footprint.energy_kwh.likely == pytest.approx(2.5)
    assert footprint.energy_kwh.low == pytest.approx(2.5, abs=1e-6)
    reporting("nvml", cpu_energy=0.0, gpu_energy=2.0, ram_energy=0.0)
    with energy.tracked(DECLARED, gpus=True) as meter:
        busy(0.1)
    kwh = meter.footprint().energy_kwh
    assert kwh.high - kwh.likely == pytest.approx((8 - 4) * meter.certificate().cpu_s / 3.6e6, rel=0.2)


def test_the_window_ends_when_the_work_fails(reporting):
    tracker = reporting()
    with pytest.raises(RuntimeError), energy.tracked(DECLARED):
        raise RuntimeError
    assert tracker.calls == ["start", "stop"]


def test_a_grid_that_codecarbon_does_not_know_is_no_obstacle():
    assert footprint_alone(grid="XKX").certificate.energy_valid


def test_only_this_instrument_imports_codecarbon_and_only_when_it_tracks():
    code = "import sys, pipelines.instruments.energy; assert 'codecarbon' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not energy.gpu_meter(), reason="no NVIDIA GPU whose energy NVML can read")
def test_nvml_measures_a_gpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch here is built without CUDA")
    with energy.tracked(DECLARED, gpus=True) as meter:
        x = torch.randn(4096, 4096, device="cuda")
        end = time.perf_counter() + 3
        while time.perf_counter() < end:
            x = (x @ x).clamp(-1, 1)
            torch.cuda.synchronize()
    certificate = meter.certificate()
    assert certificate.method in ("nvml", "rapl+nvml")
    assert certificate.energy_valid
    watts = certificate.codecarbon_kwh * 3.6e6 / certificate.window_s
    assert 50 < watts < 1500


def test_added_pieces_follow_from_their_certificate_though_only_one_was_valid():
    """As after a kill: the record's energy is derived again from its one certificate."""
    with energy.tracked(DECLARED) as meter:
        busy(0.05)
    piece = meter.footprint()
    pieces = []
    for valid, factor in ((True, 1.01), (False, 2.0)):
        formula = piece.certificate.formula_kwh
        update = {"method": "modelled", "codecarbon_kwh": factor * formula, "energy_valid": valid}
        certificate = piece.certificate.model_copy(update=update)
        pieces.append(piece.model_copy(update={"certificate": certificate, "energy_kwh": kwh_range(certificate)}))
    both = energy.add(*pieces)
    assert both.energy_kwh == kwh_range(both.certificate)
    assert both.emissions_g == pytest.approx(400 * both.energy_kwh.likely)
