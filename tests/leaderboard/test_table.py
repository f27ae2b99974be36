import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from leaderboard import select, store, table
from leaderboard.columns import columns, number
from tests.leaderboard import records

GRID = store.Grid(list(records.METHODS), list(records.TASKS), records.DEPLOYMENTS)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    records.write(folder, examples=200)
    return folder


@pytest.fixture
def own(results, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(results, tmp_path / "results"))


def change(path: Path, edit) -> None:
    raw = json.loads(path.read_text())
    edit(raw)
    path.write_text(json.dumps(raw))


def test_every_cell_of_the_grid_is_a_row_best_first(results):
    made = table.build(store.load(results, GRID))
    assert {(r.method, r.deployment) for r in made.rows} == {
        (m, d) for m in GRID.methods for d in GRID.deployments_of(m)
    }
    scores = [row.figures["score"].value for row in made.rows]
    assert scores == sorted(scores, reverse=True)


def test_a_submitted_row_stands_below_the_reproduced_rows_it_ties_with(own):
    first = table.build(store.load(own, GRID)).rows[0]
    for task in GRID.tasks:
        change(own / f"default/{first.method}/{task}.json", lambda raw: raw["method"].update(submitted=True))
    made = table.build(store.load(own, GRID))
    row = made.row(first.method, first.deployment)
    place = made.rows.index(row)
    assert row.tier == "submitted"
    assert place > 0
    for i, other in enumerate(made.rows):
        if other.tier == "reproduced" and made.verdicts[place][i] in "=?" and other.rank is not None:
            assert i < place
            assert other.rank <= row.rank


def test_a_brought_artifact_is_called_measured_and_not_reproduced(own):
    for task in GRID.tasks:
        change(own / f"default/albert/{task}.json", lambda raw: raw.update(runs=[]))
    made = table.build(store.load(own, GRID))
    assert {row.tier for row in made.rows if row.method == "albert"} == {"measured"}
    assert {row.tier for row in made.rows if row.method != "albert"} == {"reproduced"}


@pytest.mark.parametrize(("method", "modelled"), [("nvml", True), ("rapl", False), ("rapl+nvml", False)])
def test_an_energy_whose_processor_no_meter_measured_is_modelled(own, method, modelled):
    def metered(raw):
        raw["runs"][0]["footprint"]["certificate"]["method"] = method
        for form in raw["deployments"].values():
            form["cost"]["solo"]["certificate"]["method"] = method

    for task in GRID.tasks:
        change(own / f"default/albert/{task}.json", metered)
    row = table.build(store.load(own, GRID)).row("albert", "onnx-int8")
    assert row
    assert {row.figures[key].modelled for key in ("mwh", "mg", "making_wh", "making_g")} == {modelled}


def test_figures_follow_from_the_records(results):
    board = store.load(results, GRID)
    made = table.build(board)
    row, teacher = made.row("tinybert", "onnx-int8"), made.row("teacher", "torch-fp32")
    assert row
    assert teacher
    assert made.reference == teacher
    forms = [board.records["tinybert", task].deployments["onnx-int8"] for task in GRID.tasks]
    base = [board.records["teacher", task].deployments["torch-fp32"] for task in GRID.tasks]
    assert row.figures["mb"].value == pytest.approx(np.mean([f.bytes_on_disk for f in forms]) / 1e6)
    smaller = np.prod([b.bytes_on_disk / f.bytes_on_disk for b, f in zip(base, forms, strict=True)]) ** (1 / 3)
    assert row.figures["smaller"].value == pytest.approx(smaller)
    faster = np.prod([f.cost.speedup.value for f in forms]) ** (1 / 3)
    assert row.figures["faster"].value == pytest.approx(faster)
    int8 = np.prod([f.cost.speedup_int8.value for f in forms]) ** (1 / 3)
    assert row.figures["faster_int8"].value == pytest.approx(int8)
    assert row.figures["memory"].value == max(f.cost.peak_memory_mb for f in forms)
    assert row.figures["gap"].value == pytest.approx(row.figures["score"].value - teacher.figures["score"].value)
    assert row.figures["mg"].value == pytest.approx(row.figures["mwh"].value * 0.381)  # g/kWh x mWh -> mg
    assert row.figures["mwh"].modelled
    assert not row.figures["cpu"].modelled
    making = np.mean([r.footprint.energy_kwh.likely for t in GRID.tasks for r in board.records["tinybert", t].runs])
    assert row.figures["making_wh"].value == pytest.approx(1e3 * making)


