"""Intervals and tests against scipy, closed forms, naive loops, and their error rates on simulated data."""

import numpy as np
import pytest
import scipy.stats

from leaderboard.metrics import METRICS
from leaderboard.statistics import (
    bootstrap_interval,
    compare,
    mcnemar,
    mean_ratio_interval,
    percentile_interval,
    shared_ranks,
)


def classes(n=300, right=0.85, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    return np.where(rng.random(n) < right, labels, rng.integers(0, 4, n)), labels


def values(n=300, noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.round(rng.normal(size=n), 1)  # with ties
    return np.round(labels + noise * rng.normal(size=n), 1), labels


@pytest.mark.parametrize(
    ("metric", "data"), [("accuracy", classes), ("macro_f1", classes), ("pearson", values), ("spearman", values)]
)
def test_the_vectorised_bootstrap_is_the_naive_loop_over_resampled_examples(metric, data):
    predictions, labels = data(200)
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 200, (count, 200)) for count in (250, 50)]
    naive = [METRICS[metric](predictions[i].astype(float), labels[i].astype(float)) for i in np.concatenate(rows)]
    got = bootstrap_interval(predictions, labels, metric, resamples=300)
    assert got.value == METRICS[metric](predictions, labels)
    np.testing.assert_allclose([got.low, got.high], np.quantile(naive, [0.025, 0.975]), rtol=1e-9)


def test_bootstrap_of_accuracy_agrees_with_scipy():
    predictions, labels = classes(2000)
    reference = scipy.stats.bootstrap(
        ((predictions == labels).astype(float),), np.mean, n_resamples=2000, method="percentile", rng=0
    ).confidence_interval
    got = bootstrap_interval(predictions, labels, "accuracy", resamples=2000)
    assert (got.low, got.high) == pytest.approx(tuple(reference), abs=0.002)


def test_bootstrap_of_pearson_agrees_with_fisher():
    predictions, labels = values(2000)
    fisher = scipy.stats.pearsonr(predictions, labels).confidence_interval()
    got = bootstrap_interval(predictions, labels, "pearson", resamples=2000)
    assert (got.low, got.high) == pytest.approx(tuple(fisher), abs=0.004)


def test_a_constant_prediction_has_no_correlation_and_no_width():
    got = bootstrap_interval(np.ones(50), np.arange(50), "spearman")
    assert (got.value, got.low, got.high) == (0, 0, 0)


def test_the_bootstrap_covers_the_truth_about_95_times_in_100():
    covered = 0
    for seed in range(200):
        predictions, labels = classes(400, right=0.8, seed=seed)
        got = bootstrap_interval(predictions, labels, "accuracy", seed=seed, resamples=400)
        covered += got.low <= 0.8 + 0.2 / 4 <= got.high
    assert 0.90 <= covered / 200 <= 0.99


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (5, 0), (6, 0), (12, 30), (7, 7), (300, 240)])
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b):
    n = only_a + only_b
    expected = scipy.stats.binomtest(only_a, n).pvalue if n else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(expected)


def pair(n, only_a, only_b):
    """Two classifiers on n examples of which `only_a` are right in the first alone and `only_b` in the second."""
    labels = np.zeros(n)
    a, b = np.zeros(n), np.zeros(n)
    b[:only_a] = 1
    a[only_a : only_a + only_b] = 1
    return a, b, labels


@pytest.mark.parametrize(
    ("n", "only_a", "only_b", "verdict"),
    [
        (2000, 60, 20, "better"),
        (2000, 20, 60, "worse"),
        (2000, 10, 9, "tied"),  # 20 more in net would have shown among so few disagreements
        (2000, 100, 95, "untestable"),  # but not among so many
        (200, 0, 0, "untestable"),  # one point is two texts: no test can see that
        (2000, 0, 0, "tied"),
    ],
)
def test_verdicts_on_accuracy(n, only_a, only_b, verdict):
    got = compare(*pair(n, only_a, only_b), "accuracy")
    assert got.verdict == verdict
    assert got.difference.value == pytest.approx((only_a - only_b) / n)
    assert got.difference.low <= got.difference.value <= got.difference.high


def test_verdicts_on_values():
    fine, labels = values(1000, noise=0.3)
    rough, _ = values(1000, noise=0.6, seed=0)
    assert compare(fine, rough, labels, "pearson").verdict == "better"
    assert compare(rough, fine, labels, "spearman").verdict == "worse"
    assert compare(fine, fine, labels, "pearson").verdict == "tied"
    assert compare(fine[:40], rough[:40], labels[:40], "pearson").verdict in ("better", "untestable")


@pytest.mark.parametrize("missing", [None, [], [1.0, 0.0]])
def test_missing_predictions_are_untestable(missing):
    assert compare(missing, [0.0, 1.0, 0.0], [0.0, 1.0, 1.0], "accuracy").verdict == "untestable"


