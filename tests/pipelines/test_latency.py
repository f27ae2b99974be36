"""The order of blocks, the guard, warm-up, and real launches of tiny artifacts in worker processes."""

import json
import os
import subprocess
import sys
import time
from itertools import chain, count, repeat
from types import SimpleNamespace

import numpy as np
import pytest

from openautoglm.student import Student
from pipelines.instruments import latency, worker
from pipelines.tiny import make_task, make_teacher
from tests.pipelines.tiny_artifacts import TEXTS, write

latency_probe = latency.Probe
REFERENCE, CANDIDATE = repeat(10.0), repeat(5.0)
QUICK = {"threads": 1, "pairs": 6, "block_s": 0.004, "warmup_s": 0.02}


class Scripted:
    """Stands for a loaded artifact: each call takes a scripted time and is written down."""

    def __init__(self, name, log, times, passes=1):
        self.name, self.log, self.times, self.passes = name, log, iter(times), passes

    def call(self, text):
        self.log.append((self.name, text))
        return next(self.times)


class Still:
    """A probe that always finds the same."""

    quickest = 1.0

    def __call__(self):
        return 1.0


class Calm:
    """A guard that saw nothing."""

    def disturbed(self):
        return False


def disturbed_at(*pairs):
    """A guard class that says "disturbed" for these pairs, counted from 0 over all candidates."""
    count = iter(range(10**6))

    class Guard:
        def disturbed(self):
            return next(count) in pairs

    return Guard


def probing(*took):
    """A probe class that finds these, and 1.0 ever after. The first one is of before any pair; a pair has three."""
    times = chain(took, repeat(1.0))

    class Probe:
        quickest = float("inf")

        def __call__(self):
            found = next(times)
            self.quickest = min(self.quickest, found)
            return found

    return Probe


@pytest.fixture(autouse=True)
def _still(monkeypatch):
    monkeypatch.setattr(latency, "Probe", Still)


def sampled(monkeypatch, guard, *, pairs=4, block=2, reference=REFERENCE, candidate=CANDIDATE):
    """The pairs of C, and the calls that count: each block begins with one that does not."""
    log = []
    monkeypatch.setattr(latency, "Guard", guard)
    timed = Scripted("R", log, led_in(reference, block)), {"c": Scripted("C", log, led_in(candidate, block))}
    got = latency.sample(*timed, TEXTS[:5], block, pairs)["c"]
    return got, [call for i, call in enumerate(log) if i % (block + 1)]


def led_in(times, block, lead=777.0):
    """These times, block by block, each block after a call of another time."""
    times = iter(times)
    while True:
        yield lead
        yield from (next(times) for _ in range(block))


def test_blocks_alternate_r_c_c_r_over_the_same_texts(monkeypatch):
    got, log = sampled(monkeypatch, Calm)
    blocks = ["".join(name for name, _ in log[i : i + 2]) for i in range(0, len(log), 2)]
    assert blocks == ["RR", "CC", "CC", "RR"] * 2
    for i in range(0, len(log), 4):
        assert [text for _, text in log[i : i + 2]] == [text for _, text in log[i + 2 : i + 4]]
    texts = [text for name, text in log if name == "R"]
    assert texts == (TEXTS[:5] * 2)[: len(texts)]
    assert got.reference_ms == [10.0] * 4
    assert got.candidate_ms == [5.0] * 4


def test_candidates_take_turns(monkeypatch):
    log = []
    monkeypatch.setattr(latency, "Guard", Calm)
    candidates = {name: Scripted(name, log, repeat(1.0)) for name in ("A", "B")}
    latency.sample(Scripted("R", log, repeat(1.0)), candidates, TEXTS[:3], 1, 4)
    assert "".join(name for name, _ in log[::2]) == "RAAR" + "RBBR" + "RAAR" + "RBBR"
    assert log[::2] == log[1::2]  # the call that does not count


def test_the_first_call_after_the_other_model_does_not_count(monkeypatch):
    """A model that the other's block has driven from the caches: its first call of each block is slow."""
    got, _ = sampled(monkeypatch, Calm, candidate=repeat(5.0))  # led_in: 777 ms in front of each block
    assert got.candidate_ms == [5.0] * 4
    assert set(got.calls.values()) == {5.0}


