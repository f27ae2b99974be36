"""The ladder of trials, on a judge that is a formula and a clock that is a number: its order, its budgets, its end."""

from __future__ import annotations

import json

import pytest

from openautoglm.cost_table import Cost, Form, Table, Widths
from openautoglm.knapsack import Level
from openautoglm.latency import of_codes
from openautoglm.search import Embedding, Journal, Ladder, Limits, Space

LAYERS = 3
FORMS = {
    "large": Embedding(500),
    "small": Embedding(500, 8),
    "huge": Embedding(9000),
    "coded": Embedding(9000, embedding_codes=4),
}


def table():
    return Table(
        facts={},
        lengths=(16, 64),
        attention={1: Cost((0.1, 0.3), 100), 4: Cost((0.4, 1.2), 400)},
        ffn={8: Cost((0.1, 0.4), 160), 48: Cost((0.6, 2.4), 960)},
        last_attention={1: Cost((0.05, 0.1), 100), 4: Cost((0.2, 0.4), 400)},
        last_ffn={8: Cost((0.1, 0.1), 160), 48: Cost((0.2, 0.2), 960)},
        fixed={
            Form(0, 500): Cost((0.5, 0.6), 3000),
            Form(0, 9000): Cost((0.5, 0.6), 9e6),
            Form(8, 500): Cost((0.5, 0.7), 900),
            Form(0, 9000, 4): Cost((0.6, 0.7), 4000),
        },
        tokenize_ms=(0.02, 0.001),
    )


def choices(weights, last):
    """Layer i matters 2^i; what is removed counts in squares."""
    costs, found = table(), []
    for i in range(LAYERS):
        heads = [0] if i > last else range(i == last, 5)
        for name, full, widths in (("heads", 4, heads), ("neurons", 48, range(0, 49, 12))):
            weight = weights[f"{name} {i}"] * 2**i
            prices = [
                costs.attention_at(w, last=i == last) if name == "heads" else costs.ffn_at(w, last=i >= last)
                for w in widths
            ]
            found.append(
                [
                    Level(w, weight * (1 - w / full) ** 2, costs.at(price, 32), price.bytes)
                    for w, price in zip(widths, prices, strict=True)
                ]
            )
    return found


class World:
    """A judge that likes the first layer, a trainer that knows better, and a clock that they both move."""

    def __init__(self):
        self.now, self.judged, self.trained = 0.0, [], []

    def judge(self, structure, form):
        self.now += 1.0
        self.judged.append((structure, form))
        if len(self.judged) == getattr(self, "killed_at", None):
            raise KeyboardInterrupt
        return sum(abs(layer.heads - (4 if i == 0 else 1)) for i, layer in enumerate(structure)) + (
            form.embedding_rank is not None
        )

    def train(self, structure, form, stage):
        self.now += {"short": 20.0, "full": 40.0}[stage]
        self.trained.append((structure, stage))
        return 0.5 + 0.01 * structure[2].neurons + 0.1 * (stage == "full")


LIMITS = Limits(ms=3.5, bytes=8000, length=32)


def ladder(tmp_path, world, **settings):
    tables = {codes: of_codes(table(), codes) for codes in (None, 4)}
    space = Space(tables, LIMITS, FORMS, choices, LAYERS, {500: 500, 9000: 9000})
    given = {"seconds": 1e6, "trials": 30, "short_s": lambda: 20.0} | settings
    return Ladder(space, Journal(tmp_path / "trials.jsonl"), world.judge, world.train, clock=lambda: world.now, **given)


def test_the_best_are_trained_and_the_best_of_these_wins(tmp_path):
    world = World()
    run = ladder(tmp_path, world)
    best = run.run()
    cheap, short, full = (run.journal.of(stage) for stage in ("cheap", "short", "full"))
    assert (len(cheap), len(short), len(full)) == (30, 5, 2)
    losses = sorted({trial.candidate: trial.loss for trial in cheap if trial.loss is not None}.values())
    assert [trial.loss for trial in short] == losses[:5]
    assert {trial.candidate for trial in full} == {
        trial.candidate for trial in sorted(short, key=lambda trial: (-trial.dev_score, trial.number))[:2]
    }
    assert best.dev_score == max(trial.dev_score for trial in full)


