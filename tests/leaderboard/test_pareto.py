import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from leaderboard import pareto

few = st.integers(0, 4).map(float)  # few values, so that equal rows are common
rows = st.lists(st.tuples(few, few), min_size=1, max_size=12)


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a[0] >= b[0] and a[1] <= b[1] and a != b


@given(rows)
def test_the_front_is_what_nothing_dominates(points):
    quality, cost = (np.array(side)[:, None] for side in zip(*points, strict=True))
    expected = [not any(dominates(other, point) for other in points) for point in points]
    assert pareto.on_front(quality, cost)[:, 0].tolist() == expected


@given(rows)
def test_a_dominator_dominates_and_none_is_named_on_the_front(points):
    quality, cost = (np.array(side) for side in zip(*points, strict=True))
    for i, point in enumerate(points):
        j = pareto.dominator(quality, cost, i)
        beaten = [other for other in points if dominates(other, point)]
        assert (j is None) == (not beaten)
        if j is not None:
            assert dominates(points[j], point)
            assert quality[j] == max(q for q, _ in beaten)


def test_the_probability_is_the_share_of_draws_in_which_a_row_is_on_the_front():
    rng = np.random.default_rng(0)
    quality = np.array([[0.8], [0.8]]) + rng.normal(0, 0.01, (2, 20_000))
    cost = np.array([[2.0], [1.0]]) * np.ones((1, 20_000))
    dear, cheap = pareto.probability(quality, cost)
    assert cheap == 1  # the cheapest is always on it
    assert abs(dear - 0.5) < 0.02  # it is ahead in quality in half of the draws


def test_cost_draws_have_the_interval_they_were_given():
    draws = pareto.cost_draws(np.array([4.0]), np.array([3.2]), np.array([5.0]), 50_000)
    low, high = np.quantile(draws, [0.025, 0.975])
    assert abs(low / 3.2 - 1) < 0.01
    assert abs(high / 5.0 - 1) < 0.01
