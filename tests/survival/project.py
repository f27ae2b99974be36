"""A whole project in small: a tiny encoder in a wheel, a task in a CSV file, two methods, every kind of stage."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from pipelines import workspace
from pipelines.params import paths
from pipelines.tiny import split, tokenizer

METHODS, TASK = ("teacher", "distilbert"), "mood"


def lay(folder: Path) -> None:
    """The working tree in `folder`, with params.yaml cut down to it; checkpoints are written five times a second."""
    workspace.lay("smoke", folder)
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    shutil.rmtree(folder / "leaderboard/results")
    fit = folder / "openautoglm/distillation/fit.py"
    fit.write_text(fit.read_text().replace("CHECKPOINT_S = 30.0", "CHECKPOINT_S = 0.2"))
    assert "CHECKPOINT_S = 0.2" in fit.read_text()
    (folder / "index").mkdir()
    requirement, pin = _wheel(folder / "index")
    _table(folder / "mood.csv")
    laid = yaml.safe_load((folder / "params.yaml").read_text())
    laid |= {
        "profile": "default",
        "teacher": {
            "package": requirement, "folder": "tiny/model", "learning_rate": 3e-3, "batch_size": 32,
        },
        "packages": {requirement: pin},
        "tasks": {TASK: {
            "title": "t", "kind": "classification", "labels": ["bad", "good"], "metrics": ["accuracy"],
            "max_length": 16, "epochs": 30, "source": {"path": "mood.csv", "text": "text", "label": "label"},
        }},
        "limit": None,
        "methods": {name: {} for name in METHODS},
        "submitted": {},
        "deployments": {"all": ["onnx-fp32", "onnx-int8"]},
        "seeds": [0],
        "batch_size": 32,
        "training": {"threads": 1},
        "measurement": {
            "threads": 1, "launches": 1, "launch_s": 0.01, "slot_s": 0.001, "warmup_s": 0.0, "window_s": 0.1,
            "max_texts": 4,
        },
    }  # fmt: skip
    (folder / "params.yaml").write_text(yaml.safe_dump(laid, sort_keys=False))


def environment(folder: Path) -> dict[str, str]:
    """One thread, no network, this Python for the stages, the project's own store."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "PIP_FIND_LINKS": str(folder / "index"),
        "PIP_NO_INDEX": "1",
        "MLFLOW_TRACKING_URI": store(folder),
    }


def store(folder: Path) -> str:
    """The project's own MLflow."""
    return f"sqlite:///{folder}/mlflow.db"


@contextmanager
def running(folder: Path, *arguments: str, log: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A Python process in a group of its own, its words on one pipe or in `log`; none of the group is left behind."""
    with open(log or os.devnull, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env=environment(folder),
            stdout=file if log else subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    try:
        with process:  # waits for its end
            try:
                yield process
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _wheel(folder: Path) -> tuple[str, str]:
    """A pretrained encoder as a package; its requirement and pin."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    model = folder / "model"
    made = tokenizer()
    config = BertConfig(
        vocab_size=made.get_vocab_size(), hidden_size=24, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(model)
    made.save(str(model / "tokenizer.json"))
    wheel = folder / "tiny-1.0-py3-none-any.whl"
    info = {
        "METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in model.iterdir():
            archive.write(file, f"tiny/model/{file.name}")
        for name, text in info.items():
            archive.writestr(f"tiny-1.0.dist-info/{name}", text)
    shutil.rmtree(model)
    return "tiny==1.0", f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"


def _table(path: Path) -> None:
    made = split(600, "classification", 5)
    rows = {text: ("bad", "good")[int(label)] for text, label in zip(made.texts, made.labels, strict=True)}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(rows.items())


def half_written(folder: Path) -> list[str]:
    """Files under their final names that a reader could not read whole: there must never be any."""
    from leaderboard.schema import Record, TaskCard
    from openautoglm import artifact
    from pipelines.files import read_json

    def finished(root: str, pattern: str) -> list[Path]:
        found = (folder / root).rglob(pattern)
        return [p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts)]

    broken = []
    places = (
        *(("runs", "*.json"), ("runs", "*.safetensors"), ("data", "*.parquet")),
        *(("leaderboard/results", "*.json"), ("site", "*.json")),
    )
    for path in [path for place in places for path in finished(*place)]:
        try:
            if path.name == "manifest.json":
                artifact.read(path.parent)
            elif path.suffix == ".safetensors":
                from safetensors import safe_open

                with safe_open(path, "np") as weights:
                    assert weights.keys()
            elif path.suffix == ".parquet":
                import pyarrow.parquet as pq

                pq.read_table(path)
            elif path.is_relative_to(folder / paths.results("default")):
                model = TaskCard if path.parent.name == "tasks" else Record
                model.model_validate_json(path.read_bytes())
            else:
                read_json(path)
        except Exception as error:
            broken.append(f"{path.relative_to(folder)}: {type(error).__name__} {error}"[:200])
    broken += [f"{page}: cut short" for page in finished("site", "*.html") if "</html>" not in page.read_text()]
    return broken
