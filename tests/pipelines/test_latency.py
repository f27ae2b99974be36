"""Rounds and slots, the guard, warm-up, and real launches of tiny artifacts in worker processes."""

import json
import os
import subprocess
import sys
import time
from itertools import chain, count, repeat
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest

from openautoglm.student import Student
from pipelines.instruments import latency, worker
from pipelines.tiny import make_task, make_teacher
from tests.pipelines.tiny_artifacts import TEXTS, write

latency_probe = latency.Probe
REFERENCE, CANDIDATE = repeat(10.0), repeat(5.0)
QUICK = {"threads": 1, "launch_s": 0.1, "slot_s": 0.002, "warmup_s": 0.02, "seed": 0, "rounds": None}


class Scripted(latency.Timed):
    """A loaded artifact whose calls take scripted times and are written down."""

    def __init__(self, name, log, times, calls=1, cold=1):
        super().__init__(None, 0.0, 0.0, cold, calls)
        self.name, self.log, self.times = name, log, iter(times)

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


def disturbed_at(*rounds):
    """A guard class that says "disturbed" of these rounds, counted from 0."""
    count = iter(range(10**6))

    class Guard:
        def disturbed(self):
            return next(count) in rounds

    return Guard


def probing(*took):
    """A probe class that finds these, and 1.0 ever after. The first one is of before any round; a round has two."""
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


def sampled(monkeypatch, guard, *, texts=4, seed=0, reference=REFERENCE, candidate=CANDIDATE, calls=1, cold=1):
    """The rounds, how many were taken again, and every call in its order."""
    log = []
    monkeypatch.setattr(latency, "Guard", guard)
    models = {"R": Scripted("R", log, reference), "C": Scripted("C", log, candidate, calls, cold)}
    return *latency.sample(models, TEXTS[:texts], Random(seed), latency.Probe()), log


def milliseconds(rounds, name):
    return [each.ms[name] for each in rounds]


def test_a_round_takes_one_text_through_every_model(monkeypatch):
    rounds, again, log = sampled(monkeypatch, Calm)
    assert [text for _, text in log] == [text for text in TEXTS[:4] for _ in range(4)]
    slots = [log[i : i + 2] for i in range(0, len(log), 2)]
    assert all(first == second for first, second in slots)  # one call that does not count, and one that does
    assert all({slots[i][0][0], slots[i + 1][0][0]} == {"R", "C"} for i in range(0, len(slots), 2))
    assert (milliseconds(rounds, "R"), milliseconds(rounds, "C"), again) == ([10.0] * 4, [5.0] * 4, 0)


def test_the_order_is_drawn_anew_for_each_round_and_again_from_the_same_seed(monkeypatch):
    orders = []
    for seed in (0, 0, 1):
        _, _, log = sampled(monkeypatch, Calm, texts=20, seed=seed)
        orders.append("".join(name for name, _ in log[::2]))
    assert orders[0] == orders[1] != orders[2]
    firsts = orders[0][::2]
    assert 4 < firsts.count("R") < 16


def test_the_first_calls_of_a_slot_do_not_count_and_the_others_are_averaged(monkeypatch):
    """A model that others have driven from the caches: its first calls are slow."""
    slots = chain.from_iterable([777.0, 666.0, 4.0, 5.0, 6.0] for _ in count())
    rounds, _, log = sampled(monkeypatch, Calm, candidate=slots, calls=3, cold=2)
    assert milliseconds(rounds, "C") == [5.0] * 4
    assert [name for name, _ in log].count("C") == 4 * (2 + 3)


def test_a_disturbed_round_is_taken_again_with_the_same_text(monkeypatch):
    reference = chain([10.0] * 2, [99.0] * 2, repeat(10.0))
    rounds, again, log = sampled(monkeypatch, disturbed_at(1), reference=reference)
    assert again == 1
    assert milliseconds(rounds, "R") == [10.0] * 4  # the second round's 99 is gone
    assert [text for _, text in log[::4]] == [*TEXTS[:4], TEXTS[1]]


def test_of_a_round_beside_a_slow_probe_and_its_repeat_the_quieter_counts(monkeypatch):
    quiet, loud, louder = [1.0, 1.05], [1.0, 1.2], [1.3, 1.0]
    monkeypatch.setattr(latency, "Probe", probing(1.0, *quiet, *loud, *louder, *quiet, *quiet, *louder))
    reference = chain.from_iterable([ms] * 2 for ms in (10.0, 11.0, 12.0, 13.0, 14.0, 15.0))
    rounds, again, _ = sampled(monkeypatch, Calm, reference=reference)
    assert again == 2
    assert milliseconds(rounds, "R") == [10.0, 14.0, 12.0, 13.0]  # the third's repeat was as loud


