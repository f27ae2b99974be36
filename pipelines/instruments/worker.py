"""Processes that measure: JSON requests on standard input, JSON answers on standard output.

The parent is light and sleeps on the pipe while the worker computes. Threads are fixed by the environment before any
runtime is imported; a runtime is imported only where an artifact needs it. One artifact alone has a fresh process.
Launches are copies (forks) of a process that has imported what they need and loaded nothing: each lays out the memory
of its models anew, and importing, 0.6 s and PyTorch's 3 s, is paid once.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from typing import IO, Any

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# Two copies of one model differ by up to 7 % in speed for as long as they live, by the luck of where their 4 kB pages
# lie; with huge pages by less than 1 %. Not where memory is read: it would be rounded up.
HUGE_PAGES = "glibc.malloc.hugetlb=1"
TIMEOUT_S = 1800
LOOK_S = 0.05  # how long the cores are watched to find the idle ones
BATCH = 32


class WorkerError(RuntimeError):
    """The worker ended without an answer; the message holds its last words."""


def ask_solo(request: dict[str, Any]) -> dict[str, Any]:
    """One artifact alone (`solo`), in a fresh process on the idlest cores."""
    with Worker("solo", request["threads"]) as worker:
        return worker.ask(request)


class Worker:
    """A process that answers requests of one task: "launch", as many as are asked, or "solo", one.

    with Worker("launch", threads=1) as worker:
        first, second = worker.ask(request), worker.ask(request)
    """

    def __init__(self, task: str, threads: int) -> None:
        environment = os.environ | dict.fromkeys(THREADS, str(threads))
        environment |= {"TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "", "PYTHONHASHSEED": "0"}
        if task == "launch":
            environment["GLIBC_TUNABLES"] = HUGE_PAGES
        self._task = task
        self._said = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  (`close` does)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.instruments.worker", task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer, from the idlest cores; WorkerError, with the worker's last words, where it gives none."""
        to, answers = _pipes(self._process)
        try:
            print(json.dumps(request | {"cores": idlest_cores(request["threads"])}), file=to, flush=True)
        except BrokenPipeError:
            raise self._failed(self._process.wait()) from None
        if not select.select([answers], [], [], TIMEOUT_S)[0]:
            raise WorkerError(f"Measuring ({self._task}) took over {TIMEOUT_S} s and was stopped.")
        line = answers.readline()
        try:
            answer = json.loads(line) if line else self._process.wait()
        except json.JSONDecodeError:  # killed in the middle of it
            answer = -signal.SIGKILL
        if isinstance(answer, int):
            raise self._failed(answer)
        return answer

    def close(self) -> None:
        """End the process and its copy, whatever they do."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
        self._said.close()

    def _failed(self, code: int) -> WorkerError:
        self._said.seek(0)
        last = "; ".join(self._said.read().strip().splitlines()[-1:]) or "it said nothing"
        last = last.removeprefix("openautoglm.artifact.ArtifactError: ")  # it names the folder and what to do
        return WorkerError(f"Measuring ({self._task}) ended with exit code {code}: {last}")


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin
    assert process.stdout
    return process.stdin, process.stdout


def idlest_cores(count: int) -> list[int]:
    """As many cores as asked for, those that did least just now; empty where the system does not tell."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    from pipelines.instruments.latency import core_ticks

    before = core_ticks()
    time.sleep(LOOK_S)
    busy = {core: sum(t[:3]) - sum(before[core][:3]) + t[7] - before[core][7] for core, t in core_ticks().items()}
    return sorted(sorted(busy), key=lambda core: busy[core])[:count]


def solo(request: dict[str, Any]) -> dict[str, Any]:
    """One artifact alone; the fields of a leaderboard.schema.Solo.

    request: artifact (a folder), texts, threads, window_s, carbon (the fields of params.Carbon).
    """
    from openautoglm.runtime import Predictor
    from pipelines.instruments import memory
    from pipelines.instruments.latency import import_runtime

    import_runtime(request["artifact"])
    import_mb = memory.resident_mb()
    predictor, texts = Predictor(request["artifact"], threads=request["threads"]), request["texts"]
    load_mb = memory.resident_mb()
    with memory.Peak() as peak:
        for text in texts:
            predictor.logits([text])
    anonymous_mb = memory.anonymous_mb()
    done, certificate = _energy_window(predictor, texts, request, peak.mb)
    rounded = {"import_mb": import_mb, "load_mb": load_mb, "peak_mb": peak.mb, "anonymous_mb": anonymous_mb}
    return {
        **{name: None if mb is None else round(mb, 2) for name, mb in rounded.items()},
        "texts": done,
        "cpu_s": certificate["cpu_s"],
        "wall_s": certificate["window_s"],
        **_all_cores(request, texts),
        "certificate": certificate,
    }


def _energy_window(predictor: Any, texts: list[str], request: dict, peak_mb: float) -> tuple[int, dict[str, Any]]:
    """Whole passes over the texts, batch 1, for at least window_s under the tracker: inferences, certificate.

    CodeCarbon is imported here, after the memory was read: it brings pandas.
    """
    from pipelines.instruments.energy import tracked
    from pipelines.params import Carbon

    with tracked(Carbon.model_validate(request["carbon"])) as meter:
        done, end = 0, time.perf_counter() + request["window_s"]
        while not done or time.perf_counter() < end:
            for text in texts:
                predictor.logits([text])
            done += len(texts)
    return done, meter.certificate(round(peak_mb / 1000, 5)).model_dump()


def _all_cores(request: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    """On all cores: one call a text, batch 1; and texts per second offline, the best of two passes or more."""
    from openautoglm.runtime import Predictor
    from pipelines.instruments.latency import Timed
    from pipelines.instruments.machine import cores

    _pin(request["all_cores"])
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    predictor = Predictor(request["artifact"], threads=cores())
    timed = Timed(predictor, 0.0, 0.0)
    timed.call(texts[0])
    calls = [round(timed.call(text), 3) for text in texts]
    passes: list[float] = []
    end = time.perf_counter() + request["window_s"] / 4
    while len(passes) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        predictor.logits(texts, batch_size=BATCH)
        passes.append(time.perf_counter() - start)
    return {"throughput_texts_per_s": round(len(texts) / min(passes), 3), "all_cores_call_ms": calls}


def _pin(cores: list[int]) -> None:
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def main() -> None:
    """Answer the requests, a line each. Standard output is kept for answers: what libraries print goes to standard
    error.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if sys.argv[1] == "solo":
        request = json.loads(sys.stdin.readline())
        request["all_cores"] = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        _pin(request["cores"])
        print(json.dumps(solo(request)), file=answers, flush=True)
        return
    for line in sys.stdin:
        _launch_in_a_copy(json.loads(line), answers)


def _launch_in_a_copy(request: dict[str, Any], answers: IO[str]) -> None:
    """Answer with a launch, or with the exit code of the copy where it fails."""
    import openautoglm.runtime  # noqa: F401
    from pipelines.instruments import latency

    for folder in (request["reference"], *request["candidates"].values()):
        latency.import_runtime(folder)
    if copy := os.fork():
        _, status = os.waitpid(copy, 0)
        if status:
            print(os.waitstatus_to_exitcode(status), file=answers, flush=True)
        return
    try:
        _pin(request["cores"])
        print(json.dumps(latency.launch(request)), file=answers, flush=True)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    main()
