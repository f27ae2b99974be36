"""What a kill must not lose: the learning curve and the footprint of the pieces before it."""

from __future__ import annotations

import contextlib

import pytest

from openautoglm.distillation.session import Point, current
from openautoglm.task import steps_of
from pipelines import params, training
from pipelines.params import paths
from tests.conftest import busy


@pytest.fixture(autouse=True)
def _quiet_folder(tmp_path, monkeypatch):
    params.load()
    monkeypatch.setattr(training, "_keep_freed_memory", lambda: None)
    monkeypatch.setattr("pipelines.live.live", lambda *cell: lambda point: None)
    settings = params.load()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(params, "load", lambda: settings)


def _kill_a_training_at_step_2() -> None:
    with contextlib.suppress(KeyboardInterrupt), training.run("movie", "albert", 0, {"knob": 1}):
        current().on_point(Point("a", 1, 0.5, None))
        busy(0.3)
        current().on_point(Point("a", 2, 0.4, 0.9))
        raise KeyboardInterrupt


def test_a_killed_training_keeps_its_curve_and_its_cost():
    _kill_a_training_at_step_2()
    with training.run("movie", "albert", 0, {"knob": 1}) as run:
        current().on_point(Point("a", 2, 0.45, 0.9))
    assert [(p.step, p.loss) for p in run.history] == [(1, 0.5), (2, 0.45)]
    assert run.footprint
    assert run.footprint.cpu_s > 0.3


def test_other_knobs_do_not_go_on_from_it():
    _kill_a_training_at_step_2()
    with training.run("movie", "albert", 0, {"knob": 2}) as run:
        pass
    assert run.history == []


def test_a_finished_run_is_read_again_and_leaves_no_checkpoints():
    with training.run("movie", "albert", 0, {}) as run:
        current().steps += 7
        current().on_point(Point("a", 3, None, 0.25))
    training.finish("movie", "albert", 0, paths.compressed("movie", "albert", 0), run.write)
    footprint, steps, history = training.read_run(paths.compressed("movie", "albert", 0))
    assert (footprint, steps, history) == (run.footprint, 7, run.history)
    assert not paths.checkpoints("movie", "albert", 0).exists()


def test_steps_of_a_budget():
    assert steps_of(2, 65, 32) == 6
    assert steps_of(0.1, 10, 32) == 1
