"""Cleaning, de-duplication and splitting as properties; the card against a count of its own."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openautoglm.task import Split
from pipelines import data, prepare
from pipelines.errors import UserError
from pipelines.params import TaskParams
from pipelines.sources import Rows
from pipelines.task_card import sha256, task_card
from pipelines.texts import BEGINNING, clean, fold, position

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


def task(kind: str = "classification", labels: tuple[str, ...] = ("no", "yes")) -> TaskParams:
    metrics = ["accuracy"] if kind == "classification" else ["pearson"]
    names = list(labels) if kind == "classification" else []
    return TaskParams(title="t", source={}, kind=kind, labels=names, metrics=metrics, max_length=64, epochs=2)


def rows(n: int = 400, seed: int = 0) -> Rows:
    rng = random.Random(seed)
    texts = [" ".join(rng.choices(WORDS, k=6)) + f" {i}" for i in range(n)]
    return Rows(texts, [rng.choice(["no", "yes"]) for _ in texts], "made", "none")


@given(st.text(), st.text(st.characters(exclude_characters="&")))
def test_clean_and_fold_are_stable(text, plain):
    assert clean(clean(plain)) == clean(plain)  # (an entity may hide behind an entity)
    assert fold(fold(text)) == fold(text)
    assert 0 <= position(text) < 1


@pytest.mark.parametrize("other", ["THE rock — is destined!", "“The Rock” is\tdestined", "Ｔｈｅ Rock is destined"])
def test_case_space_and_punctuation_do_not_make_another_text(other):
    assert fold(other) == fold("The Rock is destined")


def test_editions_of_one_article_are_one_text():
    start = " ".join(WORDS * (BEGINNING // len(WORDS)))
    assert fold(start + " first ending") == fold(start + " second ending")
    assert fold("short ending") != fold("short end")


@given(st.integers(0, 5))
def test_order_of_the_source_does_not_matter(seed):
    given = rows(120)
    order = list(range(120))
    random.Random(seed).shuffle(order)
    shuffled = Rows([given.texts[i] for i in order], [given.labels[i] for i in order], "made", "none")
    one, other = (prepare.prepare(task(), r)[0] for r in (given, shuffled))
    assert [sha256(one[s]) for s in prepare.SPLITS] == [sha256(other[s]) for s in prepare.SPLITS]


def test_shares_and_no_text_in_two_splits():
    splits, dropped = prepare.prepare(task(), rows(4000))
    sizes = np.array([len(splits[s]) for s in prepare.SPLITS])
    assert np.abs(sizes / sizes.sum() - [0.7, 0.1, 0.2]).max() < 0.03  # 4 standard errors
    folded = [fold(text) for s in prepare.SPLITS for text in splits[s].texts]
    assert len(folded) == len(set(folded)) == 4000
    assert dropped == {}


def test_adding_texts_moves_no_other_text():
    before, after = rows(200), rows(400)
    small, large = (prepare.prepare(task(), r)[0] for r in (before, after))
    for split in prepare.SPLITS:
        assert set(small[split].texts) <= set(large[split].texts) | set(after.texts[200:])


def test_a_leak_is_refused():
    example = prepare.Example("a", 0.0, None, "a")
    parts = {split: [example, prepare.Example(split, 1.0, None, split)] for split in prepare.SPLITS}
    with pytest.raises(UserError, match="1 texts are in two splits"):
        prepare._check(task(), parts)


def test_conflicting_classes_go_and_equal_ones_merge():
    given = Rows(
        ["Same text", "same  TEXT!", "other", "Other.", " ", "kept"], ["no", "yes", "yes", "yes", "no", "no"], "", ""
    )
    examples, dropped = prepare.distinct(task(), given)
    assert {e.text: e.label for e in examples} == {"Other.": 1, "kept": 0}
    assert dropped == {"conflicting labels": 2, "near-identical": 1, "empty": 1}


def test_near_identical_values_become_their_mean():
    examples, dropped = prepare.distinct(task("regression"), Rows(["b!", "B", "c"], [1.0, 2.0, -1.0], "", ""))
    assert {e.text: e.label for e in examples} == {"B": 1.5, "c": -1.0}
    assert dropped == {"near-identical": 1}


def test_given_splits_are_kept_and_the_exam_wins():
    base = rows(400)
    parts = ["exam" if i % 4 == 0 else "train" for i in range(400)]
    texts = [*base.texts, base.texts[0].upper()]  # the first exam text once more, in train
    given = Rows(texts, [*base.labels, base.labels[0]], "", "", splits=[*parts, "train"])
    splits, dropped = prepare.prepare(task(), given)
    assert set(splits["exam"].texts) - {base.texts[0].upper()} <= set(base.texts[::4])
    assert len(splits["exam"]) == 100
    assert 20 < len(splits["dev"]) < 56  # an eighth of 300
    assert dropped == {"near-identical": 1}


def test_limit_is_a_slice_of_each_split():
    full, (part, dropped) = prepare.prepare(task(), rows(1000))[0], prepare.prepare(task(), rows(1000), limit=100)
    assert sum(len(part[s]) for s in prepare.SPLITS) <= 100
    assert dropped["beyond limit"] >= 900
    for split in prepare.SPLITS:
        assert part[split].texts == full[split].texts[: len(part[split])]
        assert abs(len(part[split]) - len(full[split]) / 10) <= 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Rows(["a", "b"], ["no", "maybe"], "", ""), "'maybe'.*unknown.*'no', 'yes'"),
        (Rows(["a", "b"], ["no", "yes"], "", ""), "Too few texts"),
        (Rows([f"text {i}" for i in range(300)], ["no"] * 300, "", ""), r"no text of \['yes'\]"),
    ],
)
def test_unusable_sources_say_what_to_do(given, message):
    with pytest.raises(UserError, match=message):
        prepare.prepare(task(), given)


def test_classes_by_index():
    given = Rows([f"text {i}" for i in range(200)], ["0", "1"] * 100, "", "")
    splits, _ = prepare.prepare(task(), given)
    assert set(splits["train"].labels.tolist()) == {0, 1}


def test_parquet_is_the_same_to_the_byte_and_reads_back(tmp_path, monkeypatch):
    split = Split(("a", "b – c"), np.array([0.25, -1.5], dtype=np.float32))
    for name in ("one", "two"):
        prepare.write_split(tmp_path / name / "train.parquet", split)
    assert (tmp_path / "one/train.parquet").read_bytes() == (tmp_path / "two/train.parquet").read_bytes()
    monkeypatch.setattr(data.paths, "split", lambda name, part: tmp_path / name / f"{part}.parquet", raising=False)
    back = data.load_split("one", "train")
    assert back.texts == split.texts
    assert back.labels.dtype == np.float32
    np.testing.assert_array_equal(back.labels, split.labels)


def test_missing_and_broken_data_say_what_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="dvc repro prepare@movie"):
        data.load_split("movie", "train")
    (tmp_path / "data/movie").mkdir(parents=True)
    (tmp_path / "data/movie/train.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="is broken"):
        data.load_split("movie", "train")


def test_card_counts_what_is_there():
    given = rows(600)
    splits, dropped = prepare.prepare(task(), given)
    card = task_card("made", task(), given, splits, dropped)
    labels = np.concatenate([splits[s].labels for s in prepare.SPLITS])
    assert card.label_distribution["yes"] == pytest.approx(float((labels == 1).mean()), abs=1e-4)
    assert sum(card.counts.values()) == 600
    assert card.exam_labels == splits["exam"].labels.tolist()
    assert card.words == {"p50": 7, "p90": 7, "max": 7}
    assert [e["label"] for e in card.examples] == ["no", "yes"]
    assert not {e["text"] for e in card.examples} & set(splits["exam"].texts)
    changed = Split(splits["exam"].texts, 1 - splits["exam"].labels)
    assert sha256(changed) != card.sha256["exam"]
