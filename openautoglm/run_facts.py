"""What a run left behind, whoever wrote it, as one set of facts: compress's folder, a saved student, a record."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openautoglm.artifact import ArtifactError
from openautoglm.config import CompressionConfig
from openautoglm.errors import UserError
from openautoglm.inspection import by_part, stored
from openautoglm.quantization.plan import INTEGER, format_of


@dataclass
class Facts:
    """Empty or None where the run does not tell."""

    report: dict[str, Any]
    curve: list[dict[str, Any]] = field(default_factory=list)  # stage, step, loss, dev_score
    part_bytes: dict[str, int] = field(default_factory=dict)  # part of the artifact -> bytes
    float_score: float | None = None  # of the student before quantisation
    deployed_score: float | None = None
    teacher_score: float | None = None
    metric: str | None = None
    scored: int | None = None  # texts behind the scores
    promised: float | None = None  # times fewer multiply-adds
    delivered: float | None = None  # times faster than the teacher in the same number format, where that was measured
    tokenize_share: float | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """The config of the run."""
        return self.report.get("asked") or {}

    @property
    def dev_scores(self) -> list[tuple[str, float]]:
        """step -> the score on dev after it, in order, the teacher's first; steps without a score join the next one."""
        scores = [] if self.teacher_score is None else [("teacher", self.teacher_score)]
        names: list[str] = []
        for step in self.report.get("steps") or []:
            names.append(step["step"])
            if step.get("dev_score") is not None:
                scores.append((" and ".join(names), step["dev_score"]))
                names = []
        return scores


def read_run(path: Path) -> Facts:
    """The facts of a folder or a JSON file; UserError where it is neither a run nor a record."""
    if path.is_file():
        return _from_json(path, _json(path))
    for name in ("report.json", "student.json"):
        if (path / name).is_file():
            facts = _from_json(path / name, _json(path / name))
            facts.part_bytes = _part_bytes(path)
            facts.curve = facts.curve or _history(path / "history.tsv")
            return facts
    if not path.exists():
        raise UserError(f"{path} is not there. Give a folder that compress wrote, a saved student, or a record's JSON.")
    raise UserError(f"{path} holds no report.json: give a folder that compress wrote, or a record's JSON file.")


def _from_json(path: Path, found: Any) -> Facts:
    try:
        if "deployments" in found:
            return _of_record(found)
        report = found.get("report", found)
        if not {"asked", "steps", "after"} & set(report):
            raise KeyError("steps")
        return _of_report(report)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise UserError(f"{path}: neither a run's report nor a record ({type(error).__name__}: {error}).") from None


def _of_report(report: dict[str, Any]) -> Facts:
    facts = Facts(report, report.get("curve") or [])
    if facts.dev_scores:
        facts.float_score = facts.dev_scores[-1][1]
    if measured := report.get("measured"):
        rows: dict[str, Any] = measured["rows"]
        facts.float_score = measured["float_score"]
        name, ours = next((name, row) for name, row in rows.items() if name.startswith("student"))
        same = rows.get("teacher onnx-int8" if _in_int8(name, report) else "teacher onnx-fp32")
        facts.deployed_score = ours["score"]
        if measured["scored"] == measured.get("dev"):  # the steps' scores are of all of it
            facts.teacher_score = rows[measured["reference"]]["score"]
        facts.metric, facts.scored, facts.tokenize_share = (measured[k] for k in ("metric", "scored", "tokenize_share"))
        facts.promised = measured["multiply_adds"]["teacher"] / measured["multiply_adds"]["student"]
        facts.delivered = same and same["latency_p50_ms"] / ours["latency_p50_ms"]
    return facts


def _in_int8(row: str, report: dict[str, Any]) -> bool:
    """Are the encoder's products of a student's row computed in INT8?"""
    if row.endswith(("fp32", "int8")):
        return row.endswith("int8")
    asked = CompressionConfig.model_construct(**report.get("asked") or {})  # unchecked: it may be of another version
    return format_of(asked.plan(), "ffn") in INTEGER


def _of_record(record: dict[str, Any]) -> Facts:
    deployments: dict[str, Any] = record["deployments"]
    facts = Facts(record["method"].get("report") or {}, record["runs"][0]["history"])
    facts.float_score = _score(deployments.get("onnx-fp32"))
    best = deployments.get("onnx-plan") or deployments.get("onnx-int8")
    facts.deployed_score = _score(best)
    quality = next(iter(deployments.values()))["quality"][0]
    facts.metric, facts.scored = next(iter(quality["scores"])), len(quality["predictions"])
    if best:
        facts.tokenize_share = best["cost"]["tokenize_share"]
    before, after = (_encoder(facts.report.get(when)) for when in ("before", "after"))
    if before and after and "onnx-fp32" in deployments:
        facts.promised, facts.delivered = before / after, deployments["onnx-fp32"]["cost"]["speedup"]["value"]
    return facts


def _score(deployment: dict[str, Any] | None) -> float | None:
    return next(iter(deployment["quality"][0]["scores"].values()))["value"] if deployment else None


def _encoder(shape: dict[str, Any] | None) -> int | None:
    """Parameters outside the word table, to which the work on a text is proportional but for attention's own part."""
    return shape["parameters"] - shape["word_parameters"] if shape and "word_parameters" in shape else None


def _part_bytes(folder: Path) -> dict[str, int]:
    for place in ("artifact", "artifacts/onnx-plan", "artifacts/onnx-int8", "."):
        try:
            return {
                part: sum(t.bytes for t in tensors) for part, tensors in by_part(list(stored(folder / place))).items()
            }
        except (OSError, ArtifactError):
            continue
    return {}


def _history(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file, delimiter="\t"))
    return [row | {key: float(row[key]) if row[key] else None for key in ("loss", "dev_score")} for row in rows]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no readable JSON ({error}).") from None
