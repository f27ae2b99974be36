"""What a user does with a model and with a student: name it in any form, evaluate, save, load, export, tell."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import BertModel, PreTrainedTokenizerFast

from openautoglm import AutoCompressor, Budget
from openautoglm.artifact import ArtifactError
from openautoglm.runtime import Predictor
from openautoglm.student import Student
from openautoglm.task import Split
from openautoglm.teachers import as_teacher


@pytest.fixture(scope="module")
def student(case):
    teacher, task = case
    config = {"pruning_ratio": 0.5, "pruning_rounds": 1, "calibration_steps": 64}
    return AutoCompressor(teacher, config).run(task, Budget(4, 16))


def test_evaluate_is_the_tasks_score_and_every_metric_of_its_kind(case, student):
    task = case[1]
    found = student.evaluate(task.dev)
    assert found[task.metrics[0]] == pytest.approx(student.report["steps"][-1]["dev_score"])
    assert set(found) == ({"accuracy", "macro_f1"} if task.outputs == 2 else {"pearson", "spearman"})
    with pytest.raises(ValueError, match="at least one"):
        student.evaluate(Split((), np.array([])))


def test_a_saved_student_loads_again_and_answers_the_same(case, student, tmp_path):
    task = case[1]
    again = Student.load(student.save(tmp_path / "s"))
    assert (again.plan, again.report, again.max_length) == (student.plan, student.report, task.max_length)
    assert again.evaluate(task.dev) == student.evaluate(task.dev)
    ours = Predictor(student.export(tmp_path / "a", "onnx-fp32", task=task)).logits(task.dev.texts[:4])
    theirs = Predictor(again.export(tmp_path / "b", "onnx-fp32", task=task)).logits(task.dev.texts[:4])
    np.testing.assert_array_equal(ours, theirs)
    assert student.save(tmp_path / "s") == tmp_path / "s"  # its own folder may be replaced


def test_a_folder_with_other_things_is_left_alone(student, tmp_path):
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(ArtifactError, match="would be lost"):
        student.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["diary.txt"]


def test_a_saved_student_among_other_things_is_left_alone(student, tmp_path):
    folder = student.save(tmp_path / "s")
    assert student.save(folder) == folder
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="holds other things"):
        student.save(folder)
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["plan.json", "report.json", "config.json", "tokenizer.json", "model.safetensors"])
def test_a_student_without_a_file_is_one_message(student, tmp_path, name):
    folder = student.save(tmp_path / "s")
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=r"no (saved student|model loads|tokenizer loads)"):
        Student.load(folder)


def test_the_summary_tells_both_shapes_each_layer_and_each_step(student):
    told = student.summary()
    for part in (
        "before",
        "after",
        "pruning 1/1",
        "distillation",
        "FFN neurons",
        "embedding int8",
        "pruning_ratio 0.5",
    ):
        assert part in told
    assert told.count("48 -> ") == len(student.report["after"]["ffn"])
    assert Student(student.model, student.tokenizer).summary() == "This student's report is empty."


def test_a_model_may_be_given_in_every_form(case, tmp_path):
    teacher, _ = case
    wrapped = PreTrainedTokenizerFast(tokenizer_object=teacher.tokenizer, pad_token="[PAD]")
    teacher.model.save_pretrained(tmp_path)
    wrapped.save_pretrained(tmp_path)
    ids = torch.arange(5, 10)[None]
    for given in (
        as_teacher(teacher),
        as_teacher(tmp_path),
        as_teacher(str(tmp_path)),
        as_teacher(teacher.model, wrapped),
        as_teacher(teacher.model, teacher.tokenizer),
    ):
        torch.testing.assert_close(given.model(ids).logits, teacher.model(ids).logits)
        assert given.tokenizer.encode("good film").ids == teacher.tokenizer.encode("good film").ids
        assert not any(parameter.requires_grad for parameter in given.model.parameters())


def test_a_model_that_cannot_be_used_is_told(case, tmp_path):
    teacher = case[0]
    with pytest.raises(ArtifactError, match="needs its tokenizer"):
        as_teacher(teacher.model)
    with pytest.raises(ArtifactError, match="no classification head"):
        as_teacher(BertModel(teacher.model.config), teacher.tokenizer)
    with pytest.raises(ArtifactError, match="is no folder"):
        as_teacher(tmp_path / "gone")
    BertModel(teacher.model.config).save_pretrained(tmp_path)
    with pytest.raises(ArtifactError, match="no model loads"):
        as_teacher(tmp_path)


def test_the_library_needs_none_of_the_suites_packages():
    extra = [
        "yaml",
        "rich",
        "datasets",
        "evaluate",
        "scipy",
        "mlflow",
        "dvc",
        "codecarbon",
        "jinja2",
        "pyarrow",
        "psutil",
    ]
    code = f"""
import sys
for name in {extra}:
    sys.modules[name] = None  # importing it fails
from openautoglm import AutoCompressor, CompressionConfig
from openautoglm import advise, cli, compress_files, inspection
sys.exit(cli.main(["inspect", "no-such-folder"]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert json.dumps(done.stderr.splitlines()[-1]).startswith('"error: no-such-folder holds no manifest.json')
