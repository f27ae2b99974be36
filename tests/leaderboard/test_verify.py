"""Verifying, on the committed records: themselves, edited ones, retrained ones, and those of another machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leaderboard import rederive, verify
from leaderboard.agreement import Finding
from leaderboard.schema import Record, TaskCard
from leaderboard.seal import fits, sealed
from leaderboard.statistics import bootstrap_interval

RESULTS = Path(__file__).parents[2] / "leaderboard/results/default"
ALL = sorted(path for path in RESULTS.glob("*/*.json") if path.parent.name != "tasks")
FORM = "onnx-int8"


def read(path: Path) -> tuple[Record, TaskCard]:
    card = TaskCard.model_validate_json((RESULTS / "tasks" / path.name).read_bytes())
    return Record.model_validate_json(path.read_bytes()), card


@pytest.fixture(scope="module", params=["movie", "tweets"])
def row(request) -> tuple[Record, TaskCard]:
    return read(RESULTS / "albert" / f"{request.param}.json")


def edit(record: Record, change) -> Record:
    raw = record.model_dump()
    change(raw)
    return Record.model_validate(raw)


def verdicts(findings: list[Finding], kind: str | None = None) -> dict[str, str]:
    return {f.item: f.verdict for f in findings if kind in (None, f.kind)}


@pytest.mark.parametrize("path", ALL, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_published_record_follows_from_its_own_raw_data(path):
    record, card = read(path)
    assert list(rederive.doubts(record, card)) == []
    assert fits(path.read_bytes()) in (True, None)


def form(raw):
    return raw["deployments"][FORM]


def halved(values):
    values[:] = [value / 2 for value in values]


EDITS = {
    "a score": lambda raw: next(iter(form(raw)["quality"][0]["scores"].values())).update(value=0.99),
    "a prediction": lambda raw: form(raw)["quality"][0]["predictions"].__setitem__(3, 2.0),
    "the speed-up": lambda raw: form(raw)["cost"]["speedup"].update(value=9.0, high=9.5),
    # one timing alone may move no median: then the seal tells (below)
    "a launch's timings": lambda raw: halved(form(raw)["cost"]["launches"][0]["candidate_block_ms"]),
    "the noise floor": lambda raw: form(raw)["cost"].update(noise_floor=0.5),
    "memory": lambda raw: form(raw)["cost"].update(peak_memory_mb=1.0),
    "energy of use": lambda raw: form(raw)["cost"]["energy_kwh_per_1000"].update(likely=1e-9),
    "energy of making": lambda raw: raw["runs"][0]["footprint"]["energy_kwh"].update(likely=1e-9),
    "grams of making": lambda raw: raw["runs"][0]["footprint"].update(emissions_g=0.0),
    "the artifact": lambda raw: form(raw).update(artifact_sha256="0" * 64),
    "the exam": lambda raw: raw.update(exam_sha256="0" * 64),
    "the training texts": lambda raw: raw.update(train_sha256="0" * 64),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_figure_that_was_edited_is_doubted(row, name):
    record, card = row
    assert list(rederive.doubts(edit(record, EDITS[name]), card))


def test_a_brought_artifact_without_a_run_is_compared_with_what_was_scored(row):
    record, card = row
    brought = edit(record, lambda raw: raw.update(runs=[]))
    assert list(rederive.doubts(brought, card)) == []
    other = edit(brought, EDITS["the artifact"])
    assert [doubt.item for doubt in rederive.doubts(other, card)] == [f"{FORM}: artifact"]


def test_one_byte_of_a_sealed_record_is_found_wherever_it_is(row):
    raw = bytearray(sealed(row[0]).encode())
    assert fits(bytes(raw))
    draw = np.random.default_rng(0)
    for place in [*draw.integers(0, len(raw), 300), *range(len(raw) - 90, len(raw))]:
        kept, raw[place] = raw[place], raw[place] ^ int(draw.integers(1, 256))
        assert not fits(bytes(raw))
        raw[place] = kept
    assert not fits(bytes(raw) + b" ")
    assert fits(bytes(raw))


def test_a_sealed_record_reads_back_as_itself(row):
    bare = row[0].model_copy(update={"seal": None})
    text = sealed(row[0])
    assert Record.model_validate_json(text).model_copy(update={"seal": None}) == bare
    assert fits(bare.model_dump_json().encode()) is None


def test_a_row_agrees_with_itself(row):
    record, card = row
    found = verdicts(verify.findings(record, record, card))
    assert "differs" not in found.values()
    assert found["exam"] == found["knobs"] == found[f"{FORM}: artifact"] == "same"
    assert found["train"] == "same"
    older = record.model_copy(update={"train_sha256": None})  # of a version that did not name it
    assert verdicts(verify.findings(older, record, card))["train"] == "not comparable"


def retrained(record: Record, card: TaskCard, change) -> Record:
    """The same row trained again: another artifact, other predictions, and the scores that follow from them."""

    def anew(raw):
        quality = form(raw)["quality"][0]
        quality["predictions"] = change(np.array(quality["predictions"])).tolist()
        quality["artifact_sha256"] = form(raw)["artifact_sha256"] = "0" * 64
        quality["scores"] = {
            metric: bootstrap_interval(quality["predictions"], card.exam_labels, metric).model_dump()
            for metric in card.metrics
        }

    return edit(record, anew)


def test_trained_again_as_well_is_no_difference_and_worse_is_one(row):
    record, card = row
    labels, draw = np.array(card.exam_labels), np.random.default_rng(1)

    def as_well(said):  # as many right ones become wrong as wrong ones right
        if not card.labels:
            return said + draw.normal(0, 0.02, len(said))
        right, wrong = np.flatnonzero(said == labels), np.flatnonzero(said != labels)
        chosen, said = draw.choice(right, 20, replace=False), said.copy()
        said[chosen], said[draw.choice(wrong, 20, replace=False)] = 1 - said[chosen], labels[0]
        return said

    def worse(said):
        out = said.copy()
        out[draw.random(len(out)) < 0.2] = 0.0
        return out

    good = verdicts(verify.settle([verify.findings(record, retrained(record, card, as_well), card)])[0])
    assert good[f"{FORM}: artifact"] == "within"
    assert "differs" not in good.values()
    bad = verdicts(verify.settle([verify.findings(record, retrained(record, card, worse), card)])[0])
    assert bad[f"{FORM}, seed 0: {card.metrics[0]}"] == "differs"


def test_a_broken_regression_is_found_among_thirty_rows():
    record, card = read(RESULTS / "albert/tweets.json")
    broken = verify.findings(record, retrained(record, card, lambda said: said[::-1]), card)
    others = [[Finding("x", "statistical", "", "", "within", "", 0.5)] for _ in range(29)]
    assert verdicts(verify.settle([*others, broken])[-1])[f"{FORM}, seed 0: pearson"] == "differs"


def test_one_artifact_on_one_machine_gives_one_answer(row):
    record, card = row

    def flip(raw):
        said = form(raw)["quality"][0]["predictions"]
        said[3] = 1.0 - said[3]

    found = verdicts(verify.findings(record, edit(record, flip), card))
    assert found[f"{FORM}, seed 0: predictions"] == "differs"


@pytest.mark.parametrize(
    ("item", "change"),
    [
        ("knobs", lambda raw: raw["method"]["knobs"].update(learning_rate=1.0)),
        ("exam", lambda raw: raw.update(exam_sha256="0" * 64)),
        ("requirements.lock", lambda raw: raw["code"].update(lock_sha256="0" * 64)),
        ("shape", lambda raw: raw["method"]["shape"].update(layers=99)),
        ("seeds", lambda raw: raw["runs"][0].update(seed=7)),
        ("steps", lambda raw: raw["runs"][0].update(steps=1)),
        (f"{FORM}: parameters", lambda raw: form(raw).update(parameters=1)),
        (f"{FORM}: bytes", lambda raw: form(raw).update(bytes_on_disk=1)),
        (FORM, lambda raw: raw["deployments"].pop(FORM)),
    ],
)
def test_what_must_be_equal_is_told_with_both_values(row, item, change):
    record, card = row
    (found,) = [f for f in verify.findings(record, edit(record, change), card) if f.item == item]
    assert (found.kind, found.verdict) == ("exact", "differs")
    assert found.expected != found.got
    assert found.why


@pytest.mark.parametrize(
    ("item", "change"),
    [
        ("method's sources", lambda raw: raw["method"].update(sources_sha256="0" * 64)),
        ("referee's sources", lambda raw: raw["code"].update(referee_sha256="0" * 64)),
    ],
)
def test_a_change_of_code_is_a_difference_unless_the_same_bytes_came_out_of_it(row, item, change):
    record, card = row
    changed = edit(record, change)
    (found,) = [f for f in verify.findings(record, changed, card) if f.item == item]
    assert (found.verdict, found.why) == ("within", verify.PROVED)
    other_artifact = retrained(changed, card, lambda said: said)
    other_answers = edit(changed, EDITS["a prediction"])
    for other in (other_artifact, other_answers, edit(changed, lambda raw: raw["deployments"].pop(FORM))):
        assert verdicts(verify.findings(record, other, card))[item] == "differs"


def test_config_and_teacher_are_compared_where_both_name_them(row):
    record, card = row
    ours = edit(record, lambda raw: raw.update(config_sha256={"budget": "a" * 64, "carbon": "b" * 64}))
    theirs = edit(ours, lambda raw: raw["config_sha256"].update(budget="c" * 64))
    found = verdicts(verify.findings(ours, theirs, card))
    assert (found["params.yaml: budget"], found["params.yaml: carbon"]) == ("differs", "same")


def times(factor: float, *keys: str):
    """Every timing of the named kinds, and what follows from it, times a factor."""

    def change(raw):
        cost = form(raw)["cost"]
        for launch in cost["launches"]:
            for key in keys:
                launch[key] = [factor * ms for ms in launch[key]]
        if "candidate_block_ms" in keys:
            cost["cpu_s_per_1000"] *= factor
            cost["energy_kwh_per_1000"]["likely"] *= factor
        if "reference_block_ms" not in keys:
            cost["speedup"] = {key: value / factor for key, value in cost["speedup"].items()}

    return change


def test_a_slower_student_is_a_difference_and_a_slower_machine_is_none(row):
    record, card = row
    slower = edit(record, times(2, "candidate_block_ms", "call_ms"))
    found = verdicts(verify.findings(record, slower, card), "volatile")
    assert [found[f"{FORM}: {what}"] for what in ("times faster", "CPU-seconds per 1,000")] == ["differs"] * 2
    tired = edit(record, times(2, "candidate_block_ms", "call_ms", "reference_block_ms"))
    assert set(verdicts(verify.findings(record, tired, card), "volatile").values()) <= {"same", "within"}


def test_on_another_machine_no_cost_is_compared_and_it_is_said_why(row):
    record, card = row

    def moved(raw):
        raw["machine"].update(id="ffffffffffff", cpu="Another CPU")
        times(3, "candidate_block_ms")(raw)

    found = verify.findings(record, edit(record, moved), card)
    costs = [f for f in found if f.kind == "volatile"]
    assert costs
    assert {f.verdict for f in costs} == {"not comparable"}
    assert all("another machine (other cpu)" in f.why for f in costs)
    assert "differs" not in verdicts(found).values()


def test_holm_against_its_definition():
    """Holm 1979: go up the ordered p-values as long as p(i) <= alpha / (m - i + 1)."""
    draw = np.random.default_rng(2)
    for _ in range(50):
        values = np.round(draw.beta(0.3, 2, 12), 4)
        rows = [[Finding("x", "statistical", "", "", "differs", "", float(p))] for p in values]
        stays = [row[0].verdict == "differs" for row in verify.settle(rows)]
        order, expected = np.argsort(values), np.zeros(12, dtype=bool)
        for i, place in enumerate(order):
            if values[place] > 0.05 / (12 - i):
                break
            expected[place] = True
        assert stays == expected.tolist()