def test_what_was_taken_before_the_machine_grew_quiet_is_taken_again_too(monkeypatch):
    monkeypatch.setattr(latency, "Probe", probing(1.5, *[1.5] * 4))
    rounds, again, _ = sampled(monkeypatch, Calm, candidate=chain([9.0] * 4, repeat(5.0)))
    assert again == 2
    assert milliseconds(rounds, "C") == [5.0] * 4


def test_a_slow_round_is_kept_where_nothing_disturbed_it(monkeypatch):
    rounds, again, _ = sampled(monkeypatch, Calm, candidate=chain([500.0, 500.0], repeat(5.0)))
    assert (again, max(milliseconds(rounds, "C"))) == (0, 500.0)


def test_a_machine_that_is_never_quiet_ends_too_and_says_so(monkeypatch):
    rounds, again, log = sampled(monkeypatch, disturbed_at(*range(1000)))
    assert (len(rounds), again, len(log)) == (4, 4, 2 * 4 * 4)  # twice as many as are wanted, and no more


@pytest.mark.parametrize(("disturbed", "kept"), [((), 0), ((0,), 1), ((0, 1), 2), ((0, 1, 2), 2)])
def test_disturbed_single_calls_are_taken_again_up_to_twice(monkeypatch, disturbed, kept):
    monkeypatch.setattr(latency, "Guard", disturbed_at(*disturbed))
    times = chain.from_iterable([777.0, float(i), float(i)] for i in count())
    assert latency.single_calls(Scripted("C", [], times), TEXTS[:2]) == [float(kept)] * 2


def test_the_probe_is_the_quickest_of_its_runs(monkeypatch):
    probe, clock = latency_probe(), iter([0.0, 0.001, 0.01, 0.04, 0.05, 0.052, 0.06, 0.061])
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(clock))
    assert probe() == pytest.approx(1.0)
    assert probe.quickest == pytest.approx(1.0)


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
    window = latency.WINDOW_CALLS
    times = chain([9.0] * window, [5.0] * window, [4.0] * window, repeat(3.99))
    calls = []

    def call(text):
        calls.append(text)
        return next(times)

    cpu = chain.from_iterable((second, second + 0.05) for second in count())
    monkeypatch.setattr(latency.time, "process_time", lambda: next(cpu))
    assert latency.warm_up(call, TEXTS, 1.5) == pytest.approx(50 / window)  # of CPU in a window
    assert len(calls) == 4 * window


def test_warm_up_ends_on_a_machine_that_never_settles(monkeypatch):
    seconds, doubling = count(), count()
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(seconds))
    latency.warm_up(lambda _: 2.0 ** next(doubling), TEXTS, 4)
    assert next(doubling) == latency.WINDOW_CALLS * (5 * 4 + 1)


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
            "own_texts": TEXTS,
        }
        | changes
    )


@pytest.fixture(scope="module")
def launches():
    with worker.Worker("launch", threads=1) as process:
        yield process


def test_a_launch_finds_the_smaller_model_faster_and_the_same_one_not(folders, launches):
    found = launches.ask(request(folders))
    assert set(found) == {"small", "same"}
    for launch in found.values():
        assert len(launch["reference_block_ms"]) == len(launch["candidate_block_ms"]) >= latency.FEWEST
        assert launch["control_block_ms"] == found["small"]["control_block_ms"]
        assert launch["control_reference_ms"] == launch["reference_block_ms"]
        assert launch["first_call_ms"] > 0
        assert 0 < launch["tokenize_ms"] < launch["candidate_block_ms"][0]
    ratios = {name: np.divide(x["reference_block_ms"], x["candidate_block_ms"]) for name, x in found.items()}
    assert np.median(ratios["small"]) > 3
    assert 0.5 < np.median(ratios["same"]) < 2


