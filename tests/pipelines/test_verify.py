"""`bench verify` in a small git checkout: published rows, what was made since, and what lies in data/ and runs/."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from leaderboard.schema import Record, TaskCard
from leaderboard.seal import sealed
from openautoglm import artifact
from openautoglm.task import Split
from pipelines import params, provenance, verify
from pipelines.errors import UserError
from pipelines.files import write_json, write_text
from pipelines.measure import Measured
from pipelines.params import paths
from pipelines.prepare import write_split
from pipelines.task_card import sha256

ROOT = Path(__file__).parents[2]
PATH = paths.record("default", "albert", "tweets")


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Two committed records and their task cards, nothing made."""
    for name in ("tasks", "albert", "teacher"):
        shutil.copytree(ROOT / paths.results("default") / name, tmp_path / paths.results("default") / name)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    settings = params.load(Path("params.yaml").resolve())
    monkeypatch.setattr(params, "load", lambda: settings)
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "published")
    return tmp_path


def run(capsys, row=None, against="HEAD") -> tuple[int, list[str]]:
    code = verify.main(row, against, None)
    return code, [line.strip() for line in capsys.readouterr().out.splitlines() if "DIFFERS" in line]


@pytest.mark.usefixtures("checkout")
def test_what_is_published_is_itself(capsys):
    assert verify.main(None, "HEAD", None) == 0
    said = capsys.readouterr().out
    assert "albert/tweets: " in said
    assert "published (to the byte: the published file itself)" in said
    assert "9 files against HEAD: " in said


@pytest.mark.usefixtures("checkout")
def test_one_row_alone(capsys):
    for row, count in (("albert", 3), ("albert/tweets", 1)):
        assert verify.main(row, "HEAD", None) == 0
        assert f"\n{count} files against HEAD" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("row", "against", "message"),
    [("alberd", "HEAD", "No row 'alberd'.*'albert', 'teacher'"), (None, "nowhere", "neither a folder nor a commit")],
)
@pytest.mark.usefixtures("checkout")
def test_a_mistake_says_what_there_is(row, against, message):
    with pytest.raises(UserError, match=message):
        verify.main(row, against, None)


@pytest.mark.usefixtures("checkout")
def test_an_option_is_no_commit():
    with pytest.raises(UserError, match="neither a folder nor a commit"):
        verify.main(None, "--output=x", None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda raw: raw.replace(b'"steps": ', b'"steps": 1'), "steps: expected"),
        (lambda raw: raw[:-200], "it is broken"),
        (lambda raw: raw.replace(b'"noise_floor": 0.', b'"noise_floor": 0.9'), "does not follow from the raw samples"),
        (lambda raw: None, "it is not in the working tree any more"),
    ],
)
@pytest.mark.usefixtures("checkout")
def test_what_was_changed_since_is_told(capsys, change, told):
    new = change(PATH.read_bytes())
    PATH.unlink() if new is None else PATH.write_bytes(new)
    code, differs = run(capsys)
    assert code == 1
    assert any(told in line for line in differs)
    assert run(capsys, "teacher")[0] == 0


