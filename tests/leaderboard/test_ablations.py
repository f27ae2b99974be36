"""A method beside itself without its parts: what is shown is what the records of the profile "ablations" say."""

import re
import shutil
from html import unescape
from pathlib import Path

import pytest

from leaderboard import ablations, drawings, render, schema, store
from leaderboard.views import method
from tests.leaderboard import records

GRID = store.Grid(list(records.METHODS), list(records.TASKS), records.DEPLOYMENTS)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    records.write(folder, examples=200)
    forms = records.DEPLOYMENTS | {name: ["onnx-plan"] for name in records.ABLATIONS}
    records.write(
        folder, methods=records.ABLATIONS, profile="ablations", examples=200, tasks=("movie",), deployments=forms
    )
    tried = [(1e-5, 1, 0.81), (5e-5, 1, 0.85), (2e-4, 1, None), (5e-5, 4, 0.90)]
    tuning = schema.Tuning(
        schema_version=1,
        method="albert",
        task="movie",
        metric="accuracy",
        teacher_dev_score=0.95,
        made_from={"seed": 0},
        created="2026-11-22T19:00:00+00:00",
        machine="a machine",
        trials=[
            schema.Trial(
                knobs={"learning_rate": rate, "temperature": 2.0},
                passes=passes,
                dev_score=score,
                steps=880 * passes,
                wall_s=90.0,
            )
            for rate, passes, score in tried
        ],
    )
    records.save(folder / "tuning/albert/movie.json", tuning)
    tried = [("cheap", 0.3, None), ("cheap", 0.2, None), ("short", 0.2, 0.90), ("short", 0.3, 0.91)]
    trials = [
        schema.SearchTrial(
            stage=stage,
            number=0,
            params={"form": "whole rows"},
            structure=[[1, 32]],
            ms=1.5,
            bytes=3e6,
            loss=loss,
            dev_score=score,
            seconds=9.0,
        )
        for stage, loss, score in tried
    ]
    limits = schema.SearchLimits(ms=2.0, bytes=4e6, length=24)
    asked = schema.SearchAsked(limits=limits, seed=0, epochs=2.0, base={})
    search = schema.Search(machine="a machine", asked=asked, best=trials[-1], trials=trials)
    records.save(folder / "search/open_autoglm/movie.json", search)
    return folder


@pytest.fixture(scope="module")
def site(results, tmp_path_factory) -> Path:
    return render.build(results, GRID, tmp_path_factory.mktemp("built") / "site").parent


def page(site: Path, name: str) -> str:
    html = (site / "methods" / f"{name}.html").read_text(encoding="utf-8")
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def test_the_full_method_comes_first_and_each_variant_says_what_it_changes(results):
    found = ablations.of(store.load(results, GRID), "open_autoglm")
    assert found.names[0] == "open_autoglm"
    assert set(found.names) == set(records.ABLATIONS) - {"teacher"}
    assert found.form == "onnx-plan"
    assert found.changed["open_autoglm_low_rank_only"] == [("pruning_ratio", 0.0, 0.3)]


def test_the_difference_is_that_of_the_two_scores(results):
    board = store.load(results, GRID)
    found = ablations.of(board, "open_autoglm")
    one, full = found.row("open_autoglm_low_rank_only"), found.row("open_autoglm")
    own, whole = (
        board.ablations.records[name, "movie"].deployments["onnx-plan"].quality[0].scores["accuracy"].value
        for name in (one.method, full.method)
    )
    gap = found.difference(one, full)
    assert gap.value == pytest.approx(100 * (own - whole))
    assert gap.low <= gap.value <= gap.high


def test_the_page_shows_them_and_the_front_does_not(site):
    text = page(site, "open_autoglm")
    assert "open_autoglm_low_rank_only pruning_ratio 0, not 0.3" in text
    assert "AMD EPYC 9B14, 2 cores; 2026-11-22" in text
    for path in (site / "index.html", site / "board.csv", site / "board.json", site / "claims.html"):
        assert "open_autoglm_low_rank_only" not in path.read_text(encoding="utf-8")


def test_a_method_without_ablations_or_trials_says_which_command_makes_them(site):
    text = page(site, "tinybert")
    assert "None were run. bench run --profile ablations" in text
    assert "None were tried here. bench tune tinybert --task TASK" in text


def test_the_trials_show_the_best_the_one_in_use_and_the_diverged(site):
    text = page(site, "albert")
    assert "learning_rate 5e-05, temperature 2 1 85.0 89.5 880 1.50 in use" in text
    assert "learning_rate 5e-05, temperature 2 4 90.0 94.7 3520 1.50 best" in text
    assert "learning_rate 0.0002, temperature 2 1 diverged – 880" in text


def test_a_search_shows_its_budgets_its_trials_and_what_it_found(site):
    text = page(site, "open_autoglm")
    assert "Asked: at most 2.00 ms a text of 24 word pieces and 4.00 MB. Found: 1.50 ms, 3.00 MB" in text
    assert "a score of 91.0 on dev" in text
    assert "Score on dev" in text
    assert "Loss without training" in text
    assert "What openautoglm search tried" not in page(site, "tinybert")


def test_a_search_whose_best_was_not_measured_is_drawn_all_the_same(results, tmp_path):
    own = Path(shutil.copytree(results, tmp_path / "results"))
    path = own / "search/open_autoglm/movie.json"
    search = schema.Search.model_validate_json(path.read_bytes())
    bare = search.best.model_copy(update={"ms": None, "bytes": None})
    records.save(path, search.model_copy(update={"best": bare}))
    grid = store.Grid(["teacher", "open_autoglm"], ["movie"], GRID.deployments)
    assert "Found: – ms, – MB" in page(render.build(own, grid, tmp_path / "site").parent, "open_autoglm")


def test_the_curve_is_of_the_rates_tried_with_several_passes(results, site):
    found = store.load(results, GRID).tuning["albert", "movie"]
    assert drawings.by_passes(found) == [(1, pytest.approx(100 * 0.85 / 0.95)), (4, pytest.approx(100 * 0.90 / 0.95))]
    assert "Kept of the teacher on dev, a line a task: movie" in (site / "methods/albert.html").read_text("utf-8")
    rates_alone = found.model_copy(update={"trials": [t for t in found.trials if t.passes == 1]})
    assert drawings.passes([rates_alone]) is None


def test_of_a_teacher_that_scores_0_on_dev_nothing_is_kept(results):
    board = store.load(results, GRID)
    found = board.tuning["albert", "movie"].model_copy(update={"teacher_dev_score": 0.0})
    shown = method._tuning(found, board.records["albert", "movie"])["trials"]
    assert [share for _, share, _, _ in shown] == [None] * len(found.trials)
    assert drawings.passes([found]) is None


def test_records_of_other_exams_are_left_out(results, tmp_path):
    own = Path(shutil.copytree(results, tmp_path / "results"))
    for path in (own / "ablations").glob("open_autoglm_*/movie.json"):
        raw = schema.Record.model_validate_json(path.read_bytes())
        records.save(path, raw.model_copy(update={"exam_sha256": "0" * 64}))
    assert ablations.of(store.load(own, GRID), "open_autoglm") is None


def test_the_committed_ablations_are_of_methods_that_the_board_has():
    board = store.load(Path("leaderboard/results"), store.Grid(["teacher"], ["movie"], {}), "default")
    variants = {record.method.variant_of for record in board.ablations.records.values()} - {None}
    assert variants <= {path.stem for path in Path("baselines").glob("*.py")}