def test_what_diverges_is_left_out_and_not_tried_again(tmp_path):
    world = World()
    sound = world.train

    def train(structure, form, stage):
        score = sound(structure, form, stage) - 2.0  # a correlation below 0 is still better than none
        return None if len(world.trained) in (1, 6) else score  # a short trial, and a full one

    world.train = train
    best = ladder(tmp_path, world).run()
    (short, *_), (first, second) = (ladder(tmp_path, world).journal.of(stage) for stage in ("short", "full"))
    assert short.dev_score is first.dev_score is None
    assert short.candidate not in (first.candidate, second.candidate)
    assert best == second
    assert ladder(tmp_path, world).run() == best
    assert len(world.trained) == 7


def test_no_budget_is_exceeded_and_what_cannot_fit_is_told(tmp_path):
    run = ladder(tmp_path, World())
    run.run()
    for trial in run.journal.of("cheap"):
        if trial.params["form"] == "huge":
            assert trial.structure is None
        else:
            _, rank, codes = FORMS[trial.params["form"]]
            assert trial.ms == of_codes(table(), codes).predict(trial.structure, 32, rank)
            assert trial.ms <= LIMITS.ms
            assert trial.bytes <= LIMITS.bytes


def test_a_form_costs_what_was_measured_of_it(tmp_path):
    space, none = ladder(tmp_path, World()).space, [Widths(0, 0)] * LAYERS
    assert [space.costs(none, form)[1] for form in FORMS] == [3000, 900, 9e6, 4000]
    assert space.costs(none, "coded")[0] > space.costs(none, "large")[0]


def test_search_finds_what_the_warm_start_does_not_know(tmp_path):
    run = ladder(tmp_path, World(), trials=60)
    run.run()
    cheap = [trial for trial in run.journal.of("cheap") if trial.loss is not None]
    warm = [trial.loss for trial in cheap[:9] if not any(trial.params[name] for name in run.space.sub_layers)]
    assert min(trial.loss for trial in cheap) < min(warm)


def test_killed_it_goes_on_to_the_same_end(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    expected = ladder(whole, World())
    expected.run()
    world = World()
    world.killed_at = 17
    with pytest.raises(KeyboardInterrupt):
        ladder(killed, world).run()
    with (killed / "trials.jsonl").open("a") as file:
        file.write('{"stage": "che')  # what a kill leaves of a line
    again = ladder(killed, World())
    again.run()
    assert [(t.stage, t.params, t.structure, t.loss, t.dev_score) for t in again.journal.trials] == [
        (t.stage, t.params, t.structure, t.loss, t.dev_score) for t in expected.journal.trials
    ]
    lines = (killed / "trials.jsonl").read_text().splitlines()
    assert len(lines) == len([json.loads(line) for line in lines]) == len(expected.journal.trials)


def test_another_seed_draws_other_trials_and_the_same_seed_the_same(tmp_path):
    drawn = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        run = ladder(tmp_path / name, World(), seed=seed, trials=20)
        run.run()
        drawn.append([trial.params for trial in run.journal.of("cheap")])
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("seconds", [5, 30, 100, 170, 400])
def test_it_stops_within_its_time(tmp_path, seconds):
    world = World()
    best = ladder(tmp_path, world, seconds=seconds, trials=1000).run()
    assert world.now <= seconds
    assert best.stage == ("full" if seconds >= 100 else "cheap")


def test_the_structure_of_a_form_has_the_tables_widths(tmp_path):
    run = ladder(tmp_path, World())
    params = next(run.space.warm_starts()) | {"form": "small"}
    structure = run.space.structure(params)
    assert len(structure) == LAYERS
    assert all(isinstance(layer, Widths) for layer in structure)
    assert structure[2].neurons >= structure[0].neurons  # the last layer matters most


def test_any_whole_number_is_a_seed(tmp_path):
    for seed in (-1, 10**12):
        (tmp_path / str(seed)).mkdir()
        assert ladder(tmp_path / str(seed), World(), seed=seed, trials=10).run()


def test_a_whole_journal_is_only_read_and_half_a_line_is_replaced_in_one_step(tmp_path):
    ladder(tmp_path, World(), trials=3).run()
    path = tmp_path / "trials.jsonl"
    whole, file = path.read_bytes(), path.stat().st_ino
    assert Journal(path).trials
    assert path.stat().st_ino == file
    path.write_bytes(whole + b'{"sta')
    Journal(path)
    assert path.read_bytes() == whole
    assert path.stat().st_ino != file
