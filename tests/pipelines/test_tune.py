"""`bench tune`: as many trials for each method, none run twice, and a user's mistake told before any training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import baselines
from leaderboard.schema import Tuning
from openautoglm.student import save_model
from pipelines import methods, params, tune
from pipelines.errors import UserError
from pipelines.params import Training, paths
from tests.conftest import make_task, make_teacher
from tests.pipelines.test_workspace import locked

METHODS = {"teacher": {}, "albert": {"embedding_size": 8, "shared_from": 1}, "distilbert": {}}


@pytest.fixture(scope="module")
def learnt():
    task = make_task("classification")
    return make_teacher(task), task


@pytest.fixture
def project(tmp_path, monkeypatch, learnt):
    """A project whose task "movie" is the tiny one, with its teacher."""
    teacher, task = learnt
    settings = params.load()
    spec = settings.tasks["movie"].model_copy(update={"max_length": task.max_length})
    settings = settings.model_copy(
        update={"tasks": {"movie": spec}, "methods": METHODS, "training": Training(threads=1)}
    )
    monkeypatch.setattr(params, "load", lambda: settings)
    loaded = {name: methods.load(name) for name in ("albert", "distilbert", "teacher")}
    monkeypatch.setattr(methods, "load", loaded.__getitem__)
    (tmp_path / "baselines").symlink_to(Path(baselines.__file__).parent)
    monkeypatch.chdir(tmp_path)
    for name in ("train", "dev"):
        split = getattr(task, name)
        path = paths.split("movie", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"text": list(split.texts), "label": np.asarray(split.labels)}), path)
    folder = paths.finetuned("movie", 0) / "model"
    folder.mkdir(parents=True)
    save_model(teacher.model, folder)
    teacher.tokenizer.save(str(folder / "tokenizer.json"))
    return tmp_path


def read(row: str) -> Tuning:
    return Tuning.model_validate_json(paths.tuning(row, "movie").read_bytes())


def test_each_method_gets_the_same_number_of_trials_and_none_twice(project, monkeypatch):
    monkeypatch.setattr(tune, "FACTORS", (0.5, 1.0))
    tune.tune(["albert", "distilbert"], ["movie"])
    for row in ("albert", "distilbert"):
        found = read(row)
        assert len(found.trials) == len(tune.FACTORS)
        assert all(0 <= trial.dev_score <= 1 and trial.steps == 12 for trial in found.trials)
    assert [trial.knobs["learning_rate"] for trial in read("albert").trials] == [1.5e-4, 3e-4]
    assert read("distilbert").trials[0].knobs.keys() == {"learning_rate", "task_learning_rate"}
    before = read("albert")
    monkeypatch.setattr(tune, "_run", lambda *_: pytest.fail("a finished trial was run again"))
    tune.tune(["albert"], ["movie"])
    assert read("albert") == before


def test_passes_are_tried_at_the_rates_of_the_row_and_stand_beside_the_rates(project, monkeypatch):
    monkeypatch.setattr(tune, "FACTORS", (0.5,))
    tune.tune(["albert"], ["movie"])
    tune.tune(["albert"], ["movie"], passes=[1, 3])
    found = read("albert")
    tried = [(trial.knobs["learning_rate"], trial.passes, trial.steps) for trial in found.trials]
    assert tried == [(1.5e-4, 2, 12), (3e-4, 1, 6), (3e-4, 3, 18)]
    assert 0 <= found.teacher_dev_score <= 1


@pytest.mark.parametrize("passes", [0, -1, float("nan"), 1e9])
def test_passes_that_are_none_are_refused(project, passes):
    with pytest.raises(UserError, match="--passes takes numbers above 0"):
        tune.tune(["albert"], ["movie"], passes=[1, passes])


def test_another_profile_is_tried_in_its_folder_and_written_down_here(project, monkeypatch):
    elsewhere = project / ".work/full"
    elsewhere.mkdir(parents=True)
    for name in ("data", "runs", "baselines"):
        (project / name).rename(elsewhere / name)
    monkeypatch.setattr(tune.workspace, "lay", lambda profile, folder: None)
    tune.tune(["albert"], ["movie"], passes=[1], profile="full")
    monkeypatch.chdir(project)
    assert [trial.steps for trial in read("albert").trials] == [6]


def test_nobody_else_runs_there_meanwhile(project, monkeypatch):
    asked = []
    monkeypatch.setattr(tune, "_search", lambda *_: asked.append(locked(project)))
    tune.tune(["albert"], ["movie"])
    assert asked == [True]


def test_a_stopped_search_goes_on_and_changed_code_begins_anew(project, monkeypatch):
    real, ran = tune._run, []

    def run(*arguments):
        if len(ran) == 1:
            raise KeyboardInterrupt
        ran.append(arguments[-2])
        return real(*arguments)

    monkeypatch.setattr(tune, "FACTORS", (0.5, 1.0))
    with monkeypatch.context() as patch:
        patch.setattr(tune, "_run", run)
        with pytest.raises(KeyboardInterrupt):
            tune.tune(["albert"], ["movie"])
    assert [trial.knobs for trial in read("albert").trials] == ran
    tune.tune(["albert"], ["movie"])
    assert [trial.knobs for trial in read("albert").trials[:1]] == ran
    assert len(read("albert").trials) == 2
    monkeypatch.setattr(methods, "sources_sha256", lambda _: "other")
    monkeypatch.setattr(tune, "FACTORS", (1.0,))
    tune.tune(["albert"], ["movie"])
    assert len(read("albert").trials) == 1


def test_a_trial_that_diverges_is_kept_without_a_score(project, monkeypatch):
    monkeypatch.setattr(tune, "FACTORS", (1e30,))
    tune.tune(["albert"], ["movie"])
    (trial,) = read("albert").trials
    assert trial.dev_score is None


@pytest.mark.parametrize(
    ("row", "task", "message"),
    [
        ("albrt", "movie", "did you mean 'albert'"),
        ("albert", "movies", "did you mean 'movie'"),
        ("teacher", "movie", "no knob with a default whose name ends in learning_rate"),
    ],
)
def test_a_mistake_is_told_before_any_training(project, monkeypatch, row, task, message):
    monkeypatch.setattr(tune, "_run", lambda *_: pytest.fail("trained"))
    with pytest.raises(UserError, match=message):
        tune.tune(["albert", row], [task])


def test_the_code_of_a_submission_is_not_run_here(project, monkeypatch):
    code = project / "submissions/mine/method.py"
    code.parent.mkdir(parents=True)
    code.write_text("raise SystemExit('it ran')")
    monkeypatch.setitem(METHODS, "mine", {})
    with pytest.raises(UserError, match="mine is a submission, whose code runs in the sandbox only"):
        tune.tune(["mine"], ["movie"])


def test_a_file_that_holds_no_trials_is_one_message(tmp_path):
    (tmp_path / "movie.json").write_text('{"trials": 1}')
    with pytest.raises(UserError, match=r"movie.json is no Tuning"):
        tune.finished(tmp_path / "movie.json", {})


def test_a_missing_teacher_names_the_command(project):
    (paths.finetuned("movie", 0) / "model/model.safetensors").unlink()
    with pytest.raises(UserError, match="run `dvc repro finetune@movie-0`"):
        tune.tune(["albert"], ["movie"])