def test_a_missing_cell_is_missing_and_never_zero(own):
    (own / "default/albert/bbc.json").unlink()
    made = table.build(store.load(own, GRID))
    row = made.row("albert", "onnx-fp32")
    assert row
    assert row.rank is None
    assert "score" not in row.figures
    assert "task-movie" in row.figures
    assert row.missing["task-bbc"] == "not run yet"
    assert row.missing["mb"] == "not run yet: bbc"
    assert made.rows.index(row) >= len(made.rows) - 2
    assert row.text(next(c for c in made.columns if c.key == "score")) == "–"


def test_a_record_of_another_exam_is_refused_with_its_reason(own):
    change(own / "default/albert/bbc.json", lambda raw: raw.update(exam_sha256="0" * 64))
    row = table.build(store.load(own, GRID)).row("albert", "onnx-fp32")
    assert row
    assert row.missing["task-bbc"] == "made on another version of the exam"


@pytest.mark.parametrize("section", ["teacher", "task"])
def test_a_record_of_other_settings_than_the_teachers_is_refused_with_its_reason(own, section):
    for name, settings in (("teacher", "a"), ("albert", "b"), ("tinybert", "a")):
        change(own / f"default/{name}/bbc.json", lambda raw, s=settings: raw.update(config_sha256={section: 64 * s}))
    board = store.load(own, GRID)
    assert board.refused == {("albert", "bbc"): f"made with other settings of the {section} than the teacher's row"}
    assert ("albert", "bbc") not in board.hashes


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda form: form["quality"][0]["predictions"].pop(), "199, 200] predictions for 200 exam labels"),
        (
            lambda form: form["quality"][0]["predictions"].__setitem__(0, 7),
            "a class that the task does not have",
        ),
        (lambda form: form["cost"]["speedup"].update(low=0), "its speed-up is not above 0"),
        (lambda form: form["cost"]["speedup_int8"].update(low=0), "its speed-up is not above 0"),
    ],
)
def test_a_record_that_cannot_be_right_is_refused_with_its_reason(own, edit, reason):
    change(own / "default/albert/bbc.json", lambda raw: edit(raw["deployments"]["onnx-int8"]))
    board = store.load(own, GRID)
    assert reason in board.refused["albert", "bbc"]
    assert table.build(board).row("albert", "onnx-int8").rank is None


def test_the_teachers_spread_over_seeds(tmp_path):
    records.write(tmp_path, methods={"teacher": records.METHODS["teacher"]}, examples=100, seeds=(0, 1, 2))
    board = store.load(tmp_path, store.Grid(["teacher"], GRID.tasks, {"all": ["onnx-fp32"]}))
    spread = table.seed_scores(board, "teacher", "onnx-fp32")
    assert len(spread) == 3
    assert np.mean(spread) == pytest.approx(table.build(board).rows[0].figures["score"].value / 100)
    assert table.seed_scores(board, "albert", "onnx-fp32") == []


def test_what_another_machine_took_is_not_shown_but_memory_is_and_paired_ratios_with_a_note(own):
    for task in GRID.tasks:
        change(own / f"default/albert/{task}.json", lambda raw: raw["machine"].update(id="ffffffffffff"))
    row = table.build(store.load(own, GRID)).row("albert", "onnx-int8")
    assert row
    assert not row.figures["memory"].note
    for key in ("faster", "faster_int8"):
        assert row.figures[key].note.endswith("measured on another machine than the teacher")
    for key in ("p50", "throughput", "cpu", "mwh", "mg"):
        assert key not in row.figures
        assert row.missing[key] == "measured on another machine than the teacher"


@pytest.mark.parametrize(
    "edit",
    [
        lambda raw: raw["machine"].update(id="ffffffffffff"),
        lambda raw: raw.update(config_sha256={"measurement": "f" * 64}),
    ],
    ids=["on another machine", "in another way"],
)
def test_speeds_are_compared_only_of_rows_timed_on_one_machine_in_the_same_way(own, edit):
    change(own / "default/albert/bbc.json", edit)
    made = table.build(store.load(own, GRID))
    there = [row.method == "albert" for row in made.rows]
    for i, signs in enumerate(table.speed_verdicts(made.rows)):
        assert all((sign == "?") == (there[i] != there[j]) for j, sign in enumerate(signs))


def test_a_row_that_was_not_timed_beside_int8_says_so(own):
    change(
        own / "default/albert/bbc.json",
        lambda raw: [form["cost"].update(speedup_int8=None) for form in raw["deployments"].values()],
    )
    row = table.build(store.load(own, GRID)).row("albert", "onnx-int8")
    assert row
    assert "faster" in row.figures
    assert "faster_int8" not in row.figures
    assert row.missing["faster_int8"] == "not timed beside the teacher in INT8"


