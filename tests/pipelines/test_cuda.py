"""The GPU's clock and memory: on a pretended one everywhere, on a real one where there is one."""

import sys
import time
from types import SimpleNamespace

import pytest

from pipelines.instruments import cuda, energy
from pipelines.params import Carbon
from tests.pipelines.tiny_artifacts import carbon

DECLARED = Carbon.model_validate(carbon())


class Pretended:
    """torch.cuda with two GPUs, as far as it is called."""

    def __init__(self):
        self.waited, self.peaks = [], {0: 9e9, 1: 9e9}

    def is_available(self):
        return True

    def device_count(self):
        return 2

    def synchronize(self, device):
        self.waited.append(device)

    def reset_peak_memory_stats(self, device):
        self.peaks[device] = 0.0

    def max_memory_allocated(self, device):
        return self.peaks[device]


@pytest.fixture
def two(monkeypatch):
    pretended = Pretended()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=pretended))
    return pretended


def real_gpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    return torch


def test_without_torch_there_is_no_gpu(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    cuda.synchronize()
    cuda.reset_peak()
    assert cuda.peak_mb() is None
    assert "torch" not in sys.modules


def test_every_visible_gpu_is_waited_for_and_counted(two):
    cuda.reset_peak()
    two.peaks |= {0: 2e6, 1: 3e6}
    cuda.synchronize()
    assert two.waited == [0, 1]
    assert cuda.peak_mb() == 5.0


@pytest.mark.parametrize("gpus", [True, False])
def test_a_footprint_has_the_gpus_peak_where_they_are_used_and_ends_when_they_are_done(two, monkeypatch, gpus):
    tracker = SimpleNamespace(start=lambda: None, stop=lambda: None)
    monkeypatch.setattr(energy, "_tracker", lambda *_: ("modelled", tracker, SimpleNamespace(last=None)))
    with energy.tracked(DECLARED, gpus=gpus) as meter:
        two.peaks[0] += 4e6
        two.waited.clear()
    assert bool(two.waited) is gpus
    first = meter.footprint()
    assert first.gpu_peak_memory_mb == (4.0 if gpus else None)
    two.peaks[0] = 1e6
    with energy.tracked(DECLARED, earlier=first, gpus=gpus) as meter:
        pass
    assert meter.footprint().gpu_peak_memory_mb == (4.0 if gpus else None)


def test_a_window_ends_when_a_real_gpu_is_done():
    """The window is as long as CUDA's own events say, although the calls return at once."""
    torch = real_gpu()
    x = torch.randn(4096, 4096, device="cuda")
    (x @ x).sum().item()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with energy.tracked(DECLARED, gpus=True) as meter:
        begin.record()
        for _ in range(50):
            x = (x @ x).clamp(-1, 1)
        end.record()
    footprint = meter.footprint()
    end.synchronize()
    assert footprint.wall_s >= begin.elapsed_time(end) / 1000
    assert footprint.gpu_peak_memory_mb > 2 * 4096**2 * 4 / 1e6


def test_a_label_is_on_the_host_so_its_time_holds_the_gpus_work():
    torch = real_gpu()
    from pipelines.instruments.latency import Timed

    x = torch.randn(4096, 4096, device="cuda")
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def logits(texts):
        begin.record()
        y = x
        for _ in range(20):
            y = (y @ x).clamp(-1, 1)
        end.record()
        return y[:1, :2].cpu().numpy()

    timed = Timed(SimpleNamespace(logits=logits, folder="x"), 0.0, 0.0)
    timed.call("warm")
    start = time.perf_counter()
    ms = timed.call("text")
    assert begin.elapsed_time(end) <= ms <= 1000 * (time.perf_counter() - start)