def test_a_disturbed_pair_is_dropped_whole_and_repeated(monkeypatch):
    reference = chain([10, 10], [99, 99], repeat(10.0))
    got, log = sampled(monkeypatch, disturbed_at(1), candidate=repeat(5.0), reference=reference)
    assert got.dropped == 1
    assert got.reference_ms == [10.0] * 4  # the second pair's 99 is gone
    assert len(got.candidate_ms) == 4
    assert len(log) == 4 * (4 + 1)
    blocks = [[text for _, text in log[i : i + 2]] for i in range(0, len(log), 4)]
    assert blocks[1] == blocks[2]  # with the same texts: none is lost to a neighbour


def test_a_pair_beside_a_slow_probe_is_dropped_and_another_taken(monkeypatch):
    quiet, loud = [1.0, 1.05, 1.0], [1.0, 1.2, 1.0]
    monkeypatch.setattr(latency, "Probe", probing(1.0, *quiet, *loud))
    reference = chain([10, 10], [99, 99], repeat(10.0))
    got, log = sampled(monkeypatch, Calm, candidate=repeat(5.0), reference=reference)
    assert got.dropped == 1
    assert got.reference_ms == [10.0] * 4  # the second pair's 99 is gone
    assert len(log) == 4 * (4 + 2)  # pairs come in twos, R C C R


def test_what_was_taken_before_the_machine_grew_quiet_is_dropped_too(monkeypatch):
    monkeypatch.setattr(latency, "Probe", probing(1.5, *[1.5] * 6))
    got, _ = sampled(monkeypatch, Calm, candidate=chain([9.0] * 4, repeat(5.0)))
    assert got.dropped == 2
    assert got.candidate_ms == [5.0] * 4
    assert got.calls == dict.fromkeys(TEXTS[:5], 5.0)


def test_on_a_machine_that_is_never_quiet_the_quietest_pairs_are_kept(monkeypatch):
    slowness = chain.from_iterable([ms] * 3 for ms in (1.9, 1.2, 1.4, 1.3, 1.8, 1.7, 1.25, 1.6))
    monkeypatch.setattr(latency, "Probe", probing(1.0, *slowness))
    got, log = sampled(monkeypatch, Calm, candidate=chain.from_iterable([float(i)] * 2 for i in count()))
    assert len(log) == 4 * 8  # twice as many as are wanted, and no more
    assert got.candidate_ms == [1.0, 2.0, 3.0, 6.0]
    assert got.dropped == 4


def test_the_probe_is_the_quickest_of_its_runs(monkeypatch):
    probe, clock = latency_probe(), iter([0.0, 0.001, 0.01, 0.04, 0.05, 0.052, 0.06, 0.061])
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(clock))
    assert probe() == pytest.approx(1.0)
    assert probe.quickest == pytest.approx(1.0)


def test_a_slow_pair_is_kept_where_nothing_disturbed_it(monkeypatch):
    got, _ = sampled(monkeypatch, Calm, candidate=chain([500.0, 500.0], repeat(5.0)))
    assert got.dropped == 0
    assert max(got.candidate_ms) == 500.0


def test_a_machine_that_is_never_quiet_ends_too_and_says_so(monkeypatch):
    got, _ = sampled(monkeypatch, disturbed_at(*range(1000)))
    assert len(got.candidate_ms) == 4
    assert got.dropped == 4


def test_a_single_call_counts_the_first_time_its_text_is_met(monkeypatch):
    got, _ = sampled(monkeypatch, Calm, candidate=chain(range(1, 6), repeat(100.0)))
    assert got.calls == dict(zip(TEXTS[:5], range(1, 6), strict=True))


@pytest.mark.parametrize(
    ("ticks", "clock", "disturbed"),
    [
        ((0, 100), (1.0, 1.0), False),
        ((2, 100), (1.0, 1.0), False),
        ((3, 100), (1.0, 1.0), True),  # 3 % stolen
        ((0, 100), (1.05, 1.0), False),
        ((0, 100), (1.2, 1.0), True),  # a fifth of the time without the core
        ((0, 0), (1.0, 1.0), False),  # a system that does not tell
    ],
)
def test_guard(monkeypatch, ticks, clock, disturbed):
    readings, walls, cpus = iter([(0, 0), ticks]), iter([0.0, clock[0]]), iter([0.0, clock[1]])
    monkeypatch.setattr(latency, "stolen_ticks", lambda: next(readings))
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(walls))
    monkeypatch.setattr(latency.time, "process_time", lambda: next(cpus))
    assert latency.Guard().disturbed() is disturbed


