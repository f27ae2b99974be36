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
    assert [line[1] for line in made["sensitivity"].lines] == [("0.200", 0.5), ("−0.400", 1.0)]
    assert made["importance, % of the largest"].lines[1] == [("50", 0.5), ("100", 1.0)]
    assert made["steps"].head == ["step", "pieces", "kept"]
    assert [said for said, _ in made["steps"].lines[0]] == ["trim", "8,000", ""]
    assert made["prune, scores"].kind == "bars"


def test_a_value_is_written_as_a_person_would():
    assert text({"a_b": [True, None, 1234, 0.5]}) == "a b: yes, –, 1,234, 0.500"
