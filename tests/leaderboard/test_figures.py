from dataclasses import replace

import pytest

from leaderboard import drawings, figures, shapes, store, table
from leaderboard.figures import Axis
from tests.leaderboard import records

GRID = store.Grid(list(records.METHODS), list(records.TASKS), records.DEPLOYMENTS)


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> store.Board:
    folder = tmp_path_factory.mktemp("results")
    records.write(folder, examples=200)
    return store.load(folder, GRID)


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [(0.211, 0.2114, False), (0.7, 0.95, False), (88, 95, False), (0.3, 40, True), (4.1, 5.2, True), (1e3, 1e9, True)],
)
def test_ticks_are_round_values_within_the_axis(low, high, log):
    axis = Axis(low, high, 40, 400, log)
    places = [place for place, _ in axis.ticks]
    assert len(places) >= 2
    assert places == sorted(places)
    assert all(40 <= place <= 400 for place in places)
    assert len({text for _, text in axis.ticks}) == len(places)


def test_a_dominated_point_names_what_dominates_it_and_by_how_much(board):
    made = table.build(board)
    size = next(c for c in made.columns if c.key == "mb")
    plot = figures.scatter(made, size, "Score against size")
    assert plot is not None
    assert len(plot.points) == len(made.rows)
    by_id = {row.id: row for row in made.rows}
    dominated = [p for p in plot.points if p.by]
    assert dominated
    for point in dominated:
        better, row = by_id[point.by], point.row
        assert better.figures["score"].value >= row.figures["score"].value
        assert better.figures["mb"].value <= row.figures["mb"].value
        assert f"Dominated by {better.method}, {better.deployment}" in point.note


def test_rows_without_a_figure_are_left_out_and_counted(board):
    made = table.build(board)
    made.rows[0].figures.pop("mb")
    size = next(c for c in made.columns if c.key == "mb")
    plot = figures.scatter(made, size, "")
    assert plot is not None
    assert plot.left_out == 1


def test_a_learning_curve_goes_on_where_a_stage_counts_anew(board):
    record = board.records["tinybert", "movie"]
    run = record.runs[0]
    point = run.history[0]
    history = [
        point.model_copy(update={"stage": s, "step": n, "loss": 1.0})
        for s, n in [("a", 10), ("a", 20), ("b", 5), ("b", 10)]
    ]
    again = record.model_copy(update={"runs": [run.model_copy(update={"history": history})]})
    made = drawings.curves({"movie": again}, "loss", "Loss")
    assert made is not None
    assert made.x.high == 30  # 20 of the first stage, 10 of the second
    places = [x for x, _ in made.lines[0].points]
    assert places == sorted(places)
    assert made.lines[0].starts == {0, 2}  # the stages are not joined


def test_a_curve_without_a_step_is_drawn(board):
    record = board.records["tinybert", "movie"]
    run = record.runs[0]
    still = run.model_copy(update={"history": [run.history[0].model_copy(update={"step": 0})] * 2})
    made = drawings.curves({"movie": record.model_copy(update={"runs": [still]})}, "loss", "")
    assert made is not None
    assert {x for x, _ in made.lines[0].points} == {made.x.start}
    assert made.x.ticks


def test_the_watts_of_a_measured_energy_are_no_interval(board):
    """Under RAPL too, where the memory's part is declared watts."""
    made = table.build(board)
    for row in made.rows:
        row.figures["mwh"] = replace(row.figures["mwh"], modelled=False)
    columns = {column.key: column for column in made.columns}
    energy, latency = (figures.scatter(made, columns[key], "") for key in ("mwh", "p50"))
    assert energy is not None
    assert latency is not None
    assert not any(point.x_bar for point in energy.points)
    assert all(point.x_bar for point in latency.points)


def test_a_shape_that_does_not_say_heads_and_neurons_is_not_drawn():
    teacher = {"layers": 6, "heads": 12, "ffn": 1536}
    assert shapes.drawn({"layers": 2}, teacher) == []
    assert shapes.drawn({"layers": 2, "heads": [1, 2, 3], "ffn": 4}, teacher) == []
    drawn = shapes.drawn({"layers": 2, "heads": [6, 12], "ffn": 768}, teacher)
    assert [part.left for part in drawn] == [100, 200, 0, 0, 0, 0]
    assert drawn[5].label == "no such layer"


def test_a_shape_tells_of_a_smaller_embedding_shared_layers_and_narrow_ones():
    teacher = {"layers": 2, "heads": 12, "ffn": 1536, "hidden_size": 384, "vocabulary": 30_000, "embedding_size": 384}
    embedding, first, second = shapes.drawn(teacher | {"vocabulary": 7500, "embedding_size": 96, "shared": 1}, teacher)
    assert (embedding.name, embedding.left, embedding.right) == ("embedding", 50, 50)
    assert embedding.label == "7,500 pieces, 96 wide"
    assert (first.label, second.label) == ("12 heads, 1536 neurons", "layer 1 again, the same weights")
    narrow = shapes.drawn(teacher | {"ffn": 384, "ffns_per_layer": 4, "bottleneck": 96}, teacher)
    assert narrow[1].label == "12 heads, 4 × 384 neurons, 96 wide"


def test_every_method_is_named_once_in_a_picture_of_few_points(board):
    made = figures.scatter(table.build(board), next(c for c in table.build(board).columns if c.key == "mb"), "")
    assert made is not None
    named = [point.row.method for point in made.points if point.label]
    assert {point.row.method for point in made.points if point.on_front >= 0.5} <= set(named)
    assert len(set(named)) >= 4


def test_curves_of_a_task_have_one_colour_in_every_picture(board):
    records_of = board.of("tinybert")
    made = [drawings.curves(records_of, field, "") for field in ("loss", "dev_score")]
    colours = [{line.name: line.colour for line in picture.lines} for picture in made]
    assert colours[0] == colours[1]
    assert made[1].y.high > 50  # dev scores are written as the board's: times 100


def test_a_confusion_counts_every_example(board):
    card = board.cards["bbc"]
    counts = drawings.confusion(board.records["albert", "bbc"].deployments["onnx-fp32"].quality[0].predictions, card)
    assert sum(map(sum, counts)) == len(card.exam_labels)
