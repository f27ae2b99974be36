from hypothesis import given
from hypothesis import strategies as st

from leaderboard.report import blocks, text

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
leaf = st.none() | st.booleans() | numbers | st.text(max_size=9)
json_values = st.recursive(
    leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=5))
def test_any_json_becomes_blocks_of_text_with_shares_between_0_and_1(report):
    for block in blocks(report):
        assert block.lines
        for line in block.lines:
            assert all(isinstance(said, str) and 0 <= share <= 1 for said, share in line)
        if block.kind == "table":
            assert all(len(line) == len(block.head) for line in block.lines)
        elif block.kind != "map":
            assert all(len(line) == 2 for line in block.lines)


def test_figures_become_bars_matrices_maps_and_records_tables():
    report = {
        "rank": 64,
        "sensitivity": {"ffn.0": 0.2, "ffn.1": -0.4},
        "importance": [[0.0, 1.0], [2.0, 4.0]],
        "steps": [{"step": "trim", "pieces": 8000}, {"step": "prune", "kept": 3, "scores": [0.5, 0.25]}],
    }
    made = {block.title: block for block in blocks(report)}
    assert made[""].lines == [[("rank", 0.0), ("64", 0.0)]]
    assert [line[1] for line in made["sensitivity"].lines] == [("0.2", 0.5), ("−0.4", 1.0)]
    assert made["importance, % of the largest"].lines[1] == [("2", 0.0), ("50", 0.5), ("100", 1.0)]
    assert made["steps"].head == ["step", "pieces", "kept"]
    assert [said for said, _ in made["steps"].lines[0]] == ["trim", "8,000", ""]
    assert made["prune, scores"].kind == "bars"


def test_a_value_is_written_as_a_person_would():
    assert text({"a_b": [True, None, 1234, 0.5]}) == "a b: yes, –, 1,234, 0.5"
    assert text(3e-4) == "0.0003"
    assert text([]) == text({}) == "none"


def test_a_sensitivity_table_has_a_line_a_part_and_a_column_a_change():
    losses = [("layer.0.ffn", "int8", 0.01), ("layer.0.ffn", "int4", 0.4), ("layer.1.ffn", "int8", 0.02)]
    report = {"sensitivity": [{"part": p, "change": c, "bytes": 0.5, "loss": loss} for p, c, loss in losses]}
    [made] = blocks(report)
    assert (made.kind, made.head) == ("map", ["part", "int8", "int4"])
    assert made.lines == [
        [("layer.0.ffn", 0.0), ("0.010", 0.5), ("0.40", 1.0)],
        [("layer.1.ffn", 0.0), ("0.020", 1.0), ("–", 0.0)],
    ]


def trial(stage, ms, size, loss, dev_score):
    return {
        "stage": stage,
        "params": {"form": "a"},
        "ms": ms,
        "bytes": size,
        "loss": loss,
        "dev_score": dev_score,
    }


def test_a_search_is_drawn_with_what_was_trained_apart_from_what_was_not():
    trials = [trial("cheap", ms, 5e6, 1 / ms, None) for ms in (1.0, 2.0, 4.0)]
    trials += [trial("short", ms, 8e6, 0.1, 0.8) for ms in (2.0, 3.0)] + [trial("cheap", None, None, None, None)]
    search, one_by_one = blocks({"trials": trials})
    trained, tried = search.pictures
    assert [len(picture.dots) for picture in (trained, tried)] == [2, 3]
    assert trained.stages == [(1, "short")]
    assert max(dot.radius for dot in trained.dots) == 6
    assert "short: 2.00 ms, 8.00 MB, dev score 0.800" in [dot.note for dot in trained.dots]
    assert [dot.y for dot in tried.dots] == sorted(dot.y for dot in tried.dots)  # less loss is lower on the paper
    assert len(one_by_one.lines) == 6
    assert "params" not in one_by_one.head


def test_of_a_long_search_the_trials_that_were_trained_are_shown_and_the_title_says_what_is_not():
    trials = [trial("cheap", ms, 5e6, 0.3, None) for ms in range(1, 251)]
    trials += [trial("short", 2.0, 8e6, 0.1, 0.8), trial("full", 2.0, 8e6, 0.1, 0.9)]
    _, table = blocks({"trials": trials})
    assert table.title == "trials, one by one; 52 of 252 are left out"
    assert [line[0][0] for line in table.lines[:3]] == ["full", "short", "cheap"]
