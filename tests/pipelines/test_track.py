"""track against a real sqlite store: complete, idempotent, and calm when the store is away."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from leaderboard.schema import HistoryPoint
from pipelines import live, params, track
from pipelines.errors import UserError
from pipelines.model_card import model_card
from pipelines.params import paths
from pipelines.tracking import CELL, RECORD, Cell, Store, TrackingError
from tests.leaderboard import records

ROOT = Path(__file__).parents[2]
METHODS = {name: records.METHODS[name] for name in ("teacher", "albert")}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """An empty store: creating one takes seconds, copying it none."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")  # absolute: see below
        Store(0)
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def settings(tmp_path, monkeypatch, database):
    """A project with six records and an empty store."""
    monkeypatch.chdir(tmp_path)
    # absolute: MLflow keeps one connection a URI, so a relative one would lead every test to the first one's store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    (tmp_path / "mlflow.db").write_bytes(database)
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    records.write(paths.results("default").parent, methods=METHODS, examples=20)
    return params.load(tmp_path / "params.yaml")


def runs(store: Store) -> dict[str, list]:
    found: dict[str, list] = {}
    for run in store.client.search_runs([store.experiment]):
        found.setdefault(run.data.tags[CELL], []).append(run)
    return found


def test_every_record_becomes_a_child_of_its_method(settings):
    assert track.track(settings) == 6
    store = Store(1)
    found = runs(store)
    assert set(found) == {"default/teacher", "default/albert"} | {
        f"default/{method}/{task}/0" for method in METHODS for task in records.TASKS
    }
    (child,), (parent,) = found["default/albert/movie/0"], found["default/albert"]
    record, digest = track.read(paths.record("default", "albert", "movie"))
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.info.status == "FINISHED"
    assert child.data.tags[RECORD] == digest
    assert child.data.tags["mlflow.source.git.commit"] == record.code.commit
    assert child.data.tags["machine"] == record.machine.id
    assert child.data.params["temperature"] == "2.0"
    form = record.deployments["onnx-int8"]
    assert child.data.metrics["onnx-int8/accuracy"] == form.quality[0].scores["accuracy"].value
    assert child.data.metrics["onnx-int8/bytes_on_disk"] == form.bytes_on_disk
    assert child.data.metrics["making/energy_kwh"] == record.runs[0].footprint.energy_kwh.likely
    curve = store.client.get_metric_history(child.info.run_id, "distil/loss")
    assert [(m.step, m.value) for m in curve] == [(p.step, p.loss) for p in record.runs[0].history]
    names = {file.path for file in store.client.list_artifacts(child.info.run_id)}
    assert names == {"movie.json", "history.tsv", "card.md"}


def test_twice_logs_nothing_and_a_new_record_one_run(settings):
    track.track(settings)
    assert track.track(settings) == 0
    path = paths.record("default", "albert", "bbc")
    path.write_text(path.read_text().replace("albert", "albert", 1) + "\n")
    assert track.track(settings) == 1
    assert len(runs(Store(1))["default/albert/bbc/0"]) == 2


def test_what_was_interrupted_is_completed_without_a_second_run(settings, monkeypatch):
    def stop(*_: object) -> None:
        raise TrackingError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "log_texts", stop)
        with pytest.raises(TrackingError):
            track.track(settings)
    assert track.track(settings) == 6
    store = Store(1)
    found = runs(store)
    assert {len(same) for same in found.values()} == {1}
    curve = store.client.get_metric_history(found["default/teacher/movie/0"][0].info.run_id, "distil/loss")
    assert len(curve) == 22


def test_a_training_shows_itself_live_and_track_closes_the_same_run(settings):
    cell = Cell(1, "default", "albert", "movie", 0)
    history = track.read(paths.record("default", "albert", "movie"))[0].runs[0].history
    live.listen(cell, [point.model_dump_json() for point in history[:3]])
    live.listen(cell, [point.model_dump_json() for point in history[:5]])  # killed, then begun again
    store = Store(1)
    (open_run,) = runs(store)[cell.key]
    assert len(store.client.get_metric_history(open_run.info.run_id, "distil/loss")) == 5
    track.track(settings)
    (closed,) = runs(store)[cell.key]
    assert closed.info.run_id == open_run.info.run_id
    assert len(store.client.get_metric_history(closed.info.run_id, "distil/loss")) == len(history)


def test_live_comes_through_the_pipe(settings, tmp_path):
    """The whole way: callback, process, store. The training's own process never imports MLflow."""
    code = (
        "import sys\nfrom pipelines.live import live\nfrom leaderboard.schema import HistoryPoint\n"
        "tell = live('albert', 'movie', 0)\n"
        "for step in range(3): tell(HistoryPoint(stage='distil', step=step, loss=1.0, dev_score=None))\n"
        "assert 'mlflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    store, deadline = Store(1), time.monotonic() + 60
    while time.monotonic() < deadline:
        found = runs(store).get("default/albert/movie/0", [])
        if found and found[0].info.status == "FINISHED":
            break
        time.sleep(0.2)
    assert [m.step for m in store.client.get_metric_history(found[0].info.run_id, "distil/loss")] == [0, 1, 2]


def test_live_survives_a_listener_that_dies(settings, monkeypatch):
    monkeypatch.setattr(live.sys, "executable", "/bin/false")
    tell = live.live("albert", "movie", 0)
    for step in range(2000):  # far more than a pipe holds
        tell(HistoryPoint(stage="distil", step=step, loss=1.0, dev_score=None))


@pytest.mark.parametrize("uri", ["http://user:secret@127.0.0.1:9", "sqlite:////proc/nowhere/mlflow.db"])
def test_a_store_that_is_away_is_a_warning(settings, monkeypatch, capsys, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    track.main()
    said = capsys.readouterr().err
    assert said.startswith("warning: MLflow at")
    assert "run `python -m pipelines.track` when it is back" in said
    assert "secret" not in said


def test_a_broken_record_is_named(settings):
    path = paths.record("default", "albert", "bbc")
    path.write_text('{"schema_version": 1}')
    with pytest.raises(UserError, match=r"albert/bbc.json is not a valid record"):
        track.track(settings)


def test_model_card_says_what_the_record_says(settings):
    record, _ = track.read(paths.record("default", "albert", "movie"))
    card = model_card(record)
    assert card.startswith("# albert on movie\n")
    assert record.method.left_out in card
    assert f"{record.deployments['onnx-int8'].quality[0].scores['accuracy'].value:.4f}" in card
    widths = {line.count("|") for line in card.splitlines() if line.startswith("|")}
    assert widths == {9}
