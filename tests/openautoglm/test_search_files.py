"""`openautoglm search` on a tiny model: its judge, what it finds, that the find is replayed, and bad input."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from leaderboard.schema import Search
from openautoglm import AutoCompressor, Budget, architectures, artifact, latency, search_files, vocabulary
from openautoglm.cli import main
from openautoglm.config import CompressionConfig
from openautoglm.cost_table import Cost, LatencyError, Widths
from openautoglm.distillation import fit
from openautoglm.distillation.data import encode, limited
from openautoglm.distillation.fit import TrainingError
from openautoglm.errors import UserError
from openautoglm.latency import Bench
from openautoglm.parts import CodedEmbedding
from openautoglm.proxy import Proxy
from openautoglm.search import Embedding, Limits, Trial
from openautoglm.student import save_model
from openautoglm.task_files import digest
from openautoglm.teachers import as_teacher
from tests.conftest import make_task, make_teacher
from tests.openautoglm import families
from tests.openautoglm.test_cli import write_csv

CONFIG = {"pruning_rounds": 1, "learning_rate": 1e-3, "whole_rows": 20, "precision": {"embedding": "int4"}}


@pytest.fixture(scope="module", params=["classification", "regression"])
def proxy(request):
    """In float32, training too: bfloat16 rounds away what the mildest cuts of a tiny model change."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "_processor_has_bfloat16", lambda: False)
        task = make_task(request.param)
        yield Proxy(make_teacher(task), task, whole_rows=20)


def test_the_judge_dislikes_what_is_removed(proxy):
    """Half of every layer still tells two classes apart, to what float32 rounds away; one layer of six does not."""
    none = [Widths(0, 0) for _ in proxy.full]
    last = [*none[1:], proxy.full[-1]]
    whole, less, least = (proxy.loss(structure) for structure in (proxy.full, last, none))
    assert abs(whole) < 1e-6
    assert whole < less < least


def test_the_judge_knows_every_form_of_embedding(proxy):
    by_rank = [proxy.loss(proxy.full, None, rank) for rank in (1, 4, 24)]
    assert abs(by_rank[2]) < 1e-6
    assert by_rank[0] > by_rank[1] > by_rank[2] - 1e-6  # two classes need no more than rank 2: the rest is rounding
    model, _ = proxy.cut(proxy.full, None, None, 3)
    assert isinstance(architectures.word_embedding(model), CodedEmbedding)
    assert proxy.loss(proxy.full, None, None, 3) < 1e-6  # 55 coded pieces need fewer than 256 centroids


def test_codes_are_of_the_vocabulary_that_the_compressor_makes(proxy):
    """Sorted by use, without pieces that never occur: else any rows would be the whole ones."""
    _, judging = proxy.cut(proxy.full, None, None, 3)
    tokenizer = limited(proxy.teacher.tokenizer, proxy.task.max_length)
    trimmed, _ = vocabulary.trim(tokenizer, proxy.task.train.texts, None)
    assert judging.ids == encode(trimmed, proxy.judging, proxy.task.max_length).ids


def test_what_is_computed_once_is_computed_before_the_first_trial(proxy):
    proxy.prepare()
    assert {"importance", "grams", "dropping"} <= set(vars(proxy))


def test_a_short_trial_takes_what_usual_ones_tell():
    def cheap(seconds, structure):
        return Trial("cheap", 0, {}, structure, None, None, None, None, seconds)

    some = [Widths(1, 1)]
    trials = [cheap(90.0, some), cheap(1.0, some), cheap(2.0, some), cheap(0.001, None)]
    assert search_files._short_s(trials, 1000, 100) == 4 * 2.0 * 10
    assert search_files._short_s(trials[3:], 1000, 100) == 0


@pytest.fixture
def one(tmp_path):
    """A search that can train its candidates, without a ladder."""
    task = make_task("classification")
    base = CompressionConfig(pruning_rounds=1, learning_rate=1e-3)
    return search_files.Search(make_teacher(task, layers=2), task, base, tmp_path, Limits(5.0, 1e6, 8))


