import numpy as np
import pytest

from leaderboard import suite
from leaderboard.metrics import METRICS
from leaderboard.statistics import bootstrap_interval, compare

RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, 2, 600).astype(float)


def with_errors(share: float, seed: int = 0) -> list[float]:
    wrong = np.random.default_rng(seed).random(len(LABELS)) < share
    return np.where(wrong, 1 - LABELS, LABELS).tolist()


def test_one_task_is_the_metric_with_its_bootstrap_interval():
    answers = with_errors(0.2)
    scores = suite.task_scores([[answers]], LABELS, "accuracy")
    expected = bootstrap_interval(answers, LABELS, "accuracy", resamples=suite.RESAMPLES)
    found = scores.interval(0)
    assert found is not None
    assert found.value == METRICS["accuracy"](np.array(answers), LABELS)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_seeds_are_averaged_and_a_missing_row_stays_missing():
    first, second = with_errors(0.1, 1), with_errors(0.3, 2)
    scores = suite.task_scores([[first, second], None, [first]], LABELS, "accuracy")
    mean = (METRICS["accuracy"](np.array(first), LABELS) + METRICS["accuracy"](np.array(second), LABELS)) / 2
    assert scores.values[0] == pytest.approx(mean)
    assert scores.interval(1) is None
    assert scores.gap(1, 0) is None
    assert scores.verdicts()[1] == "???"
    assert suite.ranks(scores.verdicts(), scores.values, [False] * 3) == [2, None, 1]


def test_a_share_of_a_score_that_is_0_in_a_resample_is_missing():
    labels, reference = [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]
    scores = suite.task_scores([[labels], [reference]], labels, "accuracy")
    assert scores.kept(0, 1) is None
    assert scores.kept(1, 0) is not None
    assert scores.gap(0, 1) is not None


def test_a_row_that_lacks_one_task_has_no_suite_score():
    whole = suite.task_scores([[with_errors(0.1)], [with_errors(0.2)]], LABELS, "accuracy")
    half = suite.task_scores([[with_errors(0.1)], None], LABELS, "accuracy")
    mean = suite.mean([whole, half])
    assert mean.values[0] == pytest.approx(whole.values[0])
    assert np.isnan(mean.values[1])


@pytest.mark.parametrize("share", [0.1, 0.12, 0.16, 0.3])
def test_the_verdict_on_one_task_is_that_of_the_paired_test(share):
    """McNemar's exact test is the independent reference; the cases stay clear of its 5 % line."""
    a, b = with_errors(0.1, 4), with_errors(share, 5 if share > 0.1 else 4)
    scores = suite.task_scores([[a], [b]], LABELS, "accuracy")
    sign = scores.verdicts()[0][1]
    reference = compare(a, b, LABELS, "accuracy")
    words = {">": "better", "<": "worse", "=": "tied", "?": "untestable"}
    assert reference.p_value is not None
    assert not 0.03 < reference.p_value < 0.08
    assert words[sign] == reference.verdict


def test_verdicts_mirror_one_another_and_a_row_ties_with_itself():
    rows = [[with_errors(share, i)] for i, share in enumerate((0.1, 0.11, 0.2, 0.4))]
    verdicts = suite.task_scores(rows, LABELS, "accuracy").verdicts()
    mirror = {">": "<", "<": ">", "=": "=", "?": "?"}
    for i, row in enumerate(verdicts):
        assert row[i] == "="
        assert all(sign == mirror[verdicts[j][i]] for j, sign in enumerate(row))


def test_too_few_examples_are_untestable_and_not_tied():
    few = LABELS[:40]
    a, b = few.tolist(), few.tolist()
    a[0], b[1], b[2] = 1 - a[0], 1 - b[1], 1 - b[2]
    assert suite.task_scores([[a], [b]], few, "accuracy").verdicts()[0][1] == "?"


@pytest.mark.parametrize("submitted", [0, 1, 2, 3])
def test_what_is_not_reproduced_never_stands_above_a_reproduced_row_it_ties_with(submitted):
    rows = [[with_errors(share, i)] for i, share in enumerate((0.1, 0.105, 0.11, 0.4))]
    scores = suite.task_scores(rows, LABELS, "accuracy")
    signs, marked = scores.verdicts(), [i == submitted for i in range(4)]
    order, ranks = suite.order(scores, marked), suite.ranks(scores.verdicts(), scores.values, marked)
    tied = [i for i in range(4) if i != submitted and signs[submitted][i] in "=?"]
    assert all(order.index(i) < order.index(submitted) and ranks[i] <= ranks[submitted] for i in tied)
    assert len(tied) == (0 if submitted == 3 else 2)
    worse = [i for i in range(4) if signs[submitted][i] == ">"]
    assert all(order.index(submitted) < order.index(i) and ranks[submitted] < ranks[i] for i in worse)
