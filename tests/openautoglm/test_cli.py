"""Each command whole on a tiny model, and each with bad input: one message, exit code 2, nothing written."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from openautoglm import architectures, artifact, cli, side_by_side
from openautoglm.cli import main
from openautoglm.compress_files import _checkpoints, compress_files
from openautoglm.export import TOLERANCE, export
from openautoglm.runtime import Predictor
from openautoglm.student import Student, save_model
from openautoglm.task import Split
from openautoglm.task_files import TaskFiles
from openautoglm.teachers import as_teacher
from openautoglm.vocabulary import trim
from tests.conftest import make_task, make_teacher

CONFIG = {"pruning_ratio": 0.5, "pruning_rounds": 1, "calibration_steps": 64, "learning_rate": 1e-3}


def write_csv(path, split, labels=None):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(zip(split.texts, split.labels if labels is None else labels, strict=True))
    return str(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with model/, train.csv, dev.csv and config.json."""
    folder, task = tmp_path_factory.mktemp("user"), make_task("classification")
    teacher = make_teacher(task, layers=2)
    (folder / "model").mkdir()
    save_model(teacher.model, folder / "model")
    teacher.tokenizer.save(str(folder / "model/tokenizer.json"))
    write_csv(folder / "train.csv", task.train)
    write_csv(folder / "dev.csv", task.dev)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def compress(place, *more, **changed):
    given = {"model": place / "model", "train": place / "train.csv", "dev": place / "dev.csv", "out": place / "out"}
    given = {"config": place / "config.json", "epochs": 1} | given | changed
    return main(["compress", *(str(part) for key, value in given.items() for part in (f"--{key}", value)), *more])


@pytest.fixture(scope="module")
def compressed(place):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(side_by_side, "TEXTS", 8)
        assert compress(place) == 0
    return place / "out"


def test_compress_writes_an_artifact_that_serves_and_a_report_of_it(compressed):
    task = make_task("classification")
    report = json.loads((compressed / "report.json").read_text())
    predictor = Predictor(compressed / "artifact")
    score = task.score(predictor.logits(task.dev.texts), task.dev.labels)
    rows = report["measured"]["rows"]
    assert rows["student onnx-plan"]["score"] == score > 0.7
    assert rows["student onnx-plan"]["bytes"] < rows["teacher onnx-fp32"]["bytes"]
    assert predictor.manifest.max_length == 9  # the longest text: 7 words and the two special pieces
    assert report["curve"][-1]["dev_score"] is not None
    assert "times faster (95 %)" in Student.load(compressed / "student").summary()
    assert not list(compressed.parent.glob(".out*"))  # neither checkpoints nor halves are left


def test_a_teacher_that_int8_breaks_does_not_cost_the_student(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(side_by_side, "TEXTS", 8)
    monkeypatch.setitem(TOLERANCE, "onnx-int8", 0.0)
    assert compress(place, out=tmp_path / "o") == 0
    told = capsys.readouterr().out
    assert "note: off-the-shelf INT8 changes the teacher's answers" in told
    rows = json.loads((tmp_path / "o/report.json").read_text())["measured"]["rows"]
    assert list(rows) == ["teacher onnx-fp32", "student onnx-plan"]
    assert main(["advise", str(tmp_path / "o")]) == 0


def test_a_table_that_writes_1_as_a_fraction_is_read(place, tmp_path):
    train = make_task("classification").train
    path = Path(write_csv(tmp_path / "t.csv", train, [f"{label}.0" for label in train.labels]))
    read = TaskFiles(path, path).task(as_teacher(place / "model"))
    assert sorted(read.train.labels) == sorted(train.labels)


def test_named_classes_and_indices_are_the_same_task(place, tmp_path, capsys):
    task = make_task("classification")
    names = np.array(["bad", "good"])[task.train.labels]
    named = write_csv(tmp_path / "named.csv", task.train, names)
    assert compress(place, "--labels", "bad,good", train=named, out=tmp_path / "o") == 0
    assert "classification of bad, good" in capsys.readouterr().out
    assert Predictor(tmp_path / "o/artifact").manifest.labels == ("bad", "good")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": "t.csv:review,label\na,1\n"}, r"no column ['text']; it has ['review', 'label']"),
        ({"train": "t.csv:"}, "holds no rows"),
        ({"train": "t.csv:text,label\na,1\nb,1\n"}, "every text is 'LABEL_1': nothing to learn"),
        ({"dev": "t.csv:text,label\na,nan\n"}, "Labels ['nan'] are unknown; the task lists ['LABEL_0', 'LABEL_1']"),
        ({"dev": "t.csv:text,label\na,\n"}, "row 1: the label is ''"),
        ({"dev": "t.csv:text,label\na,good\n"}, "Name them with --labels"),
        ({"dev": 't.jsonl:{"text": "a", "label": 0.5}\n'}, "row 1: the label is 0.5"),
        ({"dev": "t.csv:text,label\n ,1\n"}, "every text is empty"),
        ({"dev": "gone.csv"}, "gone.csv is not there"),
        ({"model": "gone/model/x"}, "is no folder"),
        ({"config": 'c.json:{"prunning_ratio": 0.5}'}, "did you mean 'pruning_ratio'"),
        ({"config": 'c.json:{"vocabulary_size": 200, "pruning_ratio": 2}'}, "less than 1"),
        ({"config": 'c.json:{"precision": {"fnn": "int8"}}'}, "precision: Plan has ['fnn: int8']"),
        (
            {"config": 'c.json:{"precision": {"layer.9.ffn": "int4"}}'},
            "precision has layer.9.ffn, and the model's layers",
        ),
        ({"config": "c.json:[1]"}, "problems: Input should be"),
        ({"deployment": "onnx-fp7"}, "known: onnx-"),
        ({"epochs": 0}, "--epochs 0.0: give more than 0"),
        ({"metric": "f1"}, "known: accuracy, macro_f1"),
        ({"max-length": 99}, "reads 4 to 32 word pieces"),
        ({"labels": "a,b,c"}, "has 2 outputs"),
    ],
)
def test_bad_input_of_compress_is_one_message(place, tmp_path, capsys, changed, message):
    for key, value in changed.items():
        name, colon, content = str(value).partition(":")
        if colon:
            (tmp_path / name).write_text(content)
            changed = {key: tmp_path / name}
    assert compress(place, out=tmp_path / "o", **changed) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert not (tmp_path / "o").exists()