def test_a_launch_is_watched_where_the_kernel_tells(monkeypatch):
    waits, taken, clock = iter([1.0, 1.5]), iter([3, 10]), iter([0.0, 2.0])
    monkeypatch.setattr(latency, "waited_s", lambda: next(waits))
    monkeypatch.setattr(latency, "switches", lambda: next(taken))
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(clock))
    assert latency.Watch().readings() == {"pressure": 0.25, "switches": 7}


def test_a_launch_without_the_kernels_word_has_no_readings(monkeypatch):
    monkeypatch.setattr(latency, "waited_s", lambda: None)
    monkeypatch.setattr(latency, "switches", lambda: None)
    assert latency.Watch().readings() == {"pressure": None, "switches": None}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system pins no process")
def test_a_neighbour_on_the_same_core_is_noticed():
    allowed = os.sched_getaffinity(0)
    core = min(allowed)
    pinned = f"import os\nos.sched_setaffinity(0, {{{core}}})\nprint(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", pinned], stdout=subprocess.PIPE) as neighbour:
        neighbour.stdout.readline()
        os.sched_setaffinity(0, {core})
        try:
            guard, end = latency.Guard(), time.process_time() + 0.1
            while time.process_time() < end:
                pass
            assert guard.disturbed()
        finally:
            os.sched_setaffinity(0, allowed)
            neighbour.kill()


def test_tokenisation_is_the_median_of_three_passes(monkeypatch):
    seconds = iter([0.0, 0.002, 1.0, 1.9, 2.0, 2.004])  # passes of 2, 900 and 4 ms over two texts
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(seconds))
    predictor = SimpleNamespace(tokenize=lambda texts: None)
    assert latency.tokenize_ms(predictor, ["a", "b"]) == pytest.approx(2.0)


def test_stolen_ticks_are_those_of_the_cores_we_may_use(monkeypatch, tmp_path):
    stat = tmp_path / "stat"
    stat.write_text("cpu  9 9 9 9 9 9 9 99 0 0\ncpu0 1 1 1 1 1 1 1 7 0 0\ncpu1 1 1 1 1 1 1 1 50 0 0\nintr 5\n")
    monkeypatch.setattr(latency, "Path", lambda _: stat)
    monkeypatch.setattr(latency.os, "sched_getaffinity", lambda _: {0})
    assert latency.stolen_ticks() == (7, 14)


def test_warm_up_goes_on_until_two_windows_agree(monkeypatch):
    seconds = count()
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(seconds))
    times = chain([9.0] * 10, [5.0] * 10, [4.0] * 10, repeat(3.99))
    calls = []

    def call(text):
        calls.append(text)
        return next(times)

    cpu = chain.from_iterable((second, second + 0.05) for second in count())
    monkeypatch.setattr(latency.time, "process_time", lambda: next(cpu))
    assert latency.warm_up(call, TEXTS, 1.5) == pytest.approx(5.0)  # 50 ms of CPU in ten calls
    assert len(calls) == 40


