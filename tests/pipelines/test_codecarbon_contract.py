"""What we rely on in CodeCarbon, pinned: a version that behaves otherwise fails here. No test may open a socket."""

import time

import pytest

codecarbon = pytest.importorskip("codecarbon")

from codecarbon.output_methods.base_output import BaseOutput  # noqa: E402

from pipelines.instruments.energy import cpu_seconds  # noqa: E402
from tests.conftest import busy  # noqa: E402

CPU_W, RAM_W = 100.0, 3.0


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise AssertionError("CodeCarbon opened a socket")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)


class Kept(BaseOutput):
    last = None

    def out(self, total, delta):
        self.last = total


def tracker(**changes):
    kept = Kept()
    arguments = {
        "tracking_mode": "process",
        "force_cpu_power": CPU_W,
        "force_ram_power": RAM_W,
        "gpu_ids": [],
        "country_iso_code": "DEU",
        "force_carbon_intensity_g_co2e_kwh": 400.0,
        "measure_power_secs": 1e8,
        "output_methods": [],
        "output_handlers": [kept],
        "emissions_endpoint": None,
        "allow_multiple_runs": True,
        "pue": 1.0,
        "wue": 0.0,
        "log_level": "critical",
    }
    return codecarbon.OfflineEmissionsTracker(**(arguments | changes)), kept


def watt_seconds(kwh):
    return kwh * 3.6e6


def test_process_mode_bills_cpu_seconds_and_memory_seconds():
    it, kept = tracker()
    it.start()
    wall, cpu = time.perf_counter(), cpu_seconds()
    busy(0.8)
    time.sleep(0.4)
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    it.stop()  # reads first; what it then does, a first time above all, is not billed
    cores = codecarbon.core.util.count_cpus()
    assert watt_seconds(kept.last.cpu_energy) == pytest.approx(CPU_W / cores * cpu, rel=0.05)
    assert watt_seconds(kept.last.ram_energy) == pytest.approx(RAM_W * wall, rel=0.05)
    assert kept.last.gpu_energy == 0
    total = kept.last.cpu_energy + kept.last.ram_energy
    assert kept.last.energy_consumed == pytest.approx(total)
    assert kept.last.emissions == pytest.approx(total * 400 / 1000)  # kg


def test_a_sleeping_process_is_billed_no_cpu():
    it, kept = tracker()
    it.start()
    time.sleep(0.3)
    it.stop()
    assert watt_seconds(kept.last.cpu_energy) < 0.1 * CPU_W * 0.3


def test_flush_reports_and_goes_on():
    it, kept = tracker()
    it.start()
    busy(0.2)
    it.flush()
    first = kept.last.energy_consumed
    busy(0.2)
    it.stop()
    assert 0 < first < kept.last.energy_consumed


def test_it_writes_no_file_and_two_may_run(tmp_path):
    (one, _), (two, kept) = tracker(), tracker()
    one.start()
    two.start()
    busy(0.1)
    two.stop()
    one.stop()
    assert kept.last.energy_consumed > 0
    assert list(tmp_path.iterdir()) == []


def test_its_environment_and_configuration_do_not_reach_us(monkeypatch, tmp_path):
    (tmp_path / ".codecarbon.config").write_text("[codecarbon]\nforce_ram_power=500\npue=9\n")
    monkeypatch.setenv("CODECARBON_FORCE_CPU_POWER", "5000")
    monkeypatch.setenv("CODECARBON_EMISSIONS_ENDPOINT", "http://127.0.0.1:9")
    it, kept = tracker()
    it.start()
    busy(0.2)
    it.stop()
    assert watt_seconds(kept.last.cpu_energy) < CPU_W * 0.4
    assert watt_seconds(kept.last.ram_energy) == pytest.approx(RAM_W * kept.last.duration, rel=0.1)


def test_it_swallows_its_own_errors_so_results_must_be_looked_at():
    it, kept = tracker(tracking_mode="nonsense")
    assert it.start() is None
    assert it.stop() is None
    assert kept.last is None


def test_the_probes_for_meters_exist():
    from codecarbon.core.cpu import is_rapl_available
    from codecarbon.core.gpu import is_nvidia_system

    assert is_rapl_available() in (True, False)
    assert is_nvidia_system() in (True, False)