@pytest.mark.parametrize(("metric", "sessions"), [("accuracy", 400), ("pearson", 200)])
def test_equal_methods_are_rarely_called_different(metric, sessions):
    wrong = 0
    for seed in range(sessions):
        rng = np.random.default_rng(seed)
        labels = rng.normal(size=300) if metric == "pearson" else rng.integers(0, 2, 300)
        if metric == "pearson":
            a, b = (labels + 0.5 * rng.normal(size=300) for _ in range(2))
        else:
            a, b = (np.where(rng.random(300) < 0.85, labels, 1 - labels) for _ in range(2))
        wrong += compare(a, b, labels, metric, seed=seed, resamples=200).verdict in ("better", "worse")
    assert wrong / sessions <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / sessions)


def _trimmed(pairs, axis):
    return scipy.stats.trim_mean(pairs, 0.1, axis=axis)


def test_mean_ratio_of_exact_pairs():
    got = mean_ratio_interval([[np.log(2.0)] * 8] * 3)
    assert (got.value, got.low, got.high) == pytest.approx((2, 2, 2))


def test_mean_ratio_takes_launches_of_unequal_length():
    rng = np.random.default_rng(0)
    launches = [list(0.7 + 0.05 * rng.normal(size=n)) for n in (5, 8, 11)]
    got = mean_ratio_interval(launches)
    assert got.value == pytest.approx(np.exp(scipy.stats.trim_mean(np.concatenate(launches), 0.1)))
    assert got.low < got.value < got.high


def test_launches_that_differ_widen_the_interval_more_than_pairs_that_differ():
    rng = np.random.default_rng(0)
    pairs = 0.02 * rng.normal(size=(4, 8))
    together = mean_ratio_interval(list(pairs))
    apart = mean_ratio_interval(list(pairs + np.array([[-0.1], [-0.03], [0.03], [0.1]])))
    assert apart.high - apart.low > 2 * (together.high - together.low)


def test_what_a_text_differs_by_in_every_launch_is_no_noise():
    rng = np.random.default_rng(0)
    noise, texts = 0.02 * rng.normal(size=(4, 40)), 0.3 * rng.normal(size=40)
    plain, differing = (mean_ratio_interval(list(pairs)) for pairs in (noise, noise + texts))
    assert np.log(differing.high / differing.low) == pytest.approx(np.log(plain.high / plain.low), rel=1e-6)
    assert differing.value == pytest.approx(np.exp(scipy.stats.trim_mean((noise + texts).ravel(), 0.1)))


def test_one_wild_pair_does_not_move_the_ratio():
    pairs = 0.02 * np.random.default_rng(0).normal(size=(4, 40))
    wild = pairs.copy()
    wild[0, 0] = -3.0
    assert mean_ratio_interval(list(wild)).value == pytest.approx(mean_ratio_interval(list(pairs)).value, rel=0.01)


def test_of_one_launch_the_interval_is_scipys_bootstrap_of_a_trimmed_mean():
    pairs = 0.7 + 0.05 * np.random.default_rng(0).normal(size=101)
    bootstrap = scipy.stats.bootstrap((pairs,), _trimmed, method="percentile", random_state=0)
    expected = bootstrap.confidence_interval
    got = mean_ratio_interval([pairs], resamples=9999)
    assert np.log([got.low, got.high]) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(("apart", "least"), [(0.0, 0.95), (0.01, 0.92), (0.02, 0.88)])
def test_how_often_the_interval_of_four_launches_holds_the_truth(apart, least):
    """Launches that differ by more than chance are the hard case: four hardly show it."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        launches = apart * rng.normal(size=(4, 1)) + 0.08 * rng.normal(size=(4, 40))
        got = mean_ratio_interval(list(launches), resamples=500)
        held += got.low <= 1 <= got.high
    assert held >= least * 400


def test_no_pairs_is_one_clear_error():
    with pytest.raises(ValueError, match="at least one launch"):
        mean_ratio_interval([[], []])


@pytest.mark.parametrize(("q", "least"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368)])
def test_percentiles_are_refused_where_n_is_too_small(q, least):
    assert percentile_interval(np.arange(least - 1), q) is None
    got = percentile_interval(np.arange(least), q)
    assert got.low < got.value < got.high


@pytest.mark.parametrize(("n", "q"), [(50, 0.5), (50, 0.9), (400, 0.95)])
def test_percentile_interval_is_that_of_scipy(n, q):
    samples = np.random.default_rng(0).exponential(size=n)
    expected = scipy.stats.quantile_test(samples, q=0, p=q).confidence_interval(0.95)
    got = percentile_interval(samples, q)
    assert got.low == pytest.approx(expected.low)
    assert got.high == pytest.approx(expected.high)


def test_shared_ranks():
    assert shared_ranks([0.9, 0.89, 0.5], lambda i, j: {i, j} == {0, 1}) == [1, 1, 3]
    assert shared_ranks([0.5, 0.9, 0.7], lambda i, j: False) == [3, 1, 2]
    assert shared_ranks([0.5, 0.5], lambda i, j: False) == [1, 1]
    assert shared_ranks([], lambda i, j: False) == []