def test_a_model_without_a_file_and_a_taken_folder(place, tmp_path, capsys):
    (tmp_path / "half").mkdir()
    (tmp_path / "half/config.json").write_bytes((place / "model/config.json").read_bytes())
    assert compress(place, model=tmp_path / "half", out=tmp_path / "o") == 2
    assert "model.safetensors" in capsys.readouterr().err
    assert compress(place, out=tmp_path) == 2
    assert "would be lost" in capsys.readouterr().err
    assert (tmp_path / "half/config.json").exists()


def test_inspect_counts_every_parameter_and_byte(compressed, capsys):
    from openautoglm.inspection import by_part, stored

    for folder, counted in ((compressed / "artifact", True), (compressed / "student", False)):
        found = list(stored(folder))
        student = Student.load(compressed / "student")
        folded = 24 if counted else 0  # the export adds the row of token type 0 to the positions' sum, and drops type 1
        assert sum(t.parameters for t in found) == sum(p.numel() for p in student.model.parameters()) - folded
        assert {"embedding", "layer 0 attention", "layer 1 FFN", "head"} <= set(by_part(found))
        assert {t.format for t in found if t.parameters > 500} == ({"INT8"} if counted else {"float32"})
        assert main(["inspect", str(folder)]) == 0
        assert main(["inspect", "--tensors", str(folder)]) == 0
    assert "layer 1 FFN" in capsys.readouterr().out


def test_inspect_sees_every_form(compressed, tmp_path):
    from openautoglm.inspection import stored

    student, task = Student.load(compressed / "student"), make_task("classification")
    half = Student(student.model, student.tokenizer, {"embedding": "fp16", "ffn": "fp16"})
    found = stored(export(half, "onnx-plan", tmp_path / "a", task))
    formats = {t.part: t.format for t in found if len(t.shape) == 2 and t.parameters}
    assert formats["embedding"] == formats["layer 1 FFN"] == "float16"
    assert formats["layer 0 attention"] == "float32"
    few = Student(student.model, student.tokenizer, {"embedding": "int4", "ffn": "int3", "layer.1.ffn": "int4"})
    found = [t for t in stored(export(few, "onnx-plan", tmp_path / "b", task)) if len(t.shape) == 2 and t.parameters]
    formats = {
        part: {t.format for t in found if t.part == part} for part in ("embedding", "layer 0 FFN", "layer 1 FFN")
    }
    assert formats == {"embedding": {"INT4", "INT8"}, "layer 0 FFN": {"INT3"}, "layer 1 FFN": {"INT4"}}