def test_a_percentile_of_too_few_calls_says_so(results):
    row = table.build(store.load(results, GRID)).row("tinybert", "onnx-int8")
    assert row
    assert "p90" not in row.figures
    assert row.missing["p90"] == "n too small"


def test_an_energy_that_codecarbon_contradicts_and_a_noisy_timing_carry_a_remark(own):
    def doubt(raw):
        raw["deployments"]["onnx-fp32"]["cost"]["solo"]["certificate"]["energy_valid"] = False

    change(own / "default/tinybert/bbc.json", doubt)
    made = table.build(store.load(own, GRID))
    row, noisy = made.row("tinybert", "onnx-fp32"), made.row("albert", "onnx-fp32")
    assert row
    assert "5 %" in row.figures["mwh"].note
    assert noisy
    assert noisy.figures["faster"].note.startswith("noisy")


@pytest.mark.parametrize("text", ["{", "{}", '{"schema_version": 2}'])
def test_a_broken_record_ends_with_one_message_that_names_it(own, text):
    (own / "default/albert/bbc.json").write_text(text)
    with pytest.raises(store.BoardError, match=r"albert/bbc.json is not a valid Record .* Make it again or remove it"):
        store.load(own, GRID)


def test_an_unknown_profile_says_which_are_known(tmp_path):
    with pytest.raises(store.BoardError, match="smoke, default, full"):
        store.load(tmp_path, GRID, "best")


def test_choices_are_the_least_costly_within_a_point(results):
    made = table.build(store.load(results, GRID))
    near = [r for r in made.rows if r.figures["gap"].value >= -1]
    assert 0 < len(near) < len(made.rows)
    for choice in select.within_a_point(made):
        assert choice.row is not None
        assert choice.row.figures[choice.key].value == min(r.figures[choice.key].value for r in near)


def test_a_budget_is_answered_with_the_best_that_surely_fits(results):
    made = table.build(store.load(results, GRID))
    fit = select.fitting(made.rows, 20, 5)
    inside = [r for r in made.rows if r.figures["mb"].value <= 20 and r.figures["p50"].value <= 5]
    assert fit[0].figures["score"].value == max(r.figures["score"].value for r in inside)
    assert len(fit) == len(inside)
    assert select.fitting(made.rows, 0.001, 5) == []
    assert select.best(made, []) is None
    assert select.best(made, fit).figures["score"].value == fit[0].figures["score"].value


def test_a_shared_rank_is_a_tie_only_where_the_exam_could_have_told(own):
    """200 examples cannot show a point, so nothing is called tied; equal predictions are."""
    assert {row.shared for row in table.build(store.load(own, GRID)).rows} <= {"", "?"}

    def equal(raw):
        forms = raw["deployments"]
        forms["onnx-int8"]["quality"] = forms["torch-fp32"]["quality"] = forms["onnx-fp32"]["quality"]

    for task in GRID.tasks:
        change(own / f"default/teacher/{task}.json", equal)
    grid = store.Grid(["teacher"], GRID.tasks, GRID.deployments)
    made = table.build(store.load(own, grid, "default"))
    assert [row.shared for row in made.rows] == ["=", "=", "="]
    smallest = min(made.rows, key=lambda row: row.figures["mb"].value)
    assert select.best(made, select.fitting(made.rows, 1000, 1000)) is smallest  # of equals


def test_a_speed_is_only_above_another_by_more_than_the_noise_floor(results):
    made = table.build(store.load(results, GRID))
    signs = table.speed_verdicts(made.rows)
    for i, a in enumerate(made.rows):
        assert signs[i][i] == "="
        for j, b in enumerate(made.rows):
            if signs[i][j] == ">":
                assert a.figures["faster"].low > b.figures["faster"].high
                assert signs[j][i] == "<"
    assert ">" in signs[0] or "<" in signs[0]


def test_every_column_has_a_meaning(results):
    every = columns(list(store.load(results, GRID).cards.values()))
    assert len({c.key for c in every}) == len(every)
    assert all(len(c.meaning) > 15 for c in every)


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (12345.6, -3, "12,300"),
        (0.012345, -3, "0.0123"),
        (-1.25, 1, "−1.2"),
        (-0.04, 1, "0.0"),
        (0, -3, "0.00"),
        (9.996, -3, "10.0"),
    ],
)
def test_numbers_are_written_without_exponents_or_minus_zero(value, digits, text):
    assert number(value, digits) == text
