"""Readers: real bytes in, rows or one clear message out."""

import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import sources
from pipelines.errors import UserError
from pipelines.params import TaskParams, paths
from pipelines.sources import packages

TABLE = {"review": ["good, really", "bad", "“fine”"], "stars": ["yes", "no", "yes"], "part": ["train", "test", "train"]}


def task(source: dict, kind: str = "classification") -> TaskParams:
    labels, metrics = (["no", "yes"], ["accuracy"]) if kind == "classification" else ([], ["pearson"])
    return TaskParams(title="t", source=source, kind=kind, labels=labels, metrics=metrics, max_length=64, epochs=2)


def write(folder, suffix):
    path = folder / f"table{suffix}"
    lines = list(zip(*TABLE.values(), strict=True))
    if suffix == ".parquet":
        pq.write_table(pa.table(TABLE), path)
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(TABLE, line, strict=True))) + "\n" for line in lines))
    else:
        mark = "\t" if suffix == ".tsv" else ","
        rows = [mark.join(TABLE), *(mark.join(f'"{cell}"' for cell in line) for line in lines)]
        path.write_text("\n".join(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_task_from_a_file(tmp_path, suffix):
    path = write(tmp_path, suffix)
    rows = sources.read(
        task({"path": str(path), "text": "review", "label": "stars", "split": "part", "licence": "mine"})
    )
    assert rows.texts == TABLE["review"]
    assert rows.labels == TABLE["stars"]
    assert rows.splits == ["train", "exam", "train"]
    assert rows.licence == "mine"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "holds no rows"),
        ("t.csv", b"review,stars\n", "holds no rows"),
        ("t.csv", b"text,stars\na,yes\n", r"no column \['review'\]; it has \['text', 'stars'\]"),
        ("t.csv", b"review,stars\na,\n", "row 1: the label is ''"),
        ("t.csv", b"review,stars\na\n", "row 1: the label is None"),
        ("t.csv", b"review,stars\na, b, yes\n", "row 1: more fields"),
        ("t.csv", b'review,stars\n"a" b,yes\n', "is broken"),
        ("t.csv", b"review,stars\n\xff\xfe,yes\n", "not UTF-8"),
        ("t.jsonl", b'{"review": "a", "stars": "yes"}\n{"review": ', "line 2 is not JSON"),
        ("t.jsonl", b"[1]\n", "line 1: give an object"),
        ("t.jsonl", b'{"review": 3, "stars": "yes"}\n', "row 1: the text is 3"),
        ("t.jsonl", b'{"review": "a", "stars": 0.5}\n', "row 1: the label is 0.5"),
        ("t.parquet", b"PAR1", "not readable Parquet"),
        ("t.xlsx", b"", "unknown kind of file; known: .csv, .tsv, .jsonl, .parquet"),
        (None, b"", "is not there"),
    ],
)
def test_a_bad_file_is_one_message(tmp_path, name, content, message):
    path = tmp_path / (name or "gone.csv")
    if name:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        sources.read(task({"path": str(path), "text": "review", "label": "stars"}))


@pytest.mark.parametrize("value", ["nan", "inf", "", "many"])
def test_a_value_that_is_no_number_names_its_row(tmp_path, value):
    path = tmp_path / "t.csv"
    path.write_text(f"review,stars\na,1.5\nb,{value}\n")
    with pytest.raises(UserError, match=f"row 2: the label '{value}' is not a finite number"):
        sources.read(task({"path": str(path), "text": "review", "label": "stars"}, "regression"))


def test_splits_of_a_file_must_hold_train_and_exam(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("review,stars,part\na,yes,train\n")
    source = {"path": str(path), "text": "review", "label": "stars", "split": "part"}
    with pytest.raises(UserError, match="has no exam"):
        sources.read(task(source))
    path.write_text("review,stars,part\na,yes,later\n")
    with pytest.raises(UserError, match="unknown split 'later'; known: train"):
        sources.read(task(source))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "exactly one of package, path, hub"),
        ({"path": "a", "hub": "b"}, "exactly one of"),
        ({"path": "a.csv", "txt": "review"}, "text: Field required.*Known keys: path, text, label"),
        ({"package": "p==1", "reader": "bbc"}, "reader: Input should be 'vader_ratings' or 'bbc_news'"),
        ({"package": "p==1", "reader": "bbc_news"}, "run `dvc repro fetch`"),
    ],
)
def test_a_bad_source_entry_is_one_message(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        sources.read(task(source))


def test_hub_reads_columns_by_split_and_says_so_when_it_cannot(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(f"sentence,label\n{split} text,1\n")
    rows = sources.read(task({"hub": str(tmp_path), "text": "sentence", "label": "label"}))
    assert (rows.texts, rows.labels, rows.splits) == (["train text", "test text"], ["1", "1"], ["train", "exam"])
    with pytest.raises(UserError, match=r"has no column 'review'; it has \['sentence', 'label'\]"):
        sources.read(task({"hub": str(tmp_path), "text": "review", "label": "label"}))
    with pytest.raises(UserError, match=r"nobody/nothing.*Check the network and the names"):
        sources.read(task({"hub": "nobody/nothing", "text": "t", "label": "l"}))


@pytest.fixture
def raw(tmp_path, monkeypatch):
    monkeypatch.setattr(type(paths), "raw", tmp_path)
    folder = tmp_path / "vader/additional_resources"
    folder.mkdir(parents=True)
    lines = b"1\t2.5\tA clich\xe9\r\n2\t-1.0\tna\xc3\xafve\r\n3\t0.4\tmeh\r\n"
    with tarfile.open(folder / "hutto_ICWSM_2014.tar.gz", "w:gz") as file:
        info = tarfile.TarInfo("hutto/x_GroundTruth.txt")
        info.size = len(lines)
        file.addfile(info, io.BytesIO(lines))
    return tmp_path


def test_ratings_are_read_byte_by_byte(raw):
    source = {"package": "vader==1", "reader": "vader_ratings", "file": "x_GroundTruth.txt"}
    rows = sources.read(task(source, "regression"))
    assert rows.texts == ["A cliché", "naïve", "meh"]
    assert rows.labels == [2.5, -1.0, 0.4]
    signed = sources.read(task(source | {"sign": True}))
    assert signed.labels == ["positive", "negative"]
    assert signed.dropped == {"rated nearer to 0 than 0.5": 1}
    with pytest.raises(UserError, match=r"'y.txt' is not in .*; it holds x_GroundTruth.txt"):
        sources.read(task(source | {"file": "y.txt"}))
    archive = packages.folder("vader==1") / "additional_resources/hutto_ICWSM_2014.tar.gz"
    archive.write_bytes(archive.read_bytes()[:50])
    with pytest.raises(UserError, match="not readable"):
        sources.read(task(source))
