"""The knapsack: brute force agrees, and no budget is ever exceeded."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openautoglm.knapsack import Infeasible, Level, solve

whole = st.builds(Level, width=st.integers(0, 12), loss=st.floats(0, 10), ms=st.integers(0, 8), bytes=st.integers(0, 8))
uneven = st.builds(Level, width=st.integers(0, 12), loss=st.floats(0, 10), ms=st.floats(0, 8), bytes=st.floats(0, 8))


def choices(levels):
    return st.lists(st.lists(levels, min_size=1, max_size=4), min_size=1, max_size=4)


def brute_force(given, ms, size):
    """The least loss of all combinations within the budgets; None where there is none."""
    fitting = [
        sum(level.loss for level in combination)
        for combination in itertools.product(*given)
        if sum(level.ms for level in combination) <= ms and sum(level.bytes for level in combination) <= size
    ]
    return min(fitting, default=None)


@settings(max_examples=200, deadline=None)
@given(choices(whole), st.integers(1, 24), st.integers(1, 24))
def test_costs_in_whole_cells_give_the_optimum(given, ms, size):
    best = brute_force(given, ms, size)
    if best is None:
        with pytest.raises(Infeasible):
            solve(given, ms, size, cells=(ms, size))
    else:
        chosen = solve(given, ms, size, cells=(ms, size))
        assert sum(level.loss for level in chosen) == pytest.approx(best, abs=1e-9)
        assert all(level in levels for level, levels in zip(chosen, given, strict=True))


@settings(max_examples=200, deadline=None)
@given(choices(uneven), st.floats(0.5, 24), st.floats(0.5, 24))
def test_no_budget_is_exceeded_and_rounding_costs_one_cell_a_sub_layer(given, ms, size):
    cells = (64, 64)
    within = brute_force(given, ms, size)
    tighter = brute_force(given, ms * (1 - len(given) / 64), size * (1 - len(given) / 64))
    try:
        chosen = solve(given, ms, size, cells=cells)
    except Infeasible:
        assert tighter is None
        return
    loss = sum(level.loss for level in chosen)
    assert sum(level.ms for level in chosen) <= ms * (1 + 1e-6)
    assert sum(level.bytes for level in chosen) <= size * (1 + 1e-6)
    assert loss >= within - 1e-9
    assert tighter is None or loss <= tighter + 1e-9


def test_what_is_needed_and_what_is_left_are_told():
    with pytest.raises(Infeasible, match=r"need 3 ms and 5 bytes at least, and 2 ms and 100 bytes are left"):
        solve([[Level(1, 0.0, 3.0, 5)]], 2.0, 100)
    with pytest.raises(Infeasible, match="nothing is left"):
        solve([[Level(0, 0.0, 0.0, 0)]], -1.0, 100)