def test_the_teacher_in_int8_takes_part_in_every_round_where_it_is_given(folders, launches):
    assert launches.ask(request(folders))["same"]["int8_block_ms"] is None
    found = launches.ask(request(folders, int8=str(folders["small"])))
    for launch in found.values():
        assert len(launch["int8_block_ms"]) == len(launch["candidate_block_ms"])
    assert np.median(np.divide(found["same"]["candidate_block_ms"], found["same"]["int8_block_ms"])) > 3
    assert 0.5 < np.median(np.divide(found["small"]["candidate_block_ms"], found["small"]["int8_block_ms"])) < 2


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


def test_each_launch_samples_single_calls_of_its_own_texts_only(folders, launches):
    found = launches.ask(request(folders, own_texts=TEXTS[:7]))
    assert len(found["small"]["call_ms"]) == 7


def test_a_launch_goes_over_as_many_texts_as_it_is_told(folders, launches):
    found = launches.ask(request(folders, rounds=9))
    assert len(found["small"]["candidate_block_ms"]) == len(found["small"]["control_block_ms"]) == 9


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


def answers_of(launch, requests):
    """What a worker answers whose launches are nothing but the expression `launch`."""
    code = (
        "import os, signal, sys\n"
        "from pipelines.instruments import latency, worker\n"
        "latency.import_runtime = lambda folder: None\n"
        "kept = []\n"
        f"latency.launch = lambda request: {launch}\n"
        "sys.argv = ['worker', 'launch']\n"
        "worker.main()\n"
    )
    asked = requests * (json.dumps({"reference": "", "candidates": {}, "cores": []}) + "\n")
    done = subprocess.run([sys.executable, "-c", code], input=asked, capture_output=True, text=True, check=True)
    return list(map(json.loads, done.stdout.splitlines()))


def test_every_launch_is_a_process_of_its_own():
    """What one imports, opens or leaves behind is not there in the next."""
    first, second = answers_of("kept.append(1) or {'process': os.getpid(), 'kept': len(kept)}", requests=2)
    assert first["process"] != second["process"]
    assert first["kept"] == second["kept"] == 1


@pytest.mark.parametrize(("task", "huge"), [("launch", True), ("solo", False)])
def test_the_workers_environment(monkeypatch, task, huge):
    seen, real = {}, subprocess.Popen

    def popen(command, **arguments):
        seen.update(arguments["env"])
        return real("true", **arguments)

    monkeypatch.setattr(worker.subprocess, "Popen", popen)
    worker.Worker(task, threads=1).close()
    assert {seen[name] for name in worker.THREADS} == {"1"}
    assert seen["CUDA_VISIBLE_DEVICES"] == ""
    assert ("hugetlb" in seen.get("GLIBC_TUNABLES", "")) == huge


def test_a_worker_that_fails_says_why_in_one_line(folders, tmp_path):
    with worker.Worker("launch", threads=1) as process, pytest.raises(worker.WorkerError, match="no manifest"):
        process.ask(request(folders, reference=str(tmp_path)))


def test_a_model_that_loads_but_gives_no_answer_is_named_and_others_can_be_timed(folders, tmp_path, launches):
    broken = write(tmp_path / "broken", layers=2, words=3)  # its table ends before the tokenizer's words do
    with pytest.raises(worker.WorkerError, match=r"1: \S*broken: the model loads, but gives no answer"):
        launches.ask(request(folders, candidates={"broken": str(broken)}))
    assert launches.ask(request(folders))["small"]["call_ms"]


def test_a_copy_that_is_killed_is_reported():
    assert answers_of("os.kill(os.getpid(), signal.SIGKILL)", requests=1) == [-9]


def test_a_worker_that_dies_is_reported(monkeypatch):
    monkeypatch.setattr(worker.sys, "executable", "/bin/false")
    with pytest.raises(worker.WorkerError, match="exit code 1"):
        worker.ask_solo({"threads": 1})


def test_a_worker_that_takes_too_long_is_stopped(monkeypatch, folders):
    monkeypatch.setattr(worker, "TIMEOUT_S", 0)
    with pytest.raises(worker.WorkerError, match="over 0 s and was stopped"):
        worker.ask_solo({"threads": 1, "artifact": str(folders["small"])})


def test_the_idlest_core_is_taken(monkeypatch):
    before = {0: [0] * 8, 1: [0] * 8}
    after = {0: [9, 0, 0, 1, 0, 0, 0, 0], 1: [1, 0, 0, 9, 0, 0, 0, 0]}
    readings = iter([before, after])
    monkeypatch.setattr(latency, "core_ticks", lambda: next(readings))
    assert worker.idlest_cores(1) == [1]