def test_warm_up_ends_on_a_machine_that_never_settles(monkeypatch):
    seconds, doubling = count(), count()
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(seconds))
    latency.warm_up(lambda _: 2.0 ** next(doubling), TEXTS, 4)
    assert next(doubling) == 10 * (5 * 4 + 1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("artifacts")
    return {"small": write(root / "small", layers=2), "large": write(root / "large", layers=120, width=96)}


def request(folders, **changes):
    return (
        QUICK
        | {
            "reference": str(folders["large"]),
            "candidates": {"small": str(folders["small"]), "same": str(folders["large"])},
            "texts": TEXTS,
            "own_texts": len(TEXTS),
        }
        | changes
    )


def test_a_launch_finds_the_smaller_model_faster_and_the_same_one_not(folders):
    found = worker.ask("launch", request(folders))
    assert set(found) == {"small", "same"}
    for launch in found.values():
        assert len(launch["reference_block_ms"]) == len(launch["candidate_block_ms"]) == QUICK["pairs"]
        assert launch["control_block_ms"] == found["small"]["control_block_ms"]
        assert launch["first_call_ms"] > 0
        assert 0 < launch["tokenize_ms"] < launch["candidate_block_ms"][0]
    ratios = {name: np.divide(x["reference_block_ms"], x["candidate_block_ms"]) for name, x in found.items()}
    assert np.median(ratios["small"]) > 3
    assert 0.5 < np.median(ratios["same"]) < 2


def test_importing_the_runtime_leaves_nothing_to_import_to_loading(tmp_path):
    """What transformers imports when it builds a model is no memory and no loading time of the model."""
    task = make_task("classification")
    teacher = make_teacher(task)
    folder = Student(teacher.copy(), teacher.tokenizer).export(tmp_path / "torch", "torch-fp32", task=task)
    code = (
        "import sys\nfrom pipelines.instruments import latency\nfrom openautoglm import runtime\n"
        f"latency.import_runtime({str(folder)!r})\nbefore = set(sys.modules)\n"
        f"latency.load({str(folder)!r}, 1, 'a good film')\nassert set(sys.modules) == before, set(sys.modules) - before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_each_launch_samples_single_calls_of_its_own_texts_only(folders):
    found = worker.ask("launch", request(folders, own_texts=7))
    assert len(found["small"]["call_ms"]) == 7


def test_the_worker_is_light_and_its_threads_are_fixed(folders):
    code = (
        "import sys, os, json\n"
        "from pipelines.instruments import worker\n"
        "before = sys.stdin\n"
        "sys.argv = ['worker', 'launch']\n"
        "worker.main()\n"
        "assert not {'torch', 'transformers', 'codecarbon', 'pydantic', 'pandas'} & set(sys.modules), 'too heavy'\n"
    )
    asked = request(folders) | {"cores": []}
    done = subprocess.run([sys.executable, "-c", code], input=json.dumps(asked), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {"small", "same"}


def test_the_workers_environment(monkeypatch):
    seen = {}

    def run(command, **arguments):
        seen.update(arguments["env"], command=command)
        return subprocess.CompletedProcess(command, 0, stdout="{}", stderr="")

    monkeypatch.setattr(worker.subprocess, "run", run)
    worker.ask("launch", {"threads": 1})
    assert {seen[name] for name in worker.THREADS} == {"1"}
    assert seen["CUDA_VISIBLE_DEVICES"] == ""
    assert "hugetlb" in seen["GLIBC_TUNABLES"]
    seen.clear()
    worker.ask("solo", {"threads": 1})
    assert "hugetlb" not in seen.get("GLIBC_TUNABLES", "")


def test_a_worker_that_fails_says_why_in_one_line(folders, tmp_path):
    with pytest.raises(worker.WorkerError, match="no manifest"):
        worker.ask("launch", request(folders, reference=str(tmp_path)))


def test_a_model_that_loads_but_gives_no_answer_is_named(folders, tmp_path):
    broken = write(tmp_path / "broken", layers=2, words=3)  # its table ends before the tokenizer's words do
    with pytest.raises(worker.WorkerError, match=r"1: \S*broken: the model loads, but gives no answer"):
        worker.ask("launch", request(folders, candidates={"broken": str(broken)}))


def test_a_worker_that_dies_is_reported(monkeypatch):
    monkeypatch.setattr(worker.sys, "executable", "/bin/false")
    with pytest.raises(worker.WorkerError, match="exit code 1"):
        worker.ask("solo", {"threads": 1})


def test_the_idlest_core_is_taken(monkeypatch):
    before = {0: [0] * 8, 1: [0] * 8}
    after = {0: [9, 0, 0, 1, 0, 0, 0, 0], 1: [1, 0, 0, 9, 0, 0, 0, 0]}
    readings = iter([before, after])
    monkeypatch.setattr(latency, "core_ticks", lambda: next(readings))
    assert worker.idlest_cores(1) == [1]


def test_a_faster_candidate_passes_over_the_same_texts_more_often(monkeypatch):
    """Its block is as long as the reference's; what a text takes is that of the first pass."""
    log = []
    monkeypatch.setattr(latency, "Guard", Calm)
    fast = Scripted("C", log, led_in(chain([1.0, 1.0, 4.0, 4.0], repeat(2.5)), 4), passes=2)
    got = latency.sample(Scripted("R", log, led_in(REFERENCE, 2)), {"c": fast}, TEXTS[:5], 2, 4)["c"]
    assert [name for name, _ in log[:8]] == ["R"] * 3 + ["C"] * 5
    assert [text for _, text in log[1:3]] * 2 == [text for _, text in log[4:8]]
    assert got.candidate_ms == [2.5] * 4
    assert [got.calls[text] for text in TEXTS[:2]] == [1.0, 1.0]