def test_a_killed_trial_leaves_checkpoints_and_an_ended_one_none(one, monkeypatch):
    given = ([Widths(2, 16)] * 2, Embedding(), "full", 0.5, 0)

    class Killed(AutoCompressor):
        def run(self, task, budget=None):
            super().run(task, budget)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(search_files, "AutoCompressor", Killed)
        with pytest.raises(KeyboardInterrupt):
            one._train(*given)
    (folder,) = (one.out / "checkpoints").iterdir()
    assert folder.name.startswith("full-")
    assert list(folder.glob("*.safetensors"))
    again = one._train(*given)
    assert not folder.exists()
    assert one._train(*given) == again


def test_a_trial_that_diverges_has_no_score_and_leaves_nothing(one, monkeypatch):
    def run(*_, **__):
        raise TrainingError("the loss is nan")

    monkeypatch.setattr(AutoCompressor, "run", run)
    assert one._train([Widths(2, 16)] * 2, Embedding(), "short", 0.5, 0) is None
    assert not list(one.out.glob("checkpoints/*"))


def test_another_model_or_other_texts_are_another_search(one):
    asked = {"seed": 0}
    one._same(asked)
    one._same(asked)
    assert asked == {"seed": 0}  # search.json has no more than this
    teacher, task, most = one.teacher, one.task, one.task.max_length
    fewer = replace(task.dev, texts=task.dev.texts[1:], labels=task.dev.labels[1:])
    swapped = replace(task.train, labels=1 - task.train.labels)
    for changed in (
        {"dev": fewer},
        {"train": swapped},
        {"metrics": ("macro_f1",)},
        {"labels": task.labels[::-1]},
        {"max_length": most - 1},
    ):
        one.task = replace(task, **changed)
        with pytest.raises(UserError, match="another model or other texts"):
            one._same(asked)
    one.task, one.teacher = task, replace(teacher, model=teacher.copy())
    assert digest(one.teacher, task) == digest(teacher, task)
    one.teacher.model.classifier.bias.data += 1
    with pytest.raises(UserError, match="another model or other texts"):
        one._same(asked)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with model/, train.csv, dev.csv and config.json. Bytes are real, milliseconds are made up."""
    task = make_task("classification")
    teacher = make_teacher(task, layers=2)
    (tmp_path / "model").mkdir()
    save_model(teacher.model, tmp_path / "model")
    teacher.tokenizer.save(str(tmp_path / "model/tokenizer.json"))
    write_csv(tmp_path / "train.csv", task.train)
    write_csv(tmp_path / "dev.csv", task.dev)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))

    def costs(bench, models):
        return [
            Cost(tuple(n * (0.01 + sum(h / 100 + f / 1000 for h, f in structure)) for n in bench.lengths), size)
            for (structure, _), size in zip(models, bench.sizes(models), strict=True)
        ]

    monkeypatch.setattr(Bench, "costs", costs)
    monkeypatch.setattr(latency, "CHECKED", 2)
    monkeypatch.setattr(latency, "HEADS", (0.5, 1))
    monkeypatch.setattr(latency, "NEURONS", (0.5, 1))
    monkeypatch.setattr(search_files, "VOCABULARIES", (None,))
    monkeypatch.setattr(search_files, "RANKS", (None,))
    return tmp_path


def search(place, *more, **changed):
    given = {"model": place / "model", "train": place / "train.csv", "dev": place / "dev.csv", "out": place / "found"}
    given |= {"config": place / "config.json", "trials": 8, "epochs": 0.5, "latency": "5ms", "size": "1MB"} | changed
    return main(["search", *(str(part) for key, value in given.items() for part in (f"--{key}", value)), *more])


def test_what_is_found_fits_its_budget_and_is_replayed(place, capsys):
    size = budget(place)
    assert search(place, size=f"{size / 1000}KB") == 0
    assert "8 cheap, " in (told := capsys.readouterr().out)
    assert "full trials. The best:" in told
    report = json.loads((place / "found/search.json").read_text())
    Search.model_validate(report)  # what the board reads
    kinds = {"whole rows", "3 codes", "2 codes"}
    assert {trial["params"]["form"] for trial in report["trials"]} == {f"all pieces, {kind}" for kind in kinds}
    assert report["best"]["bytes"] <= size
    teacher, task = as_teacher(str(place / "model")), make_task("classification")
    student = AutoCompressor(teacher, place / "found/config.json").run(task, Budget(4, 16))
    kept = [[layer.heads, layer.neurons] for layer in architectures.layers(student.model)]
    assert kept == report["best"]["structure"]
    assert artifact.size(student.export(place / "artifact", task=task)) == pytest.approx(
        report["best"]["bytes"], rel=0.05
    )


def test_again_it_takes_no_trial_twice_and_other_settings_are_refused(place, capsys):
    given = {"size": f"{budget(place) / 1000}KB"}
    assert search(place, **given) == 0
    trials = (place / "found/trials.jsonl").read_text()
    assert search(place, **given) == 0
    assert (place / "found/trials.jsonl").read_text() == trials
    assert search(place, size="2MB") == 2
    assert "holds a search with other settings" in capsys.readouterr().err


def test_a_budget_that_nothing_fits_is_told(place, capsys):
    assert search(place, size="1KB") == 2
    assert "Nothing fits 5 ms and 0.001 MB" in (told := capsys.readouterr().err)
    assert "without any layer a model takes" in told


def budget(place):
    """Bytes that a model of half the widths takes: less than the whole one."""
    teacher, task = as_teacher(str(place / "model")), make_task("classification")
    bench = Bench(teacher, task, {"embedding": "int4"}, whole_rows=20)
    half = [Widths(bench.full.heads // 2, bench.full.neurons // 2)] * bench.layers
    return bench.sizes([(half, bench.forms[0])])[0]


def test_without_optuna_nothing_is_measured(place, capsys, monkeypatch):
    monkeypatch.setattr(search_files, "find_spec", lambda name: None)
    assert search(place) == 2
    assert "pip install '.[search]'" in capsys.readouterr().err
    assert not (place / "found").exists()


def test_what_a_step_of_a_search_cannot_do_is_one_message(place, capsys, monkeypatch):
    def run(*_, **__):
        raise LatencyError("the cost table errs")

    monkeypatch.setattr(search_files.Search, "run", run)
    assert search(place) == 2
    assert capsys.readouterr().err == "error: the cost table errs\n"


def test_where_each_that_was_trained_diverged_the_best_untrained_one_is_told(place, capsys, monkeypatch):
    monkeypatch.setattr(search_files.Search, "_train", lambda *_: None)
    assert search(place) == 0
    told = capsys.readouterr().out
    assert "of which" in told
    assert "without training (each that was trained diverged)" in told


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"mixed_precision_loss": 0.1}, "the cost of mixed_precision_loss"),
        ({"linear_rank_share": 0.5}, "the cost of linear_rank_share"),
        ({"precision": {"layer.1.ffn": "fp16"}}, "the cost of precision of layer.1.ffn"),
    ],
)
def test_what_the_cost_table_does_not_know_is_refused(place, capsys, config, message):
    (place / "config.json").write_text(json.dumps(config))
    assert search(place) == 2
    assert message in capsys.readouterr().err
    assert not (place / "found").exists()


@pytest.mark.parametrize("length", [-5, 3, 99999])
def test_a_typical_text_is_one_that_the_model_reads(place, capsys, length):
    assert search(place, f"--length={length}") == 2
    assert "give 4 to 9 word pieces" in capsys.readouterr().err


def test_a_model_is_not_overwritten_with_a_config(place, capsys):
    before = (place / "model/config.json").read_bytes()
    assert search(place, out=place / "model") == 2
    assert "holds other things" in capsys.readouterr().err
    assert (place / "model/config.json").read_bytes() == before


def test_a_student_is_not_searched(place, capsys, monkeypatch):
    student = as_teacher(str(place / "model"))
    student.model.config.slices = [{"heads": 1, "neurons": 1}] * 2
    monkeypatch.setattr(search_files, "as_teacher", lambda _: student)
    assert search(place) == 2
    assert "was compressed before (its config has slices)" in capsys.readouterr().err


def test_a_family_whose_sub_layers_stay_is_refused(place, capsys, monkeypatch):
    monkeypatch.setattr(search_files, "as_teacher", lambda _: families.teacher("albert", make_task("classification")))
    assert search(place) == 2
    assert "albert does not allow; supported: bert, distilbert, glm, roberta" in capsys.readouterr().err