def test_inspect_needs_no_torch(compressed):
    code = f"""
import sys
from pathlib import Path
sys.modules["torch"] = sys.modules["transformers"] = None
from openautoglm.cli import main
sys.exit(main(["inspect", {str(compressed / "artifact")!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "neither an artifact nor a saved model"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "unreadable"),
        (lambda folder: (folder / "model.onnx.gz").write_bytes(b"no"), "differs from its hash"),
        (lambda folder: (folder / "model.onnx.gz").unlink(), "not a plain file"),
    ],
)
def test_inspect_of_a_broken_artifact_is_one_message(compressed, tmp_path, capsys, spoil, message):
    folder = tmp_path / "a"
    folder.mkdir()
    for file in (compressed / "artifact").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    spoil(folder)
    assert main(["inspect", str(folder)]) == 2
    assert message in capsys.readouterr().err


def test_inspect_of_cut_off_weights_is_one_message(compressed, tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes((compressed / "student/model.safetensors").read_bytes()[:40])
    assert main(["inspect", str(tmp_path)]) == 2
    assert "no whole safetensors file" in capsys.readouterr().err


def test_advise_reads_what_compress_wrote(compressed, capsys):
    assert main(["advise", str(compressed)]) == 0
    assert capsys.readouterr().out.startswith(f"{compressed}:")
    assert main(["advise", str(compressed / "artifact")]) == 2
    assert "no report.json" in capsys.readouterr().err


def test_recommend_meets_a_budget_and_tells_when_none_can(place, tmp_path, capsys):
    config = tmp_path / "config.json"
    budget = ["--model", str(place / "model"), "--length", "8"]
    assert main(["recommend", *budget, "--memory", "1GB", "--latency", "1s", "--out", str(config)]) == 0
    assert json.loads(config.read_text())["pruning_ratio"] == 0.0  # the mildest
    assert main(["recommend", *budget, "--memory", "1kB"]) == 1
    told = capsys.readouterr().out
    assert "No config meets it. The nearest" in told
    assert '"pruning_ratio": 0.95' in told
    assert compress(place, config=config, out=tmp_path / "o") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--memory", "lots"], "'lots' is no amount; give e.g. 8MB"),
        (["--latency", "-5ms"], "expected one argument"),
        (["--latency", "5MB"], "'5MB' is no amount; give e.g. 5ms"),
    ],
)
def test_a_budget_that_is_no_amount(place, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main(["recommend", "--model", str(place / "model"), *arguments])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_recommend_needs_a_budget_and_a_possible_length(place, capsys):
    assert main(["recommend", "--model", str(place / "model")]) == 2
    assert "give --memory, --latency, or both" in capsys.readouterr().err
    assert main(["recommend", "--model", str(place / "model"), "--memory", "1MB", "--length", "99"]) == 2
    assert "give 4 to 32 word pieces" in capsys.readouterr().err


def test_the_prediction_of_bytes_is_that_of_the_real_artifact(place, tmp_path):
    """Random weights and real ones take the same room: the plan of every config is the same."""
    from openautoglm import artifact
    from openautoglm.recommend import INT4, Parts
    from openautoglm.teachers import as_teacher

    teacher, task = as_teacher(place / "model"), make_task("classification")
    formats = {"int8": {}, "int4": INT4}
    configs = [
        {"pruning_ratio": 0.0, "vocabulary_size": None, "embedding_codes": None, "precision": precision}
        for precision in formats.values()
    ]
    parts = Parts(teacher, 16, configs)
    for config, name in zip(configs, formats, strict=True):
        expected, plan = parts.expected(config), dict.fromkeys(INT4, name)
        real = export(Student(teacher.model, teacher.tokenizer, plan), "onnx-plan", tmp_path / name, task)
        assert expected.bytes == pytest.approx(artifact.size(real), rel=0.05)  # its position table is longer
        assert expected.low_ms <= expected.latency_ms <= expected.high_ms
    assert trim(teacher.tokenizer, task.train.texts, 200)  # the tokenizer is one that recommend may trim


def test_a_file_sorted_by_label_is_mixed(place, tmp_path):
    """What looks at the first texts sees every class, whichever way the user sorted; each call in the same order."""
    train = make_task("classification").train
    order = np.argsort(train.labels, kind="stable")
    write_csv(tmp_path / "t.csv", Split(tuple(train.texts[i] for i in order), train.labels[order]))
    files, teacher = TaskFiles(tmp_path / "t.csv", tmp_path / "t.csv"), as_teacher(place / "model")
    task = files.task(teacher)
    assert set(task.train.labels[:16]) == set(task.dev.labels[:16]) == {0, 1}
    assert sorted(zip(task.train.texts, task.train.labels, strict=True)) == sorted(
        zip(train.texts, train.labels, strict=True)
    )
    assert files.task(teacher).train.texts == task.train.texts


def test_checkpoints_are_of_one_metric_and_order_of_labels(place, tmp_path, monkeypatch):
    """A killed run of another metric keeps its best weights by that one."""
    used = []

    def checkpoints(out, made_from):
        used.append(_checkpoints(out, made_from))
        raise KeyboardInterrupt

    monkeypatch.setattr("openautoglm.compress_files._checkpoints", checkpoints)
    for settings in ({}, {"metric": "macro_f1"}, {"labels": ("1", "0")}, {"max_length": 8}, {}):
        files = TaskFiles(place / "train.csv", place / "dev.csv", **settings)
        with pytest.raises(KeyboardInterrupt):
            compress_files(str(place / "model"), files, tmp_path / "o")
    assert used[0] == used[-1]
    assert len(set(used)) == 4


def test_a_place_without_a_name_is_one_message(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert compress(place, out=".") == 2
    assert "--out . has no name of its own" in capsys.readouterr().err
    assert main(["recommend", "--model", str(place / "model"), "--memory", "1MB", "--out", "."]) == 2
    assert "--out . has no name of its own" in capsys.readouterr().err


def test_no_model_is_lost_to_its_student(place, compressed, tmp_path, capsys):
    before = artifact.sha256(compressed / "artifact")
    assert compress(place, model=compressed / "student", out=compressed) == 2
    assert "holds the model, which would be lost" in capsys.readouterr().err
    assert compress(place, model=compressed / "student", out=compressed / "student") == 2
    assert "holds other things" in capsys.readouterr().err
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    assert compress(place, out=tmp_path) == 2
    assert "holds other things" in capsys.readouterr().err
    assert artifact.sha256(compressed / "artifact") == before


@pytest.mark.parametrize(
    ("exits", "deployment"), [([], "onnx-dynamic"), ([1], "onnx-plan")], ids=["no exits", "exits for nothing"]
)
def test_exits_and_their_deployment_belong_together(place, tmp_path, capsys, exits, deployment):
    (tmp_path / "c.json").write_text(json.dumps(CONFIG | {"exits": exits}))
    assert compress(place, config=tmp_path / "c.json", deployment=deployment, out=tmp_path / "o") == 2
    assert "only onnx-dynamic has exits, and needs them" in capsys.readouterr().err


def test_texts_shorter_than_those_that_graphs_are_traced_with(place, tmp_path, monkeypatch):
    monkeypatch.setattr(side_by_side, "TEXTS", 8)
    assert compress(place, "--max-length", "5", out=tmp_path / "o") == 0
    assert main(["recommend", "--model", str(place / "model"), "--memory", "1GB", "--length", "4"]) == 0


def test_a_family_that_is_a_student_alone_is_one_message(place, tmp_path, capsys):
    model, path = tmp_path / "m", place / "model"
    config = {"num_labels": 2, "vocab_size": json.loads((path / "config.json").read_text())["vocab_size"]}
    sizes = {"hidden_size": 32, "embedding_size": 32, "intra_bottleneck_size": 16, "intermediate_size": 32}
    heads = {"num_hidden_layers": 1, "num_attention_heads": 2}
    model.mkdir()
    save_model(architectures.build({"model_type": "mobilebert"} | config | sizes | heads), model)
    (model / "tokenizer.json").write_bytes((path / "tokenizer.json").read_bytes())
    assert compress(place, model=model, out=tmp_path / "o") == 2
    assert "A mobilebert model cannot be compressed further" in capsys.readouterr().err


def test_a_student_is_no_model_to_recommend_for(compressed, capsys):
    assert main(["recommend", "--model", str(compressed / "student"), "--memory", "1MB", "--length", "8"]) == 2
    assert "was compressed before (its config has slices): give its teacher" in capsys.readouterr().err


def test_only_what_goes_on_says_so(place, capsys, monkeypatch):
    def compressing(_):
        raise KeyboardInterrupt

    def inspecting(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_compress", compressing)
    monkeypatch.setattr(cli, "_inspect", inspecting)
    assert compress(place) == 130
    assert capsys.readouterr().err == "Stopped. The same command goes on from here.\n"
    assert main(["inspect", "x"]) == 130
    assert capsys.readouterr().err == "Stopped.\n"


def test_a_seed_that_is_none(place, capsys):
    with pytest.raises(SystemExit):
        compress(place, seed=10**30)
    assert "is no seed" in capsys.readouterr().err
