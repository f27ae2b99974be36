"""Stage track: the records of the profile -> MLflow. `python -m pipelines.track`

Only what is missing is logged, so it can be run at any time: after a run whose server was away, or a second time.
"""

from __future__ import annotations

import csv
import hashlib
import io
import sys
from pathlib import Path

from pydantic import ValidationError

from leaderboard.schema import Deployment, Footprint, Record, Run
from pipelines import params
from pipelines.errors import UserError, stage
from pipelines.model_card import model_card
from pipelines.params import Params, paths
from pipelines.tracking import Cell, Store, TrackingError


def track(settings: Params) -> int:
    """Log every record of the grid that MLflow does not have yet; returns how many child runs were completed.

    Raises TrackingError where the server is away, UserError where a record is broken.
    """
    found = [paths.record(settings.profile, method, task) for method in settings.methods for task in settings.tasks]
    records = [(path, *read(path)) for path in found if path.is_file()]
    if not records:
        return 0
    store = Store(settings.suite_version)
    closed = store.closed()
    done = 0
    for path, record, digest in records:
        for run in record.runs:
            cell = Cell(record.suite_version, record.profile, record.method.name, record.task, run.seed)
            if (cell.key, digest) not in closed:
                log(store, cell, record, run, path, digest)
                done += 1
    return done


def read(path: Path) -> tuple[Record, str]:
    """A record and the hash of its file."""
    raw = path.read_bytes()
    try:
        return Record.model_validate_json(raw), hashlib.sha256(raw).hexdigest()
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{path} is not a valid record ({place}: {first['msg']}): delete it and run `dvc repro`."
        ) from None


def log(store: Store, cell: Cell, record: Record, run: Run, path: Path, digest: str) -> None:
    """One seed of a record as a child run. The record's hash comes last: without it the run counts as incomplete."""
    run_id = store.child(cell)
    store.log_points(run_id, run.history, skip_logged=True)
    store.log_figures(run_id, figures(record, run), parameters(record, run), tags(record))
    card = model_card(record)
    store.log_texts(run_id, {path.name: path.read_text(encoding="utf-8"), "history.tsv": history(run), "card.md": card})
    store.close(run_id, digest)


def figures(record: Record, run: Run) -> dict[str, float]:
    """The final figures of a seed: making it, and each deployment."""
    values = {f"making/{key}": value for key, value in _footprint(run.footprint).items()} | {"making/steps": run.steps}
    for name, form in record.deployments.items():
        values |= {f"{name}/{key}": value for key, value in _deployment(form, run.seed).items()}
    return values


def _footprint(footprint: Footprint) -> dict[str, float]:
    plain = footprint.model_dump(include={"wall_s", "cpu_s", "emissions_g", "peak_memory_mb"})
    return plain | {"energy_kwh": footprint.energy_kwh.likely}


def _deployment(form: Deployment, seed: int) -> dict[str, float]:
    plain = {"first_call_ms", "peak_memory_mb", "throughput_texts_per_s", "cpu_s_per_1000", "emissions_g_per_1000"}
    values: dict[str, float] = form.cost.model_dump(include=plain)
    values |= {"parameters": form.parameters, "bytes_on_disk": form.bytes_on_disk, "speedup": form.cost.speedup.value}
    values["energy_kwh_per_1000"] = form.cost.energy_kwh_per_1000.likely
    sometimes = ("speedup_int8", "latency_p50_ms", "latency_p90_ms")
    values |= {key: interval.value for key in sometimes if (interval := getattr(form.cost, key))}
    for quality in form.quality:
        if quality.seed == seed:
            values |= {metric: score.value for metric, score in quality.scores.items()}
    return values


def parameters(record: Record, run: Run) -> dict[str, str]:
    """What the run was given."""
    given = {"method": record.method.name, "task": record.task, "seed": run.seed, "profile": record.profile}
    if record.method.variant_of:
        given["variant_of"] = record.method.variant_of
    return {key: str(value) for key, value in (given | record.method.knobs).items()}


def tags(record: Record) -> dict[str, str]:
    """Where the run comes from."""
    return {
        "mlflow.source.git.commit": record.code.commit or "unknown",
        "mlflow.note.content": record.method.caption,
        "dirty": str(record.code.dirty),
        "machine": record.machine.id,
        "cpu": record.machine.cpu,
        "sources_sha256": record.method.sources_sha256,
        "exam_sha256": record.exam_sha256,
        "created": record.created,
    }


def history(run: Run) -> str:
    """A learning curve as a table."""
    table = io.StringIO()
    writer = csv.writer(table, delimiter="\t", lineterminator="\n")
    writer.writerow(["stage", "step", "loss", "dev_score"])
    writer.writerows([p.stage, p.step, p.loss, p.dev_score] for p in run.history)
    return table.getvalue()


def main() -> None:
    """Complete MLflow from the records; a server that is away is a warning, for the records are the truth."""
    try:
        print(f"{track(params.load())} runs logged")
    except TrackingError as error:
        print(f"warning: {error}. Nothing is lost: run `python -m pipelines.track` when it is back.", file=sys.stderr)


if __name__ == "__main__":
    stage(main)