def test_against_another_folder(capsys, checkout, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(checkout / "leaderboard", other / "leaderboard")
    PATH.write_bytes(PATH.read_bytes().replace(b'"steps": ', b'"steps": 1'))
    assert run(capsys, "albert/tweets", str(other))[0] == 1
    assert run(capsys, "albert/tweets", str(other / "leaderboard/results"))[0] == 1
    assert run(capsys, "albert/bbc", str(other))[0] == 0
    with pytest.raises(UserError, match="holds no leaderboard"):
        verify.main(None, str(other / "leaderboard"), None)


@pytest.fixture
def made(checkout):
    """A record with everything that it names: an artifact a deployment, predictions, timings, weights, texts."""
    record = Record.model_validate_json(PATH.read_bytes())
    raw = record.model_dump()
    for name, form in raw["deployments"].items():
        manifest = artifact.Manifest(form["runtime"], form["precision"], "regression", (), 64, form["parameters"], {})
        folder = paths.artifacts("tweets", "albert", 0) / name
        artifact.write(folder, manifest, lambda aside: (aside / "model.onnx").write_bytes(b"weights") and None)
        form["artifact_sha256"] = form["quality"][0]["artifact_sha256"] = artifact.sha256(folder)
    weights = paths.finetuned("tweets", 0) / "model/model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"teacher")
    raw["runs"][0]["teacher_sha256"] = artifact.file_sha256(weights)
    record = Record.model_validate(raw)
    forms = record.deployments.items()
    said = {name: form.quality[0].model_dump() for name, form in forms}
    write_json(paths.cell("tweets", "albert", 0) / "predictions.json", said)
    measured = Measured(machine=record.machine, costs={name: form.cost for name, form in forms})
    write_json(paths.cost("tweets", "albert"), measured.model_dump())
    write_text(PATH, sealed(record))
    return record


def verdicts(findings) -> list[str]:
    return [finding.verdict for finding in findings]


def test_the_whole_chain_fits(made):
    assert set(verdicts(provenance.findings(made))) == {"same"}


PLACES = {
    "a model": paths.artifacts("tweets", "albert", 0) / "onnx-int8/model.onnx",
    "a manifest": paths.artifacts("tweets", "albert", 0) / "onnx-int8/manifest.json",
    "the teacher": paths.finetuned("tweets", 0) / "model/model.safetensors",
}


@pytest.mark.parametrize("name", PLACES)
def test_one_byte_of_an_artifact_is_found_wherever_it_is(made, name):
    path = PLACES[name]
    raw = bytearray(path.read_bytes())
    for place in range(0, len(raw), max(1, len(raw) // 40)):
        kept, raw[place] = raw[place], raw[place] ^ 1
        path.write_bytes(raw)
        assert "differs" in verdicts(provenance.findings(made)), bytes(raw)
        raw[place] = kept


@pytest.mark.parametrize("name", ["predictions", "costs"])
def test_one_figure_of_a_stage_is_found(made, name):
    predictions, costs = paths.cell("tweets", "albert", 0) / "predictions.json", paths.cost("tweets", "albert")
    path = predictions if name == "predictions" else costs
    stored = json.loads(path.read_text())
    if name == "predictions":
        stored["onnx-int8"]["predictions"][7] += 0.01
    else:
        stored["costs"]["onnx-int8"]["launches"][0]["call_ms"][0] += 0.01
    write_json(path, stored)
    assert verdicts(provenance.findings(made)).count("differs") == 1
    path.write_text("{")
    assert "differs" in verdicts(provenance.findings(made))


@pytest.mark.usefixtures("made")
def test_a_byte_of_the_sealed_record_is_found_though_the_rest_is_new(capsys):
    raw = PATH.read_bytes()
    assert not [line for line in run(capsys, "albert/tweets")[1] if "seal" in line]
    PATH.write_bytes(raw.replace(b'"load_ms": ', b'"load_ms":  ', 1))
    code, differs = run(capsys, "albert/tweets")
    assert code == 1
    assert any("the file was edited after it was made" in line for line in differs)


def test_texts_beside_their_card(checkout):
    card = TaskCard.model_validate_json(paths.task_card("default", "movie").read_bytes())
    splits = {name: Split((f"{name} one", "two"), np.array([0, 1])) for name in ("train", "dev", "exam")}
    for name, split in splits.items():
        write_split(paths.split("movie", name), split)
    card = card.model_copy(update={"sha256": {name: sha256(split) for name, split in splits.items()}})
    assert verdicts(provenance.data(card)) == ["same"] * 3
    write_split(paths.split("movie", "dev"), Split(("dev one", "twO"), np.array([0, 1])))
    paths.split("movie", "exam").write_bytes(b"PAR1")
    assert verdicts(provenance.data(card)) == ["same", "differs", "differs"]
