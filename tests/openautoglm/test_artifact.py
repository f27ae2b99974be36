"""Packed artifacts: the same answers in fewer bytes, the same bytes again, and no file that swells without end."""

import gzip
import json

import numpy as np
import pytest
from safetensors.numpy import save

from leaderboard import packed
from openautoglm import artifact, export
from openautoglm.artifact import ArtifactError
from openautoglm.inspection import inspect
from openautoglm.runtime import Predictor
from openautoglm.student import Student

PLAN = dict.fromkeys(("embedding", "attention", "ffn", "head"), "int4")


@pytest.fixture
def student(case):
    return Student(case[0].copy(), case[0].tokenizer, PLAN)


def _rewrite(folder, name, data):
    """A packed file of other bytes, which the manifest knows."""
    path = folder / (name + packed.SUFFIX)
    path.write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][path.name]["sha256"] = artifact.file_sha256(path)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_packed_it_answers_the_same_in_fewer_bytes(case, student, tmp_path, monkeypatch):
    small = export.export(student, "onnx-plan", tmp_path / "a", case[1])
    monkeypatch.setattr(export, "PACKED", ())
    plain = export.export(student, "onnx-plan", tmp_path / "b", case[1])
    texts = case[1].dev.texts[:8]
    np.testing.assert_array_equal(Predictor(small).logits(texts), Predictor(plain).logits(texts))
    assert artifact.size(small) < 0.9 * artifact.size(plain)
    assert {f"{name}.gz" for name in artifact.read(plain).files} == set(artifact.read(small).files)
    parts = [inspect(folder).split("\n\n")[1] for folder in (small, plain)]
    assert parts[0] == parts[1]
    assert ("unpacked" in inspect(small), "unpacked" in inspect(plain)) == (True, False)


def test_twice_exported_the_bytes_are_the_same(case, student, tmp_path):
    folders = [export.export(student, "onnx-plan", tmp_path / name, case[1]) for name in "ab"]
    assert artifact.read(folders[0]) == artifact.read(folders[1])


@pytest.mark.parametrize("name", ["tokenizer.json", "model.onnx", "model.safetensors"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[: len(data) // 2], "does not unpack"),
        (lambda data: b"no", "does not unpack"),
        (lambda data: gzip.compress(bytes(10_000_000)), "unpacks to more than"),
    ],
)
def test_what_does_not_unpack_is_one_message(case, student, tmp_path, name, spoil, message):
    folder = export.export(student, "onnx-plan", tmp_path / "a", case[1])
    _rewrite(folder, name, spoil((folder / f"{name}.gz").read_bytes()))
    with pytest.raises(ArtifactError, match=message):
        Predictor(folder)
    with pytest.raises(ArtifactError, match=message):
        inspect(folder)


@pytest.mark.parametrize("weights", [{"x": np.zeros((2, 17), np.float32)}, {"x": np.zeros((2, 0), np.uint8)}, None])
def test_inspect_refuses_weights_that_are_not_ours(case, student, tmp_path, weights):
    folder = export.export(student, "onnx-plan", tmp_path / "a", case[1])
    whole = gzip.decompress((folder / "model.safetensors.gz").read_bytes())
    _rewrite(folder, "model.safetensors", gzip.compress(save(weights) if weights else whole[:-5]))
    with pytest.raises(ArtifactError, match="Export the model again"):
        inspect(folder)


def test_a_file_beside_the_manifest_is_not_read(case, student, tmp_path):
    folder = export.export(student, "onnx-plan", tmp_path / "a", case[1])
    parts = inspect(folder).split("\n\n")[1]
    for name in ("tokenizer.json", "model.onnx", "model.safetensors"):
        (folder / name).write_bytes(b"not listed")
    assert inspect(folder).split("\n\n")[1] == parts
    assert Predictor(folder).logits(case[1].dev.texts[:1]).shape == (1, case[1].outputs)
